"""The environment: sliders over the data, fits to watch, panels to judge them."""

from __future__ import annotations

import html
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import numpy as np
import traitlets as tl

from nlmewidgets.core.code import data_code, model_code
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.fit import Fit, Run, time_left
from nlmewidgets.fit.choices import choices
from nlmewidgets.fit.history import thinned
from nlmewidgets.fit.live import look
from nlmewidgets.panels.code import CodePanel
from nlmewidgets.panels.converge import ConvergePanel
from nlmewidgets.panels.covariates import CovariatesPanel
from nlmewidgets.panels.driver import Job
from nlmewidgets.panels.fitting import FitBox
from nlmewidgets.panels.individuals import IndividualsPanel
from nlmewidgets.panels.initial import InitialPanel
from nlmewidgets.panels.judge import JudgePanel
from nlmewidgets.panels.latest import Latest
from nlmewidgets.panels.linked import LinkedPanel
from nlmewidgets.panels.look_covariates import LookCovariatesPanel
from nlmewidgets.panels.look_profiles import ProfilesPanel
from nlmewidgets.panels.look_tables import NcaPanel, SummaryPanel
from nlmewidgets.panels.model import EquationsPanel, StructurePanel
from nlmewidgets.panels.playback import Playback
from nlmewidgets.panels.population import PopulationPanel
from nlmewidgets.panels.race import RacePanel
from nlmewidgets.panels.runs import RunsPanel
from nlmewidgets.panels.session import to_link
from nlmewidgets.panels.shrinkage import ShrinkagePanel
from nlmewidgets.panels.state import Point, State
from nlmewidgets.panels.steps import STEPS, Steps
from nlmewidgets.panels.still import still, words
from nlmewidgets.panels.takeaway import TakeAwayPanel
from nlmewidgets.panels.theme import style
from nlmewidgets.panels.workspace import Workspace, default_path
from nlmewidgets.studies import Guess

__all__ = ["PANELS", "Explorer"]

PANELS = {
    "profiles": ProfilesPanel,
    "data-covariates": LookCovariatesPanel,
    "summary": SummaryPanel,
    "nca": NcaPanel,
    "equations": EquationsPanel,
    "structure": StructurePanel,
    "population": PopulationPanel,
    "individuals": IndividualsPanel,
    "converge": ConvergePanel,
    "covariates": CovariatesPanel,
    "shrinkage": ShrinkagePanel,
    "diagnostics": LinkedPanel,
    "judge": JudgePanel,
    "runs": RunsPanel,
    "race": RacePanel,
    "code": CodePanel,
    "takeaway": TakeAwayPanel,
}
"""Every panel of the environment by its name, in the order of the tabs of its step."""

_GUESSING = 10.0
"""Seconds a guess may take."""

_open: dict[str, weakref.ref[Explorer]] = {}
"""The explorer of each notebook cell: running the cell again ends the job of the one before."""


class Explorer(State, ipw.VBox):
    """Explore a model over data: set initial estimates, fit, judge, take over, export.

    All state is in traits (see `State`); setting one is moving the widget, and every action of the
    interface is a method.

    Parameters
    ----------
    model : Model
    data : Data
    method : str
        The method preselected, and whose objective is shown.
    seed : int, optional
        For methods that simulate.
    selected_ids : sequence
        Subjects lit up at the start.
    workspace : path or bool, optional
        A JSON file that follows the explorer and brings everything back after the kernel was restarted: sliders,
        method, options, selection, all fits, the last iterate of one that ran.  True: beside the notebook.
    **options
        Options of the method, e.g. ``explore=100``.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> explorer = nw.explore(model, data)          # doctest: +SKIP
    >>> explorer.params = {"ka": 2.0}               # doctest: +SKIP
    >>> explorer.start().wait()                     # doctest: +SKIP
    >>> explorer.result                             # doctest: +SKIP
    """

    step = tl.Unicode("initial")
    panel = tl.Unicode("population")
    options = tl.Dict()
    _attaching = False

    def __init__(
        self,
        model: Model,
        data: Data,
        *,
        method: str = "focei",
        seed: int | None = 1,
        selected_ids: Sequence[Any] = (),
        workspace: str | Path | bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.seed = seed
        self._attached: list[tuple[Any, Any, str]] = []
        self.options = {method: dict(options)}
        self._job: Job | None = None
        self.control: Any = None
        self._traced: Fit | None = None
        self.workspace: Workspace | None = None
        self._guessing: Latest[Model, Guess | NlmeError] = Latest(self._find, self._found)
        self._ended_guess = threading.Event()
        if method not in choices():
            raise NlmeError(f"There is no method '{method}' to explore with; there are {', '.join(choices())}.")
        self.method = method
        with self.attaching():
            self.setup(model, data)
        self.selected_ids = tuple(selected_ids)
        self.pin()
        self._make()
        self._replace_earlier()
        if workspace:
            self.workspace = Workspace(self, default_path() if workspace is True else str(workspace))

    # ------------------------------------------------------------------ the widget

    @tl.validate("step")
    def _known_step(self, proposal: Any) -> str:
        if proposal["value"] not in STEPS:
            raise tl.TraitError(f"There is no step '{proposal['value']}'; there are {', '.join(STEPS)}.")
        return str(proposal["value"])

    @tl.validate("panel")
    def _known_panel(self, proposal: Any) -> str:
        if proposal["value"] not in PANELS:
            raise tl.TraitError(f"There is no panel '{proposal['value']}'; there are {', '.join(PANELS)}.")
        return str(proposal["value"])

    def observe(self, handler: Any, names: Any = tl.All, type: str = "change") -> None:  # noqa: A002
        """Observe traits; what the panels of one model observe ends with them."""
        if self._attaching:
            self._attached.append((handler, names, type))
        super().observe(handler, names=names, type=type)

    def use(self, model: Model | None = None, data: Data | None = None) -> Explorer:
        """Go on with another model, other data or both: sliders and panels follow, fits stay in the list.

        Raises
        ------
        NlmeError
            If a fit is running, or model and data do not go together (then nothing changes).
        """
        if self.running:
            raise NlmeError("A fit is running; stop it before you go on with another model or other data.")
        model = self.model_now if model is None else model
        data = self.data if data is None else data
        model.problem(data)  # refuses before anything has changed
        self._ended_guess.set()
        self._guessing.wait()
        self._ended_guess.clear()
        self._latest.wait()
        for panel in self.panels.values():
            panel.hide()
        for handler, names, kind in self._attached:
            self.unobserve(handler, names, kind)
        self._attached.clear()
        self.result, self.trace, self.control = None, (), None
        self.progress, self.status, self.message = 0.0, "idle", ""
        self._traced, self.iteration, self.refit = None, None, ()
        self.excluded = self.excluded_records = ()
        with self.attaching():
            self.setup(model, data)
        self._make()
        return self

    @contextmanager
    def attaching(self) -> Iterator[None]:
        """Let what is observed in here end with the model."""
        before, self._attaching = self._attaching, True
        try:
            yield
        finally:
            self._attaching = before

    def _make(self) -> None:
        self.add_class("nlme")
        with self.attaching():
            self._build()

    def _build(self) -> None:
        self.initial = InitialPanel(self)
        self.fitting = FitBox(self)
        self.playback = Playback(self)
        self.panels = {name: panel(self) for name, panel in PANELS.items()}
        self.steps = Steps(self, self.panels)
        left = ipw.VBox(
            [self._parameter_box(), self.fitting.root],
            layout=ipw.Layout(flex="0 0 372px", width="372px", padding="0 10px 0 0"),
        )
        self.left = left
        self.children = (
            style(),
            self._header(),
            self.steps.row,
            ipw.HBox([left, self.steps.place], layout=ipw.Layout(width="100%", align_items="flex-start")),
        )
        for names, action in (
            (["ofv", "pinned", "notice"], self._show_objective),
            (["selected_ids"], self._show_selection),
            (["step"], self._show_left),
        ):
            self.observe(lambda _, act=action: act(), names=names)
        self._show_objective()
        self._show_selection()
        self._show_left()

    def _show_left(self) -> None:
        """Give data and model the whole width: sliders and fits have nothing to say to them."""
        self.left.layout.display = "none" if self.step in ("data", "model") else None

    def _header(self) -> ipw.Widget:
        data, name = self.data, self.model.name or "Model"
        about = f"{data.n_subjects} subjects, {data.n_obs} observations"
        title = ipw.HTML(
            f"<h3>{html.escape(name)}</h3><div class='nlme-caption'><span class='soft'>{about}</span></div>",
            layout=ipw.Layout(flex="1 1 auto"),
        )
        self._objective = ipw.HTML(layout=ipw.Layout(min_width="470px", flex="0 0 auto"))
        pin = ipw.Button(description="Pin", tooltip="Count changes of the objective from here", icon="thumb-tack")
        pin.layout = ipw.Layout(width="64px")
        pin.on_click(lambda _: self.pin())
        self._subject = ipw.Dropdown(
            options=self.subject_choices(),
            description="Subject",
            style={"description_width": "56px"},
            layout=ipw.Layout(width="170px"),
        )
        self._subject.observe(self._subject_chosen, "value")
        self._notice = ipw.HTML()
        bar = ipw.HBox(
            [title, self._objective, pin, self._subject],
            layout=ipw.Layout(width="100%", align_items="center", flex_flow="row wrap"),
        )
        return ipw.VBox([bar, self._notice], layout=ipw.Layout(width="100%"))

    def _parameter_box(self) -> ipw.Widget:
        reset = ipw.Button(description="Reset", tooltip="Back to the model's initial values", icon="fast-backward")
        reset.layout = ipw.Layout(width="84px")
        reset.on_click(lambda _: self.reset())
        self._guess = ipw.Button(description="Guess", tooltip="Find starting values from the data", icon="magic")
        self._guess.layout = ipw.Layout(width="84px")
        self._guess.on_click(lambda _: self.guess())
        head = ipw.HBox(
            [
                ipw.HTML("<h3>Parameters</h3>", layout=ipw.Layout(flex="1 1 auto")),
                self.initial.undo,
                self.initial.redo,
                self._guess,
                reset,
            ],
            layout=ipw.Layout(align_items="center"),
        )
        return ipw.VBox([head, self.initial.root])

    # ------------------------------------------------------------------------ views

    def _show_objective(self) -> None:
        by = {"laplace": "Laplace"}.get(self.objective_by, self.objective_by.upper())
        shown = f"{self.ofv:.3f}" if np.isfinite(self.ofv) else "not a number"
        text = f"<span class='nlme-number' aria-live='polite'>{shown}</span> "
        text += f"<span class='nlme-delta'>OFV ({by}) at the sliders"
        if self.pinned is not None and np.isfinite(self.ofv):
            change = self.ofv - self.pinned
            kind = "nlme-better" if change < -5e-4 else "nlme-worse" if change > 5e-4 else ""
            text += f" · <span class='{kind}'>{change:+.3f}</span> since pin"
        self._objective.value = text + "</span>"
        notice = html.escape(self.notice)
        self._notice.value = f"<div class='nlme-alert nlme-caption' role='alert'>{notice}</div>" if notice else ""

    def _show_selection(self) -> None:
        if self._subject.value == self.selected_ids:
            return
        self._syncing_subject = True
        try:
            self._subject.options = self.subject_choices()
            self._subject.value = self.selected_ids
        finally:
            self._syncing_subject = False

    _syncing_subject = False

    def _subject_chosen(self, change: Any) -> None:
        if not self._syncing_subject:
            self.selected_ids = change["new"]

    # ---------------------------------------------------------------------- actions

    def reset(self) -> None:
        """Move the sliders back to the model's initial values."""
        self.params = self.model.space.to_dict(self.model.space.initial)

    def guess(self) -> Explorer:
        """Find starting values from the data, beside the interface, and move the sliders to them."""
        if not self._guess.disabled:
            self._guess.disabled = True
            self.message = "Looking for starting values …"
            self._guessing.put(self.model_now)
        return self

    def _find(self, model: Model) -> Guess | NlmeError:
        try:
            found: Guess = model.guess(self.data, seconds=_GUESSING, stop=self._ended_guess.is_set)
            return found
        except NlmeError as refusal:
            return refusal

    def _found(self, found: Guess | NlmeError) -> None:
        with self.lock:
            self._guess.disabled = False
            if isinstance(found, NlmeError):
                self.message = str(found)
                return
            space = found.model.space
            self.params = space.to_dict(space.initial)
            self.message = f"Starting values by {found.message[0].lower()}{found.message[1:]}"

    def start(self) -> Explorer:
        """Start a fit from the slider values; a running one is left alone."""
        return self._launch(
            lambda: Run.prepare(self.model_now, self.data_kept, self.method, self.seed, dict(self.method_options))
        )

    def resume(self, **options: Any) -> Explorer:
        """Go on from where the last fit ended, with its method.

        Parameters
        ----------
        **options
            Options of the method to change; those in the box count where it shows the same method.
        """
        fit = self.result
        if fit is None:
            self.message = "There is no fit to go on from yet; press Start."
            return self
        shown = {} if fit.method != self.method else self.fitting.options_shown()
        before = self.trace if self._traced is fit else fit.trace
        return self._launch(lambda: Run.resume(fit, shown | options), before)

    def _launch(self, prepare: Callable[[], Run], before: tuple[Any, ...] = ()) -> Explorer:
        """Run what `prepare` returns beside the interface, unless something runs already."""
        with self.lock:  # two clicks may be at work at once
            if self.running:
                return self
            self.running = True  # enables Stop, inside this very callback
        try:
            run = prepare()
        except NlmeError as refusal:
            self.status, self.message = "failed", str(refusal)
            self.running = False
            return self
        self._began = time.monotonic()
        self.control = getattr(run.method, "control", None)
        self.playback.begin()
        self._traced, self.trace = None, before
        self.progress, self.status, self.message = 0.0, "running", "Starting …"
        self.panel = "converge"
        self._job = Job(run, self._iterations, self._ended).start()
        return self

    def stop(self) -> Explorer:
        """Ask a running fit to end; what it reached becomes the result."""
        if self._job is not None and self._job.alive:
            self.message = "Stopping after the iteration in hand …"
            self._job.stop()
        return self

    def extend(self, iterations: int) -> None:
        """Let the phase in progress of a running fit go on for so many iterations more."""
        if self.running and self.control is not None:
            self.control.extend(iterations)

    def end_phase(self) -> None:
        """End the phase in progress of a running fit after the iteration in hand."""
        if self.running and self.control is not None:
            self.control.end_phase()

    @property
    def traced_problem(self) -> Any:
        """The problem that the iterations in `trace` are of; that of all data where the fit left subjects out."""
        job = self._job
        if self.running and job is not None and isinstance(job.run, Run):
            own = job.run.problem
        else:
            own = self.problem if self.result is None else self.result.problem
        return own if own.n_subjects == self.problem.n_subjects else self.problem

    @property
    def method_options(self) -> dict[str, Any]:
        """Options of the method chosen that differ from their defaults."""
        return self.options_of(self.method)

    @method_options.setter
    def method_options(self, options: Mapping[str, Any]) -> None:
        self.options = self.options | {self.method: dict(options)}

    def options_of(self, method: str) -> dict[str, Any]:
        """Return the options set for a method."""
        return self.options.get(method, {})  # type: ignore[no-any-return]

    def set_option(self, name: str, value: Any, default: Any) -> None:
        """Set an option of the method chosen; the default is no option."""
        kept = {k: v for k, v in self.method_options.items() if k != name}
        self.options = self.options | {self.method: kept if value == default else kept | {name: value}}

    def wait(self, timeout: float | None = None) -> Explorer:
        """Wait until the running fit (and any guess or pending look) is done."""
        if self._job is not None:
            self._job.wait(timeout)
        self._guessing.wait(timeout)
        self._latest.wait(timeout)
        for panel in self.panels.values():
            if panel.visible:
                panel.wait(timeout)
        return self

    def _iterations(self, new: Sequence[Any]) -> None:
        with self.lock:
            last = new[-1]
            self.trace = thinned((*self.trace, *new))
            self.playback.live()
            self.progress = last.progress
            elapsed = time.monotonic() - self._began
            left = time_left(elapsed, last.progress)
            if self.workspace is not None and self._job is not None:
                self.workspace.iterate(self._job.run, self.trace, elapsed)
            if not (self._job and self._job.stopping):
                self.message = f"Iteration {last.k}, {last.phase}: OFV {last.ofv:.3f}, {left}."

    def _ended(self, fit: Fit | None, error: str) -> None:
        with self.lock:
            if self.workspace is not None:
                self.workspace.ended()
            if fit is None:
                self.status, self.message = "failed", error
            else:
                self.playback.end()
                self.result = self._traced = fit
                self.fits = (*self.fits, fit)
                self.status = fit.status
                self.message = f"{fit.message} OFV {fit.ofv:.4f} ({fit.ofv_by}) in {fit.elapsed:.2f} s."
                self.progress = 1.0 if fit.status == "converged" else self.progress
                label = f"the {fit.method.upper()} estimates ({fit.status})"
                self.shown = fit.values
                self.point = self.point_of(fit, label)
            self.running = False

    def point_of(self, fit: Fit, label: str) -> Point:
        """Return where a fit ended, for all subjects: those that it left out are judged by it too."""
        if fit.n_subjects == self.problem.n_subjects and fit.n_obs == self.problem.n_obs:
            return Point(fit.problem, fit.values, fit.etas.T, label)
        return Point(self.problem, fit.values, look(self.problem, fit.values, self.method).eta, label)

    def take_estimates(self) -> None:
        """Move the sliders to the estimates of the last fit: thetas, omegas, correlations, sigmas."""
        if self.result is not None:
            self.params = {name: float(value) for name, value in self.result.estimates.items()}

    def to_code(self) -> str:
        """Return a cell that reproduces this exploration: data, model at the slider values, objective."""
        options = "".join(f", {k}={v!r}" for k, v in self.method_options.items())
        chosen = f", selected_ids={list(self.selected_ids)!r}" if self.selected_ids else ""
        kept = "data"
        if self.excluded_records:
            kept += f".exclude(records={list(self.excluded_records)!r})"
        if self.excluded:
            kept += f".exclude(ids={list(self.excluded)!r})"
        return "\n".join(
            [
                "import sympy as sp",
                "import nlmewidgets as nw",
                "",
                data_code(self.data),
                "",
                model_code(self.model_now),
                "",
                f'print(f"OFV {{model.ofv(data, method={self.objective_by!r}):.4f}}")',
                f"# fit = model.fit({kept}, method={self.method!r}, seed={self.seed!r}{options})",
                f"nw.explore(model, data, method={self.method!r}, seed={self.seed!r}{chosen}{options})",
            ]
        )

    def link(self) -> str:
        """Return this exploration as a short string, which `nlmewidgets.open` makes an explorer of again.

        It holds the model, the sliders, method and options, and where the data are, not the data themselves.
        """
        return to_link(self)

    def save_tables(self, folder: str | Path = "tables") -> list[Path]:
        """Write the tables of the last fit, and of all runs, into a folder; return the files.

        Raises
        ------
        NlmeError
            If there is no fit yet, or the folder cannot be written to.
        """
        if self.result is None:
            raise NlmeError("There is no fit yet to make tables of; press Start, or call start().wait().")
        return self.result.save_tables(folder)  # type: ignore[no-any-return]

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """Return the widget, and a picture of it for where widgets cannot show (nbconvert, viewers of notebooks)."""
        return super()._repr_mimebundle_(**options) | {"text/plain": words(self), "text/html": still(self)}

    def close(self) -> None:
        """End a running fit or guess and remove the widget."""
        self._ended_guess.set()
        if self._job is not None:
            self._job.stop()
        if self.workspace is not None:
            self.workspace.close()
        super().close()

    def _replace_earlier(self) -> None:
        """End the job of the explorer that this notebook cell made before."""
        cell = _cell_id()
        if cell is None:
            return
        earlier = _open.get(cell)
        found = earlier() if earlier is not None else None
        if found is not None:
            found.stop()
            found._ended_guess.set()
            if found.workspace is not None:
                found.workspace.close()
        _open[cell] = weakref.ref(self)


def _cell_id() -> str | None:
    """Return the identity of the notebook cell being run, where the front end tells it."""
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return None
    shell = get_ipython()
    parent = getattr(shell, "parent_header", None) or {}
    found = (parent.get("metadata") or {}).get("cellId")
    return str(found) if found else None
