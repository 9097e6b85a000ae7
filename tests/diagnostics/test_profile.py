"""Profile likelihood against exact profiles of linear models, and Wald's intervals where they are exact."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

import nlmewidgets as nw
from nlmewidgets.studies import profile

TIMES = np.array([0.0, 1.0, 2.0])
SUBJECTS = 15


def study() -> nw.Data:
    rng = np.random.default_rng(21)
    a, b = 1 + 0.6 * rng.normal(size=(SUBJECTS, 1)), 2 + 0.5 * rng.normal(size=(SUBJECTS, 1))
    y = a + b * TIMES + 0.4 * rng.normal(size=(SUBJECTS, 3))
    frame = pd.DataFrame({"ID": np.repeat(np.arange(SUBJECTS), 3), "TIME": np.tile(TIMES, SUBJECTS), "DV": y.ravel()})
    return nw.Data.from_frame(frame)


def model(**options: object) -> nw.Model:
    priors = {"a": nw.Normal(1.0, sd=0.6, **options), "b": nw.Normal(2.0, sd=0.5, **options)}
    return nw.Model("a + b*t", priors, residual=nw.Additive(0.4, fixed=bool(options)))


def exact(data: nw.Data, name: str, value: float, start: np.ndarray) -> float:
    """Return the least −2 log L with one parameter held, of the normal distribution written out."""
    y = data.dv.reshape(SUBJECTS, 3)
    names = ["a", "b", "omega_a", "omega_b", "additive"]
    held = names.index(name)
    z = np.column_stack([np.ones(3), TIMES])

    def value_at(free: np.ndarray) -> float:
        x = np.insert(free, held, value if held < 2 else np.log(value))
        omega, sigma = np.diag(np.exp(2 * x[2:4])), np.exp(2 * x[4])
        v = z @ omega @ z.T + sigma * np.eye(3)
        left = y - z @ x[:2]
        return SUBJECTS * np.linalg.slogdet(v)[1] + float(np.einsum("ij,jk,ik->", left, np.linalg.inv(v), left))

    return minimize(value_at, np.delete(start, held), method="BFGS", options={"gtol": 1e-5}).fun


@pytest.mark.parametrize("name", ["a", "omega_a", "additive"])
def test_it_is_the_exact_profile_of_a_linear_model(name: str) -> None:
    data = study()
    fit = model().fit(data, "fo", tolerance=1e-9)
    found = profile(fit, name)
    at = fit.estimates[["a", "b", "omega_a", "omega_b", "additive"]].to_numpy()
    start = np.concatenate([at[:2], np.log(at[2:])])
    for _, row in found.points.iterrows():
        assert row["delta"] == pytest.approx(exact(data, name, row["value"], start) - fit.ofv, abs=2e-4)
    # Interpolation costs no more than a three-hundredth of the rise.
    for end in ("lower", "upper"):
        rise = exact(data, name, found.intervals.loc[name, end], start) - fit.ofv
        assert rise == pytest.approx(chi2.ppf(0.95, 1), rel=0.003)


def test_it_is_walds_where_the_likelihood_is_quadratic() -> None:
    fit = model(fixed_sd=True).fit(study(), "fo", tolerance=1e-9)
    found = profile(fit, level=0.9)
    assert list(found.intervals.index) == ["a", "b"]
    for end in ("lower", "upper"):
        np.testing.assert_allclose(found.intervals[end], found.intervals[f"wald_{end}"], rtol=1e-5)
    assert found.limit == pytest.approx(chi2.ppf(0.9, 1))
    assert not found.message


def test_a_variance_the_data_do_not_ask_for_is_open_below() -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"ID": np.repeat(np.arange(20), 2), "TIME": np.tile([0.0, 1.0], 20), "DV": rng.normal(size=40)}
    )
    fit = nw.Model("a", {"a": nw.Normal(0.0, sd=0.3)}, residual=nw.Additive(1.0)).fit(nw.Data.from_frame(frame), "fo")
    row = profile(fit, "omega_a").intervals.loc["omega_a"]
    assert row["lower"] == 0.0
    assert "do not bound it below" in row["note"]
    assert 0 < row["upper"] < 1


def test_it_can_be_stopped_and_refuses_what_is_not_estimated() -> None:
    fit = model().fit(study(), "fo")
    stop = threading.Event()
    stop.set()
    assert "Stopped" in profile(fit, stop=stop).message
    with pytest.raises(nw.MethodError, match="'V' is not estimated; there are a, b, omega_a"):
        profile(fit, "V")
    with pytest.raises(nw.MethodError, match="level=2 is not between 0 and 1"):
        profile(fit, level=2)
