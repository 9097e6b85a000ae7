"""Looking at data before any model: profiles, covariates, summary and non-compartmental analysis in one widget."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as ipw

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError
from nlmewidgets.panels.look_covariates import LookCovariatesPanel
from nlmewidgets.panels.look_profiles import ProfilesPanel
from nlmewidgets.panels.look_tables import NcaPanel, SummaryPanel
from nlmewidgets.panels.selection import Selection
from nlmewidgets.panels.theme import style

__all__ = ["LOOK_PANELS", "DataLook"]

LOOK_PANELS = {
    "profiles": ProfilesPanel,
    "covariates": LookCovariatesPanel,
    "summary": SummaryPanel,
    "nca": NcaPanel,
}
"""Every tab by its name, in order."""


class DataLook(Selection, ipw.VBox):
    """Look at a study: every subject's profile, the covariates, what is missing, and an NCA.

    Parameters
    ----------
    data : Data
    selected_ids : sequence
        Subjects lit up at the start.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> look = nw.look(nw.datasets.load("theophylline"))    # doctest: +SKIP
    >>> look.selected_ids = (5,)                            # doctest: +SKIP
    >>> look.panels["profiles"].log.value = True            # doctest: +SKIP
    """

    def __init__(self, data: Data, *, selected_ids: Sequence[Any] = ()) -> None:
        if not isinstance(data, Data):
            raise DataError(
                f"look() needs Data and was given a {type(data).__name__}; read them with Data.from_frame() or "
                "Data.read_csv()."
            )
        super().__init__()
        self.data = data
        self.selected_ids = tuple(selected_ids)
        self._syncing = False
        self.add_class("nlme")
        self.panels = {name: panel(self) for name, panel in LOOK_PANELS.items()}
        self.tabs = ipw.Tab(children=[p.root for p in self.panels.values()])
        for k, panel in enumerate(self.panels.values()):
            self.tabs.set_title(k, panel.title)
        self.tabs.layout = ipw.Layout(width="100%")
        self.tabs.observe(lambda _: self._tab(), "selected_index")
        self.children = (style(), self._header(), self.tabs)
        self.observe(lambda _: self._show_selection(), names=["selected_ids"])
        self._show_selection()
        self.tabs.selected_index = 0
        self._tab()

    def _header(self) -> ipw.Widget:
        data = self.data
        name = str(data.origin.get("name") or data.origin.get("path") or "Data").rpartition("/")[2]
        parts = [f"{data.n_subjects} subjects", f"{data.n_obs} observations", f"{int(data.dosed.sum())} doses"]
        if data.exclusions:
            parts.append(f"{len(data.complete) - len(data)} records left out")
        title = ipw.HTML(
            f"<h3>{html.escape(name)}</h3><div class='nlme-caption'><span class='soft'>{', '.join(parts)}</span></div>"
        )
        title.layout = ipw.Layout(flex="1 1 auto")
        self._subject = ipw.Dropdown(
            options=self.subject_choices(),
            description="Subject",
            style={"description_width": "56px"},
            layout=ipw.Layout(width="190px"),
        )
        self._subject.observe(self._chosen, "value")
        return ipw.HBox([title, self._subject], layout=ipw.Layout(width="100%", align_items="center"))

    def _tab(self) -> None:
        names = list(self.panels)
        for k, name in enumerate(names):
            if k == self.tabs.selected_index:
                self.panels[name].show()
            else:
                self.panels[name].hide()

    def _show_selection(self) -> None:
        if self._subject.value == self.selected_ids:
            return
        self._syncing = True
        try:
            self._subject.options = self.subject_choices()
            self._subject.value = self.selected_ids
        finally:
            self._syncing = False

    def _chosen(self, change: Any) -> None:
        if not self._syncing:
            self.selected_ids = change["new"]
