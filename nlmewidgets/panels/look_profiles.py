"""Observations of every subject over time, coloured by covariate or dose: the spaghetti plot."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets as ipw
import numpy as np

from nlmewidgets.diagnostics import spaghetti
from nlmewidgets.diagnostics.look import BY_DOSE
from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption, legend
from nlmewidgets.panels.theme import DATA, FIT, SELECTED, TREND, WARN

__all__ = ["GROUP_COLOURS", "ProfilesPanel"]

GROUP_COLOURS = (FIT, TREND, WARN, DATA)
"""Colours of at most four groups; the colour of the selection is not among them."""

_MOST_POINTS = 2_500
"""Beyond these, points are drawn for the selection only: many of them make every redraw slow."""


def _toggle(text: str, tip: str) -> ipw.ToggleButton:
    button = ipw.ToggleButton(value=False, description=text, tooltip=tip)
    button.layout = ipw.Layout(width="auto", padding="0 8px")
    return button


class ProfilesPanel(Panel):
    """One line per subject."""

    title = "Profiles"
    step: ClassVar[str] = "data"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"draw": (), "draw_selected": ("selected_ids",)}

    def build(self) -> None:
        """Make the controls; every one of them draws the figure anew."""
        data = self.state.data
        self.outputs = list(dict.fromkeys(data.dvid.tolist()))
        self.output = ipw.Dropdown(options=[(str(o), o) for o in self.outputs], description="Output")
        self.output.layout = ipw.Layout(width="170px", display="" if len(self.outputs) > 1 else "none")
        choices = [("nothing", None), *((str(c), c) for c in data.covariates)]
        if data.dosed.any() and BY_DOSE not in data.covariates:
            choices.append(("dose group", BY_DOSE))
        self.by = ipw.Dropdown(options=choices, description="Colour by")
        self.by.layout = ipw.Layout(width="220px")
        self.per_dose = _toggle("Per dose", "Observations divided by the last dose")
        self.after_dose = _toggle("Time after dose", "Time counted from the last dose")
        self.log = _toggle("Log axis", "Logarithmic observation axis")
        for button in (self.per_dose, self.after_dose):
            button.layout.display = "" if data.dosed.any() else "none"
        for control in (self.output, self.by, self.per_dose, self.after_dose, self.log):
            control.observe(lambda _: self._redraw(), "value")
        self.key = ipw.VBox()
        self.box = ipw.VBox()
        self.text = caption()
        bar = ipw.HBox([self.output, self.by, self.per_dose, self.after_dose, self.log])
        bar.layout = ipw.Layout(flex_flow="row wrap", grid_gap="2px 6px", margin="4px 0")
        self.root.children = (bar, self.key, self.box, self.text)

    def _redraw(self) -> None:
        self.draw()
        self.draw_selected()

    def draw(self) -> None:
        """Draw every profile."""
        data = self.state.data
        self.table = spaghetti(
            data,
            by=self.by.value,
            output=self.output.value,
            per_dose=self.per_dose.value,
            after_dose=self.after_dose.value,
        )
        good = np.isfinite(self.table["DV"].to_numpy())
        if self.log.value:
            good &= self.table["DV"].to_numpy() > 0
        self.hidden = int((~good).sum())
        self.shown = self.table[good].reset_index(drop=True)
        if self.shown.empty:
            why = (
                "no observation is positive: switch the log axis off"
                if self.log.value
                else "no observation follows a dose"
            )
            self.box.children = (ipw.HTML(f"<div class='nlme-empty'>There is nothing to draw: {why}.</div>"),)
            self.key.children = ()
            self.picked = None
            return
        x = Ruler(data.axis_label("TIME", "Time after dose" if self.after_dose.value else "Time"), "bottom")
        y = Ruler(self._label(), "left", log=self.log.value)
        x.span(float(self.shown["TIME"].min()), float(self.shown["TIME"].max()))
        y.span(float(self.shown["DV"].min()), float(self.shown["DV"].max()))
        self.frame = Frame(x, y, height="400px")
        groups = [g for g in self.shown["group"].cat.categories if (self.shown["group"] == g).any()]
        self.points = []
        marks = []
        for k, group in enumerate(groups):
            part = self.shown[self.shown["group"] == group]
            colour = GROUP_COLOURS[k % len(GROUP_COLOURS)]
            marks.append(self._lines(part, colour, 1.2, 0.55))
            if len(self.shown) <= _MOST_POINTS:
                points = bq.Scatter(
                    x=part["TIME"].to_numpy(),
                    y=part["DV"].to_numpy(),
                    scales=self.frame.scales,
                    colors=[colour],
                    default_size=14,
                    opacities=[0.85],
                    labels=[self._group_name(group) if self.by.value is not None else "observed"],
                    names=[f"ID {label}" for label in part["ID"]],
                    display_names=False,
                )
                points.on_element_click(lambda _, event, part=part: self._clicked(part["ID"].to_numpy(), event))
                self.points.append(points)
        self.picked = self._lines(self.shown.iloc[:1], SELECTED, 2.5, 1.0)
        self.picked_points = bq.Scatter(
            x=[0.0], y=[1.0], scales=self.frame.scales, colors=[SELECTED], default_size=36, visible=False
        )
        self.picked.visible = False
        self.frame.put(*marks, *self.points, self.picked, self.picked_points)
        self.box.children = (self.frame.figure,)
        named = self.by.value is not None
        entries = [
            ("line", GROUP_COLOURS[k % 4], self._group_name(g) if named else "a subject") for k, g in enumerate(groups)
        ]
        self.key.children = (legend(*entries, ("line", SELECTED, "selected subject")),)

    def _lines(self, part: Any, colour: str, width: float, opacity: float) -> Any:
        x, y = _broken(part)
        return bq.Lines(x=x, y=y, scales=self.frame.scales, colors=[colour], stroke_width=width, opacities=[opacity])

    def _label(self) -> str:
        data = self.state.data
        name = "Observation" if len(self.outputs) == 1 else str(self.output.value)
        unit = data.output_unit(self.output.value)
        if self.per_dose.value:
            amount = data.unit("AMT")
            per = f"{unit} per {amount}" if unit and amount else unit
            return f"{name} per dose ({per})" if per else f"{name} per dose"
        return f"{name} ({unit})" if unit else name

    def _group_name(self, group: str) -> str:
        data, by = self.state.data, self.by.value
        name, column = ("dose", "AMT") if by == BY_DOSE and by not in data.covariates else (by, by)
        unit = data.unit(column)
        has_digits = any(c.isdigit() for c in group)
        return f"{name} {group}{f' {unit}' if unit and has_digits else ''}"

    def _clicked(self, ids: Any, event: Any) -> None:
        label = ids[int(event["data"]["index"])]
        self.state.toggle(label.item() if hasattr(label, "item") else label)

    def draw_selected(self) -> None:
        """Light the selected subjects up, and say what is shown."""
        chosen = self.state.selected_ids
        if self.picked is not None:
            part = self.shown[self.shown["ID"].isin(list(chosen))]
            with self.picked.hold_sync(), self.picked_points.hold_sync():
                if len(part):
                    self.picked.x, self.picked.y = _broken(part)
                    self.picked_points.x, self.picked_points.y = part["TIME"].to_numpy(), part["DV"].to_numpy()
                self.picked.visible = self.picked_points.visible = bool(len(part))
        self.text.value = f"<span class='soft'>{self._words(chosen)}</span>"

    def _words(self, chosen: tuple[Any, ...]) -> str:
        data, table = self.state.data, self.table
        words = [f"{len(self.shown)} observations of {self.shown['subject'].nunique()} subjects."]
        if self.hidden:
            why = "not positive" if self.log.value else "before any dose"
            words.append(f"{self.hidden} not shown ({why}).")
        censored = int(table["censored"].sum())
        if censored:
            words.append(f"{censored} censored, drawn at their limit.")
        if self.per_dose.value:
            words.append("Each observation is divided by the last dose before it.")
        if data.exclusions:
            words.append(f"{len(data.complete) - len(data)} records are left out (see Summary).")
        if chosen:
            words.append("Selected: " + ", ".join(html.escape(str(i)) for i in chosen) + ".")
        elif len(self.shown) <= _MOST_POINTS:
            words.append("Click a point to light its subject up everywhere.")
        else:
            words.append("Choose a subject at the top to light it up.")
        return " ".join(words)


def _broken(part: Any) -> tuple[Any, Any]:
    """Return the profiles as one line with gaps between the curves."""
    curve = part["curve"].to_numpy()
    ends = np.flatnonzero(np.diff(curve) != 0) + 1
    return np.insert(part["TIME"].to_numpy(float), ends, np.nan), np.insert(part["DV"].to_numpy(float), ends, np.nan)
