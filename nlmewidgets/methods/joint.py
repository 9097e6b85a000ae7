r"""The joint posterior density of population parameters and random effects, and its gradient.

Along unconstrained coordinates x (theta, the Cholesky factor L of Omega, sigma) and u (random effects),

.. math:: \log p = -\tfrac12 \sum_{ij} L(y_{ij}, f_{ij}(\eta_i)) + \sum_i \log N(\eta_i; 0, \Omega)
          + \log p(\theta, \Omega, \sigma) + \log |\partial(\theta, \Omega, \sigma)/\partial x| .

A prior is a density of the parameter as it is named, so the Jacobian makes it one of x; the mode of a
penalised fit contains none.

The coordinates u of the random effects are those in which a linear model's are independent of everything:
with the information :math:`A_i` that subject i's data have on its effects, and the weighted data :math:`b_i`,
both taken once at a reference point, their conditional distribution is about Gaussian with

.. math:: P_i = A_i + \Omega^{-1} = K_i K_i', \qquad
          \eta_i = P_i^{-1} \{b_i - A_i (m_i(\theta) - m_i^0)\} + K_i^{-T} u_i ,

m being the typical value that η is added to.  Without information this is the non-centred η = Lu, with much of
it the centred one, each subject and effect between them as its data say, also while Ω moves: no funnel remains.
The map is exact whatever A and b are; they only decide how quickly the chains move.  Everything is batched over
points.

References
----------
Papaspiliopoulos, Roberts & Sköld (2007), doi:10.1214/088342307000000014 (centred, non-centred and between).
Kleppe (2018), doi:10.48550/arXiv.1806.02068 (coordinates rescaled by the conditional precision).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.default_priors import Priors
from nlmewidgets.core.modes import find_modes
from nlmewidgets.core.parameters import Parameter, Values
from nlmewidgets.core.priors import InverseWishart, Prior
from nlmewidgets.core.problem import Problem

__all__ = ["Joint"]

_LARGEST = 300.0
"""Of the logarithm of a positive parameter; beyond, squares overflow."""


class _Scalars:
    """Free thetas or sigmas along their unconstrained coordinates, batched: (parameters, points)."""

    def __init__(self, parameters: tuple[Parameter, ...]) -> None:
        scale = np.array([p.scale for p in parameters], dtype=object)
        self.n = len(parameters)
        self.log = np.flatnonzero(scale == "log")
        self.reflected = np.flatnonzero(scale == "reflected")
        self.logit = np.flatnonzero(scale == "logit")
        self.low = np.array([[np.nan if p.lower is None else p.lower] for p in parameters]).reshape(-1, 1)
        self.high = np.array([[np.nan if p.upper is None else p.upper] for p in parameters]).reshape(-1, 1)

    def __call__(self, x: Array) -> tuple[Array, Array, Array]:
        """Return the natural values, their slopes d natural/dx, and d log|slope|/dx."""
        value, slope, bend = x.copy(), np.ones_like(x), np.zeros_like(x)
        if len(self.log):
            slope[self.log] = np.exp(np.minimum(x[self.log], _LARGEST))
            value[self.log] = self.low[self.log] + slope[self.log]
            bend[self.log] = 1.0
        if len(self.reflected):
            slope[self.reflected] = -np.exp(np.minimum(x[self.reflected], _LARGEST))
            value[self.reflected] = self.high[self.reflected] + slope[self.reflected]
            bend[self.reflected] = 1.0
        if len(self.logit):
            k = self.logit
            share = 1.0 / (1.0 + np.exp(-np.clip(x[k], -_LARGEST, _LARGEST)))
            width = self.high[k] - self.low[k]
            value[k] = self.low[k] + width * share
            slope[k] = width * share * (1.0 - share)
            bend[k] = 1.0 - 2.0 * share
        return value, slope, bend


class _Population(NamedTuple):
    """Population parameters at a batch of points."""

    theta: Array  # (thetas, points)
    sigma: Array  # (sigmas, points)
    slope: Array  # (free scalars, points)
    bend: Array
    chol: Array  # (points, etas, etas): of the model's Omega
    log_diagonal: Array  # (points, etas)


class _Term(NamedTuple):
    """Scalar priors of one kind: one prior with arrays in the place of numbers."""

    prior: Prior
    places: Ints  # among theta, sigma, SDs, correlations


class _Effects(NamedTuple):
    """Random effects at a batch of points, and what they were made from; matrices (points, subjects, etas, etas)."""

    eta: Array  # (points, subjects, etas)
    chol: Array  # L of a subject's effects, (points, etas, etas)
    inverse: Array  # L⁻¹
    precision: Array  # Ω⁻¹
    root: Array  # K
    back: Array  # K⁻¹
    half: Array  # K⁻¹ times the weighted data


def _times(matrix: Array, vector: Array) -> Array:
    """Return Mv, of vectors (..., etas)."""
    return np.asarray((matrix @ vector[..., None])[..., 0])


def _times_transposed(matrix: Array, vector: Array) -> Array:
    """Return M'v."""
    return np.asarray((vector[..., None, :] @ matrix)[..., 0, :])


@dataclass(frozen=True, eq=False)
class Joint:
    """The log posterior density of a problem.

    Attributes
    ----------
    problem : Problem
    base : Values
        Where fixed parameters are.
    priors : Priors
        Complete: every free parameter has one.
    information : (subjects, etas, etas) float
        A, positive semi-definite.
    weighted : (subjects, etas) float
        b.
    reference : (etas, subjects) float
        m at the reference point.
    """

    problem: Problem
    base: Values
    priors: Priors
    information: Array
    weighted: Array
    reference: Array

    @classmethod
    def around(cls, problem: Problem, base: Values, priors: Priors, values: Values) -> tuple[Joint, Array]:
        """Return the density with coordinates of the effects by the modes at some values, and these modes."""
        q, n = problem.n_eta, problem.n_subjects
        omega = problem.occasions.expand(values.omega)
        precision = np.linalg.inv(omega) if q else omega
        typical = problem.typical(values.theta).slots
        with np.errstate(all="ignore"):
            modes = find_modes(problem, typical, precision, values.sigma, None, tolerance=1e-6)
        eta = np.where(np.isfinite(modes.eta), modes.eta, 0.0)
        information = 0.5 * modes.information - precision
        good = np.asarray(np.isfinite(information).all(axis=(1, 2)) & np.isfinite(modes.eta).all(axis=0))
        information = np.where(good[:, None, None], information, 0.0)
        weighted = np.einsum("nab,bn->na", information + precision, eta)
        empty = cls(problem, base, priors, information, weighted, np.zeros((q, n)))
        return replace(empty, reference=empty._shift(typical)), eta

    # -------------------------------------------------------------------- layout

    @cached_property
    def n_population(self) -> int:
        """Number of unconstrained population coordinates; they come first."""
        return len(self.problem.space.x_names)

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.n_population + self.problem.n_eta * self.problem.n_subjects

    @cached_property
    def _free(self) -> tuple[list[int], list[int]]:
        space = self.problem.space
        theta = [k for k, p in enumerate(space.theta) if not p.fixed]
        return theta, [k for k, p in enumerate(space.sigma) if not p.fixed]

    @cached_property
    def _places(self) -> Ints:
        """Where the free thetas and sigmas are among the coordinates."""
        theta, sigma = self._free
        return np.r_[np.arange(len(theta)), np.arange(self.n_population - len(sigma), self.n_population)].astype(int)

    @cached_property
    def _scalars(self) -> _Scalars:
        space, (theta, sigma) = self.problem.space, self._free
        return _Scalars((*(space.theta[k] for k in theta), *(space.sigma[k] for k in sigma)))

    @cached_property
    def _base_chol(self) -> Array:
        omega = self.base.omega
        return np.linalg.cholesky(omega) if len(omega) else omega

    @cached_property
    def _owner(self) -> Ints:
        return np.array(self.problem.space.omega_map.owner, dtype=np.intp)

    @cached_property
    def _gather(self) -> tuple[Ints, Array, Array]:
        """For the random effects of a subject: the owner of each, which pairs are in one block, one-hot owners."""
        occasions, blocks = self.problem.occasions, self.problem.space.blocks
        label = np.empty(len(self._owner), dtype=np.intp)
        for number, block in enumerate(blocks):
            label[list(block)] = number
        own, copy = label[occasions.source], occasions.copy
        together = (own[:, None] == own) & (copy[:, None] == copy)
        place = self._owner[occasions.source]
        return place, together.astype(float), np.eye(len(self._owner))[place]

    @cached_property
    def _measure(self) -> tuple[Array, Array]:
        r"""Coefficients a, b of log|∂(SDs, correlations)/∂x| = Σ a log L_ii + b log sd_i, and of the priors' measures.

        A row of L with SD s and direction u has :math:`\prod_{j<i} U_{jj} \cdot u_i / s^{i-1}` as the
        determinant of (s, correlations) along its entries; rows depend on earlier ones only.
        """
        space = self.problem.space
        a, b = np.zeros(len(space.eta)), np.zeros(len(space.eta))
        for i, before, sd, correlations in space.omega_map.rows:
            m = len(before)
            if correlations:
                for j in before:
                    a[j] += 1.0
                    b[j] -= 1.0
                a[i] += 2.0 if sd else m + 2.0
                b[i] -= m + 1.0 if sd else m + 2.0
            elif before:
                b[i] += 1.0
            else:
                a[i] += 1.0
        for key, prior in self.priors.natural.items():
            if isinstance(key, tuple):
                if isinstance(prior, InverseWishart):
                    for name in key:  # dΩ = Π 2 s_i^p ds dC
                        b[self._owner[space.eta.index(name)]] += len(key)
            elif prior.of_variance and key in space.omega_names:
                b[space.omega_names.index(key)] += 1.0
        return a, b

    # ------------------------------------------------------------------- priors

    @cached_property
    def _names(self) -> tuple[str, ...]:
        """Names of theta, sigma, SD of every effect, correlations: the scalars priors are on."""
        space = self.problem.space
        scalars = (*(p.name for p in space.theta), *(p.name for p in space.sigma))
        return (*scalars, *space.omega_names, *(name for name, _, _ in space.correlations))

    @cached_property
    def _terms(self) -> list[_Term]:
        found: dict[type[Prior], list[tuple[str, Prior]]] = {}
        for key, prior in self.priors.natural.items():
            if isinstance(key, str):
                found.setdefault(type(prior), []).append((key, prior))
        out = []
        for kind, members in found.items():
            stacked = object.__new__(kind)
            columns = {name: np.array([[vars(p)[name]] for _, p in members]) for name in vars(members[0][1])}
            stacked.__dict__.update(columns)
            out.append(_Term(stacked, np.array([self._names.index(name) for name, _ in members])))
        return out

    @cached_property
    def _matrices(self) -> list[tuple[Ints, Any]]:
        eta = self.problem.space.eta
        items = self.priors.natural.items()
        return [(np.array([eta.index(n) for n in key]), prior) for key, prior in items if isinstance(key, tuple)]

    @cached_property
    def _coordinate(self) -> tuple[Ints, Array, Array]:
        """Among the free scalars: those with a normal prior of their coordinate, its mean and SD."""
        space, (theta, sigma) = self.problem.space, self._free
        names = [*(space.theta[k].name for k in theta), *(space.sigma[k].name for k in sigma)]
        chosen = [(names.index(n), mean, sd) for n, (mean, sd) in self.priors.coordinate.items()]
        table = np.array(chosen, dtype=float).reshape(-1, 3)
        return table[:, 0].astype(int), table[:, 1:2], table[:, 2:3]

    @cached_property
    def _has_jacobian(self) -> Array:
        """1 for the free scalars whose prior is on the natural scale, (free scalars, 1)."""
        out = np.ones((self._scalars.n, 1))
        out[self._coordinate[0]] = 0.0
        return out

    @cached_property
    def _variance_sigma(self) -> Array:
        """1 for free sigmas whose prior is of the variance, (free scalars, 1)."""
        space, (theta, sigma) = self.problem.space, self._free
        names = [*(space.theta[k].name for k in theta), *(space.sigma[k].name for k in sigma)]
        natural = self.priors.natural
        flags = [name in natural and natural[name].of_variance for name in names]
        return np.array(flags, dtype=float).reshape(-1, 1)

    def _add_priors(self, at: _Population, on_scalar: Array, on_chol: Array) -> Array:
        """Return the log priors with their Jacobians at each point, and add their derivatives along x-scalars and L."""
        q, (theta, sigma) = len(self._owner), self._free
        chol = at.chol
        square = (chol**2).sum(axis=2)  # (points, etas): the variances
        sd = np.sqrt(square)
        omega = chol @ chol.transpose(0, 2, 1) if len(self._matrices) or self.problem.space.correlations else None
        pairs = self.problem.space.correlations
        parts = [at.theta, at.sigma, sd.T]
        if pairs:
            assert omega is not None
            parts.append(np.array([omega[:, i, j] / (sd[:, i] * sd[:, j]) for _, i, j in pairs]))
        natural = np.concatenate(parts)
        slope = np.zeros_like(natural)
        total = np.zeros(natural.shape[1])
        for prior, places in self._terms:
            x = natural[places]
            if prior.of_variance:
                value, along = prior.minus2log(x * x)
                along = 2.0 * x * along
            else:
                value, along = prior.minus2log(x)
            total -= 0.5 * value.sum(axis=0)
            slope[places] -= 0.5 * along
        n_theta, n_sigma = len(at.theta), len(at.sigma)
        # thetas and sigmas: the chain rule, then the Jacobian of their coordinates
        rows = [*theta, *(n_theta + k for k in sigma)]
        on_scalar += slope[rows] * at.slope
        total += (self._has_jacobian * np.log(np.abs(at.slope))).sum(axis=0)
        on_scalar += self._has_jacobian * at.bend
        if self._variance_sigma.any():
            value = natural[rows]
            total += (self._variance_sigma * np.log(value)).sum(axis=0)
            on_scalar += self._variance_sigma * at.slope / value
        if not q:
            return total
        a, b = self._measure
        on_sd = slope[n_theta + n_sigma : n_theta + n_sigma + q].T  # (points, etas)
        total += at.log_diagonal @ a + np.log(sd) @ b
        on_chol += (on_sd / sd + b / square)[:, :, None] * chol
        diagonal = np.arange(q)
        on_chol[:, diagonal, diagonal] += a * np.exp(-at.log_diagonal)
        gradient = np.zeros_like(chol)
        for etas, prior in self._matrices:
            block = np.ix_(np.arange(len(chol)), etas, etas)
            value, along = prior.matrix(omega[block])  # type: ignore[index]
            total -= 0.5 * value
            gradient[block] -= 0.5 * along
        for k, (_, i, j) in enumerate(pairs):
            here = slope[n_theta + n_sigma + q + k]
            if here.any():
                scale, r = 0.5 * here / (sd[:, i] * sd[:, j]), natural[n_theta + n_sigma + q + k]
                gradient[:, i, j] += scale
                gradient[:, j, i] += scale
                gradient[:, i, i] -= 0.5 * here * r / square[:, i]
                gradient[:, j, j] -= 0.5 * here * r / square[:, j]
        if gradient.any():
            on_chol += 2.0 * gradient @ chol
        return total

    # ---------------------------------------------------------------- population

    def _population(self, x: Array) -> _Population:
        """Return the population parameters at coordinates (points, population)."""
        points, (theta, sigma) = len(x), self._free
        value, slope, bend = self._scalars(x[:, self._places].T)
        all_theta = np.repeat(self.base.theta[:, None], points, axis=1)
        all_sigma = np.repeat(self.base.sigma[:, None], points, axis=1)
        all_theta[theta], all_sigma[sigma] = value[: len(theta)], value[len(theta) :]
        chol = np.repeat(self._base_chol[None], points, axis=0)
        own = self.problem.space.omega_map
        place = len(theta)
        if own.plain and own.rows:
            rows, columns = own.entries
            entries = x[:, place : place + len(rows)]
            chol[:, rows, columns] = np.where(rows == columns, np.exp(np.clip(entries, -_LARGEST, _LARGEST)), entries)
        elif own.rows:
            for i, before, sd, correlations in own.rows:
                row = [*before, i]
                length = np.sqrt(self.base.omega[i, i])
                if correlations:
                    chol[:, i, list(before)] = x[:, place : place + len(before)]
                    place += len(before)
                    if not sd:
                        chol[:, i, i] = 1.0
                        chol[:, i, row] *= length / np.sqrt((chol[:, i, row] ** 2).sum(axis=1, keepdims=True))
                if sd:
                    size = np.exp(np.clip(x[:, place], -_LARGEST, _LARGEST))
                    place += 1
                    if correlations or not before:
                        chol[:, i, i] = size
                    else:
                        chol[:, i, row] *= (size / length)[:, None]
        if own.copies:
            for members, owners in own.copies:
                chol[:, members[:, None], members] = chol[:, owners[:, None], owners]
        diagonal = np.arange(len(self._owner))
        logs = np.log(chol[:, diagonal, diagonal])
        return _Population(all_theta, all_sigma, slope, bend, chol, logs)

    def _along_omega(self, chol: Array, on_chol: Array) -> Array:
        """Return derivatives along the coordinates of Omega from those along L, (points, coordinates)."""
        own = self.problem.space.omega_map
        if not own.rows:
            return np.zeros((len(chol), 0))
        if own.copies:
            on_chol = on_chol.copy()
            for members, owners in own.copies:
                on_chol[:, owners[:, None], owners] += on_chol[:, members[:, None], members]
        if own.plain:
            rows, columns = own.entries
            return on_chol[:, rows, columns] * np.where(rows == columns, chol[:, rows, columns], 1.0)
        parts = []
        for i, before, sd, correlations in own.rows:
            row, earlier = [*before, i], list(before)
            length = (on_chol[:, i, row] * chol[:, i, row]).sum(axis=1, keepdims=True)
            if correlations and sd:
                parts += [on_chol[:, i, earlier], on_chol[:, i, i : i + 1] * chol[:, i, i : i + 1]]
            elif correlations:
                pivot = chol[:, i, i : i + 1]
                w = chol[:, i, earlier] / pivot
                parts.append(on_chol[:, i, earlier] * pivot - length * w / (1.0 + (w**2).sum(axis=1, keepdims=True)))
            else:
                parts.append(length)
        return np.concatenate(parts, axis=1)

    # ------------------------------------------------------------ random effects

    @cached_property
    def _pull(self) -> Array | None:
        """B⁺, which says what of the typical slots an effect is added to; None for the identity."""
        loadings = self.problem.loadings
        if loadings.shape[0] == loadings.shape[1] and np.array_equal(loadings, np.eye(len(loadings))):
            return None
        return np.linalg.pinv(loadings)

    @cached_property
    def _first_block(self) -> Ints:
        return np.searchsorted(self.problem.block_subjects.label, np.arange(self.problem.n_subjects)).astype(np.intp)

    def _shift(self, typical: Array) -> Array:
        """Return c(θ), (etas, ..., subjects), from typical slots or their Jacobian."""
        part = typical[: len(self.problem.loadings)][..., self._first_block]
        return part if self._pull is None else np.tensordot(self._pull, part, 1)

    def _effects(self, at: _Population, typical: Array, u: Array) -> _Effects:
        """Return η at coordinates u (points, etas, subjects), with what their derivatives need."""
        place, together, _ = self._gather
        chol = at.chol[:, place[:, None], place] * together
        inverse = np.linalg.inv(chol)
        precision = inverse.transpose(0, 2, 1) @ inverse
        root = np.linalg.cholesky(self.information + precision[:, None])
        back = np.linalg.inv(root)  # K⁻¹, (points, subjects, etas, etas)
        moved = (self._shift(typical) - self.reference[:, None]).transpose(1, 2, 0)  # (points, subjects, etas)
        data = self.weighted - _times(self.information, moved)
        half = _times(back, data)
        eta = _times_transposed(back, half + u.transpose(0, 2, 1))
        return _Effects(eta, chol, inverse, precision, root, back, half)

    def _split(self, points: Array) -> tuple[Array, Array]:
        q, n = self.problem.n_eta, self.problem.n_subjects
        return points[:, : self.n_population], points[:, self.n_population :].reshape(len(points), q, n)

    # ------------------------------------------------------------------- density

    def __call__(self, points: Array) -> tuple[Array, Array, Array]:
        """Return log p, its gradient, and −2 log p(y | η), at points (points, size); −inf where there is no number."""
        with np.errstate(all="ignore"):
            value, gradient, deviance = self._evaluate(points)
            bad = ~(np.isfinite(value) & np.isfinite(gradient).all(axis=1))
        if bad.any():
            value[bad], gradient[bad] = -np.inf, 0.0
        return value, gradient, deviance

    def _evaluate(self, points: Array) -> tuple[Array, Array, Array]:
        problem = self.problem
        x, u = self._split(points)
        at = self._population(x)
        typical = problem.typical(at.theta, jacobian=True)
        assert typical.jacobian is not None
        effects = self._effects(at, typical.slots, u)
        eta = effects.eta.transpose(2, 0, 1)  # (etas, points, subjects)

        f, first, _ = problem.structure(problem.slots(typical.slots, np.ascontiguousarray(eta)), 1)
        assert first is not None
        shape = (len(points), problem.n_obs)
        own, slope, along = problem.first_terms(np.broadcast_to(f, shape), at.sigma[:, :, None])
        deviance = np.broadcast_to(own, shape).sum(axis=-1)
        value = -0.5 * deviance
        per_block = problem.blocks(-0.5 * slope * first)  # (slots, points, blocks)
        on_theta = np.einsum("scb,stcb->tc", per_block, typical.jacobian)
        on_sigma = np.zeros_like(at.sigma) if along is None else -0.5 * along.sum(axis=-1)
        on_eta = problem.block_subjects(per_block[: len(problem.loadings)])
        if self._pull is not None:
            on_eta = np.tensordot(problem.loadings.T, on_eta, 1)
        own_value, on_u, on_shift, on_chol = self._pull_effects(effects, on_eta.transpose(1, 2, 0))
        value = value + own_value
        if u.size:
            on_theta = on_theta + np.einsum("cna,atcn->tc", on_shift, self._shift(typical.jacobian))

        _, together, hot = self._gather
        on_omega = np.tril(hot.T @ (on_chol * together) @ hot) if len(hot) else np.zeros_like(at.chol)
        theta, sigma = self._free
        on_scalar = np.concatenate([on_theta[theta], on_sigma[sigma]]) * at.slope
        # The copies of a block have been added to their owners: what priors add below is along the model's Omega.
        prior = np.zeros_like(on_omega)
        value = value + self._add_priors(at, on_scalar, prior)
        places, mean, sd = self._coordinate
        if len(places):
            z = (x[:, self._places].T[places] - mean) / sd
            value = value - 0.5 * (z * z).sum(axis=0)
            on_scalar[places] -= z / sd
        gradient = np.empty_like(points)
        n_theta = len(theta)
        gradient[:, :n_theta] = on_scalar[:n_theta].T
        gradient[:, n_theta : self.n_population - len(sigma)] = self._along_omega(at.chol, on_omega + prior)
        gradient[:, self.n_population - len(sigma) : self.n_population] = on_scalar[n_theta:].T
        gradient[:, self.n_population :] = on_u.transpose(0, 2, 1).reshape(len(points), -1)
        return value, gradient, deviance

    def _pull_effects(self, at: _Effects, on_eta: Array) -> tuple[Array, Array, Array, Array]:
        r"""Return the log prior of η with its Jacobian, and derivatives along u, m(θ) and L.

        Those of all that depends on η come by :math:`K'\eta = K^{-1}b + u`; those along K are carried to P by the
        derivative of a Cholesky factor, :math:`\bar P = K^{-T}\,\mathrm{sym}\,\Phi(K'\bar K)\,K^{-1}` with Φ the
        lower triangle, its diagonal halved.

        References
        ----------
        Murray (2016), doi:10.48550/arXiv.1602.07527 (differentiation of the Cholesky decomposition).
        """
        points, n, q = at.eta.shape
        if not at.eta.size:
            return np.zeros(points), on_eta, on_eta, np.zeros_like(at.chol)
        white = at.eta @ at.inverse.transpose(0, 2, 1)  # (points, subjects, etas): L⁻¹η
        diagonal = np.arange(q)
        own = at.root[..., diagonal, diagonal]
        logs = np.log(at.chol[:, diagonal, diagonal]).sum(axis=1)
        value = -0.5 * (white * white).sum(axis=(1, 2)) - n * logs - np.log(own).sum(axis=(1, 2))
        on_eta = on_eta - white @ at.inverse
        on_u = _times(at.back, on_eta)
        on_data = _times_transposed(at.back, on_u)
        on_root = -at.eta[..., :, None] * on_u[..., None, :] - on_data[..., :, None] * at.half[..., None, :]
        on_root[..., diagonal, diagonal] -= 1.0 / own
        lower = np.tril(at.root.swapaxes(-1, -2) @ np.tril(on_root))
        lower[..., diagonal, diagonal] *= 0.5
        symmetric = 0.5 * (lower + lower.swapaxes(-1, -2))
        on_precision = (at.back.swapaxes(-1, -2) @ symmetric @ at.back).sum(axis=1)
        back = at.inverse.transpose(0, 2, 1)
        on_chol = back @ (white.transpose(0, 2, 1) @ white) - 2.0 * (at.precision @ on_precision @ back)
        on_chol[:, diagonal, diagonal] -= n / at.chol[:, diagonal, diagonal]
        return value, on_u, -_times(self.information, on_data), on_chol

    # ------------------------------------------------------------- to and fro

    def natural(self, points: Array) -> Array:
        """Return the population parameters at points, (points, parameters) in the order of `space.names`."""
        space = self.problem.space
        at = self._population(points[:, : self.n_population])
        sd = np.sqrt((at.chol**2).sum(axis=2)).T
        omega = at.chol @ at.chol.transpose(0, 2, 1)
        first = [space.omega_names.index(name) for name in dict.fromkeys(space.omega_names)]
        pairs = [omega[:, i, j] / (sd[i] * sd[j]) for _, i, j in space.correlations]
        return np.concatenate([at.theta, sd[first], np.array(pairs).reshape(-1, len(points)), at.sigma]).T

    def etas(self, points: Array) -> Array:
        """Return η at points, (points, etas, subjects)."""
        x, u = self._split(points)
        at = self._population(x)
        return self._effects(at, self.problem.typical(at.theta).slots, u).eta.transpose(0, 2, 1)

    def point(self, values: Values, eta: Array) -> Array:
        """Return the coordinates of population values and etas (etas, subjects), (size,)."""
        x = self.problem.space.pack(values)
        at = self._population(x[None])
        effects = self._effects(at, self.problem.typical(at.theta).slots, np.zeros((1, *eta.shape)))
        u = _times_transposed(effects.root, eta.T) - effects.half
        return np.concatenate([x, u[0].T.ravel()])
