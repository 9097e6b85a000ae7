"""Contract of the NumPy printer: the kernel computes what the tape says, for any batch."""

from __future__ import annotations

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings

from nlmewidgets.core.printers import numpy_kernel
from nlmewidgets.core.special import ExpMix
from nlmewidgets.core.tape import ZERO, Level, Tape
from tests.core.tapes import NUMPY, SYMBOLS, A, B, T, expressions, interpret, points

LEVELS = {A: Level.BLOCK, B: Level.CONSTANT, T: Level.RECORD}


@settings(max_examples=60, deadline=None)
@given(expressions, points)
def test_a_kernel_equals_the_tape_evaluated_operation_by_operation(expression: sp.Expr, point: np.ndarray) -> None:
    tape = Tape(LEVELS)
    node = tape.expression(expression)
    first = tape.gradient(node, [tape.inputs[s] for s in SYMBOLS])
    second = [[tape.derivative(f, tape.inputs[s]) for s in SYMBOLS] for f in first]
    kernel = numpy_kernel(tape, [node, first, second])
    # Two blocks and five records; block-level nodes are computed twice, not five times.
    block = np.array([0, 0, 1, 1, 1])
    a, b, t = np.array([point[0], -point[0] / 3]), float(point[1]), np.linspace(point[2], 0.7, 5)
    value, slopes, curved = kernel((a, b, t), block, (5,))
    values = {A: a[block], B: b, T: t}

    def check(result: np.ndarray, number: int | None) -> None:
        wanted = np.broadcast_to(np.asarray(interpret(tape, number, values, NUMPY), dtype=float), (5,))
        # Same operations in the same order; only the mixtures are computed another way (13 digits).
        scale = 1e-12 * (1 + np.abs(wanted).max())
        np.testing.assert_allclose(np.broadcast_to(result, (5,)), wanted, rtol=1e-11, atol=scale)

    check(value, node)
    assert (slopes is None) == all(n is ZERO for n in first)
    for k, number in enumerate(first):
        if slopes is not None:
            check(slopes[k], number)
        for m, deeper in enumerate(second[k]):
            if curved is not None:
                check(curved[k, m], deeper)


def test_block_values_are_gathered_once_and_computed_per_block():
    tape = Tape(LEVELS)
    node = tape.expression(sp.exp(A) * T + sp.exp(A) * sp.sin(T))
    kernel = numpy_kernel(tape, [node])
    assert kernel.source.count(".take(block, -1)") == 1
    assert kernel.source.count("exp(") == 1
    a, t = np.array([0.1, 0.7]), np.array([1.0, 2.0, 3.0])
    block = np.array([1, 0, 1])
    (value,) = kernel((a, 0.0, t), block, (3,))
    np.testing.assert_allclose(value, np.exp(a[block]) * (t + np.sin(t)), rtol=1e-14)
    (same,) = kernel((a[block], 0.0, t), None, (3,))
    np.testing.assert_array_equal(same, value)


def test_batch_axes_pass_through():
    tape = Tape(LEVELS)
    node = tape.expression(sp.exp(-A * T) * (1 + B))
    first = tape.gradient(node, [tape.inputs[A], tape.inputs[B]])
    kernel = numpy_kernel(tape, [node, first])
    rng = np.random.default_rng(1)
    a, t, block = rng.uniform(size=(3, 4, 2)), rng.uniform(size=5), np.array([0, 1, 1, 0, 1])
    value, slopes = kernel((a, 0.5, t), block, (3, 4, 5))
    assert value.shape == (3, 4, 5)
    assert slopes.shape == (2, 3, 4, 5)
    for i in range(3):
        for j in range(4):
            one, slope = kernel((a[i, j], 0.5, t), block, (5,))
            np.testing.assert_array_equal(value[i, j], one)
            np.testing.assert_array_equal(slopes[:, i, j], slope)


def test_packs_are_stacked_and_zeros_are_filled_in():
    tape = Tape(LEVELS)
    a, t = tape.inputs[A], tape.inputs[T]
    kernel = numpy_kernel(tape, [[[a, ZERO], [ZERO, t]], [ZERO, ZERO], ZERO, [], tape.constant(2.0)])
    matrix, nothing, none, empty, two = kernel((np.array([3.0]), 0.0, np.array([1.0, 2.0])), np.array([0, 0]), (2,))
    np.testing.assert_array_equal(matrix, [[[3, 3], [0, 0]], [[0, 0], [1, 2]]])
    assert nothing is None
    assert none is None
    assert empty is None
    assert two == 2.0


def test_only_what_is_needed_is_computed():
    tape = Tape(LEVELS)
    node = tape.expression(sp.exp(A * T))
    tape.expression(sp.sin(A * T))
    assert "sin(" not in numpy_kernel(tape, [node]).source


def test_one_call_gives_all_mixtures_of_a_pair():
    tape = Tape(LEVELS)
    node = tape.expression(ExpMix(0, 0, A * T, B * T))
    first = tape.gradient(node, [tape.inputs[A], tape.inputs[B]])
    assert numpy_kernel(tape, [node, first]).source.count("expmix(") == 1


@pytest.mark.parametrize("value", [-2.5, 0.0, 1e-300, 1 / 3])
def test_constants_are_printed_to_the_last_bit(value: float) -> None:
    tape = Tape(LEVELS)
    node = tape.add(tape.inputs[T], tape.constant(value))
    (result,) = numpy_kernel(tape, [node])((0.0, 0.0, np.zeros(1)), None, (1,))
    assert result[0] == value


def test_a_population_value_at_the_edge_of_the_doubles_gives_inf_and_not_an_exception():
    """Constants come as NumPy scalars, so 1/0 and overflow are values that a line search can refuse."""
    tape = Tape(LEVELS)
    kernel = numpy_kernel(tape, [tape.expression(T / B**2), tape.expression(sp.Float(2.5) ** B + T)])
    with np.errstate(all="ignore"):
        quotient, power = kernel((np.zeros(1), np.float64(1e-200), np.ones(1)), None, (1,))
        assert np.isinf(quotient).all()
        _, power = kernel((np.zeros(1), np.float64(1e200), np.ones(1)), None, (1,))
        assert np.isinf(power).all()
