"""What a design promises, against optimal-design software and against arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.diagnostics.sampling import efficiency, precision, sampling_design
from tests.kinds import KINDS


def warfarin(error: object) -> tuple[nw.Model, nw.Data]:
    """Return the model of the reference, with one subject whose only sample is not that of the design."""
    ka, cl, v = sp.symbols("KA CL V", positive=True)
    f = nw.dose * ka / (v * ka - cl) * (sp.exp(-cl / v * nw.time) - sp.exp(-ka * nw.time))
    parameters = {
        cl: nw.LogNormal(0.15, sd=0.07**0.5),
        v: nw.LogNormal(8.0, sd=0.02**0.5),
        ka: nw.LogNormal(1.0, sd=0.6**0.5),
    }
    rows = [(1, 0.0, 100.0, 1, np.nan), (1, 5.0, 0.0, 0, 1.0)]
    return nw.Model(f, parameters, residual=error), nw.Data.from_frame(
        pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV"])
    )


@pytest.mark.parametrize(("number", "full"), [(0, True), (1, False)])
def test_errors_of_a_design_are_those_of_poped(shared: Path, number: int, full: bool) -> None:
    """RSEs of Nyberg et al. (2015) of 32 subjects after 70 mg, from a subject sampled otherwise after 100 mg."""
    folder = shared / "reference" / "warfarin_fisher_information_FO"
    times = pd.read_csv(folder / "data.csv")["time"]
    check = json.loads((folder / "expected.json").read_text())["checks"][number]
    model, data = warfarin(nw.Proportional(0.1))
    problem = model.problem(sampling_design(data, 1, times, dose=70.0))
    found = precision(problem, model.values, 32, full=full, draws=0, scale="variance")
    np.testing.assert_allclose(found.table["rse"], check["rse_percent"], atol=6e-4)  # three printed decimals
    assert found.message == ""
    halved = precision(problem, model.values, 32, full=full, draws=0)
    # A relative error of a square root is half that of the square.
    np.testing.assert_allclose(halved.table["rse"][3:], found.table["rse"][3:] / 2, rtol=1e-6)


def test_efficiency_counts_subjects_and_follows_the_determinant(shared: Path) -> None:
    folder = shared / "reference" / "warfarin_fisher_information_FO"
    full, reduced = (c["expected"] for c in json.loads((folder / "expected.json").read_text())["checks"][:2])
    model, data = warfarin(nw.Proportional(0.1))
    problem = model.problem(sampling_design(data, 1, [0.5, 1, 2, 6, 24, 36, 72, 120], dose=70.0))
    one, two = (precision(problem, model.values, 32, full=kind, draws=0) for kind in (False, True))
    assert efficiency(one, two) == pytest.approx((reduced / full) ** (1 / 7), rel=1e-5)
    assert efficiency(precision(problem, model.values, 8, draws=0), two) == pytest.approx(0.25)


def test_errors_of_the_mean_of_normal_data_are_arithmetic() -> None:
    """N subjects, n samples of a ~ N(1, ω²) with error σ: Var(mean) = (ω² + σ²/n)/N."""
    a = sp.Symbol("a")
    model = nw.Model(a, {a: nw.Normal(1.0, sd=0.5)}, residual=nw.Additive(0.4))
    data = nw.Data.from_frame(pd.DataFrame({"ID": [1, 1], "TIME": [0.0, 1.0], "DV": 1.0}))
    found = precision(model.problem(sampling_design(data, 1, [0.0, 0.5, 1.0])), model.values, 20)
    assert found.table.loc["a", "se"] == pytest.approx(np.sqrt((0.25 + 0.16 / 3) / 20))
    assert found.shrinkage.loc["eta_a", "variance"] == pytest.approx(0.16 / 3 / (0.25 + 0.16 / 3))
    assert found.n_subjects * found.n_obs == 60


def test_too_few_samples_are_said_in_words_and_have_no_efficiency() -> None:
    model, data = warfarin(nw.Proportional(0.1))
    poor = precision(model.problem(sampling_design(data, 1, [6.0])), model.values, 32)
    rich = precision(model.problem(sampling_design(data, 1, [0.5, 2, 6, 24, 72])), model.values, 32)
    assert "fix combinations" in poor.message
    assert np.isnan(efficiency(poor, rich))
    assert poor.table["se"].isna().any()


def test_an_infusion_keeps_its_duration() -> None:
    rows = [(1, 0.0, 100.0, 50.0, 1, np.nan), (1, 5.0, 0.0, 0.0, 0, 1.0)]
    data = nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "RATE", "EVID", "DV"]))
    one = sampling_design(data, 1, [1.0, 2.0], dose=200.0).records
    assert one[["AMT", "RATE"]].iloc[0].tolist() == [200.0, 100.0]
    assert one["TIME"].tolist() == [0.0, 1.0, 2.0]


def test_what_cannot_be_planned_is_refused_in_words() -> None:
    model, data = warfarin(nw.Proportional(0.1))
    with pytest.raises(nw.DataError, match="at least one sampling time"):
        sampling_design(data, 1, [])
    with pytest.raises(nw.DataError, match="needs a dose record"):
        sampling_design(data, 1, [1.0], dose=-1.0)
    with pytest.raises(nw.DataError, match="deviation is 0 at TIME 0"):
        precision(model.problem(sampling_design(data, 1, [0.0, 1.0])), model.values)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_is_planned_or_refused(kind: str) -> None:
    model, data = KINDS[kind]()
    problem = model.problem(sampling_design(data, 1, [1.0, 4.0, 6.0, 9.0]))
    found = precision(problem, model.values, 30, draws=5)
    assert found.notes or found.shrinkage["sd"].between(0, 1).all()
    if problem.not_normal(correlated=False) is None:
        assert np.isfinite(found.table["se"]).all()
    else:
        assert "not for a likelihood that is not normal" in found.message
