"""The environment: sliders over the data, fits to watch, panels to judge them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ipywidgets as ipw
import traitlets as tl

from nlmewidgets.core.code import data_code, model_code
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.fit.choices import choices
from nlmewidgets.fit.live import usable
from nlmewidgets.fit.scale import within
from nlmewidgets.panels.fitting import FitBox
from nlmewidgets.panels.guessing import Guessing
from nlmewidgets.panels.header import Header
from nlmewidgets.panels.initial import InitialPanel
from nlmewidgets.panels.playback import Playback
from nlmewidgets.panels.registry import PANELS
from nlmewidgets.panels.runner import Runner
from nlmewidgets.panels.session import to_link
from nlmewidgets.panels.steps import STEPS, Steps
from nlmewidgets.panels.still import still, words
from nlmewidgets.panels.theme import style
from nlmewidgets.panels.workspace import Workspace, default_path

__all__ = ["Explorer"]

_open: dict[str, weakref.ref[Explorer]] = {}
"""The explorer of each notebook cell: running the cell again ends the job of the one before."""


class Explorer(Runner, ipw.VBox):
    """Explore a model over data: set initial estimates, fit, judge, take over, export.

    All state is in traits (see `State`); setting one is moving the widget, and every action of the
    interface is a method.

    Parameters
    ----------
    model : Model
    data : Data
    method : str, optional
        The method preselected, and whose objective is shown; FOCEI where it treats the model, else Laplace.
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
    _attaching: int | None = None

    def __init__(
        self,
        model: Model,
        data: Data,
        *,
        method: str | None = None,
        seed: int | None = 1,
        selected_ids: Sequence[Any] = (),
        workspace: str | Path | bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.seed = seed
        self._attached: list[tuple[Any, Any, str]] = []
        self.changing = False
        if method is None:
            method = usable(model.problem(data), "focei")
        self.options = {method: dict(options)}
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
        if self._attaching == threading.get_ident():
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
        problem = model.problem(data)  # refuses before anything has changed
        with self.lock:  # a workspace that is being written has the old ones by now, the next one waits
            self.changing = True
        try:
            self._change(model, data)
            self.method = usable(problem, self.method)
        finally:
            self.changing = False
        return self

    def _change(self, model: Model, data: Data) -> None:
        if self._job is not None:
            self._job.stop()  # the objective of a fit that was stopped may still be on its way
        self.guessing.end()
        self.guessing.wait()
        self._latest.wait()
        for panel in self.panels.values():
            panel.hide()
            panel.close()
        for handler, names, kind in self._attached:
            self.unobserve(handler, names, kind)
        self._attached.clear()
        self.result, self.trace, self.control = None, (), None
        self.progress, self.status, self.message = 0.0, "idle", ""
        self.playback.begin()  # a run followed no more is the next one's affair
        self._traced, self.refit = None, ()
        self.excluded = self.excluded_records = ()
        with self.attaching():
            self.setup(model, data)
        self._make()

    @contextmanager
    def attaching(self) -> Iterator[None]:
        """Let what this thread observes in here end with the model."""
        before, self._attaching = self._attaching, threading.get_ident()
        try:
            yield
        finally:
            self._attaching = before

    def _make(self) -> None:
        self.add_class("nlme")
        with self.attaching():
            self._build()

    def _build(self) -> None:
        self.header = Header(self)
        self.guessing = Guessing(self)
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
            self.header.root,
            self.steps.row,
            # Where there is no room for both, as with a larger font or zoomed in, the figures go beneath.
            ipw.HBox(
                [left, self.steps.place],
                layout=ipw.Layout(width="100%", align_items="flex-start", flex_flow="row wrap"),
            ),
        )
        self.observe(lambda _: self._show_left(), names=["step"])
        self._show_left()

    def _show_left(self) -> None:
        """Give data and model the whole width: sliders and fits have nothing to say to them."""
        self.left.layout.display = "none" if self.step in ("data", "model") else None

    def _parameter_box(self) -> ipw.Widget:
        reset = ipw.Button(description="Reset", tooltip="Back to the model's initial values", icon="fast-backward")
        reset.layout = ipw.Layout(width="84px")
        reset.on_click(lambda _: self.reset())
        head = ipw.HBox(
            [
                ipw.HTML("<h3>Parameters</h3>", layout=ipw.Layout(flex="1 1 auto")),
                self.initial.undo,
                self.initial.redo,
                self.guessing.button,
                reset,
            ],
            layout=ipw.Layout(align_items="center", flex_flow="row wrap"),
        )
        return ipw.VBox([head, self.initial.root])

    # ---------------------------------------------------------------------- actions

    def reset(self) -> None:
        """Move the sliders back to the model's initial values."""
        self.params = self.model.space.to_dict(self.model.space.initial)

    def guess(self) -> Explorer:
        """Find starting values from the data, beside the interface, and move the sliders to them."""
        self.guessing.start()
        return self

    def wait(self, timeout: float | None = None) -> Explorer:
        """Wait until the running fit (and any guess or pending look) is done."""
        if self._job is not None:
            self._job.wait(timeout)
        self.guessing.wait(timeout)
        self._latest.wait(timeout)
        for panel in self.panels.values():
            if panel.visible:
                panel.wait(timeout)
        return self

    def take_estimates(self) -> None:
        """Move the sliders to the estimates of the last fit: thetas, omegas, correlations, sigmas."""
        if self.result is not None:
            space, found = self.model.space, self.result.estimates
            self.params = {name: within(space, name, float(value)) for name, value in found.items()}

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
        self.guessing.end()
        for panel in self.panels.values():
            panel.close()
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
            found.guessing.end()
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
