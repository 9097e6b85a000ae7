"""A model bound to data: stateless, batched over subjects (and chains)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from nlmewidgets.core import symbols as role
from nlmewidgets.core.arrays import Array, Ints
from nlmewidgets.core.breath import breathe
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError, ModelError
from nlmewidgets.core.grouping import column_of, groups_of, output_of_observations, rows_of_outputs
from nlmewidgets.core.jets import Jet
from nlmewidgets.core.model import Model
from nlmewidgets.core.observation import (
    First,
    Group,
    Second,
    Third,
    Transformed,
    Variance,
    draw,
    invert,
    observe,
)
from nlmewidgets.core.occasions import Occasions
from nlmewidgets.core.pairing import pair_groups
from nlmewidgets.core.pairs import PairGroup, add_first, add_second, add_third, add_value, correlate
from nlmewidgets.core.parameters import ParameterSpace, Values
from nlmewidgets.core.printers import Kernel, numpy_kernel
from nlmewidgets.core.priors import Penalty
from nlmewidgets.core.segments import Segments
from nlmewidgets.core.slots import SlotForm
from nlmewidgets.core.structure.binding import Binding
from nlmewidgets.core.structure.choose import bind_structure
from nlmewidgets.core.structure.ode import Ode
from nlmewidgets.core.tape import Level, Tape

__all__ = ["Problem", "Segments", "Typical"]


class Typical(NamedTuple):
    """m(θ, z): (slots, blocks), and its Jacobian along theta: (slots, thetas, blocks)."""

    slots: Array
    jacobian: Array | None = None


@lru_cache(maxsize=256)
def _typical_kernels(
    form_typical: tuple[sp.Expr, ...], thetas: tuple[sp.Symbol, ...], covariates: tuple[sp.Symbol, ...]
) -> tuple[Kernel, Kernel]:
    levels = dict.fromkeys(thetas, Level.CONSTANT) | dict.fromkeys(covariates, Level.RECORD)
    tape = Tape(levels)
    values = [tape.expression(e) for e in form_typical]
    jacobian = [tape.gradient(v, [tape.inputs[t] for t in thetas]) for v in values]
    return numpy_kernel(tape, [values]), numpy_kernel(tape, [values, jacobian if thetas else [[None]]])


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything an estimation method may ask of a model and its data.

    Arrays are slot-first: etas are (etas, ..., subjects), slots (slots, ..., blocks), predictions
    (..., observations), with any batch axes in between.  No method changes the problem, so threads
    may share it.

    Attributes
    ----------
    model, data, space, form
        What was bound.
    occasions : Occasions
        Whose kappas follow the etas in every subject's vector of random effects.
    loadings : (random slots, etas) float
        B of s = m + B·η.
    structure : callable
        Slots → prediction and derivatives.
    groups : tuple of Group
        The observations that share one density.
    output : (obs,) int
        Which of the model's outputs each observation measures.
    pairs : tuple of PairGroup
        The observations whose residuals are correlated.
    """

    model: Model
    data: Data
    space: ParameterSpace
    form: SlotForm
    occasions: Occasions
    loadings: Array
    structure: Callable[[Array, int], Jet]
    groups: tuple[Group, ...]
    output: Ints
    pairs: tuple[PairGroup, ...]
    subjects: Segments
    blocks: Segments
    block_subjects: Segments
    _typical: tuple[Kernel, Kernel]
    _block_symbols: tuple[sp.Symbol, ...]
    _block_covariates: tuple[Array, ...]

    # --------------------------------------------------------------------- bind

    @classmethod
    def bind(cls, model: Model, data: Data) -> Problem:
        """Bind a model to data.

        Raises
        ------
        DataError
            If a covariate or the doses the model uses are not in the data.
        """
        space = model.space
        occasions = Occasions.of(data, len(space.between), len(space.within))
        covariates = model.covariate_symbols
        # A state carries what one block did into the next, so its slots are those of the whole subject.
        varying = tuple(s for s in covariates if data.varies(s.column)) if model.system is not None else ()
        form = occasions.form(model.form_where(varying))
        symbols = (*covariates, *occasions.symbols)
        per_record = [*(column_of(data, symbol) for symbol in covariates), *occasions.columns]
        observed = data.observed
        per_obs = tuple(column[observed] for column in per_record)
        subject = data.subject
        # A parameter block is a run of records of one subject with the same covariates.
        record_subject = data.record_subject
        new = np.diff(record_subject, prepend=-1) != 0
        for column in per_record:
            new |= np.diff(column, prepend=np.nan) != 0
        block_of_record = (np.cumsum(new) - 1).astype(np.intp)
        block_subject = record_subject[new]
        block_covariates = tuple(column[new] for column in per_record)
        block_of_obs = block_of_record[observed]

        output = output_of_observations(model, data)
        rows_of = rows_of_outputs(output, len(model.outputs))
        binding = Binding(model, form, data, symbols, block_covariates, block_of_record, tuple(rows_of))
        structure = bind_structure(binding)
        thetas = _theta_symbols(form, space)
        n = data.n_subjects
        observed_covariates = dict(zip(symbols, per_obs, strict=True))
        return cls(
            model=model,
            data=data,
            space=space,
            form=form,
            occasions=occasions,
            loadings=np.array(form.loadings[: form.n_random], dtype=float).reshape(form.n_random, occasions.n_eta),
            structure=structure,
            groups=groups_of(model, data, rows_of, observed_covariates),
            output=output,
            pairs=pair_groups(model, data, output, observed_covariates),
            subjects=Segments(subject, n),
            blocks=Segments(block_of_obs, len(block_subject)),
            block_subjects=Segments(block_subject.astype(np.intp), n),
            _typical=_typical_kernels(form.typical, thetas, symbols),
            _block_symbols=symbols,
            _block_covariates=block_covariates,
        )

    # -------------------------------------------------------------------- sizes

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return self.data.n_subjects

    @property
    def n_obs(self) -> int:
        """Number of observations."""
        return len(self.data.dv)

    @property
    def n_eta(self) -> int:
        """Number of random effects of a subject: its etas, and the kappas of all its occasions."""
        return self.occasions.n_eta

    @cached_property
    def penalty(self) -> Penalty | None:
        """−2 log of the priors; None where the model has none."""
        return Penalty(self.space, self.model.priors) if self.model.priors else None

    @cached_property
    def y(self) -> Array:
        """Observations, (obs,) float."""
        return self.data.dv

    @cached_property
    def _identity(self) -> bool:
        """Whether slot k is m_k + η_k for every random slot and blocks are subjects."""
        q = self.n_eta
        return self.loadings.shape == (q, q) and bool(np.array_equal(self.loadings, np.eye(q)))

    # ------------------------------------------------------------------- forward

    def typical(self, theta: Array, *, jacobian: bool = False) -> Typical:
        """Return m(θ, z) at every block, with its Jacobian along theta if asked.

        Several thetas at once, (thetas, ...), put their axes before the blocks.
        """
        shape = (*theta.shape[1:], self.blocks.n)
        inputs = (*(theta if theta.ndim == 1 else theta[..., None]), *self._block_covariates)
        if not inputs:
            return Typical(np.zeros((0, *shape)), np.zeros((0, 0, *shape)))
        if not jacobian:
            (slots,) = self._typical[0](inputs, None, shape)
            return Typical(np.zeros((len(self.form.symbols), *shape)) if slots is None else slots)
        slots, slopes = self._typical[1](inputs, None, shape)
        n_slots = len(self.form.symbols)
        return Typical(
            np.zeros((n_slots, *shape)) if slots is None else slots,
            np.zeros((n_slots, len(theta), *shape)) if slopes is None else slopes,
        )

    def slots(self, typical: Array, eta: Array) -> Array:
        """Return s = m + B·η, (slots, ..., blocks), for etas (etas, ..., subjects)."""
        breathe()
        n_random = len(self.loadings)
        batch = eta.shape[1:-1]
        effects = eta
        if not self._identity:
            effects = (self.loadings @ eta.reshape(len(eta), math.prod(eta.shape[1:]))).reshape(
                n_random, *eta.shape[1:]
            )
        effects = self.block_subjects.spread(effects)
        base = typical if typical.ndim == eta.ndim else typical.reshape(len(typical), *(1,) * len(batch), -1)
        if n_random == len(typical):
            return base + effects
        out = np.empty((len(typical), *batch, typical.shape[-1]))
        out[:n_random] = base[:n_random] + effects
        out[n_random:] = base[n_random:]
        return out

    def predict(self, slots: Array) -> Array:
        """Return the prediction at every observation, (..., obs)."""
        return self.structure(slots, 0)[0]

    def along_eta(self, first: Array, second: Array) -> tuple[Array, Array]:
        """Return ∂f/∂η (etas, obs) and ∂²f/∂η∂s (etas, slots, obs) from derivatives along slots."""
        if self._identity:
            return self.slope_along_eta(first), second
        return self.slope_along_eta(first), np.tensordot(self.loadings.T, second, 1)

    def slope_along_eta(self, first: Array) -> Array:
        """Return ∂f/∂η (etas, obs) from ∂f/∂s."""
        n_random = len(self.loadings)
        return first[:n_random] if self._identity else np.tensordot(self.loadings.T, first[:n_random], 1)

    def eta_columns(self, mixed: Array) -> Array:
        """Return ∂²f/∂η∂η (etas, etas, obs) from ∂²f/∂η∂s."""
        n_random = len(self.loadings)
        if self._identity:
            return mixed[:, :n_random]
        return np.einsum("aso,sb->abo", mixed[:, :n_random], self.loadings)

    # --------------------------------------------------------------- observation

    def minus2ll(self, f: Array, sigma: Array) -> Array:
        """Return −2 log p(y_i | f) without log 2π, summed per subject: (..., subjects)."""
        return self.subjects(self.minus2ll_each(f, sigma))

    def minus2ll_each(self, f: Array, sigma: Array) -> Array:
        """Return −2 log p(y | f) without log 2π of each observation, (..., obs)."""
        (value,) = observe(self.groups, "value", f, sigma)
        value = add_value(self.pairs, value, f, sigma)
        return value if value.shape == f.shape else np.broadcast_to(value, f.shape)

    def newton_terms(self, f: Array, sigma: Array, *, gradient: bool = False) -> Second:
        """Return L and its derivatives at each observation."""
        terms = Second(*observe(self.groups, "gradient" if gradient else "newton", f, sigma))
        terms = terms if terms.ff is not None else terms._replace(ff=0.0)
        return add_second(self.pairs, terms, f, sigma, gradient=gradient)

    def first_terms(self, f: Array, sigma: Array) -> First:
        """Return L and its first derivatives at each observation, f (..., obs); sigma may be (sigmas, ..., 1)."""
        return add_first(self.pairs, First(*observe(self.groups, "first", f, sigma)), f, sigma)

    def third_terms(self, f: Array, sigma: Array) -> Third:
        """Return L and its derivatives up to the third at each observation."""
        terms = Third(*observe(self.groups, "third", f, sigma))
        terms = terms if terms.ff is not None else terms._replace(ff=0.0)
        return add_third(self.pairs, terms, f, sigma)

    def variance(self, f: Array, sigma: Array) -> Variance:
        """Return the residual variance R and its derivatives at each observation."""
        return Variance(*observe(self.groups, "variance", f, sigma))

    def interaction(self, f: Array, sigma: Array) -> Variance:
        """Return ρ of `core.interaction` and its first derivatives at each observation."""
        return Variance(*observe(self.groups, "interaction", f, sigma))

    def frozen(self, f: Array) -> Problem:
        """Return the problem with the residual variances of normal observations at given predictions (obs,).

        Derivatives along sigma have one more row: along these predictions.
        """
        groups = tuple(g.frozen(f if g.rows is None else f[g.rows]) for g in self.groups)
        return replace(self, groups=groups)

    def residual_sd(self, f: Array, sigma: Array) -> Array:
        """Return the residual standard deviation at each observation, (..., obs); NaN where it has none."""
        return observe(self.groups, "sd", f, sigma)[0][0]

    def score(self, f: Array, sigma: Array) -> Array:
        """Return the standardised residual (t(y) − t(f))/sd, (..., obs); NaN where y is censored or not normal."""
        return observe(self.groups, "score", f, sigma)[0][0]

    def center(self, f: Array, sigma: Array) -> Array:
        """Return t(f) at each observation (or t(y), given y), f itself where nothing is transformed."""
        return np.broadcast_to(observe(self.groups, "center", f, sigma)[0], f.shape)

    def center_slope(self, f: Array, sigma: Array) -> Array:
        """Return t'(f) at each observation, 1 where nothing is transformed."""
        return np.broadcast_to(observe(self.groups, "slope", f, sigma)[0], f.shape)

    def transform(self, f: Array, sigma: Array) -> Transformed:
        """Return t(f) at each observation (or t(y), given y) with its derivatives."""
        return Transformed(*observe(self.groups, "transform", f, sigma))

    @cached_property
    def transforms(self) -> bool:
        """Whether t is not the identity for some observations."""
        return any(g.program.observation.transformed for g in self.groups)

    def _rows_where(self, found: Callable[[Group], bool]) -> NDArray[np.bool_]:
        out = np.zeros(self.n_obs, dtype=bool)
        for g in self.groups:
            out[slice(None) if g.rows is None else g.rows] = found(g)
        return out

    @cached_property
    def normal_rows(self) -> NDArray[np.bool_]:
        """Which observations are measured and normal, perhaps after a transform, (obs,) bool."""
        return self._rows_where(lambda g: g.normal)

    @cached_property
    def plain_rows(self) -> NDArray[np.bool_]:
        """Which observations are measured and normal without a transform, (obs,) bool."""
        return self._rows_where(lambda g: g.normal and not g.program.observation.transformed)

    @cached_property
    def paired_rows(self) -> NDArray[np.bool_]:
        """Which observations have residuals correlated with another's, (obs,) bool."""
        out = np.zeros(self.n_obs, dtype=bool)
        for pair in self.pairs:
            for rows in pair.rows:
                out[rows] = True
        return out

    @cached_property
    def pointwise_rows(self) -> NDArray[np.bool_]:
        """Which observations have log p(y | φ) in the place of a prediction, (obs,) bool."""
        return self._rows_where(lambda g: g.program.observation.pointwise)

    @property
    def n_normal(self) -> int:
        """Number of observations whose likelihood omits log 2π: those measured and normal."""
        return int(self.normal_rows.sum())

    def not_normal(self, *, transformed: bool = True, correlated: bool = True) -> str | None:
        """Return what keeps the data from being normal around the prediction, in words; None if they are.

        Parameters
        ----------
        transformed : bool
            Whether they may be so after a transform of both sides.
        correlated : bool
            Whether two of them may be so together.
        """
        if self.pairs and not correlated:
            return "correlated residuals"
        for g in self.groups:
            name = f" of '{list(self.model.outputs)[g.output]}'" if len(self.model.outputs) > 1 else ""
            if g.kind:
                return f"censored observations{name} (CENS)"
            if not g.normal:
                return f"a likelihood{name} that is not normal"
            if not transformed and g.program.observation.transformed:
                return f"a transform of both sides{name}"
        return None

    def draw(self, slots: Array, f: Array, sigma: Array, noise: Array) -> Array:
        """Return data made from standard normal numbers (..., obs) at slots and their predictions.

        Raises
        ------
        ModelError
            If a likelihood says nothing about how to draw from it.
        """
        for g in self.groups:
            own = g.program.observation
            if own.draw is None and own.values is None:
                raise ModelError(
                    f"The likelihood of '{list(self.model.outputs)[g.output]}' cannot be simulated; give its possible "
                    "values, e.g. LogLikelihood(expression, values=(0, 1)), take a ready-made one such as Poisson, or "
                    "for events interval=True and a fine grid of times."
                )
        noise = correlate(self.pairs, sigma, noise)
        out = np.array(draw(self.groups, f, sigma, noise))
        for g in self.groups:
            own = g.program.observation
            if own.pointwise and own.values is not None:  # f itself depends on the datum
                rows = slice(None) if g.rows is None else g.rows
                out[..., rows] = invert(self.minus2log_of(slots, rows), own.values, noise[..., rows])
        return out

    def minus2log_of(self, slots: Array, rows: Any) -> Callable[[float], Array]:
        """Return −2 log p of some observations as a function of the datum, where f is log p."""

        def minus2log(value: float) -> Array:
            records = self.data.records.assign(DV=np.where(self.data.observed, value, np.nan))
            return -2.0 * Problem.bind(self.model, replace(self.data, records=records)).predict(slots)[..., rows]

        return minus2log

    # ------------------------------------------------------------------- results

    def observation_columns(self) -> dict[str, Any]:
        """Return ID, TIME and DV of the observations, for a table."""
        observed = self.data.observed
        records = self.data.records
        return {name: records[name].to_numpy()[observed] for name in ("ID", "TIME", "DV")}

    def individual_parameters(self, theta: Array, eta: Array) -> dict[str, Array]:
        """Return each declared parameter at every block, {name: (..., blocks)}."""
        kernel, names = _parameter_kernel(
            tuple((s.name, e) for s, e in self.form.parameters.items() if not isinstance(s, role._Role)),
            self.form.symbols,
            self._block_symbols,
        )
        slots = self.slots(self.typical(theta).slots, eta)
        shape = slots.shape[1:]
        values = kernel((*slots, *self._block_covariates), None, shape)
        return {name: np.broadcast_to(v, shape) for name, v in zip(names, values, strict=True)}

    def simulate(self, values: Values, n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Return individual predictions and simulated observations, (n, obs) each."""
        q = self.n_eta
        normal = rng.standard_normal((n, self.n_subjects, q))
        chol = np.linalg.cholesky(self.occasions.expand(values.omega)) if q else np.zeros((0, 0))
        eta = np.moveaxis(normal @ chol.T, -1, 0)
        slots = self.slots(self.typical(values.theta).slots, eta)
        f = self.predict(slots)
        f = np.broadcast_to(f, (n, self.n_obs))
        return f, self.draw(slots, f, values.sigma, rng.standard_normal((n, self.n_obs)))

    def require_finite(self, f: Array, per_subject: Array) -> None:
        """Raise naming the first subject whose objective is not a number.

        Raises
        ------
        DataError
            With the subject, the time, and what is wrong there.
        """
        bad = np.flatnonzero(~np.isfinite(per_subject))
        if bad.size:
            raise DataError(self.explain_nonfinite(f, int(bad[0])))

    def explain_nonfinite(self, f: Array, subject: int, slots: Array | None = None) -> str:
        """Say in one sentence why a subject's objective is not a finite number, f being the prediction at `slots`."""
        label = self.data.ids[subject]
        if slots is not None and isinstance(self.structure, Ode):
            unsolved = self.structure.failures(slots)
            if subject in unsolved:
                return unsolved[subject]
        rows = np.flatnonzero(self.data.subject == subject)
        wrong = rows[~np.isfinite(f[rows])]
        if wrong.size:
            return (
                f"The prediction for subject {label} at TIME {self.data.time[wrong[0]]:g} is {f[wrong[0]]:g}; "
                "change the initial values or check the dose and covariates of this subject."
            )
        if not self.normal_rows[rows].all():
            return (
                f"The likelihood of subject {label} is zero or not a number at these values; change the initial values "
                "or check what this subject's DV can be."
            )
        if not self.plain_rows[rows].all():
            with np.errstate(all="ignore"):
                here, at_data = (self.minus2ll_each(x, self.space.initial.sigma) for x in (f, self.data.dv))
            lost = rows[~np.isfinite(here[rows])]
            i = lost[0] if lost.size else rows[0]
            where = f"subject {label} at TIME {self.data.time[i]:g}"
            if not np.isfinite(at_data[i]):
                return (
                    f"DV is {self.data.dv[i]:g} for {where}, where the transform of its residual error has no value (a "
                    "logarithm needs DV > 0); correct it, leave it out, or choose an error without a transform."
                )
            return (
                f"The prediction for {where} is {f[i]:g}, where the transform of its residual error has no value; "
                "leave such observations out, or choose an error without a transform."
            )
        return (
            f"The residual standard deviation is 0 for subject {label} (a prediction of 0 under proportional error?); "
            "add an additive part or leave these observations out."
        )


def _theta_symbols(form: SlotForm, space: ParameterSpace) -> tuple[sp.Symbol, ...]:
    by_name = {s.name: s for e in form.typical for s in e.atoms(role.Theta)}
    return tuple(by_name.get(p.name, role.Theta(p.name, real=True)) for p in space.theta)


@lru_cache(maxsize=256)
def _parameter_kernel(
    parameters: tuple[tuple[str, sp.Expr], ...], slots: tuple[sp.Symbol, ...], covariates: tuple[sp.Symbol, ...]
) -> tuple[Kernel, tuple[str, ...]]:
    tape = Tape(dict.fromkeys((*slots, *covariates), Level.RECORD))
    nodes = [tape.expression(e) for _, e in parameters]
    return numpy_kernel(tape, nodes), tuple(name for name, _ in parameters)
