"""Conditional distributions against quadrature, against Monolix's, and against what SAEM leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.methods.conditional import conditional
from tests.models import make


def moments_by_quadrature(problem: nw.Problem, values: Values, nodes: int = 41) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and SD of each eta by the trapezoidal rule, ±8 conditional SDs around the mode."""
    precision = np.linalg.inv(problem.occasions.expand(values.omega))
    typical = problem.typical(values.theta).slots
    modes = find_modes(problem, typical, precision, values.sigma)
    factor = np.linalg.inv(np.linalg.cholesky(0.5 * modes.hessian)).transpose(0, 2, 1)
    axis = np.linspace(-8, 8, nodes)
    z = np.stack([g.ravel() for g in np.meshgrid(*[axis] * problem.n_eta, indexing="ij")])
    eta = modes.eta[:, None] + np.einsum("nab,bk->akn", factor, z)
    with np.errstate(all="ignore"):
        f = problem.predict(problem.slots(typical, eta))
        joint = problem.minus2ll(f, values.sigma) + np.einsum("akn,ab,bkn->kn", eta, precision, eta)
    weight = np.exp(-0.5 * (joint - np.nanmin(joint, axis=0)))
    weight = np.nan_to_num(weight) / np.nansum(weight, axis=0)
    mean = (weight * eta).sum(axis=1)
    return mean, np.sqrt((weight * (eta - mean[:, None]) ** 2).sum(axis=1))


def poisson() -> tuple[nw.Problem, Values]:
    """Return counts, few and skewed."""
    rate = sp.Symbol("rate", positive=True)
    model = nw.Model(
        {"y": nw.LogLikelihood(nw.dv * sp.log(rate) - rate - sp.loggamma(nw.dv + 1), values="counts")},
        {rate: nw.LogNormal(1.5, sd=0.8)},
    )
    table = pd.DataFrame({"ID": [1, 1, 2, 3, 3, 3], "TIME": [0.0, 1, 0, 0, 1, 2], "DV": [0.0, 0, 7, 1, 2, 0]})
    return model.problem(nw.Data.from_frame(table)), model.values


def case(name: str) -> tuple[nw.Problem, Values]:
    if name == "counts":
        return poisson()
    made = make(
        *{"two effects": ("decay", "combined", ("block",)), "few data": ("emax", "additive", ())}[name],
        seed=3,
    )
    return made.problem, made.model.values


@pytest.mark.parametrize("name", ["two effects", "few data", "counts"])
def test_moments_are_those_of_quadrature(name: str) -> None:
    problem, values = case(name)
    mean, sd = moments_by_quadrature(problem, values)
    found = conditional(problem, values, draws=400, seed=5, tolerance=0.015)
    assert found.converged
    assert (np.abs(found.mean - mean) < 5 * found.error).all()
    # The relative error of an SD from n draws of kurtosis κ is sqrt((κ-1)/4n); κ = 6 is a heavy tail.
    np.testing.assert_allclose(found.sd, sd, rtol=5 * np.sqrt(5 / 4 / found.ess.min()))
    # The draws that are kept have these moments too.
    assert found.draws.shape == (400, *mean.shape)
    assert (np.abs(found.draws.mean(axis=0) - mean) < 5 * sd / np.sqrt(200)).all()


def test_the_stated_error_is_the_spread_between_runs() -> None:
    problem, values = case("two effects")
    runs = [conditional(problem, values, seed=s, tolerance=0.05) for s in range(12)]
    spread = np.std([r.mean for r in runs], axis=0, ddof=1)
    stated = np.mean([r.error for r in runs], axis=0)
    ratio = np.sqrt((spread**2).mean() / (stated**2).mean())
    assert 0.8 < ratio < 1.25  # 6 subjects × 2 etas × 11 degrees of freedom: 6 %, and batches are not independent


def test_a_run_says_why_it_ended() -> None:
    problem, values = case("two effects")
    short = conditional(problem, values, tolerance=0.001, longest=64)
    assert not short.converged
    assert "more than the 0.001 asked for; take more chains or a larger longest=" in short.message
    again = conditional(problem, values, tolerance=0.001, longest=64)
    np.testing.assert_array_equal(short.draws, again.draws)
    many = conditional(problem, values, draws=1000, chains=3)
    assert len(np.unique(many.draws[:, 0, 0])) > 500  # draws, not copies
    with pytest.raises(nw.MethodError, match="draws=0 is not positive"):
        conditional(problem, values, draws=0)


def test_theophylline_has_the_conditional_moments_of_monolix(shared: Path) -> None:
    folder = shared / "reference/monolix_theophylline"
    data = nw.Data.read_csv(folder / "data.csv", dv="CONC")
    ka, v, cl = sp.symbols("ka V Cl", positive=True)
    t = nw.time
    model = nw.Model(
        nw.dose * ka / (v * ka - cl) * (sp.exp(-cl / v * t) - sp.exp(-ka * t)),
        {
            ka: nw.LogNormal(1.53264420692351, sd=0.67105477569176),
            v: nw.LogNormal(0.455503642172079, sd=0.126281479740844),
            cl: nw.LogNormal(0.0401723641322292, sd=0.27062337275905),
        },
        residual=nw.Combined1(0.433279557549051, 0.0542595276206251),
    )
    # At Monolix's estimates, not those of an iteration.
    fit = replace(model.fit(data, "fo", max_iterations=1), values=model.values)
    found = fit.conditional(draws=1000, seed=2, tolerance=0.02)
    problem = model.problem(data)
    mean, sd = moments_by_quadrature(problem, model.values, 19)
    assert (np.abs(found.mean.to_numpy().T - mean) < 5 * found.error.to_numpy().T).all()
    # Monolix's moments have an error of their own, which is not printed: they are as if from 170 draws.
    etas = pd.read_csv(folder / "random_effects.csv")
    drawn = 100
    for name in ("ka", "V", "Cl"):
        own, printed = found.mean[f"eta_{name}"].to_numpy(), etas[f"eta_{name}_mean"].to_numpy()
        width = found.sd[f"eta_{name}"].to_numpy()
        assert np.abs(printed - own).max() < 4 * width.max() / np.sqrt(drawn)
        assert np.sqrt((((printed - own) / width) ** 2).mean()) < 1.3 / np.sqrt(
            drawn
        )  # χ² of 12: p = 0.03 if it were 100
        np.testing.assert_allclose(etas[f"eta_{name}_sd"], width, rtol=4 / np.sqrt(2 * drawn))
    individual = pd.read_csv(folder / "individual_parameters.csv")
    for name in ("ka", "V", "Cl"):
        own, width = found.parameters[name].to_numpy(), found.parameters_sd[name].to_numpy()
        assert (np.abs(individual[f"{name}_mean"].to_numpy() - own) < 4 * width / np.sqrt(drawn)).all()
    assert list(found.samples.index.names) == ["ID", "draw"]
    first = found.samples.loc[data.ids[0]]
    np.testing.assert_allclose(first.mean(), found.mean.iloc[0], atol=4 * found.sd.iloc[0].max() / np.sqrt(500))


def test_saem_leaves_conditional_moments_behind(theophylline: nw.Data, oral_model) -> None:
    fit = oral_model().fit(theophylline, "saem", seed=1)
    mean, sd = moments_by_quadrature(fit.problem, fit.values, 19)
    # Fifty iterations of twenty chains or more, a third of them independent.
    draws = 300
    assert (np.abs(fit.arrays["conditional_mean"] - mean) < 4 * sd / np.sqrt(draws)).all()
    np.testing.assert_allclose(fit.arrays["conditional_sd"], sd, rtol=4 / np.sqrt(2 * draws))


def test_occasions_have_tables_of_their_own() -> None:
    made = make("decay", "additive", ("iov",), seed=4, subjects=8)
    fit = made.model.fit(made.data, "fo", max_iterations=2)
    found = fit.conditional(draws=50)
    assert list(found.kappa.columns) == list(made.model.space.within)
    assert found.kappa.index.equals(fit.kappa.index)
    assert (found.kappa_sd.to_numpy() > 0).all()
    assert found.mean.shape == (8, len(made.model.space.between))
    assert found.message == found.result.message
    pd.testing.assert_frame_equal(found.samples, fit.conditional(draws=50, seed=fit.seed).samples)
