"""The shipped data: whole, with their units and sources, as published."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

import nlmewidgets as nw
from nlmewidgets.core.code import data_code
from nlmewidgets.datasets import DATASETS
from nlmewidgets.datasets.simulated import COUNTS, EMAX, EVENT, SIMULATORS, TUNING, simulate


def test_names_are_the_registry():
    assert nw.datasets.names() == tuple(DATASETS)


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(nw.DataError) as error:
        nw.datasets.load("morphine")
    assert str(error.value) == f"There is no data set 'morphine'; there are {', '.join(DATASETS)}."


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_loads_without_anything_to_note(name):
    data = nw.datasets.load(name)
    assert data.notes == ()
    assert data.n_obs >= data.n_subjects > 1
    assert np.isfinite(data.dv).all()


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_says_what_it_is_and_where_it_was_published(name):
    entry = DATASETS[name]
    assert entry.description.endswith(".")
    assert any(year in entry.source for year in map(str, range(1970, 2030)))


@pytest.mark.parametrize("name", DATASETS)
def test_time_and_observations_have_units_and_so_has_every_covariate_that_is_a_number(name):
    data = nw.datasets.load(name)
    outputs = set(data.dvid)
    for output in outputs:
        assert data.output_unit(output), output
    numbers = [c for c in data.covariates if not data.is_categorical(c)]
    for column in ("TIME", *numbers, *(["AMT"] if data.dosed.any() else [])):
        assert data.unit(column), column


@pytest.mark.parametrize("name", DATASETS)
def test_every_column_has_a_meaning(name):
    card, data = nw.datasets.describe(name), nw.datasets.load(name)
    used = {c for c in data.records if data.records[c].astype(str).nunique() > 1} - {"EVID", "MDV"}
    assert used <= {*card.columns}
    assert all(card.columns.values())
    assert card.source in repr(card)
    assert "<table" in card._repr_html_()
    assert bool(card.truth) == bool(card.model) == card.description.startswith("Simulated")


@pytest.mark.parametrize("name", DATASETS)
def test_every_unit_belongs_to_a_column(name):
    data = nw.datasets.load(name)
    assert set(DATASETS[name].units) <= {*data.records, *data.dvid}


@pytest.mark.parametrize("name", DATASETS)
def test_two_loads_are_equal_and_apart(name):
    first, second = nw.datasets.load(name), nw.datasets.load(name)
    assert first.fingerprint == second.fingerprint
    assert first.records is not second.records


@pytest.mark.parametrize("name", DATASETS)
def test_the_code_of_a_data_set_loads_it(name):
    namespace: dict[str, Any] = {"nw": nw}
    exec(data_code(nw.datasets.load(name)), namespace)
    assert namespace["data"].fingerprint == nw.datasets.load(name).fingerprint


@pytest.mark.parametrize("name", DATASETS)
def test_the_file_of_a_data_set_says_where_it_comes_from(name):
    text = files("nlmewidgets.datasets").joinpath(DATASETS[name].file).read_text(encoding="utf-8")
    assert text.startswith("#")
    assert "Source" in text.splitlines()[0]


def test_theophylline_is_that_of_r(shared):
    # Boeckmann, Sheiner & Beal (1994), as R's datasets::Theoph has it.
    table = pd.read_csv(shared / "data" / "Theoph.csv")
    per_kg, total = nw.datasets.load("theophylline_per_kg"), nw.datasets.load("theophylline")
    for data in (per_kg, total):
        observed = data.records[data.observed].reset_index(drop=True)
        ordered = table.sort_values("Subject", kind="stable").reset_index(drop=True)
        np.testing.assert_array_equal(observed["ID"], ordered["Subject"])
        np.testing.assert_array_equal(observed["TIME"], ordered["Time"])
        np.testing.assert_array_equal(observed["DV"], ordered["conc"])
        np.testing.assert_array_equal(observed["WT"], ordered["Wt"])
        doses = data.records[data.dosed]
        assert doses["TIME"].eq(0).all()
        assert len(doses) == 12
    first = table.drop_duplicates("Subject").sort_values("Subject")
    np.testing.assert_array_equal(per_kg.records.loc[per_kg.dosed, "AMT"], first["Dose"])
    np.testing.assert_allclose(total.records.loc[total.dosed, "AMT"], first["Dose"] * first["Wt"], rtol=1e-9)


def test_theophylline_doses_are_those_of_the_reference(shared):
    # The total doses of nlmixr2's theo_sd, e.g. 319.992 mg for subject 1.
    table = pd.read_csv(shared / "reference" / "theophylline_onecmt_nlmixr2" / "data.csv")
    total = nw.datasets.load("theophylline")
    np.testing.assert_allclose(total.records.loc[total.dosed, "AMT"], table.loc[table["EVID"] == 101, "AMT"], atol=1e-3)


def test_orange_trees_are_those_of_r(shared):
    # Draper & Smith (1981), as R's datasets::Orange has them.
    table = pd.read_csv(shared / "data" / "Orange.csv")
    data = nw.datasets.load("orange")
    np.testing.assert_array_equal(data.records["ID"], table["Tree"])
    np.testing.assert_array_equal(data.time, table["age"])
    np.testing.assert_array_equal(data.dv, table["circumference"])


def observed(data: nw.Data) -> pd.DataFrame:
    return data.records[data.observed].reset_index(drop=True)


def test_phenobarbital_is_that_of_r(shared):
    # Grasela & Donn (1985), as R's nlme::Phenobarb has it.
    table = pd.read_csv(shared / "data" / "Phenobarb.csv")
    data = nw.datasets.load("phenobarbital")
    seen, given = table[table["conc"].notna()], table[table["dose"].notna()]
    for column, source in (("ID", "Subject"), ("TIME", "time"), ("DV", "conc"), ("WT", "Wt"), ("APGAR", "Apgar")):
        np.testing.assert_array_equal(observed(data)[column], seen[source])
    for column, source in (("ID", "Subject"), ("TIME", "time"), ("AMT", "dose")):
        np.testing.assert_array_equal(data.records[data.dosed][column], given[source])


def test_indomethacin_is_that_of_r(shared):
    # Kwan et al. (1976), as R's datasets::Indometh has it; 25 mg by rapid injection.
    table = pd.read_csv(shared / "data" / "Indometh.csv")
    data = nw.datasets.load("indomethacin")
    for column, source in (("ID", "Subject"), ("TIME", "time"), ("DV", "conc")):
        np.testing.assert_array_equal(observed(data)[column], table[source])
    assert data.records[data.dosed][["TIME", "AMT"]].to_numpy().tolist() == [[0.0, 25.0]] * 6


def test_quinidine_is_that_of_r(shared):
    # Verme et al. (1992), as R's nlme::Quinidine has it; an interval is a steady-state dose.
    table = pd.read_csv(shared / "data" / "Quinidine.csv")
    data = nw.datasets.load("quinidine")
    seen, given = table[table["conc"].notna()], table[table["dose"].notna()]
    for column, source in (("ID", "Subject"), ("TIME", "time"), ("DV", "conc"), ("AAG", "glyco"), ("WT", "Weight")):
        np.testing.assert_array_equal(observed(data)[column], seen[source])
    doses = data.records[data.dosed]
    np.testing.assert_array_equal(doses["AMT"], given["dose"])
    np.testing.assert_array_equal(doses["II"], given["interval"].fillna(0.0))
    np.testing.assert_array_equal(doses["SS"], given["interval"].notna())
    assert len(data) == len(table)


def test_remifentanil_is_that_of_r(shared):
    # Minto et al. (1997), as R's nlme::Remifentanil has it; rows of one rate are one infusion.
    table = pd.read_csv(shared / "data" / "Remifentanil.csv")
    data = nw.datasets.load("remifentanil")
    seen = table[table["conc"].notna()]
    for column, source in (("ID", "ID"), ("TIME", "Time"), ("DV", "conc"), ("AGE", "Age"), ("LBM", "LBM")):
        np.testing.assert_array_equal(observed(data)[column], seen[source])
    doses = data.records[data.dosed].set_index("ID")
    np.testing.assert_allclose(doses["AMT"], table.groupby("ID")["Amt"].sum(), rtol=0, atol=1e-4)
    running = table[table["Rate"] > 0].groupby("ID")
    assert (running["Rate"].nunique() == 1).all()
    np.testing.assert_array_equal(doses["RATE"], running["Rate"].first())
    # The infusion ends where the next row begins: its length is that of its rows, as printed.
    last = table[table["Rate"] > 0].groupby("ID").tail(1).index + 1
    end = doses["TIME"] + doses["AMT"] / doses["RATE"]
    np.testing.assert_allclose(end, table.loc[last, "Time"], atol=0.02)


def test_soybean_is_that_of_r(shared):
    # Davidian & Giltinan (1995), as R's nlme::Soybean has it.
    table = pd.read_csv(shared / "data" / "Soybean.csv")
    data = nw.datasets.load("soybean")
    for column, source in (("ID", "Plot"), ("TIME", "Time"), ("DV", "weight"), ("VARIETY", "Variety")):
        np.testing.assert_array_equal(data.records[column], table[source])


# ------------------------------------------------------------------------- simulations


@pytest.mark.parametrize("name", SIMULATORS)
def test_the_script_makes_the_file_again(name):
    with files("nlmewidgets.datasets").joinpath(DATASETS[name].file).open(encoding="utf-8") as stream:
        shipped = pd.read_csv(stream, comment="#", na_values=["."], keep_default_na=False)
    made = simulate(name).reset_index(drop=True)
    # Another integrator or processor may round a last printed digit otherwise.
    pd.testing.assert_frame_equal(
        made, shipped, check_dtype=False, rtol=0, atol=0.11 if name == "pkpd_turnover" else 1e-9
    )


def test_counts_under_placebo_have_the_mean_of_their_truth():
    data = nw.datasets.load("counts")
    placebo = data.records[data.records["TRT"] == 0].groupby("ID")["DV"].mean()
    expected = COUNTS["base"] * np.exp(COUNTS["omega_base"] ** 2 / 2)
    assert abs(placebo.mean() - expected) < 3 * placebo.std() / np.sqrt(len(placebo))


def test_a_weibull_fit_of_the_events_finds_their_truth():
    records = nw.datasets.load("time_to_event").records
    t, d, x = (records[c].to_numpy(float) for c in ("TIME", "DV", "TRT"))

    def minus_log_likelihood(p):
        rate, shape = np.exp(p[:2])
        hazard = shape * rate**shape * t ** (shape - 1) * np.exp(p[2] * x)
        return -np.sum(d * np.log(hazard) - (rate * t) ** shape * np.exp(p[2] * x))

    found = minimize(minus_log_likelihood, [np.log(0.02), 0.0, 0.0], method="BFGS")
    truth = [np.log(EVENT["lambda"]), np.log(EVENT["shape"]), EVENT["b_TRT"]]
    assert (np.abs(found.x - truth) < 3 * np.sqrt(np.diag(found.hess_inv))).all()


def test_responses_without_a_dose_are_the_baseline_of_their_truth():
    data = nw.datasets.load("emax").records
    zero = data.loc[data["DOSE"] == 0, "DV"]
    assert abs(zero.mean() - EMAX["E0"] * np.exp(EMAX["omega_E0"] ** 2 / 2)) < 3 * zero.std() / np.sqrt(len(zero))


def test_neurons_prefer_the_orientation_of_their_truth():
    data = nw.datasets.load("tuning_curves").records
    best = data.loc[data.groupby("ID")["DV"].idxmax(), "TIME"]
    # The grid of 15 degrees adds its rounding and the noise a step now and then.
    assert abs(best.mean() - TUNING["preferred"]) < 3 * np.hypot(TUNING["sd_preferred"], 15) / np.sqrt(len(best))


def test_a_warfarin_like_concentration_falls_with_the_clearance_of_its_truth():
    card = nw.datasets.describe("pkpd_turnover")
    table = nw.datasets.load("pkpd_turnover").nca(output="cp")
    # Non-compartmental clearance is unbiased enough for a check of the median against truth at 70 kg.
    assert table["CL/F"].median() == pytest.approx(card.truth["CL"], rel=0.25)
    assert table["note"].eq("").mean() > 0.5


def test_a_known_data_set_that_is_not_shipped_says_where_it_is():
    with pytest.raises(nw.DataError, match=r"^The data set 'warfarin' is not shipped: .*O'Reilly.*read_csv.*'\.$"):
        nw.datasets.load("warfarin")


def test_warfarin_concentrations_read_in_place_have_the_kinetics_nonmem_finds(shared):
    """CL and V of NONMEM 7.4.3, FOCEI, fitting them with the effect (reference/warfarin_pkpd_turnover_ode)."""
    path = shared / "data" / "check-only" / "warfarin.csv"
    if not path.exists():
        pytest.skip("warfarin.csv is not in the shared folder")
    data = nw.Data.read_csv(path, covariates=["wt", "age", "sex"]).filter("DVID == 'cp'")
    assert (data.n_subjects, data.n_obs) == (32, 251)
    model = nw.library.oral_transit_1cpt(
        transits=1,
        MTT=nw.LogNormal(2.0, sd=0.7),
        CL=nw.LogNormal(0.15, sd=0.3),
        V=nw.LogNormal(9.0, sd=0.2),
        residual=nw.Combined1(0.5, 0.1),
    )
    fit = model.fit(data, "focei")
    assert fit.estimates["CL"] == pytest.approx(np.exp(-2.00405), rel=0.03)
    assert fit.estimates["V"] == pytest.approx(np.exp(2.05188), rel=0.03)
