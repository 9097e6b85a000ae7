"""Subjects and observations left out of the next fit, which can be taken back."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as ipw
import numpy as np

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.panels.base import caption

__all__ = ["LeaveOut", "left_out"]


class LeaveOut:
    """Buttons that leave out the selected subjects or one of their observations, take all back, and fit again.

    Parameters
    ----------
    state : Explorer
    """

    def __init__(self, state: Any) -> None:
        self.state = state
        self.subjects = _button("Leave out selected", "The next fit is without the selected subjects", 150)
        self.subjects.on_click(lambda _: self.leave_out_subjects())
        self.observation = ipw.Dropdown(description="Observation", style={"description_width": "80px"})
        self.observation.layout = ipw.Layout(width="290px")
        self.point = _button("Leave out", "The next fit is without this observation", 90)
        self.point.on_click(lambda _: self.leave_out_observation())
        self.back = _button("Take all back", "The next fit is with all data", 110)
        self.back.on_click(lambda _: self.restore())
        self.refit = _button("Fit again", "Fit by the method chosen, from the slider values", 90)
        self.refit.on_click(lambda _: state.start())
        self.text = caption()
        bar = ipw.HBox([self.subjects, self.observation, self.point, self.back, self.refit])
        bar.layout = ipw.Layout(flex_flow="row wrap", align_items="center")
        self.root = ipw.VBox([bar, self.text])
        state.observe(lambda _: self.show(), names=["selected_ids", "excluded", "excluded_records", "running", "dvid"])
        self.show()

    def leave_out_subjects(self) -> None:
        """Leave the selected subjects out of the next fit."""
        self._set([*self.state.excluded, *self.state.selected_ids], self.state.excluded_records)

    def leave_out_observation(self) -> None:
        """Leave the observation chosen in the list out of the next fit."""
        if self.observation.value is not None:
            self._set(self.state.excluded, [*self.state.excluded_records, self.observation.value])

    def restore(self) -> None:
        """Take everything back."""
        self._set((), ())

    def _set(self, ids: Any, records: Any) -> None:
        state, before = self.state, (self.state.excluded, self.state.excluded_records)
        state.excluded, state.excluded_records = tuple(ids), tuple(records)
        try:
            _ = state.data_kept
        except NlmeError as refusal:
            state.excluded, state.excluded_records = before
            self.text.value = f"<div class='nlme-alert'>{html.escape(str(refusal))}</div>"

    def show(self) -> None:
        """Say what is left out, and offer what can be."""
        state = self.state
        table = state.data.records
        own = table["ID"].isin(list(state.selected_ids)).to_numpy() & state.data.observed
        rows = [int(k) for k in np.flatnonzero(own) if k not in state.excluded_records]
        unit = state.data.unit("TIME")
        self.observation.options = [
            (f"ID {table['ID'][k]} at {table['TIME'][k]:g}{' ' + unit if unit else ''}: {table['DV'][k]:g}", k)
            for k in rows
        ]
        self.observation.disabled = self.point.disabled = not rows
        self.subjects.disabled = not set(state.selected_ids) - set(state.excluded)
        self.back.disabled = not (state.excluded or state.excluded_records)
        self.refit.disabled = state.running
        parts = [f"ID {', '.join(map(str, state.excluded))}"] if state.excluded else []
        parts += [f"ID {table['ID'][k]} at {table['TIME'][k]:g}" for k in state.excluded_records]
        words = f"The next fit leaves out {'; '.join(parts)}." if parts else "The next fit is of all data."
        self.text.value = (
            f"<span class='soft' aria-live='polite'>{html.escape(words)} It starts at the sliders, whose objective is "
            "that of all data; objectives of fits to different data cannot be compared, their estimates can.</span>"
        )


def left_out(data: Data, state: Any) -> Any:
    """Return which observations the next fit leaves out, (obs,) bool."""
    record = np.flatnonzero(data.observed)
    by_id = data.records["ID"].isin(list(state.excluded)).to_numpy()[record]
    return by_id | np.isin(record, list(state.excluded_records)) if len(data) == len(state.data) else by_id


def _button(text: str, tip: str, width: int) -> ipw.Button:
    return ipw.Button(description=text, tooltip=tip, layout=ipw.Layout(width=f"{width}px"))
