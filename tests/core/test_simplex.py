"""Contract of exponentials averaged over a simplex: divided differences that lose nothing where nodes meet."""

from __future__ import annotations

from math import factorial, prod

import mpmath
import numpy as np
import pytest
import sympy as sp

from nlmewidgets.core.printers import numpy_kernel
from nlmewidgets.core.simplex import expsimplex, multi_indices
from nlmewidgets.core.structure.propagator import Propagator, solvable
from nlmewidgets.core.tape import Level, Tape


def exact(nodes: list[float], powers: tuple[int, ...]) -> mpmath.mpf:
    """Return M_m(a) as an entry of the exponential of a bidiagonal matrix (Opitz), in 60 digits."""
    with mpmath.workdps(60):
        repeated = [mpmath.mpf(float(a)) for a, m in zip(nodes, powers, strict=True) for _ in range(m + 1)]
        low, n = min(repeated), len(repeated)
        matrix = mpmath.zeros(n)
        for i in range(n):
            matrix[i, i] = low - repeated[i]
            if i + 1 < n:
                matrix[i, i + 1] = 1
        value = mpmath.expm(matrix, method="taylor")[0, n - 1] * mpmath.exp(-low)
        return value * prod(map(factorial, powers))


@pytest.mark.parametrize(("nodes", "order"), [(2, 6), (3, 3), (4, 2)])
@pytest.mark.parametrize("gap", [0.0, 1e-3, 0.99, 1.01, 4.01])
def test_every_index_is_accurate_whatever_the_gap(nodes: int, order: int, gap: float) -> None:
    rng = np.random.default_rng(nodes)
    for scale in (0.5, 40.0):
        a = rng.uniform(0, 1, nodes) * scale
        a[1] = a[0] + gap
        found = expsimplex([np.array([x, x]) for x in a], order)
        for value, m in zip(found, multi_indices(nodes, order), strict=True):
            # The recurrence magnifies rounding by (nodes + order)/gap at each of `order` levels, gap ≥ 1.
            assert abs(value[0] / exact(list(a), m) - 1) < 5e-12, m


@pytest.mark.parametrize("spread", [0.3, 0.9, 4.4, 4.6, 30.0])
def test_high_orders_of_chains_of_equal_rates_are_accurate_too(spread: float) -> None:
    a = np.array([0.1, 0.1 + 0.6 * spread, 0.1 + spread])
    found = expsimplex([np.array([x]) for x in a], 9)
    for m in ((7, 0, 0), (7, 1, 1), (5, 2, 2), (8, 0, 1), (0, 9, 0)):
        # Nine levels of the recurrence at spread 4.5: 12!/3!/4.5⁹ = 100 roundings, twice over for its faces.
        assert abs(found[multi_indices(3, 9).index(m)][0] / exact(list(a), m) - 1) < 1e-12, m


RATES = ka, k10, k12, k21, k13, k31, km = sp.symbols("ka k10 k12 k21 k13 k31 km", positive=True)
DT = sp.Symbol("dt", real=True)
SYSTEMS = {
    "two compartments, absorption": [[-ka, 0, 0], [ka, -k10 - k12, k21], [0, k12, -k21]],
    "metabolite": [[-k10 - k12, k21, 0], [k12, -k21, 0], [k10, 0, -km]],
    "three compartments": [[-ka, 0, 0, 0], [ka, -k10 - k12 - k13, k21, k31], [0, k12, -k21, 0], [0, k13, 0, -k31]],
    "infusion": [[-k10, 1], [0, 0]],
    "transit": [[-ka, 0, 0, 0], [ka, -ka, 0, 0], [0, ka, -ka, 0], [0, 0, ka, -k10]],
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_propagator_is_the_matrix_exponential(name: str) -> None:
    matrix = sp.ImmutableMatrix(SYSTEMS[name])
    assert solvable(matrix)
    tape = Tape(dict.fromkeys(RATES, Level.BLOCK) | {DT: Level.RECORD})
    entries = Propagator(tape, matrix, tape.inputs[DT]).entries()
    kernel = numpy_kernel(tape, [list(entries.values())])
    numeric = sp.lambdify(RATES, matrix, "mpmath")
    rng = np.random.default_rng(1)
    for trial in range(8):
        rates = 10 ** rng.uniform(-2, 1.3, len(RATES))
        if trial % 2:
            rates[0], rates[3] = rates[1], rates[5] * (1 + 1e-9)  # equal rates, and nearly equal ones
        dt = 10 ** rng.uniform(-1, 1.2)
        found = kernel([*(np.array([x]) for x in rates), np.array([dt])], None, (1,))[0][:, 0]
        with mpmath.workdps(50):
            truth = mpmath.expm(numeric(*map(mpmath.mpf, map(float, rates))) * mpmath.mpf(float(dt)), method="taylor")
        for value, place in zip(found, entries, strict=True):
            # Relative to the entry itself, however small: every term is positive.
            assert abs(value / truth[place] - 1) < 1e-10, (place, rates, dt)


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        ([[0, 1], [-1, 0]], "an oscillator"),
        ([[-1, 0, 1], [1, -1, 0], [0, 1, -1]], "a circle of three"),
        ([[-1, 1, 0, 0], [1, -3, 1, 0], [0, 1, -3, 1], [0, 0, 1, -2]], "four in exchange"),
    ],
)
def test_what_has_no_real_closed_form_is_left_to_the_integrator(matrix: list[list[int]], why: str) -> None:
    assert not solvable(sp.ImmutableMatrix(matrix)), why
