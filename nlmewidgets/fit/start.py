"""A fit about to start: everything checked, nothing computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError, MethodError, ModelError
from nlmewidgets.core.influence import idle_parameters
from nlmewidgets.core.model import Model
from nlmewidgets.core.problem import Problem
from nlmewidgets.core.symbols import Level
from nlmewidgets.fit.result import Fit
from nlmewidgets.fit.unbounded import unbounded
from nlmewidgets.methods import METHODS, Iteration, Method

__all__ = ["Run", "bind", "resolve", "unusable_subjects"]


def resolve(method: str | Method, options: dict[str, Any]) -> Method:
    """Return the method object for a name and options.

    Raises
    ------
    MethodError
        If there is no such method or option.
    """
    if isinstance(method, Method):
        return method.with_options({f.name: getattr(method, f.name) for f in fields(method)} | options)
    name = str(method).lower()
    if name not in METHODS:
        raise MethodError(f"There is no method '{method}' in this version; there are {', '.join(METHODS)}.")
    return METHODS[name].with_options(options)


def bind(model: Model, data: Data) -> Problem:
    """Return the model bound to data with at least one observation."""
    problem = model.problem(data)
    if not problem.n_obs:
        raise DataError("The data have no observation to fit: every DV is missing; check DV, MDV and EVID.")
    for symbol in model.covariate_symbols:
        if isinstance(symbol, Level) and symbol.details[1] not in data.levels(symbol.column):
            have = ", ".join(map(str, data.levels(symbol.column)))
            raise DataError(
                f"The model has an effect of {symbol.column} {symbol.level}, a level that is not in the data ({have}); "
                "remove it, or correct its spelling."
            )
    if not np.isfinite(data.dv).all():
        raise DataError("The data have no DV: a grid of on_grid() is for predictions; fit the data it was made of.")
    return problem


@dataclass(frozen=True, eq=False)
class Run:
    """A fit about to start: everything checked, nothing computed.

    Attributes
    ----------
    excluded : dict
        Subjects that are left out because their objective is not a number, with the reason.
    previous : Fit or None
        The fit that this one goes on from.
    """

    model: Model
    data: Data
    problem: Problem
    method: Method
    seed: int
    excluded: dict[Any, str]
    previous: Fit | None = None

    @classmethod
    def resume(cls, previous: Fit, options: dict[str, Any]) -> Run:
        """Return the run that goes on from a fit, with some of its method's options changed.

        Raises
        ------
        MethodError
            If the fit's method is not one of this version, or has no such option.
        """
        if previous.method not in METHODS:
            raise MethodError(
                f"The fit is by '{previous.method}', no method of this version ({', '.join(METHODS)}); fit "
                "fit.model with one of these."
            )
        chosen = METHODS[previous.method].with_options({**previous.options, **options})
        seed = previous.seed if previous.seed is not None else 0
        return cls(
            previous.start, previous.data, previous.problem, chosen, seed, dict(previous.excluded), previous=previous
        )

    @classmethod
    def prepare(cls, model: Model, data: Data, method: str | Method, seed: int | None, options: dict[str, Any]) -> Run:
        """Check that the method can treat the model and that the model can be evaluated.

        Raises
        ------
        MethodError
            If the method cannot treat this model.
        DataError
            If no subject's prediction is a number at the initial values.
        """
        chosen = resolve(method, options)
        if seed is not None and not (isinstance(seed, int | np.integer) and seed >= 0):
            raise MethodError(f"seed={seed!r} is not a whole number from 0; give one, or None to have it chosen.")
        problem = bind(model, data)
        refusal = chosen.refusal(problem)
        if refusal:
            raise MethodError(refusal)
        if problem.occasions.within and problem.occasions.most < 2:
            raise DataError(
                f"The model has inter-occasion variability ({', '.join(problem.space.within)}), but every subject has "
                "one occasion; name the column that numbers them with occ=, or leave iov= out."
            )
        excluded = unusable_subjects(problem)
        if excluded:
            kept = [i for i in data.ids if i not in excluded]
            if not kept:
                raise DataError(next(iter(excluded.values())))
            problem = model.problem(data.subset(kept))
        idle = idle_parameters(problem)
        if idle:
            raise ModelError(
                f"The parameter {idle[0]} cannot influence any observation of these data; fix it (fixed=True), or "
                "leave it out of the model."
            )
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        return cls(model, data, problem, chosen, int(seed), excluded)

    def steps(self) -> Iterator[Iteration]:
        """Yield the method's iterations; the first and the last name the subjects left out."""
        previous: Iteration | None = None
        for iteration in self._iterations():
            ends = iteration.k == 0 or iteration.status != "running"
            shown = self._noted(iteration) if ends and self.excluded else iteration
            if shown.status in ("converged", "limit") and (why := unbounded(self.problem, shown.values, shown.eta)):
                shown = replace(shown, status="limit", message=f"{why} {shown.message}")
            if previous is not None:
                previous.release()
            yield shown
            previous = shown

    def _iterations(self) -> Iterator[Iteration]:
        if self.previous is None:
            yield from self.method.steps(self.problem, self.model.values, np.random.default_rng(self.seed))
            return
        last = self.previous.last_iteration
        # New numbers, not the first fit's again; a method that left its generator behind goes on with that.
        rng = np.random.default_rng([self.seed, last.k])
        anew: bool | None = None
        for iteration in self.method.resume(self.problem, last, rng):
            if anew is None:  # counted from 0 again, at the point where the fit was
                anew = iteration.k == 0
                if anew and iteration.status == "running":
                    continue
            yield replace(iteration, k=iteration.k + last.k) if anew else iteration

    def _noted(self, iteration: Iteration) -> Iteration:
        note = " ".join(f"Subject {i} is left out: {why}" for i, why in self.excluded.items())
        return replace(iteration, message=f"{iteration.message} {note}".strip())

    @property
    def finishes(self) -> bool:
        """Whether the method brings objective and etas up to date at the end, which may take long."""
        return type(self.method).finish is not Method.finish

    def snapshot(self, history: Sequence[Iteration], elapsed: float = 0.0) -> Fit:
        """Return the iterations so far as a Fit without computing anything: what is left if it ends here and now."""
        last = history[-1]
        if last.status == "running":
            words = f"Interrupted at iteration {last.k}: this is its last iterate, from which resume() goes on."
            last = replace(last, status="stopped", message=words)
        return self._fit(last, history, elapsed)

    def cut(self, history: Sequence[Iteration], *, stopped: str = "", elapsed: float = 0.0) -> Fit:
        """Return what `result` does, with objective and etas as the last iteration has them."""
        return self._fit(self._last(history, stopped), history, elapsed)

    def result(self, history: Sequence[Iteration], *, stopped: str = "", elapsed: float = 0.0) -> Fit:
        """Return the Fit of the iterations so far; `stopped` says why, if before the method's own end."""
        return self._fit(self.method.finish(self.problem, self._last(history, stopped)), history, elapsed)

    def _last(self, history: Sequence[Iteration], stopped: str) -> Iteration:
        last = history[-1]
        if last.status != "running":
            return last
        after = f"{last.k} iteration{'' if last.k == 1 else 's'}"
        return self._noted(replace(last, status="stopped", message=f"{stopped or 'Stopped'} after {after}."))

    def _fit(self, last: Iteration, history: Sequence[Iteration], elapsed: float) -> Fit:
        return Fit.of(
            self.model,
            self.data,
            self.problem,
            self.method,
            last,
            list(history),
            self.seed,
            elapsed,
            self.excluded,
            self.previous,
        )


def unusable_subjects(problem: Problem) -> dict[Any, str]:
    """Return the subjects whose likelihood is not a number at the initial values, with the reason."""
    values = problem.space.initial
    with np.errstate(all="ignore"):
        slots = problem.slots(problem.typical(values.theta).slots, np.zeros((problem.n_eta, problem.n_subjects)))
        f = problem.predict(slots)
        value = problem.minus2ll(f, values.sigma)
    bad = np.flatnonzero(~np.isfinite(value))
    return {problem.data.ids[i]: problem.explain_nonfinite(f, int(i), slots) for i in bad}
