"""Shrinkage: the spread of the EBEs against the spread the model gives the random effects."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as ipw
import numpy as np

from nlmewidgets.diagnostics import shrinkage
from nlmewidgets.diagnostics.shrinkage import warning
from nlmewidgets.panels.base import Frame, Panel, Ruler, bq, caption, grid, legend
from nlmewidgets.panels.covariates import badge, percent
from nlmewidgets.panels.theme import FIT, MUTED, SELECTED

__all__ = ["ShrinkagePanel"]

_BINS = 9


class ShrinkagePanel(Panel):
    """For each eta the EBEs as a histogram over the density N(0, ω²), and the figures in words."""

    title = "Shrinkage"

    def build(self) -> None:
        """Make one figure per eta."""
        names = self.state.model.space.eta
        if not names:
            self.root.children = (ipw.HTML("<div class='nlme-empty'>There are no random effects.</div>"),)
        self.places = {eta: self._figure(eta) for eta in names}
        self.text = caption()
        if names:
            cells = [
                ipw.VBox([p["head"], p["frame"].figure], layout=ipw.Layout(min_width="0")) for p in self.places.values()
            ]
            key = legend(("area", FIT, "EBEs"), ("line", MUTED, "density of the model, N(0, ω²)"))
            self.root.children = (key, grid(cells, "repeat(auto-fill, minmax(300px, 1fr))"), self.text)

    def _figure(self, eta: str) -> dict[str, Any]:
        frame = Frame(Ruler(eta, "bottom", count=5), Ruler("Density", "left", count=4), height="250px")
        scales = frame.scales
        bars = bq.Lines(
            x=[0.0, 1.0],
            y=[0.0, 0.0],
            scales=scales,
            colors=[FIT],
            stroke_width=1,
            fill="bottom",
            fill_colors=[FIT],
            fill_opacities=[0.3],
            labels=["EBEs, histogram"],
        )
        density = bq.Lines(
            x=[0.0, 1.0], y=[0.0, 0.0], scales=scales, colors=[MUTED], stroke_width=2, labels=["density of the model"]
        )
        rug = bq.Scatter(x=[0.0], y=[0.0], scales=scales, colors=[FIT], default_size=22, labels=["EBEs"])
        picked = bq.Scatter(x=[0.0], y=[0.0], scales=scales, colors=[SELECTED], default_size=70, visible=False)
        rug.on_element_click(lambda _, event: self._clicked(eta, event))
        frame.put(bars, density, rug, picked)
        return {"frame": frame, "bars": bars, "density": density, "rug": rug, "picked": picked, "head": ipw.HTML()}

    def _clicked(self, eta: str, event: Any) -> None:
        subject = self.places[eta]["subject"][int(event["data"]["index"])]
        self.state.toggle(self.state.point.problem.data.ids[int(subject)])

    def draw(self) -> None:
        """Bring histograms and densities up to date."""
        point = self.state.point
        shrunk = shrinkage(point.problem, point.values, point.eta)
        omega = np.sqrt(np.diag(point.values.omega))
        lit = np.array([label in self.state.selected_ids for label in point.problem.data.ids])
        words = []
        for k, (eta, place) in enumerate(self.places.items()):
            values, place["subject"] = point.problem.occasions.drawn(point.eta, k)
            chosen = lit[place["subject"]]
            reach = max(3.0 * omega[k], 1.05 * float(np.abs(values).max(initial=0.0)))
            edges = np.linspace(-reach, reach, _BINS + 1)
            heights, _ = np.histogram(values, edges, density=True)
            at = np.linspace(-reach, reach, 81)
            peak = float(1.0 / (omega[k] * np.sqrt(2 * np.pi)))
            with place["bars"].hold_sync():
                place["bars"].x = np.repeat(edges, 2)
                place["bars"].y = np.concatenate(([0.0], np.repeat(np.nan_to_num(heights), 2), [0.0]))
            with place["density"].hold_sync():
                place["density"].x = at
                place["density"].y = np.exp(-0.5 * (at / omega[k]) ** 2) * peak
            place["frame"].x.span(-reach, reach, sticky=True)
            place["frame"].y.span(0.0, max(peak, float(np.nanmax(heights, initial=0.0))), sticky=True, flush=True)
            with place["rug"].hold_sync():
                place["rug"].x, place["rug"].y = values, np.zeros(len(values))
            with place["picked"].hold_sync():
                place["picked"].visible = bool(chosen.any())
                if chosen.any():
                    place["picked"].x, place["picked"].y = values[chosen], np.zeros(int(chosen.sum()))
            value = float(shrunk[eta])
            place["head"].value = f"<b>{html.escape(eta)}</b> {badge(value)}"
            text = warning(value)
            words.append(f"{html.escape(eta)} {percent(value, 1)}{' (' + html.escape(text) + ')' if text else ''}")
        self.text.value = (
            f"<span class='soft'>At {html.escape(point.label)}. Shrinkage 1 − SD(EBE)/ω: {'; '.join(words)}. "
            f"Epsilon {percent(float(shrunk['epsilon']), 1)}. Where EBEs shrink, individual predictions are pulled to "
            "the typical curve, covariate effects are masked, and diagnostics of EBEs mislead.</span>"
        )
