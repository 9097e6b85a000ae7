"""Contract of the tape: it means what SymPy means, and so do its derivatives."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings

from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.printers import numpy_kernel
from nlmewidgets.core.special import expit
from nlmewidgets.core.symbols import covariate, theta, time
from nlmewidgets.core.tape import _FUNCTIONS, ZERO, Level, Tape
from tests.core.tapes import DIGITS, SYMBOLS, A, B, T, as_function, expressions, interpret, points

LEVELS = {A: Level.BLOCK, B: Level.BLOCK, T: Level.RECORD}


def close(value: object, truth: object, size: object) -> bool:
    """Whether two 40-digit numbers agree; constants on a tape are doubles, hence not to more than 13 digits."""
    return abs(value - truth) <= 1e-13 * (abs(size) + abs(truth) + 1)


@settings(max_examples=100, deadline=None)
@given(expressions, points)
def test_value_and_both_derivatives_are_those_of_the_expression(expression: sp.Expr, point: np.ndarray) -> None:
    tape = Tape(LEVELS)
    node = tape.expression(expression)
    directions = [tape.inputs[s] for s in SYMBOLS]
    with mpmath.workdps(DIGITS):
        at = [mpmath.mpf(float(v)) for v in point]
        values = dict(zip(SYMBOLS, at, strict=True))
        truth = as_function(expression)
        assert close(interpret(tape, node, values), truth(*at), 1)
        for k, direction in enumerate(directions):
            first = tape.derivative(node, direction)

            def along(v, k=k):
                return truth(*at[:k], v, *at[k + 1 :])

            wanted = mpmath.diff(along, at[k])
            assert close(interpret(tape, first, values), wanted, 1)

            def slope(*arguments, first=first):
                return interpret(tape, first, dict(zip(SYMBOLS, arguments, strict=True)))

            for m in range(3):
                second = tape.derivative(first, directions[m])
                wanted = mpmath.diff(lambda v, m=m: mpmath.mpf(slope(*at[:m], v, *at[m + 1 :])), at[m])
                assert close(interpret(tape, second, values), wanted, wanted)


@settings(max_examples=60, deadline=None)
@given(expressions, expressions)
def test_equal_operations_are_one_node(first: sp.Expr, second: sp.Expr) -> None:
    tape = Tape(LEVELS)
    one, two = tape.expression(first), tape.expression(second)
    length = len(tape.nodes)
    assert tape.expression(first) == one
    assert tape.expression(second) == two
    for direction in tape.inputs.values():
        assert tape.derivative(one, direction) == tape.derivative(one, direction)
    keys = [(n.op, n.args, n.payload) for n in tape.nodes]
    assert len(set(keys)) == len(keys)
    assert len(tape.nodes) >= length
    assert all(a < number for number, n in enumerate(tape.nodes) for a in n.args)  # arguments come first


@settings(max_examples=60, deadline=None)
@given(expressions)
def test_a_derivative_along_an_absent_symbol_is_a_structural_zero(expression: sp.Expr) -> None:
    other = sp.Symbol("other", real=True)
    tape = Tape(LEVELS | {other: Level.BLOCK})
    node = tape.expression(expression)
    assert tape.derivative(node, tape.inputs[other]) is ZERO
    for symbol in set(SYMBOLS) - expression.free_symbols:
        assert tape.derivative(node, tape.inputs[symbol]) is ZERO


@pytest.mark.parametrize(
    ("expression", "symbol"),
    [(sp.sign(A), A), (sp.floor(3 * A), A), (A + B, A), (sp.Piecewise((1, A > B), (2, True)), A)],
)
def test_second_derivatives_that_vanish_everywhere_are_structural_zeros(expression: sp.Expr, symbol: sp.Symbol):
    tape = Tape(LEVELS)
    direction = tape.inputs[symbol]
    assert tape.derivative(tape.derivative(tape.expression(expression), direction), direction) is ZERO


def test_levels_follow_the_arguments():
    tape = Tape({A: Level.CONSTANT, B: Level.BLOCK, T: Level.RECORD})

    def level(e: sp.Expr) -> Level:
        return tape.nodes[tape.expression(e)].level

    assert level(sp.Integer(3)) == level(sp.exp(A)) == Level.CONSTANT
    assert level(A * B) == Level.BLOCK
    assert level(A * B * T) == Level.RECORD
    # What does not depend on time is multiplied first, once per block.
    product = tape.nodes[tape.expression(sp.exp(A) * sp.sin(T) * sp.cos(B))]
    assert {tape.nodes[a].level for a in product.args} == {Level.BLOCK, Level.RECORD}


def test_simplifications_that_keep_kernels_small():
    tape = Tape(LEVELS)
    a, b = tape.inputs[A], tape.inputs[B]
    one, zero = tape.constant(1.0), tape.constant(0.0)
    assert tape.add(a, zero) == a
    assert tape.mul(a, one) == a
    assert tape.mul(a, zero) == zero
    assert tape.sub(a, a) == zero
    assert tape.mul(a, tape.inv(a)) == one
    assert tape.inv(tape.inv(a)) == a
    assert tape.neg(tape.neg(a)) == a
    assert tape.neg(tape.sub(a, b)) == tape.sub(b, a)
    assert tape.add(a, tape.neg(b)) == tape.sub(a, b)
    assert tape.add(a, b) == tape.add(b, a)
    assert tape.mul(a, tape.neg(b)) == tape.neg(tape.mul(a, b))
    exponential = tape.unary("exp", a)
    assert tape.inv(exponential) == tape.unary("exp", tape.neg(a))
    assert tape.where(tape.expression(A > B), a, a) == a


@pytest.mark.parametrize("function", sorted(_FUNCTIONS, key=lambda f: f.__name__))
def test_every_function_of_the_tape_has_a_derivative_that_numpy_can_print(function) -> None:
    tape = Tape(LEVELS)
    node = tape.expression(function(A))
    slope = tape.derivative(node, tape.inputs[A])
    assert (slope is ZERO) == (function in (sp.sign, sp.floor))
    at = np.array([0.3, 0.8])
    value, *slopes = numpy_kernel(tape, [node, slope])((at, None, None), None, (2,))
    with mpmath.workdps(20):
        for k, v in enumerate(at):
            assert value[k] == pytest.approx(float(as_function(function(A))(mpmath.mpf(v), 0, 0)), rel=1e-14)
            if slope is not ZERO:
                truth = mpmath.diff(lambda u: as_function(function(A))(u, 0, 0), mpmath.mpf(v))
                assert slopes[0][k] == pytest.approx(float(truth), rel=1e-13)


# ------------------------------------------------------------------- regressions


def test_two_inputs_may_have_the_same_name():
    """A covariate called like the time, or like a theta, is an input of its own."""
    column, parameter = covariate("t"), theta("t", 1.0)
    tape = Tape({time: Level.RECORD, column: Level.RECORD, parameter: Level.CONSTANT})
    node = tape.expression(time + 10 * column + 100 * parameter)
    (value,) = numpy_kernel(tape, [node])((np.array([1.0]), np.array([2.0]), 3.0), None, (1,))
    assert value == 321.0


def test_a_hill_function_at_zero_concentration_is_flat_in_its_parameters():
    """0**g has the derivatives 0 along g, and along what makes the concentration, not 0·log 0."""
    gamma, slope, conc = sp.symbols("gamma slope conc", positive=True)
    inputs = {gamma: Level.RECORD, slope: Level.RECORD, conc: Level.RECORD}
    tape = Tape(inputs)
    node = tape.expression((slope * conc) ** gamma / (2**gamma + (slope * conc) ** gamma))
    directions = [tape.inputs[gamma], tape.inputs[slope]]
    first = tape.gradient(node, directions)
    second = [[tape.derivative(f, d) for d in directions] for f in first]
    kernel = numpy_kernel(tape, [node, first, second])
    at = np.array([0.6, 1.0, 1.7, 2.5])  # exponents below, at and above 1
    with np.errstate(all="ignore"):
        zero = kernel((at, np.full(4, 1.3), np.zeros(4)), None, (4,))
        limit = kernel((at[2:], np.full(2, 1.3), np.full(2, 1e-12)), None, (2,))
    for value in zero:
        np.testing.assert_array_equal(value, 0.0)
    for value in limit:
        np.testing.assert_allclose(value, 0.0, atol=1e-15)


def test_a_power_with_a_variable_exponent_has_the_right_slope_at_zero():
    tape = Tape(LEVELS)
    node = tape.expression(sp.Pow(A, B, evaluate=False))
    kernel = numpy_kernel(tape, [tape.derivative(node, tape.inputs[A])])
    with np.errstate(all="ignore"):
        (slope,) = kernel((np.zeros(3), np.array([1.0, 2.0, 3.5]), np.zeros(3)), None, (3,))
    np.testing.assert_array_equal(slope, [1.0, 0.0, 0.0])


def test_a_condition_that_contains_a_piecewise_is_computed():
    """SymPy turns it into an if-then-else of conditions."""
    inner = sp.Piecewise((A, B > 0), (2 * A, True))
    expression = sp.Piecewise((1, inner > 1), (T, True))
    assert expression.has(sp.ITE)
    tape = Tape(LEVELS)
    kernel = numpy_kernel(tape, [tape.expression(expression)])
    (value,) = kernel((np.array([0.8, 0.8, 2.0]), np.array([1.0, -1.0, 1.0]), np.full(3, 5.0)), None, (3,))
    np.testing.assert_array_equal(value, [5.0, 1.0, 1.0])


# ------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        (sp.Symbol("zz"), "'zz' is used in an expression but is not declared."),
        (sp.gamma(A), "The function 'gamma' is not available in expressions; use one of"),
        (sp.Piecewise((A, A > 0)), r"has no final \(value, True\) branch; say what holds otherwise."),
        (sp.I * A, "The constant I in an expression is not a finite real number."),
        (A + sp.oo * B, "is not a finite real number."),
        (sp.Float("1e300") * 10**300 * A, "is not a finite real number."),
    ],
)
def test_what_cannot_be_computed_is_refused_with_a_sentence(expression: sp.Expr, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        Tape(LEVELS).expression(expression)


def test_expit_of_a_large_argument_does_not_overflow():
    tape = Tape(LEVELS)
    node = tape.expression(expit(A))
    value, slope = numpy_kernel(tape, [node, tape.derivative(node, tape.inputs[A])])(
        (np.array([-800.0, 800.0]), None, None), None, (2,)
    )
    np.testing.assert_array_equal(value, [0.0, 1.0])
    np.testing.assert_array_equal(slope, [0.0, 0.0])
