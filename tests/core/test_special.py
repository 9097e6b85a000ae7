"""Contract of the exponential mixtures: exact where the textbook closed forms are 0/0."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import example, given
from hypothesis import strategies as st

from nlmewidgets.core.printers import numpy_kernel
from nlmewidgets.core.special import ExpMix, expit, expmix, ndtr, ndtri, pairs, remove_equal_rate_singularities
from nlmewidgets.core.symbols import dose, time
from nlmewidgets.core.tape import Level, Tape

ka, CL, V, ke, x, y = sp.symbols("ka CL V ke x y", positive=True)
TEXTBOOK = dose * ka / (V * ka - CL) * (sp.exp(-CL / V * time) - sp.exp(-ka * time))


def exact(i: int, j: int, a: float, b: float) -> mpmath.mpf:
    """Return M_ij(a, b) = e^-a B(i+1, j+1) 1F1(j+1; i+j+2; a-b), the integral in closed form."""
    with mpmath.workdps(60):
        a, b = mpmath.mpf(a), mpmath.mpf(b)
        return mpmath.exp(-a) * mpmath.beta(i + 1, j + 1) * mpmath.hyp1f1(j + 1, i + j + 2, a - b)


def test_the_closed_form_used_as_oracle_is_the_integral_of_the_definition():
    a, b = 1.3, 0.4
    for i, j in pairs(4):
        integral = mpmath.quad(lambda s, i=i, j=j: (1 - s) ** i * s**j * mpmath.exp(-(1 - s) * a - s * b), [0, 1])
        assert abs(exact(i, j, a, b) / integral - 1) < 1e-14


rates = st.floats(min_value=-30.0, max_value=600.0)
gaps = st.one_of(
    st.just(0.0),
    st.floats(min_value=1e-12, max_value=1e-2),
    st.floats(min_value=1e-2, max_value=3.0),
    st.floats(min_value=3.0, max_value=700.0),
)


@given(rates, gaps, st.booleans())
@example(0.0, 0.0, False)
@example(1.0, 2.0, False)  # where the series hands over to the recurrence
@example(1.0, np.nextafter(2.0, 0.0), True)
@example(127.0, 1.01, False)
def test_every_moment_up_to_order_four_is_accurate_to_13_digits(a: float, gap: float, swap: bool) -> None:
    b = a + gap
    a, b = (b, a) if swap else (a, b)
    for order in range(5):
        values = expmix(np.array([a]), np.array([b]), order)
        assert len(values) == len(pairs(order))
        for (i, j), value in zip(pairs(order), values, strict=True):
            truth = exact(i, j, a, b)
            if truth > 1e-300:
                assert abs(value[0] / truth - 1) < 1e-13, (i, j)


@pytest.mark.parametrize("order", range(5))
def test_huge_arguments_neither_overflow_nor_warn(order: int) -> None:
    big = np.array([0.0, 800.0, 1e6, 1e300, 5.0, 1e300])
    other = np.array([1e300, 900.0, 1e6, 1e300, 1e8, 0.0])
    for value in expmix(big, other, order):
        assert np.all(np.isfinite(value))
        assert np.all(value >= 0)
        assert np.all(value <= 1)


@pytest.mark.parametrize("order", range(5))
def test_arguments_broadcast_and_keep_their_shape(order: int) -> None:
    a, b = np.linspace(0, 5, 3)[:, None], np.linspace(0.1, 7, 4)
    for value in expmix(a, b, order):
        assert value.shape == (3, 4)
    np.testing.assert_allclose(expmix(a, b, order)[-1][1, 2], expmix(a[1], b[2], order)[-1][0], rtol=1e-14)


def test_derivatives_are_the_next_moments():
    m = ExpMix(1, 2, x, y)
    assert sp.diff(m, x) in (-ExpMix(2, 2, x, y), -ExpMix(2, 2, y, x))
    at = {x: sp.Float("0.7", 40), y: sp.Float("1.9", 40)}
    for variable, other in ((x, y), (y, x)):

        def along(value, variable=variable, other=other):
            a, b = (value, at[other]) if variable is x else (at[other], value)
            return exact(1, 2, a, b)

        with mpmath.workdps(40):
            truth = mpmath.diff(along, mpmath.mpf(float(at[variable])))
        assert abs(float(sp.diff(m, variable).subs({x: 0.7, y: 1.9}).evalf(20)) / truth - 1) < 1e-10
    assert sp.diff(ExpMix(0, 0, x, y), x, y).subs({x: 2, y: 2}).evalf(15) == pytest.approx(float(exact(1, 1, 2, 2)))


def test_symmetric_arguments_are_one_expression():
    assert ExpMix(1, 0, x, y) == ExpMix(0, 1, y, x)
    assert ExpMix(0, 0, x, x).subs(x, 2).evalf() == pytest.approx(float(mpmath.exp(-2)))
    assert ExpMix(0, 0, x, y).is_positive
    # Arguments that are numbers without being digits.
    assert float(ExpMix(0, 1, 4, sp.tanh(2)).evalf()) == pytest.approx(float(exact(0, 1, 4, mpmath.tanh(2))), rel=1e-14)


@pytest.mark.parametrize(("function", "reference"), [(expit, lambda v: 1 / (1 + mpmath.exp(-v))), (ndtr, mpmath.ncdf)])
def test_expit_and_ndtr_agree_with_mpmath(function, reference):
    for value in (-3.0, 0.0, 0.7, 8.0):
        assert abs(float(function(sp.Float(value)).evalf(25)) / reference(value) - 1) < 1e-14
        slope = sp.diff(function(x), x).subs(x, value).evalf(25)
        assert abs(float(slope) / mpmath.diff(reference, value) - 1) < 1e-9
    assert function(x).is_positive


def test_ndtri_is_the_inverse_of_ndtr():
    for value in (1e-8, 0.2, 0.5, 0.97):
        wanted = mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(value) - 1)
        assert abs(float(ndtri(sp.Float(value)).evalf(25)) - wanted) < 1e-13 * (1 + abs(wanted))
        slope = sp.diff(ndtri(x), x).subs(x, value).evalf(25)
        assert abs(float(slope) * mpmath.npdf(wanted) - 1) < 1e-12


# ------------------------------------------------------------------ the rewriting


def jet(expression: sp.Expr, symbols: tuple[sp.Symbol, ...], at: dict[sp.Symbol, float]) -> list[float]:
    """Return value, first and second derivatives along `symbols` through the tape."""
    inputs = dict.fromkeys((*symbols, time, dose), Level.RECORD)
    tape = Tape(inputs)
    value = tape.expression(expression)
    directions = [tape.inputs[s] for s in symbols]
    first = tape.gradient(value, directions)
    second = [tape.derivative(f, d) for k, f in enumerate(first) for d in directions[k:]]
    kernel = numpy_kernel(tape, [value, first, second])
    packs = kernel(tuple(np.array([at[s]]) for s in inputs), None, (1,))
    return [float(v) for pack in packs for v in np.ravel(pack)]


def exact_jet(symbols: tuple[sp.Symbol, ...], at: dict[sp.Symbol, float]) -> list[mpmath.mpf]:
    """Return the same for the textbook closed form, by mpmath with digits to spare."""
    with mpmath.workdps(80):
        t, d = mpmath.mpf(at[time]), mpmath.mpf(at[dose])

        def f(*v: mpmath.mpf) -> mpmath.mpf:
            k, c, w = v
            if abs(w * k - c) > mpmath.mpf(10) ** -15:
                return d * k / (w * k - c) * (mpmath.exp(-c / w * t) - mpmath.exp(-k * t))
            return d * k * t / w * mpmath.exp(-k * t) * mpmath.hyp1f1(1, 2, (k - c / w) * t)

        point = tuple(mpmath.mpf(at[s]) for s in symbols)
        orders = [(0, 0, 0)] + [tuple(int(m == k) for m in range(3)) for k in range(3)]
        orders += [tuple(int(m == k) + int(m == n) for m in range(3)) for k in range(3) for n in range(k, 3)]
        return [mpmath.diff(f, point, n) for n in orders]


@pytest.mark.parametrize("gap", [0.0, 1e-14, 1e-9, 1e-6, 1e-4, 1e-2, 0.3, 4.0, -0.05])
@pytest.mark.parametrize("t", [0.0, 0.3, 5.0, 48.0])
def test_the_rewritten_closed_form_is_exact_at_and_near_equal_rates(gap: float, t: float) -> None:
    at = {CL: 3.0, V: 32.0, ka: 3.0 / 32.0 + gap, time: t, dose: 320.0}
    values = jet(remove_equal_rate_singularities(TEXTBOOK), (ka, CL, V), at)
    truth = exact_jet((ka, CL, V), at)
    for order, (value, wanted) in enumerate(zip(values, truth, strict=True)):
        # 12 digits of the largest term that makes up the derivative.
        scale = max(abs(wanted), abs(truth[0]) * 1e-3)
        assert abs(value - wanted) <= 1e-11 * scale, (order, value, wanted)


@pytest.mark.parametrize(
    "expression",
    [
        TEXTBOOK,
        dose / V * ka / (ka - ke) * (sp.exp(-ke * time) - sp.exp(-ka * time)),
        dose * ka * ke / CL / (ka - ke) * (sp.exp(-ke * time) - sp.exp(-ka * time)),
        dose * ka / (V * (ka - CL / V)) * (sp.exp(-CL / V * time) - sp.exp(-ka * time)),
        7 + sp.log(1 + dose * ka * (sp.exp(-ke * time) - sp.exp(-ka * time)) / (V * (ka - ke))),
    ],
)
def test_the_rewritten_form_equals_the_original_away_from_equal_rates(expression: sp.Expr) -> None:
    rewritten = remove_equal_rate_singularities(expression)
    at = {ka: 1.4, CL: 2.8, V: 31.0, ke: 0.09, time: 3.3, dose: 320.0}
    assert float(rewritten.subs(at).evalf(25)) == pytest.approx(float(expression.subs(at).evalf(25)), rel=1e-14)
    if not expression.has(sp.log):
        assert rewritten.has(ExpMix)
        assert not sp.denom(sp.together(rewritten)).has(ka)


@pytest.mark.parametrize(
    "expression",
    [
        dose / V * sp.exp(-CL / V * time),
        dose / V * (sp.exp(-ke * time) - 2 * sp.exp(-ka * time)),  # different coefficients
        dose / (ka - ke) ** 2 * (sp.exp(-ke * time) - sp.exp(-ka * time)),  # a pole that stays
        dose / (ka - 2 * ke) * (sp.exp(-ke * time) - sp.exp(-ka * time)),  # a pole elsewhere
        x / (1 + sp.exp(-(time - y) / ke)),
        ka + ke,
    ],
)
def test_other_expressions_are_left_alone(expression: sp.Expr) -> None:
    at = {ka: 1.4, CL: 2.8, V: 31.0, ke: 0.09, time: 3.3, dose: 320.0, x: 2.0, y: 1.5}
    rewritten = remove_equal_rate_singularities(expression)
    assert float(rewritten.subs(at).evalf(25)) == pytest.approx(float(expression.subs(at).evalf(25)), rel=1e-14)
    if sp.denom(sp.together(expression)).has(ka) or not expression.has(ka):
        assert rewritten == expression
