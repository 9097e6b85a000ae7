"""Covariate tests on conditional moments: effects not shrunken, and a level that shrinkage does not spoil."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.diagnostics import covariate_tests
from nlmewidgets.methods import METHODS

TIMES = np.array([0.5, 1.0, 1.5, 2.0])
SUBJECTS = 60


def line(sd: float, slope_variance: float = 0.25, effect: float | None = None, both: bool = False) -> nw.Model:
    a, b = sp.symbols("a b")
    z = nw.covariate("Z")
    on = {} if effect is None else {"effect": nw.theta("beta", effect) * z}
    return nw.Model(
        a + b * nw.time,
        {
            a: nw.Normal(1.0, sd=0.5, **({"effect": nw.theta("other", 0.0) * z} if both else {})),
            b: nw.Normal(2.0, sd=np.sqrt(slope_variance), **on),
        },
        residual=nw.Additive(sd),
    )


def response(rng: np.random.Generator, sd: float, effect: float, z: np.ndarray) -> np.ndarray:
    a, b = 1 + 0.5 * rng.normal(size=(SUBJECTS, 1)), 2 + effect * z + 0.5 * rng.normal(size=(SUBJECTS, 1))
    return (a + b * TIMES + sd * rng.normal(size=(SUBJECTS, 4))).ravel()


def study(rng: np.random.Generator, sd: float, effect: float) -> nw.Data:
    """Return a study where Z moves the slope b and not the intercept a."""
    z = rng.normal(size=(SUBJECTS, 1))
    sex = np.repeat(rng.choice(["F", "M"], SUBJECTS), 4)
    columns = {
        "ID": np.repeat(np.arange(SUBJECTS), 4),
        "TIME": np.tile(TIMES, SUBJECTS),
        "DV": response(rng, sd, effect, z),
    }
    return nw.Data.from_frame(pd.DataFrame(columns | {"Z": np.repeat(z, 4), "SEX": sex}))


def moments(problem: nw.Problem, values: object) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the random effects of a linear model, by Bayes' theorem written out."""
    omega, sigma = values.omega, values.sigma[0]
    g = np.column_stack([np.ones(4), TIMES])
    v = np.linalg.inv(g.T @ g / sigma**2 + np.linalg.inv(omega))
    error = problem.y.reshape(-1, 4) - g @ values.theta[:2]
    return v @ g.T @ error.T / sigma**2, np.broadcast_to(v, (SUBJECTS, 2, 2))


@pytest.mark.parametrize(("sd", "shrunk"), [(0.2, 0.1), (0.75, 0.4), (2.4, 0.7)])
def test_the_level_holds_under_shrinkage_where_that_of_ebes_does_not(sd: float, shrunk: float) -> None:
    """Z moves b only.  Of 200 studies the test of Z on a rejects 5 % (binomial bounds); on EBEs it does not."""
    rng, repeats = np.random.default_rng(11), 200
    first = study(rng, sd, 0.3)
    z = first.subject_covariates()["Z"].to_numpy()[:, None]
    # The model without the effect, at the values it tends to: the effect is part of b's variance.
    model = line(sd, 0.25 + 0.3**2)
    rejected, rejected_ebe, found = 0, 0, []
    for _ in range(repeats):
        records = first.records.assign(DV=response(rng, sd, 0.3, z))
        problem = model.problem(replace(first, records=records))
        own = moments(problem, model.values)
        table = covariate_tests(problem, model.values, own[0], own, ["Z"]).set_index("eta")
        rejected += table.loc["eta_a", "p"] < 0.05
        rejected_ebe += table.loc["eta_a", "ebe_p"] < 0.05
        found.append((table.loc["eta_a", "shrinkage"], table.loc["eta_b", "effect"], table.loc["eta_b", "se"]))
    mean_shrinkage, effect, se = np.mean(found, axis=0)
    assert abs(mean_shrinkage - shrunk) < 0.06
    low, high = stats.binom.ppf([0.0005, 0.9995], repeats, 0.05)
    assert low <= rejected <= high
    # The effect on b is not shrunken, whatever its EBEs are.
    assert abs(effect - 0.3) < 4 * se / np.sqrt(repeats)
    if shrunk >= 0.4:
        assert rejected_ebe > high


def test_one_step_is_near_the_refit_with_the_effect() -> None:
    """What an effect is worth in −2LL, and its size, before refitting: for a weak effect both are the refit's."""
    data = study(np.random.default_rng(3), 0.5, 0.15)
    plain = line(0.5).fit(data, "fo")
    table = covariate_tests(plain.problem, plain.values, plain.etas.T).set_index(["eta", "covariate"])
    row = table.loc[("eta_b", "Z")]
    refit = line(0.5, effect=0.0).fit(data, "fo")
    # Of second order in the effect: its square is a tenth of the variance.
    assert row["worth"] == pytest.approx(plain.ofv - refit.ofv, rel=0.15)
    # The effect itself is estimated beside that on the other eta.
    both = line(0.5, effect=0.0, both=True).fit(data, "fo")
    place = both.start.space.x_names.index("beta")
    se = np.sqrt(np.linalg.inv(both.uncertainty.r)[place, place])
    assert row["effect"] == pytest.approx(both.theta["beta"], abs=0.15 * se)
    assert row["se"] == pytest.approx(se, rel=0.15)
    assert table["p"].is_monotonic_increasing
    assert table.loc[("eta_a", "SEX"), "kind"] == "categorical"


def test_importance_sampling_gives_the_moments_of_a_linear_model() -> None:
    problem = line(0.5).problem(study(np.random.default_rng(5), 0.5, 0.3))
    values = problem.model.values
    own = moments(problem, values)
    exact = covariate_tests(problem, values, own[0], own)
    sampled = covariate_tests(problem, values, own[0])
    # The moments of some thousand draws are known to about a hundredth of the conditional SD.
    pd.testing.assert_frame_equal(exact, sampled, rtol=0.02, atol=0.01)


def test_categories_are_compared_by_indicators() -> None:
    """With three levels the test has two degrees of freedom and the effect is the largest difference."""
    a = sp.Symbol("a")
    model = nw.Model(a, {a: nw.Normal(1.0, sd=1.0)}, residual=nw.Additive(1e-3))
    rng = np.random.default_rng(2)
    arm = np.repeat(["x", "y", "z"], 20)
    y = 1 + rng.normal(size=60) + np.where(arm == "z", 1.0, 0.0)
    frame = pd.DataFrame({"ID": np.arange(60), "TIME": 0.0, "DV": y, "ARM": arm, "ONE": 1.0})
    fit = model.fit(nw.Data.from_frame(frame, covariates=["ARM", "ONE"]), "fo")
    table = covariate_tests(fit.problem, fit.values, fit.etas.T)
    assert table["covariate"].tolist() == ["ARM"]  # a constant explains nothing
    means = pd.Series(y).groupby(arm).mean()
    assert table["effect"][0] == pytest.approx(np.ptp(means), rel=1e-3)
    # Without shrinkage both tests are the analysis of variance.
    anova = stats.f_oneway(*(y[arm == level] for level in "xyz")).pvalue
    assert table["df"][0] == 2
    assert table["ebe_p"][0] == pytest.approx(anova, rel=1e-3)
    assert table["p"][0] == pytest.approx(anova, rel=1e-3)


def test_theophylline_by_laplace_has_a_table() -> None:
    data = nw.datasets.load("theophylline")
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
    )
    eta = METHODS["focei"]().evaluate(model.problem(data), model.values).eta
    table = covariate_tests(model.problem(data), model.values, eta)
    assert len(table) == 6
    assert table[["p", "worth", "effect", "se"]].notna().all().all()
    assert (table["worth"] >= 0).all()
