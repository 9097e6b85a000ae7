r"""Standard deviations to start from: a few steps of iterative two-stage estimation.

At each subject's mode :math:`\hat\eta_i` with curvature :math:`H_i`,
:math:`\Omega \leftarrow \operatorname{diag} \frac1N \sum (\hat\eta_i - \bar\eta)^2 + H_i^{-1}`, the typical values
move by :math:`\bar\eta`, and each output's residual scale becomes that of the individual residuals.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.methods.pooled import Pooled

__all__ = ["spread"]

_DEFAULT = 0.3
_LEAST, _MOST = 0.05, 1.5


def spread(
    problem: Problem,
    pooled: Pooled,
    theta: Array,
    deadline: float,
    stop: Callable[[], bool] | None,
    steps: int = 6,
) -> tuple[Values, dict[str, str]]:
    """Return values with the standard deviations of random effects and residuals, and how they were found."""
    space = problem.space
    declared = space.to_dict(space.initial)
    start = Values(theta, space.initial.omega, space.initial.sigma)
    how: dict[str, str] = {}
    scale = _scale(problem, pooled, _predict(problem, theta, None))
    numbers = space.to_dict(start) | _sigmas(problem, scale, how, "pooled residuals")
    if not len(space.eta):
        return space.from_dict(numbers, start), how
    logarithmic = _logarithmic(problem)
    size = {f"eta_{p.name}": abs(float(v)) for p, v in zip(space.theta, theta, strict=True)}
    wide = {
        name: 0.6 if eta in logarithmic else max(_DEFAULT * size.get(eta, 0.0), declared[name])
        for name, eta in zip(space.omega_names, space.eta, strict=True)
    }
    values = _with(problem, numbers | wide, start)
    try:
        taken = 0
        for _ in range(steps):
            if time.monotonic() > deadline or (stop is not None and stop()):
                break
            values = _step(problem, pooled, values, how)
            taken += 1
        if not taken:
            raise _Failed
    except (_Failed, NlmeError, np.linalg.LinAlgError, ArithmeticError):
        plain = {
            n: _DEFAULT if e in logarithmic else declared[n] for n, e in zip(space.omega_names, space.eta, strict=True)
        }
        for name, eta in zip(space.omega_names, space.eta, strict=True):
            how[name] = f"default {_DEFAULT}" if eta in logarithmic else "declared"
        return _with(problem, numbers | plain, start), how
    for name in space.omega_names:
        how[name] = "two-stage: spread of the subjects"
    return values, how


class _Failed(Exception):  # noqa: N818
    """No individual fit can be used."""


def _with(problem: Problem, numbers: dict[str, float], base: Values) -> Values:
    """Return values by name; fixed parameters keep theirs."""
    space = problem.space
    return space.from_dict({n: v for n, v in numbers.items() if not space.is_fixed(n)}, base)


def _logarithmic(problem: Problem) -> set[str]:
    """Return the etas that act on a logarithm or logit: an SD of 0.3 means something there."""
    out = set()
    for symbol, value in problem.model.parameters.items():
        if isinstance(value, Distribution) and type(value).__name__ in ("LogNormal", "LogitNormal", "ProbitNormal"):
            out.add(f"eta_{symbol.name}")
    return out & set(problem.space.eta)


def _predict(problem: Problem, theta: Array, eta: Array | None) -> Array:
    typical = problem.typical(theta).slots
    with np.errstate(all="ignore"):
        return problem.predict(typical if eta is None else problem.slots(typical, eta))


def _scale(problem: Problem, pooled: Pooled, f: Array, lost: float = 0.0) -> list[float] | None:
    """Return how many times its declared SD each output's residuals have; None for other likelihoods."""
    if not any(pooled.normal):
        return None
    with np.errstate(all="ignore"):
        r, _ = pooled.residuals(f)
    out = []
    for rows in pooled.outputs:
        share = lost * len(rows) / problem.n_obs
        out.append(float(np.sqrt(np.nansum(r[rows] ** 2) / max(len(rows) - share, 1.0))))
    return out


def _sigmas(problem: Problem, scale: list[float] | None, how: dict[str, str], words: str) -> dict[str, float]:
    """Return the residual SDs times their output's scale; exponents and the like keep their value."""
    space = problem.space
    if scale is None:
        return {}
    out = {}
    several = len(scale) > 1
    order = list(problem.model.outputs)
    for p in space.sigma:
        if p.fixed or p.lower != 0 or p.upper is not None or not _is_sd(p.name):
            continue
        k = next((i for i, o in enumerate(order) if p.name.endswith(f"_{o}")), 0) if several else 0
        if k < len(scale) and np.isfinite(scale[k]) and scale[k] > 0:
            out[p.name] = p.value * min(max(scale[k], 1e-4), 1e4)
            how[p.name] = f"{words} ({scale[k]:.2g} × declared)"
    return out


def _is_sd(name: str) -> bool:
    return not any(word in name for word in ("exponent", "power", "lambda", "df", "nu"))


def _step(problem: Problem, pooled: Pooled, values: Values, how: dict[str, str]) -> Values:
    space = problem.space
    occasions = problem.occasions
    typical = problem.typical(values.theta).slots
    precision = np.linalg.inv(occasions.expand(values.omega))
    with np.errstate(all="ignore"):
        modes = find_modes(problem, typical, precision, values.sigma, tolerance=1e-4, max_iterations=20)
    good = np.isfinite(modes.value) & np.isfinite(modes.information).all(axis=(1, 2))
    if good.sum() < max(2, problem.n_subjects // 2):
        raise _Failed
    eta = modes.eta[:, good]
    uncertainty = np.linalg.inv(modes.information[good] / 2.0)
    source = np.asarray(occasions.source)
    q = len(space.eta)
    centre = np.zeros(len(eta))
    between = np.asarray(source) < q
    names = {f"eta_{s.name}": s for s, v in problem.model.parameters.items() if isinstance(v, Distribution)}
    numbers: dict[str, float] = {}
    counts = np.bincount(source, minlength=q)
    scalar = {p.name: (k, p) for k, p in enumerate(space.theta)}
    for row in np.flatnonzero(between):
        name = space.eta[source[row]]
        if counts[source[row]] > 1 or name not in names:
            continue
        k, p = scalar[names[name].name]
        if p.fixed:
            continue
        centre[row] = eta[row].mean()
        numbers[p.name] = _moved(problem, p.name, float(values.theta[k]), float(centre[row]))
    square = ((eta - centre[:, None]) ** 2 + np.diagonal(uncertainty, axis1=1, axis2=2).T).mean(axis=1)
    variance = np.bincount(source, weights=square, minlength=q) / np.maximum(counts, 1)
    logarithmic = _logarithmic(problem)
    for name, effect, v in zip(space.omega_names, space.eta, variance, strict=True):
        sd = float(np.sqrt(v))
        numbers[name] = min(max(sd, _LEAST), _MOST) if effect in logarithmic else max(sd, 1e-8)
    lost = float(eta.shape[0]) * problem.n_subjects - float(
        np.einsum("nij,ji->n", uncertainty, precision).sum() * problem.n_subjects / max(good.sum(), 1)
    )
    full = np.where(good, modes.eta, 0.0)
    scale = _scale(problem, pooled, _predict(problem, values.theta, full), max(lost, 0.0))
    numbers |= _sigmas(problem, scale, how, "individual residuals")
    return _with(problem, numbers, values)


def _moved(problem: Problem, name: str, value: float, by: float) -> float:
    """Return a typical value moved along the scale of its random effect."""
    symbol = next(s for s in problem.model.parameters if s.name == name)
    kind = type(problem.model.parameters[symbol]).__name__
    if kind == "LogNormal":
        return value * float(np.exp(np.clip(by, -1.0, 1.0)))
    return value + by if kind == "Normal" else value
