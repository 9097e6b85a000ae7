r"""Which directions of the parameters the data fix, from an information matrix, and how to say it.

With M the information along the unconstrained coordinates and D its diagonal, a direction is not identified where
:math:`D^{-1/2} M D^{-1/2}` has an eigenvalue that cannot be told from zero.  What does not move along such directions
is estimable, and its variance is the same for every generalised inverse of M.

References
----------
Rothenberg (1971), doi:10.2307/1913267 (identification and the rank of the information matrix).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.parameters import ParameterSpace, Values

__all__ = ["Identified", "directions", "identified", "parameter_of"]

_LEAST = 1e-8
"""Of an eigenvalue in units of the diagonal; a condition number of 10⁸ leaves no digit of a standard error."""

_FLAT = {"log": 0.02, "plain": 1e-5}
"""Square root of the information where there is as good as none: a standard error of 50 on a logarithm, a factor of
e⁵⁰; of 10⁵ times its size on a parameter that may well be zero."""

_NEAR_ZERO = 0.1
_AT_ZERO = 1e-3
"""A standard deviation below this share of its initial value went to zero."""

_AT_ONE = 0.9999
"""A correlation beyond it is ±1."""


@dataclass(frozen=True, eq=False)
class Identified:
    """What an information matrix identifies.

    Attributes
    ----------
    inverse : (free, free) float
        A generalised inverse of the matrix.
    flat : (free,) bool
        Coordinates on which there is no information at all.
    null : (free, k) float
        Directions of the others, in units of D^(-1/2), that are not identified.
    scale, unit : (free,) float
        D^(1/2), and the size of a coordinate where it is no logarithm.
    message : str
        Sentences that name what is not identified; '' if everything is.
    usable : bool
        False where the matrix is not finite, or has a negative eigenvalue.
    unidentified : tuple of str
        The sentences of the message that are not on parameters at the end of their range.
    """

    inverse: Array
    flat: NDArray[np.bool_]
    null: Array
    scale: Array
    unit: Array
    message: str
    usable: bool
    unidentified: tuple[str, ...] = ()

    def estimable(self, jacobian: Array) -> NDArray[np.bool_]:
        """Return which rows, functions of the coordinates (functions, free), have a variance."""
        if not self.usable:
            return np.zeros(len(jacobian), dtype=bool)
        reach = np.abs(jacobian * self.unit)
        flat = reach[:, self.flat].max(axis=1, initial=0.0) > 1e-3 * reach.max(axis=1, initial=1e-300)
        along = (jacobian / self.scale)[:, ~self.flat]
        loading = np.linalg.norm(along @ self.null[~self.flat], axis=1)
        return ~flat & (loading <= 1e-3 * np.linalg.norm(along, axis=1))


def identified(space: ParameterSpace, values: Values, matrix: Array, noise: Array | None = None) -> Identified:
    """Return what a matrix of information along the unconstrained coordinates identifies.

    Parameters
    ----------
    space, values
        The parameters and where the matrix was taken.
    matrix : (free, free) float
        Symmetric.
    noise : (free, free) float, optional
        Error of its elements.
    """
    n = len(matrix)
    names = [parameter_of(space, name) for name in space.x_names]
    unit, least_known = _units(space, values)
    base = Identified(
        np.full((n, n), np.nan), np.zeros(n, dtype=bool), np.zeros((n, 0)), np.ones(n), unit, "", usable=False
    )
    if not n:
        return replace(base, message="Every parameter is fixed: there is nothing to estimate.", usable=True)
    if not np.isfinite(matrix).all():
        return replace(
            base,
            message="No standard errors: the objective is not finite beside the estimates, which are at the edge of "
            "what the model can compute.",
        )
    diagonal = np.diag(matrix)
    edge = _at_the_edge(space, values, np.sqrt(np.abs(diagonal)) * unit < least_known)
    edge |= _no_error(space, values, np.sqrt(np.abs(diagonal)))
    stuck = {coordinate for _, coordinates in edge.values() for coordinate in coordinates}
    flat = np.array([name in stuck for name in space.x_names]) | (np.sqrt(np.abs(diagonal)) * unit < least_known)
    held, turns = _free_correlations(space, values, tuple(edge))
    kept = ~flat & ~held
    scale = np.where(kept, np.sqrt(np.abs(diagonal)), 1.0 / unit)
    part = np.ix_(kept, kept)
    roots, vectors = np.linalg.eigh(matrix[part] / (scale[kept][:, None] * scale[kept]))
    error = 0.0 if noise is None else float((noise[part] / (scale[kept][:, None] * scale[kept])).max(initial=0.0))
    least = max(_LEAST, 3.0 * error)
    silent = [name for name, x, f in zip(names, space.x_names, flat, strict=True) if f and x not in stuck]
    ends = [f"{name} is {where} and has no standard error{_OTHERS}" for name, (where, _) in edge.items()]
    sentences = [f"The data say nothing about {n}: fix it, or leave it out{_OTHERS}" for n in dict.fromkeys(silent)]
    whole = np.zeros((n, len(roots)))
    whole[kept] = vectors
    turns = turns * scale[:, None]
    turns /= np.maximum(np.linalg.norm(turns, axis=0), 1e-300)
    if roots.size and roots[0] < -least:
        along = _in_words(_parts(space, whole[:, 0] / (scale * unit), unit))
        sentences.append(
            "No standard errors: the estimates are not a minimum of the objective, which falls further as "
            f"{along}; let the fit go on with resume(), or start it elsewhere."
        )
        return replace(base, message=" ".join([*ends, *sentences]))
    good = roots > least
    sentences += [_unidentified(space, group, unit) for group in _groups(whole[:, ~good] / (scale * unit)[:, None])]
    inverse = np.zeros((n, n))
    inverse[part] = (vectors[:, good] / roots[good]) @ vectors[:, good].T / (scale[kept][:, None] * scale[kept])
    null = np.concatenate([whole[:, ~good], turns], axis=1)
    message = " ".join([*ends, *sentences])
    return Identified(inverse, flat, null, scale, unit, message, usable=True, unidentified=tuple(sentences))


_OTHERS = "; the others are given as if it were fixed."


def _units(space: ParameterSpace, values: Values) -> tuple[Array, Array]:
    """Return the size of each coordinate, 1 for logarithms, and the least information on it that counts."""
    x, first = space.pack(values), space.pack(space.initial)
    unit, least = np.ones(len(x)), np.full(len(x), _FLAT["log"])
    sd = dict(zip(space.eta, np.sqrt(np.diag(values.omega)), strict=True))
    for k, name in enumerate(space.x_names):
        if name.startswith("chol "):
            unit[k] = sd[name.removeprefix("chol ").partition(",")[0]]
        elif not name.startswith(("log", "direction ")):
            unit[k], least[k] = max(abs(x[k]), abs(first[k]), 1e-3), _FLAT["plain"]
    return unit, least


def _at_the_edge(
    space: ParameterSpace, values: Values, silent: NDArray[np.bool_]
) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return {parameter: (where it is, coordinates that say nothing there)} of estimates at the end of their range.

    On the way to zero the information on log omega vanishes as its square: what is silent has arrived.
    """
    out: dict[str, tuple[str, tuple[str, ...]]] = {}
    sd, start = np.sqrt(np.diag(values.omega)), np.sqrt(np.diag(space.initial.omega))
    own = {k: [c for c in space.x_names if _row_of(c) == eta] for k, eta in enumerate(space.eta)}
    for k, name in enumerate(space.omega_names):
        quiet = all(silent[space.x_names.index(c)] for c in own[k]) and sd[k] < _NEAR_ZERO * start[k]
        if own[k] and (quiet or sd[k] < _AT_ZERO * start[k]):
            out[name] = "at zero", tuple(own[k])
    for name, i, j in space.correlations:
        last = max(i, j)
        if abs(values.omega[i, j]) > _AT_ONE * sd[i] * sd[j] and own[last] and space.omega_names[last] not in out:
            out[name] = f"at {np.sign(values.omega[i, j]):.0f}", tuple(own[last][-1:])
    free = dict(zip([parameter_of(space, c) for c in space.x_names], space.x_names, strict=True))
    for p, v in zip((*space.theta, *space.sigma), (*values.theta, *values.sigma), strict=True):
        reach = 1e-4 * max(abs(p.value), 1e-8)
        if not p.fixed and any(e is not None and abs(v - e) < reach for e in (p.lower, p.upper)):
            out[p.name] = "at its bound", (free[p.name],)
            # Individuals do not differ where their typical value is at the end of what there is.
            for k, eta in enumerate(space.eta):
                if eta == f"eta_{p.name}" and own[k] and all(silent[space.x_names.index(c)] for c in own[k]):
                    out[space.omega_names[k]] = "without effect at that bound", tuple(own[k])
    return out


def _no_error(space: ParameterSpace, values: Values, known: Array) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the same of parts of a residual error that the data do not show: small, and hardly any information."""
    out: dict[str, tuple[str, tuple[str, ...]]] = {}
    for p, v in zip(space.sigma, values.sigma, strict=True):
        own = f"log {p.name}"
        if not p.fixed and own in space.x_names and v < 1e-2 * p.value and known[space.x_names.index(own)] < 0.3:
            out[p.name] = "at zero", (own,)
    return out


def _free_correlations(space: ParameterSpace, values: Values, edge: tuple[str, ...]) -> tuple[NDArray[np.bool_], Array]:
    """Return which coordinates only make correlations with an effect of zero variance, and how they move freely.

    Where :math:`L_{aa} = 0`, a later row's :math:`L_{ba}` and :math:`L_{bb}` count by their sum of squares alone.
    """
    names = list(space.x_names)
    held, turns = np.zeros(len(names), dtype=bool), []
    if not any(name in edge for name in space.omega_names):
        return held, np.zeros((len(names), 0))
    chol = np.linalg.cholesky(values.omega)
    for a, name in enumerate(space.omega_names):
        for b, eta in enumerate(space.eta):
            coordinate, last = f"chol {eta},{space.eta[a]}", f"log chol {eta}"
            if name not in edge or coordinate not in names:
                continue
            k = names.index(coordinate)
            held[k] = True
            turn = np.zeros(len(names))
            turn[k], turn[names.index(last)] = 1.0, -chol[b, a] / chol[b, b] ** 2
            turns.append(turn)
    return held, np.array(turns).reshape(-1, len(names)).T


def _row_of(coordinate: str) -> str:
    """Return the eta whose row of Omega a coordinate belongs to, or ''."""
    for word in ("log chol ", "log sd ", "chol ", "direction "):
        if coordinate.startswith(word):
            return coordinate.removeprefix(word).partition(",")[0]
    return ""


def parameter_of(space: ParameterSpace, coordinate: str) -> str:
    """Return the parameter an unconstrained coordinate belongs to: ``log chol eta_V`` → ``omega_V``."""
    for word in ("log chol ", "log sd ", "chol ", "direction "):
        if coordinate.startswith(word):
            first, _, second = coordinate.removeprefix(word).partition(",")
            own = space.omega_names[space.eta.index(first)]
            if not second:
                return own
            pair = {first, second}
            for name, i, j in space.correlations:
                if {space.eta[i], space.eta[j]} == pair:
                    return name
            return own
    for word in ("logit ", "log "):
        if coordinate.startswith(word):
            return coordinate.removeprefix(word)
    return coordinate.removeprefix("log(bound - ").removesuffix(")") if "(bound" in coordinate else coordinate


_SMALL = 0.05


def _groups(null: Array) -> list[Array]:
    """Return bases of the null space that have no coordinate in common, each (directions, free) and reduced."""
    rows = null.T.copy()
    for k in range(len(rows)):  # Gauss–Jordan: every direction has a coordinate of its own
        pivot = int(np.abs(rows[k]).argmax())
        rows[k] /= rows[k, pivot]
        others = np.arange(len(rows)) != k
        rows[others] -= rows[others, pivot][:, None] * rows[k]
    found: list[list[int]] = []
    support = np.abs(rows) > _SMALL
    for k in range(len(rows)):
        touching = [g for g in found if any((support[k] & support[j]).any() for j in g)]
        found = [g for g in found if g not in touching] + [[*(j for g in touching for j in g), k]]
    return [rows[g] for g in found]


def _parts(space: ParameterSpace, direction: Array, unit: Array) -> list[tuple[str, bool, float]]:
    """Return (parameter, whether on a logarithm, its move) of what moves along a direction in units of `unit`."""
    largest = direction[np.abs(direction).argmax()]
    return [
        (parameter_of(space, name), name.startswith("log "), float(d / largest * u))
        for name, d, u in zip(space.x_names, direction, unit, strict=True)
        if abs(d) > _SMALL * abs(largest)
    ]


_MOST = 5
"""Parameters named in one sentence."""


def _listed(names: list[str]) -> str:
    if len(names) > _MOST + 1:
        return ", ".join(names[:_MOST]) + f" and {len(names) - _MOST} others"
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _in_words(parts: list[tuple[str, bool, float]]) -> str:
    if len(parts) > _MOST + 1:
        return f"{_listed([name for name, _, _ in parts])} change together"
    moves = [
        f"{name} is multiplied by t{_power(d)}" if log else f"{name} moves by {d:+.2g} t" for name, log, d in parts
    ]
    return _listed(moves)


def _power(exponent: float) -> str:
    return "" if abs(exponent - 1.0) < 0.005 else f"^{exponent:.3g}"


def _unidentified(space: ParameterSpace, directions: Array, unit: Array) -> str:
    parts = _parts(space, directions[0], unit)
    names = [name for name, _, _ in parts]
    if len(directions) > 1:
        together = np.abs(directions).max(axis=0)
        names = [name for name, _, _ in _parts(space, together, unit)]
        return f"The data fix combinations of {_listed(names)} only: fix {len(directions)} of them, or observe more."
    if len(parts) == 1:
        return f"The data say next to nothing about {names[0]}: fix it, or leave it out."
    apart = f"not {_listed(names)} apart; fix one of them, or observe more."
    if all(log for _, log, _ in parts):
        sizes = [d for _, _, d in parts]
        if len(parts) == 2:
            one, two = np.abs(sizes)
            small = min(one, two)
            product = "·" if sizes[0] * sizes[1] < 0 else "/"
            return f"The data fix {names[0]}{_power(two / small)}{product}{names[1]}{_power(one / small)}, {apart}"
        if np.abs(np.abs(sizes) - 1.0).max() < 0.02:
            up = [n for n, d in zip(names, sizes, strict=True) if d > 0]
            down = [n for n, d in zip(names, sizes, strict=True) if d < 0]
            words = f"multiplying {_listed(up)} by any factor" + (
                f" and dividing {_listed(down)} by it" if down else ""
            )
            return f"The data do not fix {_listed(names)} apart: {words} leaves the fit as it is; fix one of them."
    return f"The data do not fix {_listed(names)} apart: the fit is the same where {_in_words(parts)}; fix one of them."


def directions(space: ParameterSpace, covariance: Array, most: int = 3) -> list[tuple[float, str]]:
    """Return (share of the uncertainty, in words) of the directions that the data say least about.

    They are the axes of the correlation matrix of the estimates with more than their part, without what hardly moves.

    Parameters
    ----------
    space : ParameterSpace
    covariance : (free, free) float
        Of the estimates along the unconstrained coordinates.
    most : int
        Directions at most.
    """
    kept = np.diag(covariance) > 0
    if not kept.any() or not np.isfinite(covariance).all():
        return []
    sd = np.sqrt(np.diag(covariance)[kept])
    roots, vectors = np.linalg.eigh(covariance[np.ix_(kept, kept)] / (sd[:, None] * sd))
    out = []
    for root, own in list(zip(roots, vectors.T, strict=True))[: -most - 1 : -1]:
        largest = int(np.abs(own).argmax())
        direction, unit = np.zeros(len(kept)), np.ones(len(kept))
        direction[kept] = np.where(np.abs(own) >= _CLEAR * abs(own[largest]), own, 0.0)
        unit[kept] = sd / sd[largest]
        if root > _MORE:
            out.append((float(root / len(sd)), _in_words(_parts(space, direction, unit))))
    return out


_CLEAR, _MORE = 0.3, 1.3
"""The share of the largest move that is named, and the eigenvalue from which a direction stands out (1: alone)."""
