"""Numbers beside what the model would make of them: predictive shares, residuals of any data, shrinkage."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.diagnostics import npc, predicted_shrinkage, quantile_residuals
from nlmewidgets.fit import Fit
from nlmewidgets.pictures.base import BLUE, DARK, GREY, ORANGE, Picture, grid, label, running
from nlmewidgets.pictures.predictive import simulated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES"]


def shares(fit: Fit) -> Figure:
    """Draw the shares of data below and above each prediction interval, with their bands."""
    table = npc(fit, n=500, seed=1)
    outputs = list(dict.fromkeys(table["output"]))
    figure, axes = grid(2 * len(outputs), 2, width=3.8, height=3.0)
    places = [(output, side) for output in outputs for side in ("below", "above")]
    for ax, (output, side) in zip(axes, places, strict=True):
        rows = table[(table["output"] == output) & (table["side"] == side)].sort_values("interval")
        x = rows["interval"].to_numpy(float)
        ax.fill_between(x, 100 * rows["low"], 100 * rows["high"], color=BLUE, alpha=0.22, lw=0)
        ax.plot(x, 100 * rows["expected"], color=DARK, lw=0.9, label="expected")
        ax.plot(x, 100 * rows["observed"], color=ORANGE, lw=1.2, marker="o", ms=4, label="observed")
        name = f" ({output})" if len(outputs) > 1 else ""
        ax.set(xlabel="share in the prediction interval", ylabel=f"% of data {side} it{name}", ylim=(0, None))
        ax.legend(fontsize=7)
    return figure


def any_residuals(fit: Fit) -> Figure:
    """Draw randomised quantile residuals: their quantiles, and against time."""
    values = quantile_residuals(fit.problem, fit.values, fit.etas.T, seed=1).to_numpy(float)
    time = fit.problem.data.time
    known = np.isfinite(values)
    figure, axes = grid(2, 2, width=3.8, height=3.0)
    ordered = np.sort(values[known])
    normal = special.ndtri((np.arange(len(ordered)) + 0.5) / len(ordered))
    axes[0].plot(normal, ordered, "o", color=BLUE, ms=3, mew=0, alpha=0.7)
    ends = [float(min(normal[0], ordered[0])), float(max(normal[-1], ordered[-1]))]
    axes[0].plot(ends, ends, color=DARK, lw=0.9)
    axes[0].set(xlabel="quantile of N(0, 1)", ylabel="quantile residual")
    axes[1].axhspan(-1.96, 1.96, color=GREY, alpha=0.12, lw=0)
    axes[1].axhline(0.0, color=DARK, lw=0.9)
    axes[1].plot(time[known], values[known], "o", color=BLUE, ms=3, mew=0, alpha=0.6)
    axes[1].plot(*running(time[known], values[known]), color=ORANGE, lw=1.4)
    axes[1].set(xlabel=label(fit, "TIME", "Time"), ylabel="quantile residual")
    return figure


def shrinkages(fit: Fit) -> Figure:
    """Draw the shrinkage of every random effect beside that predicted from the design, and that of epsilon."""
    seen = fit.shrinkage
    try:
        predicted = predicted_shrinkage(fit.problem, fit.values, n=50)["sd"]
    except NlmeError:  # a likelihood without an information of its own
        predicted = seen.drop("epsilon") * np.nan
    names = [*predicted.index, *(["epsilon"] if np.isfinite(seen["epsilon"]) else [])]
    figure, (ax,) = grid(1, 1, width=5.2, height=0.8 + 0.45 * max(len(names), 3))
    place = np.arange(len(names))
    ax.axvspan(30, 100, color=ORANGE, alpha=0.10, lw=0)
    ax.barh(place, 100 * seen[names], height=0.5, color=BLUE, alpha=0.75, label="of the EBEs")
    ax.plot(100 * predicted, place[: len(predicted)], "D", color=DARK, ms=5, label="predicted from the design")
    ax.set_yticks(place, names)
    ax.invert_yaxis()
    ax.set(
        ylabel="random effect",
        xlabel="shrinkage of the standard deviation (%)",
        xlim=(min(0.0, 110 * float(seen[names].min())), 100),
    )
    ax.legend(loc="lower right", fontsize=7)
    return figure


def _residuals(fit: Fit) -> str:
    values = quantile_residuals(fit.problem, fit.values, fit.etas.T, seed=1)
    return "" if values.notna().any() else "The distribution function of these data is not known."


PICTURES = (
    Picture(
        "npc",
        "Numerical predictive check",
        shares,
        "Observed shares (orange) belong in the band around the expected ones: above it on both sides the model's "
        "variability is too small, below too large.",
        "It forgets when the data were taken: errors early and late may cancel, which a visual predictive check shows.",
        simulated,
    ),
    Picture(
        "quantile-residuals",
        "Randomised quantile residuals",
        any_residuals,
        "Standard normal at the EBEs if the model is right, for counts, classes, events and censored data too.",
        "Like IWRES they shrink to zero where data are sparse; those of discrete data are partly drawn, so a single "
        "point means little.",
        _residuals,
    ),
    Picture(
        "shrinkage",
        "Shrinkage, seen and predicted",
        shrinkages,
        "Bars in the shaded part (30 % and more): pictures made of these EBEs mislead; diamonds are what the design "
        "alone makes inevitable.",
        "A bar far above its diamond is no matter of the design: an omega too large, or a wrong model; with few "
        "subjects it may be chance.",
        lambda fit: "" if fit.start.space.eta else "The model has no random effects.",
    ),
)
