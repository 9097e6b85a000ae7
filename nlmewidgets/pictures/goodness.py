"""Observations against predictions, residuals against time and prediction, and individual fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nlmewidgets.diagnostics import individual_curves
from nlmewidgets.fit import Fit
from nlmewidgets.pictures.base import DARK, GREY, MARKS, ORANGE, Picture, empty, grid, label, running

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PICTURES"]

_MOST_SUBJECTS = 12


def _outputs(fit: Fit) -> list[tuple[str, np.ndarray]]:
    """Return (name, rows) of every output observed; one without a name where there is one only."""
    names = list(fit.start.outputs)
    found = [(names[k], np.flatnonzero(fit.problem.output == k)) for k in np.unique(fit.problem.output)]
    return [("", found[0][1])] if len(found) == 1 else found


def _unit(fit: Fit, text: str) -> str:
    unit = fit.data.output_unit()
    return f"{text} ({unit})" if unit else text


def _points(ax: Axes, fit: Fit, x: pd.Series, y: pd.Series) -> None:
    outputs = _outputs(fit)
    for (name, rows), (mark, colour) in zip(outputs, MARKS, strict=False):
        ax.plot(
            x.to_numpy(float)[rows], y.to_numpy(float)[rows], mark, color=colour, ms=3.2, alpha=0.6, mew=0, label=name
        )


def observed_predicted(fit: Fit) -> Figure:
    """Draw DV against PRED and IPRED."""
    table = fit.table(n=0)
    figure, axes = grid(2, 2, width=3.6, height=3.2)
    for ax, column, text in zip(
        axes, ("PRED", "IPRED"), ("Population prediction", "Individual prediction"), strict=True
    ):
        _points(ax, fit, table[column], table["DV"])
        ends = np.nanmin(table[[column, "DV"]].to_numpy(float)), np.nanmax(table[[column, "DV"]].to_numpy(float))
        ax.plot(ends, ends, color=DARK, lw=0.9, label="identity")
        ax.plot(
            *running(table[column].to_numpy(float), table["DV"].to_numpy(float)), color=ORANGE, lw=1.4, label="trend"
        )
        ax.set(xlabel=_unit(fit, text), ylabel=_unit(fit, "Observed"))
    axes[0].legend(loc="upper left")
    return figure


def residuals(fit: Fit) -> Figure:
    """Draw CWRES and IWRES against time and prediction."""
    table = fit.table(n=0)
    figure, axes = grid(4, 2, width=3.6, height=2.4)
    time = label(fit, "TIME", "Time")
    plan = [
        ("CWRES", "TIME", time),
        ("CWRES", "PRED", _unit(fit, "Population prediction")),
        ("IWRES", "TIME", time),
        ("IWRES", "IPRED", _unit(fit, "Individual prediction")),
    ]
    for ax, (y, x, text) in zip(axes, plan, strict=True):
        if not table[y].notna().any():
            empty(ax, f"no {y}: no observation is measured and normal")
            continue
        ax.axhspan(-1.96, 1.96, color=GREY, alpha=0.12, lw=0)
        ax.axhline(0.0, color=DARK, lw=0.9)
        _points(ax, fit, table[x], table[y])
        ax.plot(*running(table[x].to_numpy(float), table[y].to_numpy(float)), color=ORANGE, lw=1.4)
        ax.set(xlabel=text, ylabel=y)
    return figure


def individuals(fit: Fit) -> Figure:
    """Draw the data of the first subjects with their typical and individual curves."""
    ids = list(fit.problem.data.ids)[:_MOST_SUBJECTS]
    data = fit.problem.data.subset(ids)
    figure, axes = grid(len(ids), 4, width=2.4, height=1.9)
    eta = fit.etas[: len(ids)].T
    for ax in axes:
        ax.set_axisbelow(True)
    for k, output in enumerate(np.unique(fit.problem.output)):
        chosen = fit.problem.data.dvid[fit.problem.output == output][0]
        fine = data.on_grid(150, dvid=chosen, follow=True)
        problem = fit.start.problem(fine)
        times = problem.data.time.reshape(len(ids), -1)
        mark, colour = MARKS[k % len(MARKS)]
        for values, style in ((0.0 * eta, {"ls": "--", "lw": 0.9}), (eta, {"lw": 1.4})):
            curves = individual_curves(problem, fit.values, values)
            for ax, t, curve in zip(axes, times, curves, strict=True):
                ax.plot(t, curve, color=colour, **style)
        for i, ax in enumerate(axes):
            rows = (data.subject == i) & (data.dvid == chosen)
            ax.plot(data.time[rows], data.dv[rows], mark, color=DARK, ms=3, mew=0)
    for ax, i in zip(axes, ids, strict=True):
        ax.set_title(f"ID {i}", fontsize=8.5)
        ax.tick_params(labelsize=7.5)
    figure.supxlabel(label(fit, "TIME", "Time"), fontsize=9)
    figure.supylabel(_unit(fit, "Observed"), fontsize=9)
    return figure


def _normal(fit: Fit) -> str:
    if not fit.problem.normal_rows.any():
        return "No observation is measured and normal, so there is no prediction to compare the data with."
    return ""


PICTURES = (
    Picture(
        "observed-predicted",
        "Observed against predicted",
        observed_predicted,
        "Points should scatter evenly around the identity; a trend that leaves it is a part of the structure missing.",
        "Under epsilon shrinkage individual predictions follow the data whatever the model is; and variability that is "
        "log-normal puts the mean of the data above PRED without anything being wrong.",
        _normal,
    ),
    Picture(
        "residuals",
        "Residuals over time and prediction",
        residuals,
        "95 % of the points belong in the band, around zero everywhere; a funnel is a wrong error model, a wave a "
        "wrong structure.",
        "IWRES shrink to zero with sparse data and then hide every misfit; CWRES are approximate where the model is "
        "strongly nonlinear in the etas, and NPDE are not.",
        _normal,
    ),
    Picture(
        "individuals",
        f"Individual fits of the first {_MOST_SUBJECTS} subjects",
        individuals,
        "Solid: at the subject's EBEs; dashed: the typical subject with the same doses and covariates.",
        "With few data per subject the solid curve is pulled to the dashed one (eta shrinkage), and with many it "
        "follows almost any model: a good picture is no evidence that the population model is right.",
        _normal,
    ),
)
