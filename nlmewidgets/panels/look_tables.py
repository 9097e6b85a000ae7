"""The study in tables: what is in it, what is missing or left out, and its non-compartmental analysis."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any, ClassVar

import ipywidgets as ipw

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.diagnostics import nca, nca_summary
from nlmewidgets.diagnostics.nca import ROUTES, RULES
from nlmewidgets.panels.base import Panel, caption
from nlmewidgets.panels.tables import TableView

__all__ = ["NcaPanel", "SummaryPanel"]

_MOST_ROWS = 200
"""Rows of the table of profiles; the selection comes first beyond them."""

_COLUMNS = [
    "ID", "dose", "amount", "n", "Cmax", "tmax", "AUClast", "AUCinf", "extrapolated", "half_life", "points", "CL/F",
    "Vz/F", "MRT", "note",
]  # fmt: skip
_NAMES = {"half_life": "half-life", "extrapolated": "extrap.", "points": "λz points"}


class SummaryPanel(Panel):
    """Counts, outputs with what is missing or below the limit, covariates, and every record left out."""

    title = "Summary"
    step: ClassVar[str] = "data"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"draw": ()}

    def build(self) -> None:
        """Make the tables."""
        data = self.state.data
        about = data.describe()
        parts: list[Any] = [self._table("Study", about.study.to_frame("value"), text=("value",), index="what")]
        parts.append(self._table("Outputs", about.outputs, text=("unit",), index="output"))
        missing = about.outputs["missing"].sum() + about.outputs["BLQ"].sum()
        blq = "BLQ: observations with CENS, below (or above) a limit of quantification; missing: observation records "
        parts.append(
            caption(f"<span class='soft'>{blq}without DV, predicted and not fitted.</span>" if missing else "")
        )
        if len(about.covariates):
            parts.append(
                self._table(
                    "Covariates", about.covariates, text=("unit", "kind", "summary", "changes with time"), index="name"
                )
            )
        parts.append(ipw.HTML("<h4>Left out</h4>"))
        if data.exclusions:
            view = TableView()
            view.show(data.history, text=("what", "reason", "who"), wide=("note",), index="step")
            parts.append(view.root)
            parts.append(
                caption("<span class='soft'>data.without_exclusion(step) undoes one, data.restored() all.</span>")
            )
        else:
            parts.append(caption("<span class='soft'>Nothing: every record read is used.</span>"))
        if data.notes:
            items = "".join(f"<li>{html.escape(note)}</li>" for note in data.notes)
            parts += [ipw.HTML("<h4>How the records were read</h4>"), caption(f"<ul>{items}</ul>")]
        self.root.children = tuple(parts)

    @staticmethod
    def _table(title: str, frame: Any, **options: Any) -> ipw.Widget:
        view = TableView()
        view.show(frame, **options)
        return ipw.VBox([ipw.HTML(f"<h4>{title}</h4>"), view.root])

    def draw(self) -> None:
        """Nothing: the tables do not change."""


class NcaPanel(Panel):
    """Non-compartmental analysis with the rule and route chosen here."""

    title = "NCA"
    step: ClassVar[str] = "data"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {"draw": (), "draw_rows": ("selected_ids",)}

    def build(self) -> None:
        """Make the choices and two tables."""
        data = self.state.data
        outputs = list(dict.fromkeys(data.dvid.tolist()))
        self.output = ipw.Dropdown(options=[(str(o), o) for o in outputs], description="Output")
        self.output.layout = ipw.Layout(width="170px", display="" if len(outputs) > 1 else "none")
        self.rule = ipw.Dropdown(options=list(RULES), description="Areas")
        self.rule.layout = ipw.Layout(width="240px")
        self.route = ipw.Dropdown(options=list(ROUTES), description="Route")
        self.route.layout = ipw.Layout(width="210px")
        for control in (self.output, self.rule, self.route):
            control.observe(lambda _: self._redraw(), "value")
        self.summary, self.rows = TableView(), TableView()
        self.text = caption()
        bar = ipw.HBox([self.output, self.rule, self.route])
        bar.layout = ipw.Layout(flex_flow="row wrap", margin="4px 0")
        self.root.children = (
            bar,
            ipw.HTML("<h4>Over profiles</h4>"),
            self.summary.root,
            ipw.HTML("<h4>Each profile</h4>"),
            self.rows.root,
            self.text,
        )

    def _redraw(self) -> None:
        self.draw()
        self.draw_rows()

    def draw(self) -> None:
        """Analyse, and show the summary."""
        try:
            self.table = nca(self.state.data, rule=self.rule.value, route=self.route.value, output=self.output.value)
        except NlmeError as refusal:
            self.table = None
            self.summary.root.value = self.rows.root.value = ""
            self.text.value = f"<div class='nlme-alert'>{html.escape(str(refusal))}</div>"
            return
        summary = nca_summary(self.table)
        names = {"geometric_mean": "geometric mean", "geometric_CV": "geometric CV (%)"}
        summary = summary[summary["n"] > 0].rename(columns=names, index=_NAMES)
        self.summary.show(summary, text=("unit",), index="quantity")

    def draw_rows(self) -> None:
        """Show each profile, the selected ones lit up."""
        if self.table is None:
            return
        chosen = list(self.state.selected_ids)
        table = self.table[_COLUMNS]
        several = len(table)
        if several > _MOST_ROWS:
            table = _first(table, table["ID"].isin(chosen))
        units = {_NAMES.get(k, k): v for k, v in self.table.attrs["units"].items()}
        self.rows.show(table.rename(columns=_NAMES), units=units, wide=("note",), picked=chosen, by="ID")
        rules = ", ".join(dict.fromkeys(self.table["rule"]))
        more = (
            f" The first {_MOST_ROWS} of {several} profiles are shown; data.nca() has all."
            if several > _MOST_ROWS
            else ""
        )
        self.text.value = (
            f"<span class='soft'>{html.escape(rules)}. λz: best adjusted R² over the last three or more points after "
            f"Cmax; CL/F = dose/AUCinf, Vz/F = CL/F/λz.{more}</span>"
        )


def _first(table: Any, first: Any) -> Any:
    """Return as many rows as are shown, the selected ones before the others."""
    order = (~first).to_numpy().argsort(kind="stable")
    return table.iloc[order[:_MOST_ROWS]]
