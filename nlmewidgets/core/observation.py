r"""How the data of an output are distributed given its prediction f: densities as tapes.

An `Observation` holds expressions in y (`nw.dv`), f, sigmas, time and covariates: L = −2 log p(y | f, σ),
the expected information h for f (of ½L), and, where there are any, what only some densities have: a
residual standard deviation, a standardised residual, a way to draw.  The Gaussian case, with R = sd² and
an increasing transform t of both sides (t(y) = y without),

.. math:: L = \log R + \frac{(t(y) - t(f))^2}{R} - 2 \log t'(y), \qquad
          h = \frac{t'(f)^2}{R} + \tfrac12 \Bigl(\frac{R_f}{R}\Bigr)^2 ,

omits log 2π for each observation, as NONMEM does; every other density is complete.  Everything
structurally zero stays so: an additive error costs no more than it must.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import sympy as sp
from scipy import special

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.interaction import frozen, interaction, residual_variance
from nlmewidgets.core.printers import Kernel, numpy_kernel
from nlmewidgets.core.special import ndtr, ndtri
from nlmewidgets.core.symbols import dv, f, limit, time, typical_f
from nlmewidgets.core.tails import log_ndtr, log_ndtr_between, stdtrit
from nlmewidgets.core.tape import Level, Tape

if TYPE_CHECKING:
    from nlmewidgets.core.pairs import Cross

__all__ = [
    "COUNTS",
    "First",
    "Group",
    "Observation",
    "ObservationProgram",
    "Second",
    "Third",
    "Transform",
    "Transformed",
    "Variance",
    "draw",
    "invert",
    "likelihood",
    "normal",
    "observation_program",
    "observe",
    "student",
]

COUNTS = "counts"
"""The values of a count: 0, 1, 2, …"""

_MOST_COUNT = 100_000


class Transform(NamedTuple):
    """An increasing function t of data and prediction, its derivative and its inverse."""

    forward: Callable[[sp.Expr], sp.Expr]
    slope: Callable[[sp.Expr], sp.Expr]
    inverse: Callable[[sp.Expr], sp.Expr]


@dataclass(frozen=True)
class Observation:
    """The distribution of y given f, as expressions.

    Attributes
    ----------
    minus2log : Expr
        L = −2 log p(y | f, σ), without log 2π where `sd` is given.
    information : Expr
        h, the expected second derivative of ½L along f.
    sd : Expr or None
        Gaussian densities: the standard deviation of t(y).
    score : Expr or None
        (t(y) − t(f))/sd, standard normal.
    draw : Expr or None
        y from a standard normal number in the place of `dv`.
    values : tuple, COUNTS or None
        The values a discrete y can take.
    center : Expr or None
        t(f), where t is not the identity.
    pointwise : bool
        Whether f is log p(y | φ) itself and no prediction.
    increments : bool
        Whether f is what the prediction rose by since the subject's previous observation of the output.
    latent : Expr or None
        The standardised residual that an observation would have that is censored.
    """

    minus2log: sp.Expr
    information: sp.Expr
    sd: sp.Expr | None = None
    score: sp.Expr | None = None
    draw: sp.Expr | None = None
    values: tuple[Any, ...] | str | None = None
    center: sp.Expr | None = None
    pointwise: bool = False
    increments: bool = False
    latent: sp.Expr | None = None

    def _expressions(self) -> dict[str, sp.Expr]:
        found = {x.name: getattr(self, x.name) for x in fields(self)}
        return {name: e for name, e in found.items() if isinstance(e, sp.Expr)}

    def atoms(self, *kinds: type) -> set[sp.Basic]:
        """Return the symbols of these kinds in any of its expressions."""
        return {s for e in self._expressions().values() for s in e.atoms(*kinds)}

    def xreplace(self, changes: dict[sp.Symbol, sp.Expr]) -> Observation:
        """Return the observation model with symbols replaced."""
        return replace(self, **{name: e.xreplace(changes) for name, e in self._expressions().items()})

    @property
    def transformed(self) -> bool:
        """Whether t is not the identity."""
        return self.center is not None

    def censored(self, kind: str, method: str) -> Observation:
        r"""Return the distribution of an observation of which only an interval is known.

        Parameters
        ----------
        kind : 'below', 'above', 'between' or ''
            Below y, above y, between y and its limit, or measured.
        method : 'M3' or 'M4'
            M4 conditions all observations on y > 0.

        Notes
        -----
        With z(y) the standardised residual: :math:`-2\log\Phi(z(y))` below, :math:`-2\log\Phi(-z(y))` above,
        :math:`-2\log(\Phi(z_2) - \Phi(z_1))` between; M4 adds :math:`2\log\Phi(-z(0))` and a lower end 0
        (Beal 2001, doi:10.1023/A:1012299115260).
        """
        z = self.score
        if z is None or (not kind and method == "M3"):
            return self
        other = z.xreplace({dv: limit})
        zero = z.xreplace({dv: sp.S.Zero}) if method == "M4" else None
        value = {
            "": self.minus2log,
            "below": -2 * (log_ndtr(z) if zero is None else log_ndtr_between(zero, z)),
            "above": -2 * log_ndtr(-z),
            "between": -2 * log_ndtr_between(sp.Min(z, other), sp.Max(z, other)),
        }[kind]
        if zero is None:
            return replace(self, minus2log=value, sd=None, score=None, latent=z)
        if not kind:
            value = value + sp.log(2 * sp.pi)  # a conditional density is no longer normal: complete
        assert self.sd is not None
        least = ndtr(zero)
        draw = f + self.sd * ndtri(least + ndtr(dv) * ndtr(-zero))
        return replace(self, minus2log=value + 2 * log_ndtr(-zero), sd=None, score=None, draw=draw, latent=z)


def normal(sd: sp.Expr, transform: Transform | None = None) -> Observation:
    """Return y ~ N(f, sd²), or t(y) ~ N(t(f), sd²)."""
    variance = residual_variance(sd)
    relative = sp.diff(variance, f) ** 2 / variance**2 / 2
    if transform is None:
        error, value, information, draw = dv - f, sp.log(variance), 1 / variance + relative, f + sd * dv
    else:
        error = transform.forward(dv) - transform.forward(f)
        value = sp.log(variance) - 2 * sp.log(transform.slope(dv))
        information = transform.slope(f) ** 2 / variance + relative
        draw = transform.inverse(transform.forward(f) + sd * dv)
    return Observation(
        minus2log=value + error**2 / variance,
        information=information,
        sd=sd,
        score=error / sp.sqrt(variance),
        draw=draw,
        center=None if transform is None else transform.forward(f),
    )


def student(sd: sp.Expr, df: sp.Expr) -> Observation:
    """Return y = f + sd·T with T of Student's distribution with `df` degrees of freedom."""
    half = (df + 1) / 2
    constant = 2 * (sp.loggamma(df / 2) - sp.loggamma(half)) + sp.log(sp.pi * df)
    return Observation(
        minus2log=constant + sp.log(sd**2) + 2 * half * sp.log(1 + (dv - f) ** 2 / (df * sd**2)),
        information=(df + 1) / (df + 3) / sd**2 + 2 * df / (df + 3) * (sp.diff(sd, f) / sd) ** 2,
        draw=f + sd * stdtrit(df, ndtr(dv)),
    )


def likelihood(
    log_density: sp.Expr,
    information: sp.Expr,
    values: tuple[Any, ...] | str | None = None,
    *,
    increments: bool = False,
) -> Observation:
    """Return a distribution by log p(y | f) and its expected information."""
    pointwise = log_density == f
    return Observation(-2 * log_density, information, values=values, pointwise=pointwise, increments=increments)


def _times(diagonal: Any, cross: tuple[Cross, ...], x: Array) -> Array:
    out = diagonal * x
    for part in cross:
        out = out + part.times(x)
    return out


class Second(NamedTuple):
    """L, what a Newton step in f needs, and what the outer gradient needs (None: structurally zero)."""

    value: Any
    f: Any
    ff: Any
    info: Any
    sigma: Any = None
    f_sigma: Any = None
    info_f: Any = None
    info_sigma: Any = None
    ff_cross: tuple[Cross, ...] = ()
    info_cross: tuple[Cross, ...] = ()

    def curved(self, x: Array) -> Array:
        """Return L_ff·x at every observation."""
        return _times(self.ff, self.ff_cross, x)

    def expected(self, x: Array) -> Array:
        """Return h·x at every observation."""
        return _times(self.info, self.info_cross, x)


class Third(NamedTuple):
    """L and its derivatives along f up to the third, and along sigma (None: structurally zero)."""

    value: Any
    f: Any
    ff: Any
    fff: Any
    sigma: Any
    f_sigma: Any
    ff_sigma: Any
    ff_cross: tuple[Cross, ...] = ()

    def curved(self, x: Array) -> Array:
        """Return L_ff·x at every observation."""
        return _times(self.ff, self.ff_cross, x)


class First(NamedTuple):
    """L and its first derivatives (None: structurally zero)."""

    value: Any
    f: Any
    sigma: Any


class Variance(NamedTuple):
    """R, or ρ of `core.interaction`, and its derivatives (None: structurally zero)."""

    value: Any
    f: Any
    sigma: Any
    ff: Any = None


class Transformed(NamedTuple):
    """t and t' somewhere, t'', and their derivatives along sigma (None: structurally zero)."""

    value: Any
    slope: Any
    bend: Any
    sigma: Any
    slope_sigma: Any


class ObservationProgram:
    """Kernels of L, h, R and the rest in (y, f, sigmas, time, limit, covariates)."""

    def __init__(
        self, observation: Observation, sigmas: tuple[sp.Symbol, ...], covariates: tuple[sp.Symbol, ...]
    ) -> None:
        self.observation = observation
        levels: dict[sp.Symbol, Level] = {dv: Level.RECORD, f: Level.RECORD}
        levels |= dict.fromkeys(sigmas, Level.CONSTANT) | {time: Level.RECORD, limit: Level.RECORD}
        levels |= dict.fromkeys(covariates, Level.RECORD)
        self.tape = Tape(levels)
        self.sigmas, self.covariates = sigmas, covariates
        # What the variance is frozen at moves with the parameters, as a sigma of each observation does.
        self._sigmas = [self.tape.inputs[s] for s in (*sigmas, *(s for s in covariates if s == typical_f))]
        self._kernels: dict[str, Kernel] = {}

    def kernel(self, name: str) -> Kernel:
        """Return the kernel of a name.

        They are 'value', 'newton', 'gradient', 'first', 'third', 'variance', 'interaction', 'sd', 'score', 'latent',
        'center' (t), 'slope' (t'), 'transform' (both and their derivatives) and 'draw'.
        """
        if name not in self._kernels:
            self._kernels[name] = numpy_kernel(self.tape, self._packs(name))
        return self._kernels[name]

    def _packs(self, name: str) -> list[Any]:
        tape, sigmas, own = self.tape, self._sigmas, self.observation
        f_ = tape.inputs[f]
        if name in ("sd", "score", "draw", "latent"):
            expression = getattr(own, name)
            if name == "latent" and expression is None:
                expression = own.score
            return [[tape.constant(np.nan) if expression is None else tape.expression(expression)]]
        if name == "center":
            return [f_ if own.center is None else tape.expression(own.center)]
        if name == "slope":
            return [tape.constant(1.0) if own.center is None else tape.derivative(tape.expression(own.center), f_)]
        if name == "transform":
            t = f_ if own.center is None else tape.expression(own.center)
            slope = tape.derivative(t, f_)
            slopes = [tape.gradient(x, sigmas) or None for x in (t, slope)]
            return [t, slope, tape.derivative(slope, f_), *slopes]
        if name == "variance":
            if own.sd is None:
                return [tape.constant(np.nan), None, None, None]
            r = tape.expression(residual_variance(own.sd))
            first = tape.derivative(r, f_)
            return [r, first, tape.gradient(r, sigmas) or None, tape.derivative(first, f_)]
        if name == "interaction":
            if own.sd is None:
                return [tape.constant(np.nan), None, None]
            rho = tape.expression(interaction(own.sd))
            return [rho, tape.derivative(rho, f_), tape.gradient(rho, sigmas) or None]
        value = tape.expression(own.minus2log)
        if name == "value":
            return [value]
        first = tape.derivative(value, f_)
        if name == "first":
            return [value, first, tape.gradient(value, sigmas) or None]
        if name == "third":
            second = tape.derivative(first, f_)
            slopes = [tape.gradient(x, sigmas) or None for x in (value, first, second)]
            return [value, first, second, tape.derivative(second, f_), *slopes]
        information = tape.expression(own.information)
        packs: list[Any] = [value, first, tape.derivative(first, f_), information]
        if name == "gradient":
            packs += [
                tape.gradient(value, sigmas) or None,
                tape.gradient(first, sigmas) or None,
                tape.derivative(information, f_),
                tape.gradient(information, sigmas) or None,
            ]
        return packs


@lru_cache(maxsize=256)
def observation_program(
    observation: Observation, sigmas: tuple[sp.Symbol, ...], covariates: tuple[sp.Symbol, ...]
) -> ObservationProgram:
    """Return the (cached) observation program."""
    return ObservationProgram(observation, sigmas, covariates)


@dataclass(frozen=True, eq=False)
class Group:
    """Observations that share one density.

    Attributes
    ----------
    program : ObservationProgram
    rows : (m,) int or None
        Which observations; None: all.
    y : (m,) float
    inputs : tuple of (m,) float
        Time, limit and covariates.
    output : int
    kind : str
        '' measured, or how censored.
    """

    program: ObservationProgram
    rows: Ints | None
    y: Array
    inputs: tuple[Array, ...]
    output: int = 0
    kind: str = ""

    def __call__(self, name: str, f: Array, sigma: Array, y: Array | None = None) -> tuple[Any, ...]:
        """Run a kernel at predictions f (..., m)."""
        own = self.y if y is None else y
        return self.program.kernel(name)((own, f, *sigma, *self.inputs), None, f.shape)

    def frozen(self, typical: Array) -> Group:
        """Return the group with its residual variances at given predictions (m,)."""
        own = self.program
        program = observation_program(frozen(own.observation), own.sigmas, (*own.covariates, typical_f))
        return replace(self, program=program, inputs=(*self.inputs, typical))

    @property
    def normal(self) -> bool:
        """Whether its observations are measured and normal, perhaps after a transform."""
        return self.program.observation.sd is not None

    def draw(self, f: Array, sigma: Array, noise: Array) -> Array:
        """Return data drawn at predictions f by standard normal numbers; NaN where the density has no way to draw."""
        values = self.program.observation.values
        if self.program.observation.pointwise:
            return np.full(f.shape, np.nan)
        if values is None:
            return np.broadcast_to(self("draw", f, sigma, noise)[0][0], f.shape)
        return invert(lambda y: self("value", f, sigma, np.full(f.shape[-1:], y))[0], values, noise)


def invert(minus2log: Callable[[float], Any], values: tuple[Any, ...] | str, noise: Array) -> Array:
    """Return discrete data by inversion of their distribution function, summed value by value.

    Counts beyond the largest that is tried are NaN, at once where the density still rises there.
    """
    uniform = special.ndtr(noise)
    out = np.full(noise.shape, np.nan)
    below = np.zeros(noise.shape)
    beyond: Any = False
    if isinstance(values, str):
        with np.errstate(all="ignore"):
            before, last = (np.asarray(minus2log(float(_MOST_COUNT - k))) for k in (2, 1))
        beyond = np.isfinite(last) & (last <= before)
    for value in range(_MOST_COUNT) if isinstance(values, str) else values:
        with np.errstate(all="ignore"):
            below = below + np.exp(-0.5 * np.broadcast_to(minus2log(float(value)), noise.shape))
        out[np.isnan(out) & (uniform < below)] = value
        if not (np.isnan(out) & np.isfinite(below) & ~np.asarray(beyond)).any():
            break
    else:
        if not isinstance(values, str):  # the last value, where rounding leaves the sum short of 1
            out[np.isnan(out) & (below > 0.999)] = values[-1]
    return out


def observe(groups: tuple[Group, ...], name: str, f: Array, sigma: Array) -> tuple[Any, ...]:
    """Run a kernel of each group on its observations; one group alone costs nothing more."""
    if len(groups) == 1:
        return groups[0](name, f, sigma)
    parts = [group(name, f[..., group.rows], sigma) for group in groups]
    return tuple(_scatter(groups, column, f.shape) for column in zip(*parts, strict=True))


def draw(groups: tuple[Group, ...], f: Array, sigma: Array, noise: Array) -> Array:
    """Return data drawn at predictions f (..., obs) by standard normal numbers."""
    if len(groups) == 1:
        return groups[0].draw(f, sigma, noise)
    out = np.empty(np.broadcast_shapes(f.shape, noise.shape))
    for group in groups:
        out[..., group.rows] = group.draw(f[..., group.rows], sigma, noise[..., group.rows])
    return out


def _scatter(groups: tuple[Group, ...], column: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    leading = {np.shape(part)[: max(0, np.ndim(part) - len(shape))] for part in column if part is not None}
    if not leading:
        return None
    out = np.zeros((*max(leading, key=len), *shape))
    for group, part in zip(groups, column, strict=True):
        if part is not None:
            out[..., group.rows] = part
    return out
