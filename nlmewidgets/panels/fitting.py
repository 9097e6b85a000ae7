"""The fit box: choose a method and its options, start, stop, extend, and read how it goes."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as ipw

from nlmewidgets.fit.choices import Choice, Option, choices
from nlmewidgets.panels.why import WhyBox

__all__ = ["FitBox"]


class FitBox:
    """Methods, options and buttons of an explorer.

    Attributes
    ----------
    root : Widget
    method, start, stop, resume, extend, take : Widget
    """

    def __init__(self, explorer: Any) -> None:
        self.explorer = explorer
        self.choices: dict[str, Choice] = choices()
        label = {"description_width": "56px"}
        titles = [(c.title[0].upper() + c.title[1:], c.name) for c in self.choices.values()]
        self.method = ipw.Dropdown(options=titles, value=explorer.method, description="Method", style=label)
        self.method.layout = ipw.Layout(width="auto")
        ipw.link((explorer, "method"), (self.method, "value"))
        self.summary = ipw.HTML()
        self.summary.add_class("nlme-caption")
        self.options = ipw.VBox()
        self.more = ipw.Accordion(children=[self.options], selected_index=None, titles=["Options"])
        self.start = ipw.Button(description="Start", button_style="primary", icon="play")
        self.stop = ipw.Button(description="Stop", button_style="danger", icon="stop", disabled=True)
        self.extend = ipw.Button(
            description="+100", tooltip="Let the phase in progress go on for 100 iterations more", icon="forward"
        )
        self.finish = ipw.Button(
            description="Next phase", tooltip="End the phase in progress after this iteration", icon="step-forward"
        )
        self.resume = ipw.Button(
            description="Resume", tooltip="Go on from where the last fit ended", icon="repeat", disabled=True
        )
        self.start.layout = self.stop.layout = self.extend.layout = ipw.Layout(width="84px")
        self.resume.layout = ipw.Layout(width="94px")
        self.finish.layout = ipw.Layout(width="118px")
        self.phase = ipw.HBox([self.extend, self.finish])
        self.bar = ipw.FloatProgress(min=0.0, max=1.0, layout=ipw.Layout(width="auto", height="14px"))
        self.status = ipw.HTML()
        self.status.add_class("nlme-caption")
        self.take = ipw.Button(
            description="Take estimates", tooltip="Move the sliders to the estimates", icon="arrow-up", disabled=True
        )
        self.take.layout = ipw.Layout(width="150px")
        for button, action in (
            (self.start, lambda _: explorer.start()),
            (self.stop, lambda _: explorer.stop()),
            (self.resume, lambda _: explorer.resume()),
            (self.extend, lambda _: explorer.extend(100)),
            (self.finish, lambda _: explorer.end_phase()),
            (self.take, lambda _: explorer.take_estimates()),
        ):
            button.on_click(action)
        self.why = WhyBox(explorer)
        self.root = ipw.VBox(
            [
                ipw.HTML("<h3>Fit</h3>"),
                self.method,
                self.summary,
                self.more,
                ipw.HBox([self.start, self.stop, self.resume], layout=ipw.Layout(flex_flow="row wrap")),
                self.phase,
                self.bar,
                self.status,
                self.take,
                self.why.root,
            ],
            layout=ipw.Layout(margin="10px 0 0"),
        )
        explorer.observe(lambda _: self.choose(), names=["method", "options"])
        explorer.observe(lambda _: self.show(), names=["running", "progress", "status", "message", "result"])
        self.choose()
        self.show()

    _typing = False

    def choose(self) -> None:
        """Show the options of the method chosen."""
        if self._typing:
            return
        choice = self.choices[self.explorer.method]
        self.summary.value = f"<span class='soft'>{html.escape(choice.summary)}</span>"
        rows: list[Any] = []
        for option in choice.options:
            value = self.explorer.options_of(choice.name).get(option.name, option.default)
            entry = ipw.Text(
                value=str(value),
                description=option.name,
                tooltip=option.text,
                continuous_update=False,
                style={"description_width": "110px"},
                layout=ipw.Layout(width="auto"),
            )
            note = ipw.HTML(f"<span class='soft'>{html.escape(option.text)}</span>")
            note.add_class("nlme-caption")
            entry.observe(lambda change, o=option, n=note: self._typed(o, change["new"], n), "value")
            rows += [entry, note]
        self.options.children = tuple(rows)

    def options_shown(self) -> dict[str, Any]:
        """Return every option of the method chosen, as the box shows it."""
        choice = self.choices[self.explorer.method]
        return {o.name: o.default for o in choice.options} | self.explorer.options_of(choice.name)

    def _typed(self, option: Option, text: str, note: ipw.HTML) -> None:
        try:
            value = option.read(text)
        except ValueError as error:
            note.value = f"<div class='nlme-alert'>{html.escape(str(error))}</div>"
            return
        note.value = f"<span class='soft'>{html.escape(option.text)}</span>"
        self._typing = True  # the field keeps what was typed, and the cursor
        try:
            self.explorer.set_option(option.name, value, option.default)
        finally:
            self._typing = False

    def show(self) -> None:
        """Bring buttons, bar and words up to date."""
        state = self.explorer
        self.start.disabled, self.stop.disabled = state.running, not state.running
        self.take.disabled = self.resume.disabled = state.running or state.result is None
        self.method.disabled = state.running
        self.phase.layout.display = None if state.running and state.control is not None else "none"
        self.bar.value = state.progress
        self.bar.bar_style = {
            "converged": "success",
            "failed": "danger",
            "stopped": "warning",
            "limit": "warning",
        }.get(state.status, "info")
        words = html.escape(state.message) or "Ready: drag the sliders, then press Start."
        alert = " class='nlme-alert'" if state.status in ("failed", "limit") else ""
        self.status.value = f"<div{alert} aria-live='polite'>{words}</div>"
