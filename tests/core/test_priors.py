"""Priors: their densities against SciPy, the penalty's gradient, and estimates that weigh data and prior."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import stats
from scipy.integrate import dblquad, quad

import nlmewidgets as nw
from nlmewidgets import priors
from nlmewidgets.core.priors import PRIORS, Penalty
from nlmewidgets.fit.store import model_from_dict, model_to_dict

A, k, C = sp.symbols("A k C", positive=True)

SCALAR = {
    "Normal": (priors.Normal(1.5, 0.7), stats.norm(1.5, 0.7)),
    "LogNormal": (priors.LogNormal(1.5, 0.7), stats.lognorm(0.7, scale=1.5)),
    "HalfNormal": (priors.HalfNormal(0.8), stats.halfnorm(scale=0.8)),
    "InverseGamma": (priors.InverseGamma(3.0, 0.4), stats.invgamma(3.0, scale=0.4)),
}


@pytest.mark.parametrize("name", SCALAR)
def test_a_density_is_scipys(name):
    prior, reference = SCALAR[name]
    for x in (0.05, 0.4, 1.5, 6.0):
        value, slope = prior.minus2log(x)
        assert value == pytest.approx(-2 * reference.logpdf(x), rel=1e-12)
        h = 1e-5 * x
        difference = (prior.minus2log(x + h)[0] - prior.minus2log(x - h)[0]) / (2 * h)
        assert slope == pytest.approx(difference, rel=1e-6, abs=1e-6)


def test_the_inverse_wishart_is_scipys():
    scale = np.array([[0.4, 0.1, 0.0], [0.1, 0.3, -0.05], [0.0, -0.05, 0.2]])
    omega = np.array([[0.2, 0.05, 0.01], [0.05, 0.1, 0.0], [0.01, 0.0, 0.3]])
    value, _ = priors.InverseWishart(7.0, scale).matrix(omega)
    assert value == pytest.approx(-2 * stats.invwishart(7.0, scale).logpdf(omega), rel=1e-12)
    one = priors.InverseWishart(5.0, (0.3,)).matrix(np.array([[0.2]]))[0]
    assert one == pytest.approx(priors.InverseGamma(2.5, 0.15).minus2log(0.2)[0], rel=1e-12)


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.5])
def test_lkj_integrates_to_one(shape):
    def density(*r: float) -> float:
        p = 2 if len(r) == 1 else 3
        matrix = np.eye(p)
        matrix[np.triu_indices(p, 1)] = r
        matrix = matrix + np.triu(matrix, 1).T
        if np.linalg.eigvalsh(matrix)[0] <= 0:
            return 0.0
        sd = np.array([0.3, 2.0, 0.7])[:p]  # the standard deviations must not matter
        return math.exp(-0.5 * priors.LKJ(shape).matrix(matrix * np.outer(sd, sd))[0])

    assert quad(density, -1, 1)[0] == pytest.approx(1.0, abs=1e-6)
    if shape > 1:
        # For 3 × 3, integrated over two correlations within the ellipse the third leaves: the marginal of each is
        # a beta distribution on (−1, 1) with both parameters shape + 1/2.
        r = 0.3

        def edge(s: float, sign: int) -> float:
            return r * s + sign * math.sqrt((1 - r * r) * (1 - s * s))

        ends = -1, 1, lambda s: edge(s, -1), lambda s: edge(s, 1)
        found = dblquad(lambda u, s: density(r, s, u), *ends, epsabs=1e-5, epsrel=1e-5)[0]
        assert found == pytest.approx(stats.beta(shape + 0.5, shape + 0.5, -1, 2).pdf(r), rel=1e-4)


def declare(**options) -> nw.Model:
    return nw.Model(
        A * sp.exp(-k * nw.time) + C,
        {A: nw.LogNormal(8.0, sd=0.3, iov=0.1), k: nw.LogNormal(0.3, sd=0.3), C: nw.LogNormal(2.0, sd=0.2)},
        residual=nw.Combined(0.3, 0.1),
        correlation={(A, k): 0.3},
        **options,
    )


EVERY = {
    "A": priors.Normal(7.0, 1.0),
    "k": priors.LogNormal(0.25, 0.2),
    "omega_C": priors.HalfNormal(0.3),
    "iov_A": priors.InverseGamma(3.0, 0.05),
    "corr_A_k": priors.Normal(0.0, 0.4),
    "additive": priors.LogNormal(0.3, 0.3),
    "proportional": priors.InverseGamma(2.0, 0.02),
    (A, k): priors.InverseWishart(6.0, ((0.3, 0.05), (0.05, 0.4))),
}


def test_the_penalty_is_the_sum_and_its_gradient_that_of_differences():
    model = declare(priors={**EVERY, ("k", "A"): priors.LKJ(2.0)})
    space, penalty = model.space, Penalty(model.space, model.priors)
    values = model.values
    numbers = space.to_dict(values)
    wanted = stats.norm(7, 1).logpdf(8.0) + stats.lognorm(0.2, scale=0.25).logpdf(0.3)
    wanted += stats.halfnorm(scale=0.3).logpdf(0.2) + stats.invgamma(3, scale=0.05).logpdf(0.01)
    wanted += stats.norm(0, 0.4).logpdf(0.3) + stats.lognorm(0.3, scale=0.3).logpdf(0.3)
    wanted += stats.invgamma(2, scale=0.02).logpdf(0.1**2)
    wanted += stats.invwishart(6, [[0.3, 0.05], [0.05, 0.4]]).logpdf(values.omega[:2, :2])
    wanted += stats.beta(2, 2, -1, 2).logpdf(numbers["corr_A_k"])
    assert penalty.value(values) == pytest.approx(-2 * wanted, rel=1e-12)
    x = space.pack(values) + np.random.default_rng(0).uniform(-0.2, 0.2, len(space.x_names))
    here = space.unpack(x)
    found = penalty.along(here).gradient
    for n, e in enumerate(np.eye(len(x))):
        h = 1e-5
        difference = (penalty.value(space.unpack(x + h * e)) - penalty.value(space.unpack(x - h * e))) / (2 * h)
        assert found[n] == pytest.approx(difference, rel=1e-6, abs=1e-6), space.x_names[n]


def data(subjects: int = 20) -> nw.Data:
    n = 8
    frame = pd.DataFrame({"ID": np.repeat(np.arange(subjects), n), "TIME": np.tile(np.arange(n) * 2.0, subjects)})
    frame["OCC"], frame["DV"] = 1 + (frame["TIME"] > 7), 1.0
    frame["DV"] = declare().simulate(nw.Data.from_frame(frame), seed=3)["DV"]
    return nw.Data.from_frame(frame)


LEVEL = sp.Symbol("level", real=True)


def normal(**options) -> nw.Model:
    return nw.Model(LEVEL, {LEVEL: nw.Normal(0.5, sd=0.6)}, residual=nw.Additive(0.4), **options)


@pytest.mark.parametrize("method", ["fo", "focei", "saem"])
def test_a_normal_mean_is_the_conjugate_estimate(method):
    # One level per subject, balanced: the mean has the precision N/(ω² + σ²/n); prior N(2, 0.1²).
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"ID": np.repeat(np.arange(15), 4), "TIME": np.tile(np.arange(4.0), 15)})
    frame["DV"] = rng.normal(1.0, 0.6, 15)[frame["ID"]] + rng.normal(0, 0.4, 60)
    model = normal(priors={"level": priors.Normal(2.0, 0.1)}).fix("omega_level", "additive")
    fit = model.fit(nw.Data.from_frame(frame), method, seed=1)
    precision = 15 / (0.6**2 + 0.4**2 / 4)
    wanted = (precision * frame["DV"].mean() + 100 * 2.0) / (precision + 100)
    # SAEM averages 100 iterations of 200 chains: its noise is a few thousandths of the posterior SD of 0.08.
    assert fit.estimates["level"] == pytest.approx(wanted, abs=2e-3 if method == "saem" else 1e-4)
    assert fit.prior == pytest.approx(-2 * stats.norm(2, 0.1).logpdf(fit.estimates["level"]), rel=1e-12)
    assert fit.ofv == pytest.approx(fit.model.ofv(fit.data, "focei"), abs=1e-3)
    assert fit.history["prior"].iloc[-1] == pytest.approx(fit.prior, rel=1e-9)
    if method != "saem":
        assert fit.se["level"] < 0.1


def test_an_estimate_is_where_ofv_plus_prior_is_least():
    model, study = declare(priors=EVERY), data()
    fit = model.fit(study, "focei")
    assert fit.converged
    space, penalty = model.space, fit.problem.penalty
    x = space.pack(fit.values)

    def total(at: np.ndarray) -> float:
        values = space.unpack(at)
        return model.with_values(values).ofv(study, "focei") + penalty.value(values)

    least = total(x)
    # Modes sought from elsewhere are known to half a decrement of 1e-13, their objective to the square root of it.
    assert least == pytest.approx(fit.ofv + fit.prior, abs=3e-7)
    for e in np.eye(len(x)):
        for step in (-0.01, 0.01):
            assert total(x + step * e) > least - 1e-6


def test_saem_goes_to_the_mode_of_the_exact_likelihood_times_the_priors():
    model, study = declare(priors=EVERY), data()
    fit = model.fit(study, "saem", seed=1, explore=100, smooth=150)
    space, penalty = model.space, fit.problem.penalty
    x = space.pack(fit.values)

    def total(at: np.ndarray) -> float:
        values = space.unpack(at)
        return model.with_values(values).ofv(study, "agq", nodes=5) + penalty.value(values)

    here, h = total(x), 0.02
    for name, e in zip(space.x_names, np.eye(len(x)), strict=True):
        up, down = total(x + h * e), total(x - h * e)
        curvature = (up + down - 2 * here) / h**2
        # The Newton step to the minimum, against the posterior SD: SAEM's noise, and the error of 5 nodes.
        assert abs((up - down) / (2 * h)) / curvature < 0.2 * np.sqrt(2 / curvature), name


def test_priors_are_stored_and_exported():
    model = declare(priors=EVERY)
    for again in (model_from_dict(model_to_dict(model)), run(model.to_code())):
        assert again.priors == model.priors
        assert again.fix("A").priors == model.priors
    assert "A" in declare(priors={A: priors.Normal(7.0, 1.0)}).priors


def run(code: str) -> nw.Model:
    scope = {"sp": sp, "nw": nw}
    exec(code, scope)
    return scope["model"]


def test_every_prior_is_tested():
    assert set(PRIORS) == {*SCALAR, "InverseWishart", "LKJ"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ([1], "priors= is not a mapping of names to priors"),
        ({"Q": priors.Normal(0.0, 1.0)}, "priors= names 'Q', which is no parameter; there are A, k, C"),
        ({"A": 3.0}, "priors= gives 'A' 3.0; give one of nw.priors: Normal, LogNormal"),
        ({"A": priors.InverseGamma(2.0, 1.0)}, "The prior InverseGamma of 'A' is for variances"),
        ({"corr_A_k": priors.HalfNormal(1.0)}, "The prior HalfNormal of 'corr_A_k' is for positive parameters"),
        ({(A, C): priors.LKJ(2.0)}, "The prior LKJ of eta_A, eta_C needs exactly the effects of one block of Omega"),
        ({(A, "Q"): priors.LKJ(2.0)}, "priors= names 'Q', which has no random effect"),
        (
            {(A, k): priors.InverseWishart(5.0, (0.1,))},
            "The scale of the InverseWishart prior of eta_A, eta_k is not 2",
        ),
    ],
)
def test_priors_that_do_not_fit_are_refused(given, sentence):
    with pytest.raises(nw.ModelError, match="^" + sentence):
        declare(priors=given)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: priors.Normal(0.0, 0.0), "The prior Normal has sd=0.0; give a positive number"),
        (lambda: priors.Normal(math.nan, 1.0), "The prior Normal has mean=nan; give a finite number"),
        (lambda: priors.InverseWishart(1.0, ((1.0, 0.0), (0.0, 1.0))), "needs a positive definite scale and df above"),
        (lambda: priors.InverseWishart(5.0, ((1.0, 2.0),)), "is not a symmetric matrix"),
    ],
)
def test_impossible_priors_are_refused(make, sentence):
    with pytest.raises(nw.ModelError, match=sentence):
        make()
