"""Generated kernels against the formulas they stand for, differentiated by SymPy."""

from __future__ import annotations

import numpy as np
import sympy as sp

from nlmewidgets.core.variational import Variational

X, S = sp.symbols("x y z", real=True), sp.symbols("a b c", real=True)
RHS = (
    -sp.exp(S[0]) * X[0] + sp.sin(S[1] * X[1]),
    sp.Max(X[0], 0) ** S[2] - X[1] * X[2] / (1 + X[1] ** 2),
    sp.Piecewise((X[0] * X[1], X[2] > 0), (-X[2], True)) + sp.sqrt(1 + X[2] ** 2) - S[0],
)


def test_kernels_are_the_derivatives_of_the_equations() -> None:
    system = Variational(X, RHS, S, 2)
    rng = np.random.default_rng(1)
    lanes = 5
    x, s = rng.uniform(0.5, 2.0, (3, lanes)), rng.uniform(0.5, 1.5, (3, lanes))
    x[2, ::2] *= -1
    constants = system.constants(tuple(s), (), (lanes,))
    first, second = rng.standard_normal((3, 3, lanes)), rng.standard_normal((2, 3, 3, lanes))
    second[:, :2] = (second[:, :2] + second[:, :2].swapaxes(0, 1)) / 2
    rows = system.pack(2, x, first, second)
    out = np.empty_like(rows)
    run = system.kernel(2).bind(constants, rows, out)
    run()
    once = out.copy()
    run()  # work arrays used again
    np.testing.assert_array_equal(out, once)
    got = system.unpack(2, out)
    matrix = np.empty((3, 3, lanes))
    system.kernel(-1)(constants, rows, matrix)
    for lane in range(lanes):
        at = dict(zip((*X, *S), (*x[:, lane], *s[:, lane]), strict=True))
        number = np.vectorize(lambda e, at=at: float(e.subs(at)), otypes=[float])
        along = [[*np.array([first[k, j, lane] for j in range(3)]), *np.eye(3)[k]] for k in range(3)]
        for i, f in enumerate(RHS):
            gradient = number(np.array([sp.diff(f, v) for v in (*X, *S)]))
            hessian = number(np.array([[sp.diff(f, v, w) for w in (*X, *S)] for v in (*X, *S)]))
            np.testing.assert_allclose(matrix[i, :, lane], gradient[:3], rtol=1e-12, atol=1e-13)
            assert got[0][i, lane] == np.float64(float(f.subs(at))) or np.isclose(got[0][i, lane], float(f.subs(at)))
            for a in range(3):
                np.testing.assert_allclose(got[1][a, i, lane], gradient @ along[a], rtol=1e-10, atol=1e-12)
                for b in range(2):
                    expected = along[b] @ hessian @ along[a] + gradient[:3] @ second[b, a, :, lane]
                    np.testing.assert_allclose(got[2][b, a, i, lane], expected, rtol=1e-10, atol=1e-11)
