"""Outliers, notes, and differences between fits, against exact distributions and made-up mishaps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.diagnostics import (
    flip_flop,
    iofv_difference,
    notes,
    outlying_observations,
    outlying_subjects,
)

SUBJECTS, TIMES = 40, np.array([0.0, 1.0, 2.0, 3.0])


def study(seed: int = 6) -> nw.Data:
    rng = np.random.default_rng(seed)
    a, b = 1 + 0.6 * rng.normal(size=(SUBJECTS, 1)), 2 + 0.5 * rng.normal(size=(SUBJECTS, 1))
    y = a + b * TIMES + 0.4 * rng.normal(size=(SUBJECTS, 4))
    y[7, 2] += 4.0
    frame = pd.DataFrame({"ID": np.repeat(np.arange(SUBJECTS), 4), "TIME": np.tile(TIMES, SUBJECTS), "DV": y.ravel()})
    return nw.Data.from_frame(frame)


@pytest.fixture(scope="module")
def fit() -> nw.Fit:
    """A line with known parameters; observation 2 of subject 7 is ten residual standard deviations off."""
    model = nw.Model(
        "a + b*t",
        {"a": nw.Normal(1.0, sd=0.6, fixed_sd=True), "b": nw.Normal(2.0, sd=0.5, fixed_sd=True)},
        residual=nw.Additive(0.4, fixed=True),
    )
    return model.fit(study(), "fo")


def test_the_part_of_the_objective_is_chi_square_in_a_linear_model(fit: nw.Fit) -> None:
    table = outlying_subjects(fit, n=2000).sort_index()
    z = np.column_stack([np.ones(4), TIMES])
    v = z @ fit.values.omega @ z.T + fit.values.sigma[0] ** 2 * np.eye(4)
    left = fit.problem.y.reshape(-1, 4) - z @ fit.values.theta[:2]
    squares = np.einsum("ij,jk,ik->i", left, np.linalg.inv(v), left)
    exact = stats.chi2.sf(squares, 4)
    np.testing.assert_allclose(table["iofv"], squares + np.linalg.slogdet(v)[1], rtol=1e-8)
    # Four Monte Carlo errors: of a mean of 2,000 with variance 8, and of an ordinary p value.
    assert (table["expected"] - 4 - np.linalg.slogdet(v)[1]).abs().max() < 4 * np.sqrt(8 / 2000)
    middle = exact > 0.01
    np.testing.assert_allclose(table["p"][middle], exact[middle], atol=0.05)
    worst = outlying_subjects(fit, n=300)
    assert worst.index[0] == 7
    assert worst["p_adjusted"].iloc[0] < 1e-4
    assert (worst["p_adjusted"].iloc[1:] > 0.05).all()


def test_the_odd_observation_is_found_and_no_other(fit: nw.Fit) -> None:
    found = outlying_observations(fit)
    assert found[["ID", "TIME"]].to_numpy().tolist()[0] == [7, 2.0]
    assert set(found["ID"]) == {7}
    every = outlying_observations(fit, level=1)
    assert len(every) == 4 * SUBJECTS
    cwres = every["CWRES"].abs()
    np.testing.assert_allclose(every["p_cwres"], np.minimum(1, 2 * stats.norm.sf(cwres) * 4 * SUBJECTS))


def test_censored_data_are_refused(fit: nw.Fit) -> None:
    records = fit.data.records.assign(CENS=(fit.data.records["DV"] < 0.5).astype(float))
    one = replace(fit, data=replace(fit.data, records=records))
    with pytest.raises(nw.DataError, match="judge subjects by their NPDE"):
        outlying_subjects(one)


def test_one_subject_may_decide_between_two_models(fit: nw.Fit) -> None:
    wide = fit.start.with_values({"additive": 0.8}).fit(fit.data, "fo")
    table = iofv_difference(fit, wide)
    assert table["difference"].sum() == pytest.approx(wide.ofv - fit.ofv)
    assert table.index[0] == 7
    assert table["difference"].iloc[0] < 0
    assert table["without"].iloc[0] == pytest.approx(wide.ofv - fit.ofv - table["difference"].iloc[0])
    with pytest.raises(nw.NlmeError, match="different"):
        iofv_difference(fit, fit.start.fit(study(7), "fo"))


def test_absorption_slower_than_elimination_is_said_once_and_rightly() -> None:
    data = nw.datasets.load("theophylline")
    make = nw.library.oral_1cpt
    right = make(ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3), V=nw.LogNormal(32.0, sd=0.2))
    # The same curve: ka and k exchanged, V by their ratio.
    k = 2.8 / 32
    other = make(ka=nw.LogNormal(k, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3), V=nw.LogNormal(2.8 / 1.5, sd=0.2))
    fits = [m.fit(data, "fo", max_iterations=0) for m in (right, other)]
    assert flip_flop(fits[0]) == ""
    assert "0.0875 per unit of time" in flip_flop(fits[1])
    assert flip_flop(fits[1]) in notes(fits[1])
    two = nw.library.oral_2cpt(ka=nw.LogNormal(0.05, sd=0.6)).fit(data, "fo", max_iterations=0)
    k10, k12, k21 = 3 / 15, 5 / 15, 5 / 30
    beta = np.linalg.eigvals([[-k10 - k12, k21], [k12, -k21]])
    expected = "Flip-flop" if two.theta["ka"] < np.abs(beta).min() else ""
    assert flip_flop(two).startswith(expected)
    assert expected


def test_high_shrinkage_is_a_note() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"ID": np.arange(60), "TIME": 0.0, "DV": rng.normal(1, 1.2, 60)})
    model = nw.Model("a", {"a": nw.Normal(1.0, sd=0.7)}, residual=nw.Additive(1.0, fixed=True))
    found = notes(model.fit(nw.Data.from_frame(frame), "fo"))
    assert any(note.startswith("Shrinkage is high: eta_a (") for note in found)
