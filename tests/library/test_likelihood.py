"""Counts, classes and events: densities against SciPy's, integrals against quadrature, simulation, fits."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import integrate, special, stats

import nlmewidgets as nw
from nlmewidgets.core.observation import invert
from nlmewidgets.fit.store import model_from_dict, model_to_dict

A, B = sp.symbols("a b", positive=True)
T = nw.time
RATE = A * sp.exp(-B * T)
PARAMETERS = {A: nw.LogNormal(4.0, sd=0.4), B: nw.LogNormal(0.1)}
TIMES = np.array([0.0, 1, 2, 4])


def table(y: np.ndarray, subjects: int = 3) -> nw.Data:
    rows = {"ID": np.repeat(np.arange(1, subjects + 1), 4), "TIME": np.tile(TIMES, subjects), "DV": y}
    return nw.Data.from_frame(pd.DataFrame(rows), covariates=[])


COUNTS = np.array([3.0, 5, 0, 2, 4, 1, 7, 0, 2, 2, 12, 3])
BITS = np.array([0.0, 1, 1, 0, 1, 1, 0, 0, 0, 1, 1, 1])
CLASSES = np.array([1.0, 3, 2, 2, 1, 1, 3, 3, 2, 1, 2, 3])


def rate(a: np.ndarray) -> np.ndarray:
    return a[:, None] * np.exp(-0.1 * TIMES)


def expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def classes(a: np.ndarray, y: np.ndarray) -> np.ndarray:
    below = np.stack([expit(c - rate(a)) for c in (1.0, 4.0)])
    p = np.stack([below[0], below[1] - below[0], 1 - below[1]])
    return np.take_along_axis(p, y.reshape(1, *p.shape[1:]).astype(int) - 1, 0)[0]


# name: likelihood, data, log p(y | a) of each observation (subjects, times)
CASES = {
    "poisson": (nw.Poisson(RATE), COUNTS, lambda a, y: stats.poisson.logpmf(y, rate(a))),
    "poisson in full": (
        nw.LogLikelihood(nw.dv * sp.log(RATE) - RATE - sp.loggamma(nw.dv + 1), values="counts"),
        COUNTS,
        lambda a, y: stats.poisson.logpmf(y, rate(a)),
    ),
    "negative binomial": (
        nw.NegativeBinomial(RATE, size=nw.theta("size", 1.7, lower=0)),
        COUNTS,
        lambda a, y: stats.nbinom.logpmf(y, 1.7, 1.7 / (1.7 + rate(a))),
    ),
    "bernoulli": (
        nw.Bernoulli(nw.expit(RATE - 3)),
        BITS,
        lambda a, y: stats.bernoulli.logpmf(y, expit(rate(a) - 3)),
    ),
    "ordered": (nw.Categorical.ordered(RATE, [1.0, 4.0]), CLASSES, lambda a, y: np.log(classes(a, y))),
    "intervals, one event": (
        nw.Event(cumulative=A * T / 20, interval=True),
        np.array([0.0, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0]),
        lambda a, y: stats.bernoulli.logpmf(y, 1 - np.exp(-a[:, None] * np.diff(TIMES, prepend=0) / 20)),
    ),
    "intervals, repeated": (
        nw.Event(cumulative=A * T**2 / 20, interval=True, repeated=True),
        np.array([0.0, 0, 2, 1, 0, 3, 1, 1, 0, 1, 0, 4]),
        lambda a, y: stats.poisson.logpmf(y, a[:, None] * np.diff(TIMES**2, prepend=0) / 20),
    ),
}
CASES["text"] = (nw.LogLikelihood("dv*log(a*exp(-b*t)) - a*exp(-b*t) - loggamma(dv + 1)"), *CASES["poisson"][1:])
INTEGRABLE = [name for name in CASES if name != "text"]


def declared(name: str) -> nw.Model:
    likelihood = CASES[name][0]
    free = PARAMETERS if name[:4] != "inte" else {A: PARAMETERS[A]}
    return nw.Model(prediction=likelihood, parameters=free)


def log_density(name: str, a: np.ndarray) -> np.ndarray:
    y = CASES[name][1]
    out = CASES[name][2](a, y.reshape(3, 4))
    if name.startswith("intervals"):  # no time passes before the record at 0
        out[:, 0] = 0.0
    return out


@pytest.mark.parametrize("name", CASES)
def test_a_likelihood_is_that_of_scipy(name):
    model = declared(name)
    y = CASES[name][1].copy()
    if name.startswith("intervals"):
        y[::4] = 0
    problem = model.problem(table(y))
    eta = np.log(np.array([[3.1, 4.4, 6.0]]) / 4.0)
    f = problem.predict(problem.slots(problem.typical(model.values.theta).slots, eta))
    with np.errstate(all="ignore"):
        found = problem.newton_terms(f, model.values.sigma).value
        wanted = -2 * CASES[name][2](np.array([3.1, 4.4, 6.0]), y.reshape(3, 4)).ravel()
    if name.startswith("intervals"):
        found, wanted = np.delete(found, [0, 4, 8]), np.delete(wanted, [0, 4, 8])
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)
    assert problem.n_normal == 0


@pytest.mark.parametrize("name", [n for n in INTEGRABLE if not n.startswith("intervals")])
def test_the_likelihood_by_quadrature_is_that_of_scipys_integral(name):
    model = declared(name)
    data = table(CASES[name][1])

    def joint(eta: float, i: int) -> float:
        a = np.full(3, 4.0 * np.exp(eta))
        return float(np.exp(log_density(name, a)[i].sum()) * stats.norm.pdf(eta, 0, 0.4))

    # Divided by its size, so that the absolute tolerance means something.
    total = 0.0
    for i in range(3):
        size = joint(0.0, i)
        value = integrate.quad(lambda e, i=i, s=size: joint(e, i) / s, -4, 4, epsabs=1e-12, epsrel=1e-12, limit=200)[0]
        total += -2 * (np.log(value) + np.log(size))
    assert model.ofv(data, "agq", nodes=41) == pytest.approx(total, abs=1e-7)
    assert model.ofv(data, "laplace") == pytest.approx(total, rel=0.02)


@pytest.mark.parametrize("name", CASES)
def test_a_likelihood_goes_through_code_and_json(name):
    model = declared(name)
    scope: dict = {}
    exec("import sympy as sp\nimport nlmewidgets as nw\n" + model.to_code(), scope)
    again = model_from_dict(json.loads(json.dumps(model_to_dict(model))))
    for copy in (scope["model"], again):
        assert dict(copy.observations) == dict(model.observations)
        assert sp.simplify(copy.prediction - model.prediction) == 0
        assert copy.space == model.space
    assert "log p" in model.equations()


@pytest.mark.parametrize("name", INTEGRABLE)
def test_simulated_data_have_the_probabilities_of_the_likelihood(name):
    likelihood = CASES[name][0]
    model = nw.Model(
        prediction=likelihood,
        parameters={s: nw.LogNormal(p.typical) for s, p in PARAMETERS.items() if name[:4] != "inte" or s == A},
    )
    drawn = model.simulate(table(np.zeros(12), 3), n=3000, seed=4)
    y = drawn["DV"].to_numpy().reshape(3000, 12)[:, :4]
    assert np.isfinite(y).all()
    a = np.array([4.0])
    for j in range(1, 4):
        values = np.arange(0, 200.0) if y[:, j].max() > 3 or y.min() < 1 else np.array([1.0, 2, 3])
        if name in ("bernoulli", "intervals, one event"):
            values = np.array([0.0, 1.0])
        with np.errstate(all="ignore"):
            p = np.array([np.exp(np.ravel(CASES[name][2](a, np.full((1, 4), v)))[j]) for v in values])
        seen = np.array([(y[:, j] == v).sum() for v in values])
        wanted = 3000 * p / p.sum()
        keep = wanted > 5
        rest = np.array([seen[~keep].sum()]), np.array([wanted[~keep].sum()])
        statistic = ((seen[keep] - wanted[keep]) ** 2 / wanted[keep]).sum()
        statistic += ((rest[0] - rest[1]) ** 2 / np.maximum(rest[1], 1)).sum()
        assert p.sum() == pytest.approx(1.0, abs=1e-8)
        # A χ² of at most as many degrees of freedom as values seen: beyond 1 in 10⁴.
        assert statistic < stats.chi2.ppf(1 - 1e-4, keep.sum() + 1)


# ------------------------------------------------------------------------- events


def test_exact_events_have_the_density_of_their_times():
    # Weibull: h = k/λ·(t/λ)^(k−1), H = (t/λ)^k.
    scale, shape = sp.symbols("scale shape", positive=True)
    event = nw.Event(hazard=shape / scale * (T / scale) ** (shape - 1), cumulative=(T / scale) ** shape)
    model = nw.Model(event, {scale: nw.LogNormal(5.0, sd=0.3), shape: nw.LogNormal(1.4)})
    times, seen = np.array([2.0, 7.0, 10.0, 3.5]), np.array([1.0, 1, 0, 1])
    rows = {"ID": [1, 2, 3, 4], "TIME": times, "DV": seen}
    problem = model.problem(nw.Data.from_frame(pd.DataFrame(rows), covariates=[]))
    f = problem.predict(problem.typical(model.values.theta).slots)
    own = stats.weibull_min(1.4, scale=5.0)
    wanted = np.where(seen == 1, own.logpdf(times), own.logsf(times))
    np.testing.assert_allclose(problem.minus2ll(f, model.values.sigma), -2 * wanted, rtol=1e-12)
    with pytest.raises(nw.ModelError, match="cannot be simulated"):
        model.simulate(problem.data)


def test_repeated_exact_events_count_the_follow_up_once():
    hazard = sp.Symbol("hazard", positive=True)
    model = nw.Model(nw.Event(hazard=hazard, cumulative=hazard * T), {hazard: nw.LogNormal(0.3, sd=0.5)})
    rows = {"ID": [1, 1, 1, 2], "TIME": [1.0, 4.0, 9.0, 6.0], "DV": [1.0, 1, 0, 0]}
    problem = model.problem(nw.Data.from_frame(pd.DataFrame(rows), covariates=[]))
    f = problem.predict(problem.typical(model.values.theta).slots)
    wanted = [2 * np.log(0.3) - 0.3 * 9, -0.3 * 6]
    np.testing.assert_allclose(problem.minus2ll(f, model.values.sigma), -2 * np.array(wanted), rtol=1e-12)


def test_a_hazard_may_be_a_state_and_follow_a_concentration():
    # The state H integrates h = h0·e^(−C/10), here with constant C: H = h0·e^(−1/2)·t.
    h0 = sp.Symbol("h0", positive=True)
    cumulative, constant = nw.states("H C")
    rate = h0 * sp.exp(sp.Rational(-1, 2))
    model = nw.Model(
        odes={cumulative: rate, constant: sp.S.Zero * constant},
        prediction=nw.Event(hazard=rate, cumulative=cumulative),
        parameters={h0: nw.LogNormal(0.2, sd=0.3)},
    )
    # Records of EVID 2 begin the follow-up: a state starts at its subject's first record.
    rows = {"ID": [1, 1, 2, 2], "TIME": [0.0, 3.0, 0.0, 5.0], "DV": [np.nan, 1.0, np.nan, 0.0], "EVID": [2, 0, 2, 0]}
    problem = model.problem(nw.Data.from_frame(pd.DataFrame(rows), covariates=[]))
    f = problem.predict(problem.typical(model.values.theta).slots)
    h = 0.2 * np.exp(-0.5)
    np.testing.assert_allclose(f, [np.log(h) - 3 * h, -5 * h], rtol=1e-9)


# --------------------------------------------------------------------------- fits


def test_saem_finds_the_maximum_of_the_exact_likelihood_of_counts():
    # The intercept of a Poisson regression with a random intercept: compared with the maximum of the quadrature.
    a = sp.Symbol("a", positive=True)
    truth = nw.Model(nw.Poisson(a), {a: nw.LogNormal(3.0, sd=0.5)})
    design = table(np.zeros(160), 40)
    drawn = truth.simulate(design, seed=11)
    data = table(drawn["DV"].to_numpy(), 40)
    fit = truth.fit(data, "saem", seed=1, explore=120, smooth=120)
    best = min(
        (truth.with_values({"a": x, "omega_a": w}).ofv(data, "agq", nodes=15), x, w)
        for x in fit.theta["a"] * np.array([0.94, 0.97, 1.0, 1.03, 1.06])
        for w in np.sqrt(fit.omega.iloc[0, 0]) * np.array([0.9, 0.95, 1.0, 1.05, 1.1])
    )
    own = truth.with_values(fit.values).ofv(data, "agq", nodes=15)
    assert own <= best[0] + 0.05  # the grid's best is no better than a hundredth of what matters (3.84)
    assert fit.loglik == pytest.approx(-0.5 * fit.ofv)
    table_ = fit.table()
    assert table_["IPRED"].notna().all()
    assert table_[["RES", "WRES", "IWRES", "CWRES"]].isna().all().all()


def test_a_likelihood_beside_a_normal_output():
    model = nw.Model(
        prediction={"cp": RATE, "n": nw.Poisson(RATE / 2)},
        parameters=PARAMETERS,
        residual={"cp": nw.Additive(0.3)},
    )
    y = np.where(np.arange(12) % 2, COUNTS, rate(np.full(3, 4.0)).ravel() + 0.1)
    rows = pd.DataFrame(
        {
            "ID": np.repeat([1, 2, 3], 4),
            "TIME": np.tile(TIMES, 3),
            "DV": y,
            "DVID": np.where(np.arange(12) % 2, "n", "cp"),
        }
    )
    data = nw.Data.from_frame(rows, covariates=[])
    problem = model.problem(data)
    f = problem.predict(problem.typical(model.values.theta).slots)
    full = rate(np.full(3, 4.0)).ravel()
    wanted = np.where(
        np.arange(12) % 2,
        stats.poisson.logpmf(y * (np.arange(12) % 2), full / 2),
        stats.norm.logpdf(y, full, 0.3) + 0.5 * np.log(2 * np.pi),
    )
    np.testing.assert_allclose(problem.newton_terms(f, model.values.sigma).value, -2 * wanted, rtol=1e-12)
    assert problem.n_normal == 6
    with pytest.raises(nw.MethodError, match="FOCEI does not treat a likelihood of 'n' that is not normal"):
        model.ofv(data, "focei")
    assert np.isfinite(model.ofv(data, "laplace"))


REFUSED = {
    "dv outside a likelihood": (
        {"prediction": A * nw.dv, "residual": nw.Additive(1.0)},
        "'dv' cannot be used in prediction=; the datum itself belongs in a likelihood such as "
        "nw.LogLikelihood(expression).",
    ),
    "a residual too many": (
        {"prediction": nw.Poisson(A), "residual": nw.Additive(1.0)},
        "residual=Additive(sd=1.0, fixed=()) is given, but every output has a likelihood of its own; leave it out.",
    ),
    "a log likelihood of doses": (
        {"prediction": nw.LogLikelihood(-nw.dose * A)},
        "prediction= is a log likelihood with dose, which cannot be summed over doses; use odes=, or a likelihood of a "
        "prediction such as Poisson.",
    ),
    "values that are none": (
        {"prediction": nw.LogLikelihood(-A * nw.dv, values="many")},
        "values='many' is neither a tuple of numbers nor 'counts'.",
    ),
    "an individual size": (
        {"prediction": nw.NegativeBinomial(A, size=A)},
        "'a' cannot be used in size= of prediction=; use nw.f, nw.sigma(), nw.time and covariates.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_is_refused_in_one_sentence(case):
    changes, sentence = REFUSED[case]
    with pytest.raises(nw.ModelError) as error:
        nw.Model(parameters={A: nw.LogNormal(1.0, sd=0.2)}, **changes)
    assert str(error.value) == sentence


def test_an_event_without_its_cumulative_hazard_is_refused():
    with pytest.raises(nw.ModelError, match="Event needs hazard= and cumulative="):
        nw.Event(hazard=A)


@pytest.mark.parametrize(("rate", "most"), [(3.0, 40), (2000.0, 2400), (1e6, 3), (1e30, 3)])
def test_counts_too_large_to_be_drawn_are_given_up_at_once(rate, most) -> None:
    """A slider at 1e30 kept a processor busy for minutes."""
    asked = []

    def minus2log(y: float) -> np.ndarray:
        asked.append(y)
        return np.full(5, -2 * stats.poisson.logpmf(y, rate))

    noise = np.linspace(-2.0, 2.0, 5)
    drawn = invert(minus2log, "counts", noise)
    assert len(asked) <= most
    if rate < 1e5:
        np.testing.assert_array_equal(drawn, stats.poisson.ppf(special.ndtr(noise), rate))
    else:
        assert np.isnan(drawn).all()


def test_a_random_effect_on_the_residual_error_is_a_density_written_out() -> None:
    """Each subject has an SD of its own: quadrature agrees with a dense grid over both random effects."""
    times, rng = np.array([0.5, 1, 2, 4, 6, 8, 10, 12]), np.random.default_rng(1)
    draws = rng.standard_normal((6, 2)) * [0.3, 0.4]
    y = 10 * np.exp(draws[:, :1] - 0.2 * times) + 0.5 * np.exp(draws[:, 1:]) * rng.standard_normal((6, 8))
    frame = pd.DataFrame({"ID": np.repeat(np.arange(6), 8), "TIME": np.tile(times, 6), "DV": y.ravel()})
    sd = sp.Symbol("s", positive=True)
    density = -(((nw.dv - A * sp.exp(-B * T)) / sd) ** 2) / 2 - sp.log(sd) - sp.log(2 * sp.pi) / 2
    parameters = {A: nw.LogNormal(10.0, sd=0.3), B: nw.LogNormal(0.2), sd: nw.LogNormal(0.5, sd=0.4)}
    fit = nw.Model(nw.LogLikelihood(density), parameters).fit(nw.Data.from_frame(frame), "agq")

    e, f = fit.estimates, np.linspace(-5, 5, 801)
    predicted = e["a"] * np.exp(e["omega_a"] * f)[:, None] * np.exp(-e["b"] * times)
    squares = ((y[:, None] - predicted) ** 2).sum(2)
    own = e["s"] * np.exp(e["omega_s"] * f[::8])
    log = -squares[:, :, None] / (2 * own**2) - 8 * np.log(own) - 4 * np.log(2 * np.pi)
    log = log - (f[:, None] ** 2 + f[::8] ** 2) / 2 - np.log(2 * np.pi)
    exact = -2 * special.logsumexp(log, axis=(1, 2)) - 2 * np.log(8 * (f[1] - f[0]) ** 2)
    yardstick = fit.yardstick()
    assert abs(yardstick.ofv - exact.sum()) < max(yardstick.error, 1e-3)
