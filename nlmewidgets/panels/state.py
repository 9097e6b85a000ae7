"""What the panels share: a handful of plain traits, and the problem they are about."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import traitlets as tl

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.core.parameters import Values
from nlmewidgets.core.problem import Problem
from nlmewidgets.fit.arrows import Slope, slope
from nlmewidgets.fit.chains import Chains
from nlmewidgets.fit.live import Look, look, stand_in
from nlmewidgets.fit.pull import Pull, pull
from nlmewidgets.fit.refit import Refit, refit
from nlmewidgets.fit.scale import refusal
from nlmewidgets.panels.courtesy import serving
from nlmewidgets.panels.history import History
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.selection import View

__all__ = ["Point", "State"]


@dataclass(frozen=True, eq=False)
class Point:
    """What the panels show: population values with the etas that belong to them.

    Attributes
    ----------
    problem : Problem
    values : Values
    eta : (etas, subjects) float
    label : str
        Where they come from, for captions.
    """

    problem: Problem
    values: Values
    eta: Array
    label: str


_SLOW = 0.03
"""Seconds: an objective that takes longer is computed beside the sliders, latest value first."""
_PATIENCE = 1.5
"""Seconds the interface waits for the first look, which compiles the model, before it opens without."""
_REST = 0.15
"""Seconds of rest after which the arrows are computed: a drag does without."""
_REFITTING = 1.0
"""Seconds after which a refit that takes longer shows how far it is."""


class _Request(NamedTuple):
    """What is computed beside the sliders: 'look', 'refit' or 'arrows' at some values."""

    kind: str
    values: Values


class _Sloped(NamedTuple):
    values: Values
    slope: Slope | None


def _errors_of(fit: Any) -> tuple[Any, dict[str, float]]:
    try:
        return fit, {str(name): float(error) for name, error in fit.se.items()}
    except NlmeError:  # a method that has none
        return fit, {str(name): math.nan for name in fit.start.names}


class State(View):
    """The state of an exploration; setting a trait is moving the widget.

    Attributes
    ----------
    params : dict
        Slider values by parameter name (omegas and sigmas as SDs).
    fixed : tuple of str
        Parameters that a fit keeps.
    refit : tuple of str
        Parameters that are optimised anew whenever another one moves; none of them is fixed.
    arrows : dict
        Which way each parameter lowers the objective (`fit.arrows.Arrow` by name); empty until the sliders rest.
    touched : str
        The parameter moved last.
    errors : dict
        Standard errors of the last fit, by parameter; empty until `find_errors` has found them.
    can_undo, can_redo : bool
    dvid, log_axis, per_dose, by, ribbon, ribbon_by
        How the curves are shown, see `panels.selection.View`.
    method : str
    ofv : float
        Objective at the slider values; NaN while it cannot be computed.
    pinned : float or None
        Objective at the last pin.
    shown : Values
        The population values the panels show: those of the sliders, or of a finished fit until one moves.
    point : Point
        The same with the etas that belong to them, as soon as these are found.
    running, progress, status, message
        Of the fit.
    trace : tuple of Iteration
        The iterations of the current or last fit.
    iteration : int or None
        The one of them that the panels show; None: the newest, or the sliders if they moved after it.
    follow : bool
        Whether the panels show a running fit's newest iteration; moving a slider ends it for this run.
    result : Fit or None
    fits : tuple of Fit
        All of this session.
    excluded, excluded_records : tuple
        IDs of subjects, and numbers of records as in ``data.records``, that the next fit leaves out.
    """

    params = tl.Dict()
    fixed = tl.Tuple()
    refit = tl.Tuple()
    arrows = tl.Dict()
    touched = tl.Unicode("")
    errors = tl.Dict()
    can_undo = tl.Bool(False)
    can_redo = tl.Bool(False)
    method = tl.Unicode("focei")
    ofv = tl.Float(float("nan"))
    pinned = tl.Float(None, allow_none=True)
    shown = tl.Any()
    point = tl.Any()
    running = tl.Bool(False)
    progress = tl.Float(0.0)
    status = tl.Unicode("idle")
    message = tl.Unicode("")
    notice = tl.Unicode("")
    trace = tl.Tuple()
    iteration = tl.Int(None, allow_none=True)
    follow = tl.Bool(True)
    result = tl.Any(None, allow_none=True)
    fits = tl.Tuple()
    excluded = tl.Tuple()
    excluded_records = tl.Tuple()

    _bound = False

    def setup(self, model: Model, data: Data) -> None:
        """Bind the state to a model and data and take the first look."""
        self._bound = False
        self.model = model
        self.data = data
        self.selected_ids = tuple(i for i in self.selected_ids if i in data.ids)
        self.problem = model.problem(data)
        self.dvids = list(dict.fromkeys(data.dvid.tolist())) or [1]
        self.set_trait("dvid", self.dvids[0])
        self.keep_view()
        self._latest: Latest[_Request, Look | Refit | _Sloped] = Latest(self._compute, self._computed, lock=self.lock)
        self._first = threading.Event()
        self._errors: Latest[Any, tuple[Any, dict[str, float]]] = Latest(_errors_of, self._errors_found, lock=self.lock)
        self._follower: int | None = None
        self._unfinished = False
        self._seen: Values | None = None
        self._cost = math.inf
        self._eta: Any = None
        self._slope: Slope | None = None
        self.pulled: Pull | None = None
        self.arrows = {}
        self.chains = Chains()
        self.record_chains = False
        nothing = np.zeros((self.problem.n_eta, self.problem.n_subjects))
        self.point = Point(self.problem, model.values, nothing, "the slider values")  # until the first look
        self.objective_by = ""
        space = model.space
        self.set_trait("fixed", tuple(name for name in space.names if space.is_fixed(name)))
        self.set_trait("params", space.to_dict(space.initial))
        self.touched = space.names[0]
        self.ribbon = self.ribbon if self.ribbon in ("", "moved", *space.names) else ""
        self._bound = True
        self._moved({"name": "params", "old": None, "new": self.params})
        # An integrated system stays beside the sliders; what else is looked at in time need not.
        if not getattr(self.problem.structure, "precision", 0.0) and self._first.wait(_PATIENCE):
            self._cost = 0.0
        self.history = History(self)

    # --------------------------------------------------------------------- outputs

    def output_name(self, dvid: Any) -> str:
        """Return the name of the model's output that a DVID means."""
        rows = np.flatnonzero(self.data.dvid == dvid)
        return list(self.model.outputs)[int(self.problem.output[rows[0]])] if len(rows) else str(dvid)

    # ------------------------------------------------------------------ parameters

    @property
    def values(self) -> Values:
        """The slider values as theta, Omega, sigma."""
        return self.model.space.from_dict(self.params)

    @property
    def model_now(self) -> Model:
        """The model with the slider values and the fixed flags of the moment."""
        free = [name for name in self.model.names if name not in self.fixed]
        return self.model.with_values(dict(self.params)).free(*free).fix(*self.fixed)

    @property
    def data_kept(self) -> Data:
        """The data of the next fit: without what is left out, each step in its history."""
        data, reason = self.data, "left out in the environment"
        if self.excluded_records:
            data = data.exclude(records=list(self.excluded_records), reason=reason)
        return data.exclude(ids=list(self.excluded), reason=reason) if self.excluded else data

    @tl.validate("excluded")
    def _valid_excluded(self, proposal: Any) -> tuple[Any, ...]:
        unknown = [i for i in proposal["value"] if i not in self.data.ids]
        if unknown:
            raise tl.TraitError(f"ID {unknown[0]!r} is not in the data.")
        return tuple(dict.fromkeys(proposal["value"]))

    @tl.validate("excluded_records")
    def _valid_records(self, proposal: Any) -> tuple[int, ...]:
        wrong = [k for k in proposal["value"] if not (0 <= k < len(self.data) and self.data.observed[k])]
        if wrong:
            raise tl.TraitError(f"Record {wrong[0]!r} is no observation; number them as in data.records.")
        return tuple(sorted(set(proposal["value"])))

    @tl.validate("params")
    def _valid_params(self, proposal: Any) -> dict[str, float]:
        given: Mapping[str, float] = proposal["value"]
        merged = self.model.space.to_dict(self.model.space.initial)
        merged |= {name: value for name, value in self.params.items() if name in merged}  # of a model before, perhaps
        unknown = [name for name in given if name not in merged]
        if unknown:
            raise tl.TraitError(f"There is no parameter '{unknown[0]}'; there are {', '.join(merged)}.")
        space, now = self.model.space, merged | {name: float(value) for name, value in given.items()}
        for name in given:
            why = refusal(space, name, now[name])
            if why and now[name] != merged[name]:  # what a model or a fit has at a bound may stay there
                raise tl.TraitError(why)
        return now

    @tl.validate("fixed", "refit")
    def _together(self, proposal: Any) -> tuple[str, ...]:
        """Keep, free or refit the correlations of a block of Omega together, as a fit does."""
        names, before = list(dict.fromkeys(proposal["value"])), getattr(self, proposal["trait"].name)
        space = self.model.space
        unknown = [name for name in names if name not in space.names]
        if unknown:
            raise tl.TraitError(f"There is no parameter '{unknown[0]}'; there are {', '.join(space.names)}.")
        for block in space.blocks:
            own = [name for name, i, j in space.correlations if i in block and j in block]
            held = [name for name in own if name in names]
            if 0 < len(held) < len(own):
                added = any(name not in before for name in held)
                names = [name for name in names if name not in own] + (own if added else [])
        return tuple(names)

    @tl.observe("fixed", "refit")
    def _one_of_both(self, change: Any) -> None:
        """Let no parameter be both fixed and refitted; the last word counts."""
        other = "refit" if change["name"] == "fixed" else "fixed"
        left = tuple(name for name in getattr(self, other) if name not in change["new"])
        if left != getattr(self, other):
            with self.consequence():
                setattr(self, other, left)

    # --------------------------------------------------------------- undo and redo

    def undo(self) -> None:
        """Take back the last change of parameters, Fix or Refit; a drag is one change."""
        self.history.go(-1)

    def redo(self) -> None:
        """Make the change taken back last again."""
        self.history.go(+1)

    @contextmanager
    def consequence(self) -> Iterator[None]:
        """Within it, changes made by this thread follow from another one: they are no entry of the history."""
        with self.lock:
            before, self._follower = self._follower, threading.get_ident()
            try:
                yield
            finally:
                self._follower = before

    @property
    def following(self) -> bool:
        """Whether the change being made follows from another one."""
        return self._follower == threading.get_ident()

    def move(self, **values: float) -> None:
        """Set parameters, as a slider does; never in the middle of what another thread sets."""
        with self.lock:
            self.params = values

    def nudge(self, name: str) -> None:
        """Move a parameter to where its arrow points."""
        arrow = self.arrows.get(name)
        if arrow is not None and arrow.size:
            self.history.cut()
            self.move(**{name: float(f"{arrow.target:.4g}")})

    def drag(self, time: float, level: float, *, since: Values | None = None, begins: bool = True) -> None:
        """Move the free typical values as little as it takes for the typical curve to pass a level at a time.

        The level is in the units shown (of the output `dvid`, per dose where that is); parameters in `fixed` stay.
        `pulled` tells what moved.

        Parameters
        ----------
        time, level : float
        since : Values, optional
            The values a drag began at, of which the change is the least; those of the sliders without it.
        begins : bool
            Whether this is a change of its own to undo, not one more move of the same drag.

        Raises
        ------
        NlmeError
            If all that moves the curve there is fixed, or the level cannot be reached.
        """
        dvid = self.dvid if len(self.dvids) > 1 else None
        at = self.model.problem(self.data.on_grid(times=np.array([float(time)]), dvid=dvid))
        self.pulled = pull(at, self.values if since is None else since, float(level), self.fixed, self.per)
        moved = self.model.space.to_dict(self.pulled.values)
        # Four digits would miss the level; a drag is at best as exact as a pixel, a method call as it asks.
        values = {p.name: moved[p.name] for p in self.model.space.theta}
        if begins:
            self.history.cut()
            self.move(**values)
        else:
            with self.consequence():
                self.move(**values)

    def pin(self) -> None:
        """Remember the objective of the moment; changes are counted from it."""
        self.pinned = self.ofv if np.isfinite(self.ofv) else None

    def keep_pin(self, ofv: float) -> None:
        """Count changes from an objective that the method chosen had before; its first look is yet to come, perhaps."""
        self.objective_by = stand_in(self.problem, self.method).name
        self.pinned = ofv

    # ---------------------------------------------------------------------- looks

    @tl.observe("params", "method", "refit")
    def _moved(self, change: Any) -> None:
        if not self._bound:
            return
        try:
            values = self.values
        except NlmeError as error:
            self.ofv, self.notice, self.arrows = float("nan"), str(error), {}
            return
        self._touch(change)
        with serving():
            self._show(change, values)

    def _show(self, change: Any, values: Values) -> None:
        self.shown = values  # population curves need not wait for the etas
        if self._to_refit(change):
            self._latest.put(_Request("refit", values))
        elif change["name"] == "refit":
            return
        elif self._cost > _SLOW:
            self._latest.put(_Request("look", values))
        else:
            began = time.perf_counter()
            self._looked(self._look(values))
            self._cost = time.perf_counter() - began

    def _touch(self, change: Any) -> None:
        """Remember which parameter was moved, if it was one."""
        if change["name"] == "params" and change["old"] and not self.following:
            moved = [name for name, value in change["new"].items() if change["old"].get(name) != value]
            if len(moved) == 1:
                self.touched = moved[0]

    # ---------------------------------------------------------------- standard errors

    @tl.observe("result")
    def _other_result(self, _: Any) -> None:
        self.errors = {}

    def find_errors(self) -> None:
        """Find the standard errors of the last fit beside the interface, unless they are known."""
        if self.result is not None and not self.errors:
            self._errors.put(self.result)

    def _errors_found(self, found: tuple[Any, dict[str, float]]) -> None:
        if found[0] is self.result:
            self.errors = found[1]

    # -------------------------------------------------------------------------- looks

    def _to_refit(self, change: Any) -> bool:
        """Whether a change calls for the refit parameters to be optimised: any but their own."""
        if not self.refit or self.following:
            return False
        if change["name"] != "params":
            return True
        old = change["old"] or {}
        return any(old.get(name) != value for name, value in change["new"].items() if name not in self.refit)

    def _compute(self, request: _Request) -> Look | Refit | _Sloped:
        if request.kind == "arrows":
            return _Sloped(request.values, slope(self.problem, request.values, self.method, self._eta))
        if request.kind == "refit":
            try:
                stop = lambda: self._latest.overtaken  # noqa: E731
                return refit(self.problem, request.values, self.refit, self.method, self._eta, _REFITTING, stop)
            except (NlmeError, np.linalg.LinAlgError):  # not finite here, which the look says in words
                pass
        return self._look(request.values)

    def _computed(self, answer: Look | Refit | _Sloped) -> None:
        if isinstance(answer, Look):
            self._looked(answer)
        elif isinstance(answer, Refit):
            self._refitted(answer)
        elif answer.values is self._seen:
            self._slope = answer.slope
            self.arrows = {} if answer.slope is None else answer.slope.arrows

    def _warm(self, values: Values) -> Any:
        """Return etas worth beginning at where a look is dear (differential equations): those told or seen last."""
        if self._cost <= _PATIENCE or self._eta is None or self._slope is None:
            return self._eta if self._cost > _PATIENCE else None
        return self._slope.predicted(self.problem.space, values, self._eta)

    def _look(self, values: Values) -> Look:
        return look(self.problem, values, self.method, self._warm(values))

    def _refitted(self, reached: Refit) -> None:
        with self.consequence():
            if self._latest.overtaken:
                return
            self._eta, self._unfinished = reached.eta, not reached.done
            found = self.model.space.to_dict(reached.values)
            self.params = {name: found[name] for name in self.refit}

    def _looked(self, seen: Look) -> None:
        self._eta, self._seen = seen.eta, seen.values
        other = self.objective_by != seen.by
        self.objective_by = seen.by
        self.point = Point(self.problem, seen.values, seen.eta, "the slider values")
        self.ofv, self.notice = seen.ofv, seen.message
        if other:
            self.pin()  # the first look; or objectives of different methods, which are not comparable
        self._first.set()
        if not np.isfinite(seen.ofv):
            self.arrows = {}
        elif self._unfinished and self.refit:
            self._latest.offer(_Request("refit", seen.values), 0.0)
        else:
            self._latest.offer(_Request("arrows", seen.values), _REST)
        self._unfinished = False
