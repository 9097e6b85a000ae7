r"""The matrix exponential of a compartmental system as closed expressions on a tape.

Strongly connected groups of compartments (at most three, with real eigenvalues by the signs of their
exchange rates) have their eigenvalues in closed form; Newton's interpolation then gives

.. math:: e^{At} = \sum_k [\lambda_1, \dots, \lambda_k]\,e^{\cdot t} \prod_{l<k} (A - \lambda_l I),

with divided differences that stay exact where eigenvalues meet (`simplex`), and from group to group
convolutions, which join the nodes of divided differences.  Every term of a compartmental system is
positive, so nothing cancels.

References
----------
Putzer (1966), doi:10.1080/00029890.1966.11970714.
"""

from __future__ import annotations

import math
from functools import reduce

import sympy as sp

from nlmewidgets.core.symbols import Covariate
from nlmewidgets.core.tape import Tape

__all__ = ["Propagator", "solvable"]

Terms = dict[tuple[int, ...], int]

_MOST_EQUAL = 8
"""Compartments in a row with one and the same rate, beyond which expressions grow too large."""


def _groups(matrix: sp.Matrix) -> list[tuple[int, ...]]:
    """Return the strongly connected groups of compartments, upstream first."""
    n = matrix.rows
    reach = _reach(matrix)
    groups: list[tuple[int, ...]] = []
    for i in range(n):
        if not any(i in g for g in groups):
            groups.append(tuple(j for j in range(n) if j == i or (reach[i][j] and reach[j][i])))
    # The more a group reaches, the further upstream it is.
    return sorted(groups, key=lambda g: -sum(reach[g[0]]))


def _reach(matrix: sp.Matrix) -> list[list[bool]]:
    """Return whether material of j gets to i, as reach[j][i] (and itself)."""
    n = matrix.rows
    reach = [[i == j or matrix[i, j] != 0 for i in range(n)] for j in range(n)]
    for k in range(n):
        for j in range(n):
            if reach[j][k]:
                reach[j] = [a or b for a, b in zip(reach[j], reach[k], strict=True)]
    return reach


def solvable(matrix: sp.Matrix) -> bool:
    """Whether the eigenvalues of every group are real for certain and known in closed form."""
    positive = {z: sp.Dummy(z.name, positive=True) for z in matrix.atoms(Covariate)}
    for group in _groups(matrix):
        if len(group) > 3:
            return False
        pairs = [(i, j) for i in group for j in group if i < j]
        exchange = [(matrix[i, j] * matrix[j, i]).xreplace(positive) for i, j in pairs]
        one_way = [matrix[i, j] != 0 or matrix[j, i] != 0 for i, j in pairs]
        if any(not x.is_nonnegative for x in exchange) or (len(group) == 3 and all(one_way)):
            return False  # might oscillate, or goes round in a circle
        if any(w and x == 0 for w, x in zip(one_way, exchange, strict=True)):
            return False
    diagonal = [matrix[i, i] for i in range(matrix.rows)]
    return all(diagonal.count(d) <= _MOST_EQUAL for d in diagonal)


class Propagator:
    """Entries of exp(A·dt) as nodes of a tape.

    Parameters
    ----------
    tape : Tape
    matrix : (n, n) SymPy matrix
        A, in symbols of the tape; `solvable`.
    dt : int
        Node of the interval's length.
    """

    def __init__(self, tape: Tape, matrix: sp.Matrix, dt: int) -> None:
        self.tape = tape
        self.dt = dt
        self.n = matrix.rows
        self.a = [
            [tape.expression(matrix[i, j]) if matrix[i, j] != 0 else None for j in range(self.n)] for i in range(self.n)
        ]
        self.reach = _reach(matrix)
        self.groups = _groups(matrix)
        self.shift: dict[tuple[int, int], int] = {}
        self.known: dict[tuple[int, int], Terms] = {}
        self.eigenvalues = {g: self._eigenvalues(g) for g in self.groups}

    def entries(self) -> dict[tuple[int, int], int]:
        """Return the nodes of the entries that are not zero for all times."""
        out = {}
        for j in range(self.n):
            for i in range(self.n):
                if self.reach[j][i]:
                    terms = self._terms(i, j).items()
                    nodes = [self.tape.mul(factor, self._difference(values)) for values, factor in terms]
                    out[(i, j)] = reduce(self.tape.add, nodes)
        return out

    def _terms(self, i: int, j: int) -> Terms:
        """Return entry (i, j) as a sum of divided differences: {eigenvalues: factor}.

        Groups in a row are convolutions, and a convolution of divided differences is the one over all
        their nodes, so the terms of compartments stay positive whatever the way.
        """
        if (i, j) not in self.known:
            group = next(g for g in self.groups if i in g)
            if j in group:
                self.known[(i, j)] = self._within(group, j).get(i, {})
            else:
                total: Terms = {}
                for entry in group:
                    for source in range(self.n):
                        flow = self.a[entry][source]
                        if source in group or flow is None or not self.reach[j][source]:
                            continue
                        for before, x in self._terms(source, j).items():
                            for after, y in self._terms(i, entry).items():
                                values = tuple(sorted((*before, *after)))
                                factor = self.tape.mul(self.tape.mul(x, flow), y)
                                total[values] = self.tape.add(total[values], factor) if values in total else factor
                self.known[(i, j)] = total
        return self.known[(i, j)]

    def _within(self, group: tuple[int, ...], j: int) -> dict[int, Terms]:
        """Return column j of a group by Newton's interpolation, fastest eigenvalue first."""
        tape = self.tape
        w: dict[int, int] = {j: tape.constant(1.0)}
        used: list[int] = []
        total: dict[int, Terms] = {i: {} for i in group}
        for value in self.eigenvalues[group]:
            used.append(value)
            for i, x in w.items():
                total[i][tuple(sorted(used))] = x
            w = self._apply(w, value, group)
        return total

    def _apply(self, w: dict[int, int], value: int, members: tuple[int, ...]) -> dict[int, int]:
        """Return (A − λI)·w on some compartments, without structural zeros."""
        tape = self.tape
        out: dict[int, int] = {}
        for i in members:
            total: int | None = None
            for k, x in w.items():
                factor = self._shifted(i, value) if i == k else self.a[i][k]
                if factor is None or tape.value(factor) == 0:
                    continue
                term = tape.mul(factor, x)
                total = term if total is None else tape.add(total, term)
            if total is not None:
                out[i] = total
        return out

    def _shifted(self, i: int, value: int) -> int:
        """Return a_ii − λ."""
        if (i, value) in self.shift:
            return self.shift[(i, value)]
        diagonal = self.a[i][i]
        return self.tape.sub(self.tape.constant(0.0) if diagonal is None else diagonal, value)

    def _difference(self, eigenvalues: tuple[int, ...]) -> int:
        """Return the divided difference of e^(λ·dt) over eigenvalues."""
        tape = self.tape
        nodes = [tape.mul(tape.neg(x), self.dt) for x in eigenvalues]
        result = tape.mixture(*({x: 0} for x in nodes))
        power = tape.power(self.dt, tape.constant(float(len(nodes) - 1)))
        return tape.mul(power, result)

    # ------------------------------------------------------------- eigenvalues

    def _eigenvalues(self, group: tuple[int, ...]) -> list[int]:
        """Return the eigenvalues of a group, fastest first."""
        if len(group) == 1:
            diagonal = self.a[group[0]][group[0]]
            return [self.tape.constant(0.0) if diagonal is None else diagonal]
        return self._pair(group) if len(group) == 2 else self._triple(group)

    def _get(self, i: int, j: int) -> int:
        node = self.a[i][j]
        return self.tape.constant(0.0) if node is None else node

    def _pair(self, group: tuple[int, ...]) -> list[int]:
        r"""Two compartments: a_ii − λ₁ without cancellation on either side of p = a₁₁ − a₂₂ = 0."""
        tape = self.tape
        i, j = group
        a, d = self._get(i, i), self._get(j, j)
        exchange = tape.mul(self._get(i, j), self._get(j, i))
        half = tape.constant(0.5)
        p = tape.mul(half, tape.sub(a, d))
        root = tape.unary("sqrt", tape.add(tape.mul(p, p), exchange))
        # c₁ = p + root and c₂ = root − p, whose product is the exchange.
        up = tape.greater(p, tape.constant(0.0))
        large = tape.add(tape.unary("absolute", p), root)
        small = tape.mul(exchange, tape.inv(large))
        first, second = tape.where(up, large, small), tape.where(up, small, large)
        fast = tape.sub(a, first)
        determinant = tape.sub(tape.mul(a, d), exchange)
        slow = tape.mul(determinant, tape.inv(fast))
        self.shift[(i, fast)], self.shift[(j, fast)] = first, second
        self.shift[(i, slow)], self.shift[(j, slow)] = tape.neg(second), tape.neg(first)
        return [fast, slow]

    def _triple(self, group: tuple[int, ...]) -> list[int]:
        """Three compartments in a row or around one: the trigonometric roots, each polished by a Newton step."""
        tape = self.tape
        a = {(r, c): self._get(group[r], group[c]) for r in range(3) for c in range(3)}
        mul, add, sub, constant = tape.mul, tape.add, tape.sub, tape.constant

        def minor(r: int, c: int) -> int:
            return sub(mul(a[r, r], a[c, c]), mul(a[r, c], a[c, r]))

        trace = add(add(a[0, 0], a[1, 1]), a[2, 2])
        second = add(add(minor(0, 1), minor(0, 2)), minor(1, 2))
        # A tree has no cycle of three: the determinant is without those terms.
        det = sub(
            mul(a[0, 0], minor(1, 2)),
            add(mul(mul(a[0, 1], a[1, 0]), a[2, 2]), mul(mul(a[0, 2], a[2, 0]), a[1, 1])),
        )
        mean = mul(constant(1.0 / 3.0), trace)
        # x³ − trace x² + second x − det = 0; x = mean + 2 r cos(angle)
        square = sub(mul(mean, mean), mul(constant(1.0 / 3.0), second))
        r = tape.unary("sqrt", square)
        # cos(3 angle) = q / r³ with q half the polynomial's value at the mean, negated
        value = sub(mul(add(sub(mul(mean, mean), mul(trace, mean)), second), mean), det)
        cosine = mul(mul(constant(-0.5), value), tape.inv(mul(r, square)))
        one = constant(1.0)
        cosine = tape.minimum(tape.maximum(cosine, constant(-1.0)), one)
        sine = tape.unary("sqrt", mul(sub(one, cosine), add(one, cosine)))
        angle = mul(constant(2.0 / 3.0), tape.unary("arctan", mul(sine, tape.inv(add(one, cosine)))))
        found = []
        for turn in (2.0 * math.pi / 3.0, -2.0 * math.pi / 3.0, 0.0):  # fastest, middle, slowest
            x = add(mean, mul(mul(constant(2.0), r), tape.unary("cos", add(angle, constant(turn)))))
            for _ in range(2):
                poly = sub(mul(add(mul(sub(x, trace), x), second), x), det)
                slope = add(mul(sub(mul(constant(3.0), x), mul(constant(2.0), trace)), x), second)
                x = sub(x, mul(poly, tape.inv(slope)))
            found.append(x)
        return found
