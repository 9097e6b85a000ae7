"""Predicted shrinkage against that of EBEs of data simulated from the design."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.modes import find_modes
from nlmewidgets.diagnostics import predicted_shrinkage, shrinkage


def oral(residual: object) -> nw.Model:
    ka, cl, v = sp.symbols("ka CL V", positive=True)
    f = nw.dose * ka / (v * ka - cl) * (sp.exp(-cl / v * nw.time) - sp.exp(-ka * nw.time))
    parameters = {ka: nw.LogNormal(1.5, sd=0.6), cl: nw.LogNormal(2.8, sd=0.3), v: nw.LogNormal(32.0, sd=0.2)}
    return nw.Model(f, parameters, residual=residual)


def design(times: list[float], subjects: int = 2000, dose: float = 320.0) -> nw.Data:
    rows = []
    for i in range(subjects):
        rows.append((i, 0.0, dose, 1, np.nan))
        rows += [(i, t, 0.0, 0, 1.0) for t in times]
    return nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV"]))


def emax() -> tuple[nw.Model, nw.Data]:
    top, half = sp.symbols("Emax E50", positive=True)
    model = nw.Model(
        top * nw.time / (half + nw.time),
        {top: nw.LogNormal(10.0, sd=0.3), half: nw.LogNormal(3.0, sd=0.5)},
        residual=nw.Additive(1.0),
        correlation={(top, half): 0.5},
    )
    frame = pd.DataFrame([(i, t, 1.0) for i in range(2000) for t in (1.0, 4.0, 10.0)], columns=["ID", "TIME", "DV"])
    return model, nw.Data.from_frame(frame)


def poisson() -> tuple[nw.Model, nw.Data]:
    rate = sp.Symbol("rate", positive=True)
    model = nw.Model({"y": nw.Poisson(rate)}, {rate: nw.LogNormal(3.0, sd=0.5)})
    frame = pd.DataFrame([(i, t, 1.0) for i in range(2000) for t in range(4)], columns=["ID", "TIME", "DV"])
    return model, nw.Data.from_frame(frame)


DESIGNS = {
    "rich": (oral(nw.Additive(0.7)), design([0.25, 0.5, 1, 2, 4, 8, 12, 24])),
    "two late samples": (oral(nw.Additive(0.7)), design([8.0, 24.0])),
    "proportional": (oral(nw.Proportional(0.25)), design([1.0, 6.0, 24.0])),
    "correlated Emax": emax(),
    "counts": poisson(),
}


@pytest.mark.parametrize("name", DESIGNS)
def test_it_is_within_three_points_of_what_simulated_data_show(name: str) -> None:
    model, data = DESIGNS[name]
    predicted = predicted_shrinkage(model.problem(data), model.values, n=40)["sd"]
    simulated = data.records.copy()
    simulated.loc[data.observed, "DV"] = model.simulate(data, seed=3)["DV"].to_numpy()
    problem = model.problem(nw.Data(simulated, data.covariates, data.units, (), data.origin))
    typical = problem.typical(model.values.theta).slots
    with np.errstate(all="ignore"):
        modes = find_modes(problem, typical, np.linalg.inv(model.values.omega), model.values.sigma)
    seen = shrinkage(problem, model.values, modes.eta)
    # The SD of 2,000 EBEs is itself uncertain by 1/√4000, 1.6 %: half of the tolerance.
    for eta in predicted.index:
        assert abs(predicted[eta] - seen[eta]) < 0.03, (eta, predicted[eta], seen[eta])


def test_a_linear_model_is_exact_and_needs_no_draws() -> None:
    """One observation of a ~ N(1, ω²) with error σ: shrinkage of the variance is σ²/(ω² + σ²)."""
    a = sp.Symbol("a")
    model = nw.Model(a, {a: nw.Normal(1.0, sd=0.5)}, residual=nw.Additive(0.5))
    data = nw.Data.from_frame(pd.DataFrame({"ID": [1, 2], "TIME": 0.0, "DV": 1.0}))
    for n in (0, 50):
        row = predicted_shrinkage(model.problem(data), model.values, n=n).loc["eta_a"]
        assert row["variance"] == pytest.approx(0.5)
        assert row["sd"] == pytest.approx(1 - np.sqrt(0.5))
        assert row["se"] == pytest.approx(0.0, abs=1e-12)


def test_a_likelihood_without_information_is_refused() -> None:
    p = sp.Symbol("p", positive=True)
    model = nw.Model({"y": nw.LogLikelihood(sp.log(p) * nw.dv)}, {p: nw.LogNormal(0.5, sd=0.1)})
    data = nw.Data.from_frame(pd.DataFrame({"ID": [1, 2], "TIME": 0.0, "DV": 1.0}))
    with pytest.raises(nw.MethodError, match="simulate data"):
        predicted_shrinkage(model.problem(data), model.values)
