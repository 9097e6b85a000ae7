"""The line above the steps: model, objective since the pin, subject, and what is to be noticed."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as ipw
import numpy as np

__all__ = ["Header"]


class Header:
    """Title, objective, *Pin* and the choice of a subject.

    Attributes
    ----------
    root : Widget
    objective, subject, notice : Widget
    """

    def __init__(self, explorer: Any) -> None:
        self.explorer = explorer
        data, name = explorer.data, explorer.model.name or "Model"
        about = f"{data.n_subjects} subjects, {data.n_obs} observations"
        title = ipw.HTML(
            f"<h3>{html.escape(name)}</h3><div class='nlme-caption'><span class='soft'>{about}</span></div>",
            layout=ipw.Layout(flex="1 1 auto"),
        )
        self.objective = ipw.HTML(layout=ipw.Layout(min_width="470px", flex="0 0 auto"))
        pin = ipw.Button(description="Pin", tooltip="Count changes of the objective from here", icon="thumb-tack")
        pin.layout = ipw.Layout(width="64px")
        pin.on_click(lambda _: explorer.pin())
        self._syncing = False
        self.subject = ipw.Dropdown(
            options=explorer.subject_choices(),
            description="Subject",
            style={"description_width": "56px"},
            layout=ipw.Layout(width="170px"),
        )
        self.subject.observe(self._chosen, "value")
        self.notice = ipw.HTML()
        bar = ipw.HBox(
            [title, self.objective, pin, self.subject],
            layout=ipw.Layout(width="100%", align_items="center", flex_flow="row wrap"),
        )
        self.root = ipw.VBox([bar, self.notice], layout=ipw.Layout(width="100%"))
        explorer.observe(lambda _: self._show_objective(), names=["ofv", "pinned", "notice"])
        explorer.observe(lambda _: self._show_selection(), names=["selected_ids"])
        self._show_objective()
        self._show_selection()

    def _show_objective(self) -> None:
        explorer = self.explorer
        by = {"laplace": "Laplace"}.get(explorer.objective_by, explorer.objective_by.upper())
        shown = f"{explorer.ofv:.3f}" if np.isfinite(explorer.ofv) else "not a number" if by else "…"
        text = f"<span class='nlme-number' aria-live='polite'>{shown}</span> "
        text += f"<span class='nlme-delta'>{f'OFV ({by}) at the sliders' if by else 'computing the OFV at the sliders'}"
        if explorer.pinned is not None and np.isfinite(explorer.ofv):
            change = explorer.ofv - explorer.pinned
            kind = "nlme-better" if change < -5e-4 else "nlme-worse" if change > 5e-4 else ""
            text += f" · <span class='{kind}'>{change:+.3f}</span> since pin"
        self.objective.value = text + "</span>"
        notice = html.escape(explorer.notice)
        self.notice.value = f"<div class='nlme-alert nlme-caption' role='alert'>{notice}</div>" if notice else ""

    def _show_selection(self) -> None:
        if self.subject.value == self.explorer.selected_ids:
            return
        self._syncing = True
        try:
            self.subject.options = self.explorer.subject_choices()
            self.subject.value = self.explorer.selected_ids
        finally:
            self._syncing = False

    def _chosen(self, change: Any) -> None:
        if not self._syncing:
            self.explorer.selected_ids = change["new"]
