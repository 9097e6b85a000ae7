r"""The objective over two parameters: a surface, from coarse to fine, and its contours.

Along each parameter the grid is even on its unconstrained scale (the logarithm of a positive one).  The others are
held, or optimised anew at every point: the surface is then :math:`\min_\psi F(a, b, \psi)`, a profile.  Contours are
at rises of −2 log L above its minimum; the profile's at 5.99, the 95 % point of χ² with two degrees of freedom, is a
joint confidence region of both, and its projections at 3.84 are the profile intervals of each.

The ranges are those of the ellipse that the second differences around the centre describe, drawn a little farther
than a rise of 20.

References
----------
Bates & Watts (1988), Nonlinear Regression Analysis and Its Applications, doi:10.1002/9780470316757, chapter 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.errors import ModelError, NlmeError
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.diagnostics.contours import contour_lines
from nlmewidgets.fit.live import look
from nlmewidgets.fit.refit import refit
from nlmewidgets.fit.scale import bounds, is_log

__all__ = ["LEVELS", "Surface", "surface"]

LEVELS = {
    1.0: "one standard error",
    3.84: "95 % for one parameter",
    5.99: "95 % for both",
    9.21: "99 % for both",
    20.0: "far off",
}
"""What a rise of −2 log L means, by the rise: quantiles of χ² with one and two degrees of freedom."""

_REACH = 24.0
"""Rise of −2 log L that the default ranges are meant to show."""
_FARTHEST = {"log": math.log(10.0), "own": 3.0, "bounded": 3.0}
"""Half a default range at most: a factor of ten, three times the size, all but the ends of an interval."""
_STEP = 0.05
"""First step of the second differences."""
_PATIENCE = 10.0
"""Seconds for the other parameters at one point."""
_KEPT = 50_000_000
"""Numbers of random effects kept to begin at."""
_SMOOTH = 4
"""Points drawn for each of the grid."""
_AROUND = sorted(
    ((a, b) for a in range(-2, 3) for b in range(-2, 3) if (a, b) != (0, 0)), key=lambda s: s[0] ** 2 + s[1] ** 2
)


@dataclass(frozen=True, eq=False)
class _Axis:
    """The scale along which a parameter's grid is even."""

    name: str
    kind: str
    low: float
    high: float
    size: float

    @classmethod
    def of(cls, space: ParameterSpace, name: str, value: float) -> _Axis:
        low, high = bounds(space, name)
        kind = "log" if is_log(space, name) else "bounded" if math.isfinite(low) and math.isfinite(high) else "own"
        return cls(name, kind, low, high, max(abs(value), 0.1))

    def free(self, value: float) -> float:
        """Return a value on the scale."""
        if self.kind == "log":
            return math.log(value)
        if self.kind == "own":
            return value / self.size
        return math.log((value - self.low) / (self.high - value))

    def natural(self, u: Array | float) -> Array:
        """Return the parameter at places of the scale; NaN beyond a bound."""
        u = np.asarray(u, dtype=float)
        if self.kind == "log":
            return np.exp(u)
        if self.kind == "bounded":
            return self.low + (self.high - self.low) / (1.0 + np.exp(-u))
        value = u * self.size
        return np.where((value > self.low) & (value < self.high), value, np.nan)


@dataclass(frozen=True, eq=False)
class Surface:
    """The objective over two parameters, as far as it has been computed.

    Attributes
    ----------
    names : (str, str)
    axes : (points,) float, twice
        Values of the parameters.
    ofv : (points, points) float
        First parameter first; NaN where it is no number.
    base : Values
        What the others are held at, or began at.
    centre : float
        The objective there.
    by : str
        The method whose objective it is.
    profiled : bool
        Whether the others are optimised anew at every point.
    correlation : float
        Of the two by the curvature at the centre; NaN where that is no minimum's.
    done : float
        Share of the work done.
    """

    names: tuple[str, str]
    axes: tuple[Array, Array]
    ofv: Array
    base: Values
    centre: float
    by: str
    profiled: bool
    correlation: float
    done: float

    @property
    def minimum(self) -> float:
        """The lowest value known; NaN where there is none."""
        known = self.ofv[np.isfinite(self.ofv)]
        return float(min([self.centre, *known.ravel()])) if known.size else self.centre

    @property
    def lowest(self) -> Mapping[str, float]:
        """The point of the grid with the lowest value, by name."""
        if not np.isfinite(self.ofv).any():
            return {}
        i, j = np.unravel_index(np.nanargmin(self.ofv), self.ofv.shape)
        return dict(zip(self.names, (float(self.axes[0][i]), float(self.axes[1][j])), strict=True))

    def contours(self, levels: Sequence[float] = tuple(LEVELS)) -> dict[float, tuple[Array, Array]]:
        """Return the lines at rises above the minimum, by the rise: values of both parameters, NaN between lines.

        Raises
        ------
        ModelError
            If contourpy is not installed.
        """
        rise = self.ofv - self.minimum
        # Quadratic at the minimum, and tame far away: a rise of thousands would bend a spline.
        height = np.log1p(np.maximum(rise, 0.0) / _REACH)
        places = [np.arange(n, dtype=float) for n in height.shape]
        if np.isfinite(height).all() and min(height.shape) >= 4:
            from scipy.interpolate import RectBivariateSpline  # dear to import

            spline = RectBivariateSpline(*places, height)
            places = [np.linspace(0.0, n - 1.0, _SMOOTH * (n - 1) + 1) for n in height.shape]
            height = spline(*places)
        lines = contour_lines(places[0], places[1], height, [math.log1p(level / _REACH) for level in levels])
        return {level: (self._between(0, a), self._between(1, b)) for level, (a, b) in zip(levels, lines, strict=True)}

    def _between(self, k: int, place: Array) -> Array:
        """Return a parameter's values between points of the grid, by a cubic: the scale is even, not linear."""
        axis = self.axes[k]
        known = np.isfinite(axis)
        from scipy.interpolate import CubicSpline  # dear to import

        steps = np.arange(len(axis), dtype=float)
        out = np.full(place.shape, np.nan)
        inside = np.isfinite(place)
        out[inside] = CubicSpline(steps[known], axis[known])(place[inside])
        return out

    def extent(self, level: float) -> dict[str, tuple[float, float]]:
        """Return the range of each parameter within a contour; infinite where it leaves the grid."""
        inside = self.ofv - self.minimum <= level
        drawn = self.contours([level])[level]
        out = {}
        for k, name in enumerate(self.names):
            along = np.asarray(inside.any(axis=1 - k))
            known = drawn[k][np.isfinite(drawn[k])]
            low, high = (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
            out[name] = (-math.inf if along[0] else low, math.inf if along[-1] else high)
        return out


def surface(
    problem: Problem,
    values: Values,
    names: Sequence[str],
    *,
    method: str = "focei",
    profile: bool = False,
    zoom: float = 1.0,
    points: int = 33,
    start: Array | None = None,
) -> Iterator[Surface]:
    """Yield the surface after every point; its grid grows finer by halves, each whole before it is shown.

    Parameters
    ----------
    problem : Problem
    values : Values
        The centre, and where the other parameters are held.
    names : (str, str)
        Two population parameters.
    method : str
        Whose objective, as for `fit.live.look`.
    profile : bool
        Optimise the other free parameters at every point.
    zoom : float
        Factor of the ranges.
    points : int
        Of the finest grid along each parameter: a power of two and one, at least five.
    start : (etas, subjects) float, optional
        Etas to begin the search for modes at.

    Raises
    ------
    ModelError
        If the names are not two of the model's parameters, or the objective is not a number at `values`.

    Notes
    -----
    Modes are followed from neighbour to neighbour, from the centre outwards.  Priors count: with them the surface is
    that of the penalised objective.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> from nlmewidgets.diagnostics import surface
    >>> data = nw.datasets.load("orange")
    >>> growth = {"asym": nw.Normal(190, sd=30), "mid": nw.LogNormal(700), "scale": nw.LogNormal(340)}
    >>> model = nw.Model("asym/(1 + exp(-(t - mid)/scale))", growth, residual=nw.Additive(8)).fit(data, "fo").model
    >>> *_, last = surface(model.problem(data), model.values, ["mid", "scale"], method="fo", points=9)
    >>> last.ofv.shape, bool(last.minimum == last.centre), bool(last.correlation > 0.5)
    ((9, 9), True, True)
    """
    first, second = _two(problem.space, names)
    level = math.log2(points - 1) if points > 4 else 0.5
    if level != int(level):
        raise ModelError(f"points={points} is no power of two and one; take 17, 33 or 65.")
    numbers = problem.space.to_dict(values)
    axes = tuple(_Axis.of(problem.space, n, numbers[n]) for n in (first, second))
    at = _evaluator(problem, values, axes, method, profile)
    middle = np.array([axis.free(numbers[axis.name]) for axis in axes])
    centre = at(middle, values, start)
    if not math.isfinite(centre.value):
        raise ModelError("The objective is not a number at these values, so there is nothing to look around from.")
    nothing = (np.zeros(0), np.zeros(0))
    seen = Surface((first, second), nothing, np.zeros((0, 0)), values, centre.value, centre.by, profile, math.nan, 0.0)
    box, correlation = yield from _box(at, axes, middle, centre, zoom, seen)
    seen = replace(seen, correlation=correlation)
    scales = [np.linspace(low, high, points) for low, high in box]
    kept = profile or problem.n_eta * problem.n_subjects * points**2 <= _KEPT
    known: dict[tuple[int, int], _Point] = {}
    ofv = np.full((points, points), np.nan)
    natural = [axis.natural(scale) for axis, scale in zip(axes, scales, strict=True)]
    begin = [np.searchsorted(scale, m) for scale, m in zip(scales, middle, strict=True)]
    stride = (points - 1) // 4
    while stride:
        order = [(i, j) for i in range(0, points, stride) for j in range(0, points, stride) if (i, j) not in known]
        order.sort(key=lambda p: (p[0] - begin[0]) ** 2 + (p[1] - begin[1]) ** 2)
        for i, j in order:
            near = _nearest(known, i, j, stride) or centre
            point = at(np.array([scales[0][i], scales[1][j]]), near.values, near.eta)
            ofv[i, j] = point.value
            known[i, j] = point if kept or not math.isfinite(point.value) else replace(point, eta=centre.eta)
            seen = replace(seen, done=len(known) / points**2)
            yield seen
        seen = replace(seen, axes=(natural[0][::stride], natural[1][::stride]), ofv=ofv[::stride, ::stride].copy())
        stride //= 2
    yield seen


def _two(space: ParameterSpace, names: Sequence[str]) -> tuple[str, str]:
    if len(names) != 2 or names[0] == names[1]:
        raise ModelError("A surface is over two different parameters; name two.")
    for name in names:
        if name not in space.names:
            raise ModelError(f"There is no population parameter '{name}'; there are {', '.join(space.names)}.")
    return names[0], names[1]


@dataclass(frozen=True, eq=False)
class _Point:
    """The objective at a point, with what a neighbour begins at."""

    value: float
    values: Values
    eta: Array | None
    by: str = ""


_Evaluator = Callable[[Array, Values, "Array | None"], _Point]


def _evaluator(problem: Problem, values: Values, axes: tuple[_Axis, ...], method: str, profile: bool) -> _Evaluator:
    """Return the objective as a function of a place on both scales, and of where to begin."""
    space = problem.space
    chosen = {axis.name for axis in axes}
    others = [n for n in space.names if not space.is_fixed(n) and n not in chosen] if profile else []
    if others:
        moved = space.with_fixed(space.names).with_fixed(others, fixed=False)
        for name in chosen:
            if not moved.is_fixed(name):
                raise ModelError(
                    f"'{name}' is one of several correlations of a block, which cannot be held while the others are "
                    "optimised; keep the others at their values."
                )

    def at(place: Array, begin: Values, start: Array | None) -> _Point:
        numbers = {axis.name: float(axis.natural(u)) for axis, u in zip(axes, place, strict=True)}
        try:
            here = space.from_dict(numbers, begin if others else values)
            eta = start
            if others:
                reached = refit(problem, here, others, method, start, _PATIENCE)
                here, eta = reached.values, reached.eta
            with np.errstate(all="ignore"):
                seen = look(problem, here, method, eta)
        except (NlmeError, ArithmeticError, np.linalg.LinAlgError):
            return _Point(math.nan, begin, start)
        prior = 0.0 if problem.penalty is None else problem.penalty.value(here)
        return _Point(seen.ofv + prior, here, seen.eta if math.isfinite(seen.ofv) else start, seen.by)

    return at


def _nearest(known: Mapping[tuple[int, int], _Point], i: int, j: int, stride: int) -> _Point | None:
    """Return the nearest point with a number, at most two steps of the grid away."""
    for a, b in _AROUND:
        point = known.get((i + a * stride, j + b * stride))
        if point is not None and math.isfinite(point.value):
            return point
    return None


def _box(
    at: _Evaluator, axes: tuple[_Axis, ...], middle: Array, centre: _Point, zoom: float, seen: Surface
) -> Generator[Surface, None, tuple[list[tuple[float, float]], float]]:
    """Return the range along each scale, and the correlation of both by the curvature at the centre.

    What has been seen so far is yielded after every evaluation, so that it can be left.
    """

    def value(*away: float) -> float:
        return at(middle + np.array(away), centre.values, centre.eta).value

    steps, slope, bend = np.full(2, _STEP), np.zeros(2), np.zeros((2, 2))
    for k in range(2):
        for _ in range(2):  # a second time with the step that raises the objective by about one
            away = steps[k] * np.eye(2)[k]
            up = value(*away)
            yield seen
            down = value(*-away)
            yield seen
            slope[k] = (up - down) / (2.0 * steps[k])
            bend[k, k] = (up + down - 2.0 * centre.value) / steps[k] ** 2
            if not bend[k, k] > 0:
                break
            steps[k] = min(max(math.sqrt(2.0 / bend[k, k]), 1e-4), 0.5)
    a, b = steps
    crossed = 0.0
    for i, j in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        crossed += i * j * value(i * a, j * b)
        yield seen
    bend[0, 1] = bend[1, 0] = crossed / (4.0 * a * b)
    farthest = np.array([_FARTHEST[axis.kind] for axis in axes])
    half, shift, correlation = 0.5 * farthest, np.zeros(2), math.nan
    if np.isfinite(bend).all() and np.linalg.eigvalsh(bend)[0] > 0:
        covariance = np.linalg.inv(bend)
        half = np.minimum(np.sqrt(2.0 * _REACH * np.diag(covariance)), farthest)
        shift = np.clip(-covariance @ slope, -farthest, farthest)
        correlation = float(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]))
    low, high = np.minimum(shift, 0.0) - half, np.maximum(shift, 0.0) + half
    ends = middle[:, None] + zoom * np.stack([low, high], axis=1)
    return [(float(a), float(b)) for a, b in ends], correlation
