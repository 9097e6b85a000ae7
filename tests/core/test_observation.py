"""Densities of observations against SciPy's, their derivatives against differences, censoring, draws."""

from __future__ import annotations

import json

import mpmath
import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.core.printers import numpy_kernel
from nlmewidgets.core.tails import gap, mills, ndtr_between
from nlmewidgets.core.tape import Level, Tape
from nlmewidgets.fit.store import model_from_dict, model_to_dict

A, K = sp.symbols("A k", positive=True)
MODEL = {"prediction": A * sp.exp(-K * nw.time), "parameters": {A: nw.LogNormal(8.0, sd=0.2), K: nw.LogNormal(0.2)}}
F = np.linspace(0.4, 0.95, 12)
Y = np.array([0.31, 0.5, 0.62, 0.4, 0.7, 0.83, 0.44, 0.58, 0.91, 0.66, 0.75, 0.9])
LOG_TWO_PI = np.log(2 * np.pi)


def data(y: np.ndarray = Y, **columns: object) -> nw.Data:
    table = pd.DataFrame({"ID": np.repeat([1, 2, 3], 4), "TIME": np.tile([1.0, 2, 4, 8], 3), "DV": y} | columns)
    return nw.Data.from_frame(table, covariates=[])


def declared(residual: object, **more: object) -> nw.Model:
    return nw.Model(**MODEL, residual=residual, **more)


def boxcox(y: np.ndarray, power: float) -> np.ndarray:
    return (y**power - 1) / power


def logit(y: np.ndarray) -> np.ndarray:
    return np.log(y / (1 - y))


DENSITIES = {
    "additive": (nw.Additive(0.2), lambda y, f: stats.norm.logpdf(y, f, 0.2) + 0.5 * LOG_TWO_PI),
    "proportional": (nw.Proportional(0.2), lambda y, f: stats.norm.logpdf(y, f, 0.2 * f) + 0.5 * LOG_TWO_PI),
    "power": (nw.Power(0.2, 0.7), lambda y, f: stats.norm.logpdf(y, f, 0.2 * f**0.7) + 0.5 * LOG_TWO_PI),
    "lognormal": (nw.LogNormalError(0.3), lambda y, f: stats.lognorm.logpdf(y, 0.3, scale=f) + 0.5 * LOG_TWO_PI),
    "student": (nw.Student(0.2, 3.5), lambda y, f: stats.t.logpdf(y, 3.5, f, 0.2)),
    "student, free df": (nw.Student(0.2, 3.5, fixed=()), lambda y, f: stats.t.logpdf(y, 3.5, f, 0.2)),
    "boxcox": (
        nw.BoxCoxError(0.4, 0.2),
        lambda y, f: stats.norm.logpdf(boxcox(y, 0.4), boxcox(f, 0.4), 0.2) - 0.6 * np.log(y) + 0.5 * LOG_TWO_PI,
    ),
    "boxcox at 0": (
        nw.BoxCoxError(1e-14, 0.2),
        lambda y, f: stats.lognorm.logpdf(y, 0.2, scale=f) + 0.5 * LOG_TWO_PI,
    ),
    "both sides, number": (
        nw.TransformBothSides(0.4, nw.Combined(0.1, 0.1)),
        lambda y, f: (
            stats.norm.logpdf(boxcox(y, 0.4), boxcox(f, 0.4), np.sqrt(0.01 + 0.01 * f**2))
            - 0.6 * np.log(y)
            + 0.5 * LOG_TWO_PI
        ),
    ),
    "both sides, logit": (
        nw.TransformBothSides("logit", nw.Additive(0.4)),
        lambda y, f: stats.norm.logpdf(logit(y), logit(f), 0.4) - np.log(y * (1 - y)) + 0.5 * LOG_TWO_PI,
    ),
    "both sides, probit": (
        nw.TransformBothSides("probit", nw.Additive(0.4)),
        lambda y, f: (
            stats.norm.logpdf(stats.norm.ppf(y), stats.norm.ppf(f), 0.4)
            - stats.norm.logpdf(stats.norm.ppf(y))
            + 0.5 * LOG_TWO_PI
        ),
    ),
    "both sides, Yeo-Johnson": (
        nw.TransformBothSides("yeo-johnson", nw.Additive(0.4), power=1.3),
        lambda y, f: (
            stats.norm.logpdf(stats.yeojohnson(y, 1.3), stats.yeojohnson(f, 1.3), 0.4)
            + 0.3 * np.sign(y) * np.log1p(np.abs(y))
            + 0.5 * LOG_TWO_PI
        ),
    ),
}


def reach(name: str) -> tuple[float, float]:
    """Return an interval that has all of the density but what does not matter."""
    if "student" in name:
        return -40.0, 40.0
    if "logit" in name or "probit" in name:
        return 1e-6, 1 - 1e-6
    return -3.0 if name in ("additive", "proportional", "power", "both sides, Yeo-Johnson") else 1e-6, 6.0


@pytest.mark.parametrize("name", DENSITIES)
def test_a_density_is_that_of_scipy(name):
    residual, log_density = DENSITIES[name]
    model = declared(residual)
    problem = model.problem(data())
    value = problem.newton_terms(F, model.values.sigma).value
    np.testing.assert_allclose(value, -2 * log_density(Y, F), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", DENSITIES)
def test_the_derivatives_of_a_density_are_its_differences(name):
    model = declared(DENSITIES[name][0])
    problem, sigma = model.problem(data()), model.values.sigma
    terms = problem.newton_terms(F, sigma, gradient=True)
    h = 1e-4

    def along(function, size):
        rough, fine = ((function(s) - function(-s)) / (2 * s) for s in (2 * size, size))
        return (4 * fine - rough) / 3

    def at(which, f, s):
        return np.broadcast_to(getattr(problem.newton_terms(f, s, gradient=True), which), F.shape)

    def same(found, wanted):
        # Differences of numbers of size 10 in steps of 1e-4: 1e-11 at best; truncation is smaller.
        np.testing.assert_allclose(np.zeros(12) if found is None else found, wanted, rtol=1e-8, atol=1e-8)

    same(terms.f, along(lambda d: at("value", F + d, sigma), h))
    same(terms.ff, along(lambda d: at("f", F + d, sigma), h))
    same(terms.info_f, along(lambda d: at("info", F + d, sigma), h))
    for k in range(len(sigma)):
        step = np.eye(len(sigma))[k]
        size = h * max(abs(sigma[k]), 1e-4)
        for which, found in (("value", terms.sigma), ("f", terms.f_sigma), ("info", terms.info_sigma)):
            wanted = along(lambda d, w=which, s=step: at(w, F, sigma + d * s), size)
            if sigma[k] > 1e-4:
                same(None if found is None else found[k], wanted)


@pytest.mark.parametrize("name", DENSITIES)
def test_the_information_is_the_mean_of_the_squared_score(name):
    # E[(∂ log p/∂f)²] by quadrature over y.
    residual, log_density = DENSITIES[name]
    if name == "boxcox at 0":
        residual, log_density = nw.BoxCoxError(1e-14, 0.2, fixed=("lambda",)), log_density
    model = declared(residual)
    f, h = 0.6, 1e-5
    low, high = reach(name)
    y = np.linspace(low, high, 400_001)
    density = np.exp(log_density(y, f) - (0 if "student" in name else 0.5 * LOG_TWO_PI))
    score = (log_density(y, f + h) - log_density(y, f - h)) / (2 * h)
    wanted = np.trapezoid(density * score**2, y)
    found = model.problem(data()).newton_terms(np.full(12, f), model.values.sigma).info
    assert np.broadcast_to(found, 12)[0] == pytest.approx(wanted, rel=2e-5)


@pytest.mark.parametrize("name", DENSITIES)
def test_draws_have_the_density(name):
    # Kolmogorov–Smirnov at a fixed seed: the distribution function by quadrature of the density.
    residual, log_density = DENSITIES[name]
    model = declared(residual)
    problem = model.problem(data())
    rng = np.random.default_rng(5)
    f = np.full((400, 12), 0.6)
    y = problem.draw(None, f, model.values.sigma, rng.standard_normal(f.shape)).ravel()
    low, high = reach(name)
    grid = np.linspace(low, high, 400_001)
    density = np.exp(log_density(grid, 0.6) - (0 if "student" in name else 0.5 * LOG_TWO_PI))
    cumulative = np.concatenate(([0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))))
    assert stats.kstest(y, lambda v: np.interp(v, grid, cumulative)).pvalue > 1e-3


@pytest.mark.parametrize("name", DENSITIES)
def test_a_residual_goes_through_code_and_json(name):
    model = declared(DENSITIES[name][0])
    scope: dict = {}
    exec("import sympy as sp\nimport nlmewidgets as nw\n" + model.to_code(), scope)
    again = model_from_dict(json.loads(json.dumps(model_to_dict(model))))
    for copy in (scope["model"], again):
        assert dict(copy.observations) == dict(model.observations)
        assert copy.residual == model.residual
        assert copy.space == model.space
    assert "aligned" in model.equations()


# ------------------------------------------------------------------------ tails


POINTS = np.array([-200.0, -40, -20.001, -19.999, -8, -3, -0.5, 0.0, 0.7, 5.0, 12.0, 30.0])


def test_mills_and_its_gap_are_those_of_mpmath():
    with mpmath.workdps(60):
        ratio = [mpmath.npdf(mpmath.mpf(x)) / mpmath.ncdf(mpmath.mpf(x)) for x in POINTS]
        wanted = [float(m + mpmath.mpf(x)) for m, x in zip(ratio, POINTS, strict=True)]
    # In the upper tail it is exp(-x²/2): 450·eps at x = 30.
    np.testing.assert_allclose(mills(POINTS), [float(m) for m in ratio], rtol=3e-13)
    # Above -20 the sum cancels to 1/|x|: 20·eps/0.05 = 1e-13.
    np.testing.assert_allclose(gap(POINTS), wanted, rtol=1e-11)


@pytest.mark.parametrize("a", [-150.0, -38.0, -6.0, -1.0, -0.01, 0.0, 0.3, 4.0, 9.0, 37.0])
@pytest.mark.parametrize("width", [1e-9, 1e-6, 1e-4, 0.9e-3, 1.1e-3, 0.03, 0.5, 4.0, 60.0])
def test_the_logarithm_of_an_interval_is_that_of_mpmath(a, width):
    b = a + width
    with mpmath.workdps(400):
        low, high = (a, b) if a <= 0 else (-b, -a)
        wanted = float(mpmath.log(mpmath.ncdf(mpmath.mpf(high)) - mpmath.ncdf(mpmath.mpf(low))))
    # Just above the narrow branch log Φ of size up to 1e4 is differenced over a width of 1e-3.
    assert float(ndtr_between(a, b)) == pytest.approx(wanted, rel=2e-12, abs=2e-12)


@pytest.mark.parametrize("ends", [(-40.0, -38.0), (-1.0, -0.8), (-2.0, 3.0), (0.5, 0.6), (8.0, 9.0)])
def test_the_derivatives_of_tails_are_those_of_mpmath(ends):
    x, y = sp.symbols("x y", real=True)
    tape = Tape({x: Level.RECORD, y: Level.RECORD})
    dx, dy = tape.inputs[x], tape.inputs[y]
    between, below = tape.expression(nw.log_ndtr_between(x, y)), tape.expression(nw.log_ndtr(x))
    nodes = [tape.derivative(between, d) for d in (dx, dy)]
    nodes += [tape.derivative(tape.derivative(between, d), e) for d, e in ((dx, dx), (dx, dy), (dy, dy))]
    first = tape.derivative(below, dx)
    nodes += [first, tape.derivative(first, dx), tape.derivative(tape.derivative(first, dx), dx)]
    at = tuple(np.array([e]) for e in ends)
    found = [float(np.ravel(v)[0]) for v in numpy_kernel(tape, nodes)(at, None, (1,))]
    with mpmath.workdps(60):
        p, q = map(mpmath.mpf, ends)

        def interval(a, b):
            if a > 0:
                a, b = -b, -a
            return mpmath.log(mpmath.ncdf(b) - mpmath.ncdf(a))

        orders = [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
        wanted = [float(mpmath.diff(interval, (p, q), n)) for n in orders]
        wanted += [float(mpmath.diff(lambda u: mpmath.log(mpmath.ncdf(u)), p, n)) for n in (1, 2, 3)]
    # Exponents of size |x|²/2 are differenced before exp: up to 800·eps relative; second derivatives of narrow
    # intervals cancel (1/width² against their difference).
    for value, truth in zip(found, wanted, strict=True):
        assert value == pytest.approx(truth, rel=2e-9, abs=1e-12)


# -------------------------------------------------------------------- censoring


CENS = np.array([0, 1, 1, -1, 0, 1, 0, -1, 0, 0, 1, -1])
LIMIT = np.array([np.nan, np.nan, 0.2, np.nan, np.nan, 0.0, np.nan, 0.95, np.nan, np.nan, np.nan, np.nan])


def probability(cdf, method: str) -> np.ndarray:
    """Return log p of each observation from a distribution function, measured ones left out."""
    out = np.zeros(12)
    for i, (c, y, other) in enumerate(zip(CENS, Y, LIMIT, strict=True)):
        low, high = {0: (y, y), 1: (-np.inf, y), -1: (y, np.inf)}[int(c)]
        if np.isfinite(other):
            low, high = min(y, other), max(y, other)
        if method == "M4":
            low = max(low, 0.0)
        total = 1.0 - cdf(0.0)[i] if method == "M4" else 1.0
        out[i] = np.log((cdf(high)[i] - cdf(low)[i]) / total) if c else -np.log(total)
    return out


@pytest.mark.parametrize("method", ["M3", "M4"])
@pytest.mark.parametrize("name", ["additive", "proportional", "power"])
def test_censored_observations_have_the_probability_of_their_interval(name, method):
    residual, log_density = DENSITIES[name]
    sd = {"additive": 0.2 + 0 * F, "proportional": 0.2 * F, "power": 0.2 * F**0.7}[name]
    model = declared(residual, blq=method)
    problem = model.problem(data(CENS=CENS, LIMIT=LIMIT))
    found = problem.newton_terms(F, model.values.sigma).value
    wanted = probability(lambda c: stats.norm.cdf(c, F, sd), method)
    wanted += np.where(CENS == 0, log_density(Y, F) - (0.5 * LOG_TWO_PI if method == "M4" else 0.0), 0.0)
    np.testing.assert_allclose(found, -2 * wanted, rtol=1e-11)
    assert problem.n_normal == (5 if method == "M3" else 0)


def test_a_censored_lognormal_observation_has_the_probability_of_its_interval():
    model = declared(nw.LogNormalError(0.3))
    problem = model.problem(data(CENS=CENS, LIMIT=np.where(LIMIT == 0, np.nan, LIMIT)))
    found = problem.newton_terms(F, model.values.sigma).value
    wanted = stats.lognorm.logcdf(Y[1], 0.3, scale=F[1]), stats.lognorm.logsf(Y[3], 0.3, scale=F[3])
    np.testing.assert_allclose(found[[1, 3]], -2 * np.array(wanted), rtol=1e-12)


@pytest.mark.parametrize("method", ["M3", "M4"])
def test_the_derivatives_of_censored_observations_are_differences(method):
    model = declared(nw.Combined(0.15, 0.1), blq=method)
    problem, sigma = model.problem(data(CENS=CENS, LIMIT=LIMIT)), model.values.sigma
    terms = problem.newton_terms(F, sigma, gradient=True)
    h = 1e-4

    def along(function):
        rough, fine = ((function(s) - function(-s)) / (2 * s) for s in (2 * h, h))
        return (4 * fine - rough) / 3

    value = lambda f, s: problem.newton_terms(f, s).value  # noqa: E731
    np.testing.assert_allclose(terms.f, along(lambda d: value(F + d, sigma)), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(terms.ff, along(lambda d: problem.newton_terms(F + d, sigma).f), rtol=1e-8, atol=1e-8)
    for k in range(2):
        step = np.eye(2)[k]
        wanted = along(lambda d, s=step: value(F, sigma + d * s))
        np.testing.assert_allclose(terms.sigma[k], wanted, rtol=1e-7, atol=1e-7)


def test_m4_draws_are_positive_and_truncated_normal():
    model = declared(nw.Additive(0.5), blq="M4")
    f = np.full((300, 12), 0.4)
    noise = np.random.default_rng(2).standard_normal(f.shape)
    y = model.problem(data()).draw(None, f, model.values.sigma, noise).ravel()
    assert y.min() > 0
    assert stats.kstest(y, stats.truncnorm(-0.8, np.inf, 0.4, 0.5).cdf).pvalue > 1e-3


REFUSED = {
    "M1": (
        {"blq": "M1"},
        "blq='M1' leaves censored records out, which is a choice about data: use data.filter('CENS == 0').",
    ),
    "a word": ({"blq": "M9"}, "blq='M9' is no treatment of censored observations; there are 'M3' and 'M4'."),
    "M4 of a transform": (
        {"residual": nw.LogNormalError(0.2), "blq": "M4"},
        "blq='M4' conditions on y > 0, which the residual error of 'y' does not allow; use blq='M3'.",
    ),
    "a transform of a likelihood": (
        {"residual": nw.TransformBothSides("log", nw.Student(0.2))},
        "TransformBothSides has residual=Student(sd=0.2, df=4.0, fixed=('df',)); give one that is normal, e.g. "
        "Additive(0.2).",
    ),
    "a transform that does not exist": (
        {"residual": nw.TransformBothSides("sqrt", nw.Additive(0.2))},
        "There is no transform 'sqrt'; there are 'log', 'logit', 'probit', 'yeo-johnson' and a number, λ.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_is_refused_in_one_sentence(case):
    changes, sentence = REFUSED[case]
    with pytest.raises(nw.ModelError) as error:
        nw.Model(**({**MODEL, "residual": nw.Additive(0.1)} | changes))
    assert str(error.value) == sentence


def test_methods_that_do_not_apply_are_refused_in_one_sentence():
    censored = data(CENS=CENS, LIMIT=LIMIT)
    for method in ("fo", "focei"):
        with pytest.raises(nw.MethodError) as error:
            declared(nw.Additive(0.2)).ofv(censored, method)
        assert str(error.value) == (
            f"{method.upper()} does not treat censored observations (CENS); use method='laplace', 'agq' or 'saem'."
        )
    with pytest.raises(nw.MethodError, match="does not treat a likelihood that is not normal"):
        declared(nw.Student(0.2)).ofv(data(), "focei")
    with pytest.raises(nw.MethodError, match="FOI does not treat a transform of both sides; use method='fo'"):
        declared(nw.LogNormalError(0.2)).ofv(data(), "foi")


def test_an_interval_of_a_density_without_one_is_refused_with_its_record():
    with pytest.raises(nw.DataError) as error:
        declared(nw.Student(0.2)).problem(data(CENS=CENS, LIMIT=LIMIT))
    assert str(error.value) == (
        "CENS=1 for subject 1 at TIME 2 (record 2) asks for the probability of an interval, which the distribution of "
        "'y' does not have; use a normal residual, or leave these records out."
    )


def test_focei_of_lognormal_errors_is_focei_of_logarithms():
    # y lognormal around f is log y normal around log f: the objectives differ by 2·Σ log y, the Jacobian.
    logs = nw.Model(prediction=sp.log(A) - K * nw.time, parameters=MODEL["parameters"], residual=nw.Additive(0.3))
    own = declared(nw.LogNormalError(0.3))
    for method in ("fo", "foce", "focei", "laplace"):
        assert own.ofv(data(), method) == pytest.approx(
            logs.ofv(data(np.log(Y)), method) + 2 * np.log(Y).sum(), abs=1e-8
        )
    table, reference = (
        m.fit(d, "focei", max_iterations=0).table() for m, d in ((own, data()), (logs, data(np.log(Y))))
    )
    for column in ("WRES", "IWRES", "CWRES"):
        np.testing.assert_allclose(table[column], reference[column], rtol=1e-7)


def test_standard_errors_by_differences_are_those_of_the_exact_gradient_where_both_exist():
    # Linear in eta with additive error, Laplace and FOCEI are the same function.
    from nlmewidgets.methods import METHODS
    from nlmewidgets.methods.curvature import curvature, curvature_by_differences

    base = sp.Symbol("base", real=True)
    model = nw.Model(
        base + K * nw.time,
        {base: nw.Normal(0.6, sd=0.3), K: nw.LogNormal(0.02, fixed=True)},
        residual=nw.Additive(0.15),
    )
    fit = model.fit(data(), "focei")
    exact = curvature(fit.problem, fit.values, METHODS["focei"](), fit.etas.T)
    rough = curvature_by_differences(fit.problem, fit.values, METHODS["laplace"](), fit.etas.T)
    # Second differences of step h differ by h²/12 of the fourth derivative: below 1e-3 at a fiftieth of an SE.
    for ours, theirs in ((rough.r, exact.r), (rough.s, exact.s)):
        scale = np.sqrt(np.diag(theirs))
        np.testing.assert_allclose(ours / scale[:, None] / scale, theirs / scale[:, None] / scale, atol=2e-3)
