"""One-step case deletion against real refits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.diagnostics import influence
from nlmewidgets.methods import METHODS


@pytest.fixture(scope="module")
def fitted() -> nw.Fit:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
    )
    return model.fit(nw.datasets.load("theophylline"), tolerance=1e-9)


def test_one_step_says_what_refits_without_each_subject_do(fitted: nw.Fit) -> None:
    """Theophylline: every parameter's move, and the distance of it all, correlate above 0.95 with real refits."""
    table = influence(fitted.problem, fitted.values, METHODS["focei"](), fitted.etas.T)
    ids = fitted.data.ids
    refits = [fitted.model.fit(fitted.data.subset([j for j in ids if j != i]), tolerance=1e-9) for i in ids]
    real = pd.DataFrame([r.estimates for r in refits], index=ids)
    for name in real:
        assert np.corrcoef(table[name], real[name])[0, 1] > 0.95, name
    space = fitted.start.space
    moves = np.array([space.pack(r.values) for r in refits]) - space.pack(fitted.values)
    cook = np.sqrt(np.einsum("np,pq,nq->n", moves, fitted.uncertainty.r, moves))
    assert np.corrcoef(table["cook"], cook)[0, 1] > 0.95
    assert set(table["cook"].nlargest(2).index) == {ids[k] for k in np.argsort(cook)[-2:]}


def test_the_step_is_exact_where_the_objective_is_quadratic() -> None:
    """With known variances a linear model's objective is quadratic in theta: one step is the refit."""
    a, b = sp.symbols("a b")
    model = nw.Model(
        a + b * nw.time,
        {a: nw.Normal(1.0, sd=0.5, fixed_sd=True), b: nw.Normal(2.0, sd=0.8, fixed_sd=True)},
        residual=nw.Additive(0.3, fixed=True),
    )
    rng = np.random.default_rng(4)
    frame = pd.DataFrame([(i, t, rng.normal(1 + 2 * t)) for i in range(6) for t in (0.0, 1.0, 2.0)])
    data = nw.Data.from_frame(frame.set_axis(["ID", "TIME", "DV"], axis=1))
    fit = model.fit(data, "fo")
    table = influence(fit.problem, fit.values, METHODS["fo"]())
    assert list(table) == ["iofv", "cook", "a", "b", "held"]
    assert table["iofv"].sum() == pytest.approx(fit.ofv)
    for i in data.ids:
        refit = fit.model.fit(data.subset([j for j in data.ids if j != i]), "fo", tolerance=1e-10)
        np.testing.assert_allclose(table.loc[i, ["a", "b"]], refit.theta, rtol=1e-6)


def test_a_parameter_that_rests_on_one_subject_does_not_run_away() -> None:
    """Only subject 1 has an observation where the prediction is 0: without it the additive error has no minimum."""
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Combined(0.3, 0.1),
    )
    fit = model.fit(nw.datasets.load("theophylline"))
    table = influence(fit.problem, fit.values, METHODS["focei"](), fit.etas.T)
    assert table["held"].any()
    assert table["cook"].max() < 50
    assert table.loc[table["held"], "additive"].max() < 0.5 * fit.sigma["additive"]


def test_a_method_that_does_not_treat_the_data_says_so() -> None:
    rate = sp.Symbol("rate", positive=True)
    model = nw.Model({"y": nw.Poisson(rate)}, {rate: nw.LogNormal(4.0, sd=0.5)})
    data = nw.Data.from_frame(pd.DataFrame({"ID": 1, "TIME": [0.0, 1.0], "DV": [3.0, 7.0]}))
    with pytest.raises(nw.MethodError, match="FOCEI does not treat"):
        influence(model.problem(data), model.values, METHODS["focei"]())
