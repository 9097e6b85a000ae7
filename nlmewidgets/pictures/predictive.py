"""What data simulated from the model look like beside the real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from nlmewidgets.diagnostics.npde import npde
from nlmewidgets.diagnostics.survival import has_exact_times
from nlmewidgets.diagnostics.vpc import vpc
from nlmewidgets.fit import Fit
from nlmewidgets.pictures.base import BLUE, DARK, GREY, ORANGE, Picture, empty, grid, label, running

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES", "simulated"]

_REPLICATES = 500


def check(fit: Fit) -> Figure:
    """Draw a visual predictive check of every output."""
    return _check(fit)


def corrected(fit: Fit) -> Figure:
    """Draw a prediction-corrected visual predictive check of every output."""
    return _check(fit, prediction_corrected=True)


def _check(fit: Fit, **options: object) -> Figure:
    names = [list(fit.start.outputs)[k] for k in np.unique(fit.problem.output)]
    found = [vpc(fit, n=_REPLICATES, seed=1, output=name if len(names) > 1 else None, **options) for name in names]  # type: ignore[arg-type]
    panels = [
        (name, own, stratum)
        for name, own in zip(names, found, strict=True)
        for stratum in own.table["stratum"].unique()
    ]
    figure, axes = grid(len(panels), 2, width=4.4, height=3.0)
    for ax, (name, own, stratum) in zip(axes, panels, strict=True):
        table = own.table[own.table["stratum"] == stratum]
        points = own.points[own.points["stratum"] == stratum]
        by = next(c for c in ("quantile", "class", "event") if c in table) if own.kind != "events" else None
        groups = list(table.groupby(by, sort=True)) if by else [("", table)]
        if own.kind == "quantiles":
            ax.plot(points["x"], points["y"], "o", color=GREY, ms=2.5, mew=0, alpha=0.6)
        for k, (key, rows) in enumerate(groups):
            middle = abs(float(key) - 0.5) < 1e-9 if own.kind == "quantiles" else k % 2 == 1
            colour = ORANGE if middle else BLUE
            x = rows["x"].to_numpy(float)
            ax.fill_between(x, rows["low"], rows["high"], color=colour, alpha=0.22, lw=0)
            ax.plot(
                x,
                rows["observed"],
                color=colour,
                lw=1.4,
                marker=".",
                ms=4,
                label=f"{100 * float(key):g} %" if own.kind == "quantiles" else str(key),
            )
        unit = fit.data.output_unit()
        text = {"quantiles": "Observed", "classes": "share of each class", "events": "share without event"}[own.kind]
        if options.get("prediction_corrected"):
            text = "Prediction-corrected"
        ax.set(
            xlabel=label(fit, "TIME", "Time"), ylabel=f"{text} ({unit})" if unit and own.kind == "quantiles" else text
        )
        if len(panels) > 1:
            ax.set_title(name if len(names) > 1 else str(stratum))
        if by:
            ax.legend(loc="upper right", fontsize=7)
    return figure


def errors(fit: Fit) -> Figure:
    """Draw NPDE: their quantiles, and against time."""
    table = npde(fit, n=_REPLICATES, seed=1)
    # Data that are not normal have no covariance to decorrelate by: theirs are the NPD.
    column = next((c for c in ("NPDE", "NPD") if table[c].notna().any()), None)
    figure, axes = grid(2, 2, width=3.8, height=3.0)
    if column is None:
        for ax in axes:
            empty(ax, "no prediction distribution errors of these data")
        return figure
    values = np.sort(table[column].dropna().to_numpy(float))
    normal = special.ndtri((np.arange(len(values)) + 0.5) / len(values))
    axes[0].plot(normal, values, "o", color=BLUE, ms=3, mew=0, alpha=0.7)
    ends = [float(min(normal[0], values[0])), float(max(normal[-1], values[-1]))]
    axes[0].plot(ends, ends, color=DARK, lw=0.9)
    axes[0].set(xlabel="quantile of N(0, 1)", ylabel=column)
    time, error = table["TIME"].to_numpy(float), table[column].to_numpy(float)
    axes[1].axhspan(-1.96, 1.96, color=GREY, alpha=0.12, lw=0)
    axes[1].axhline(0.0, color=DARK, lw=0.9)
    axes[1].plot(time, error, "o", color=BLUE, ms=3, mew=0, alpha=0.6)
    axes[1].plot(*running(time, error), color=ORANGE, lw=1.4)
    axes[1].set(xlabel=label(fit, "TIME", "Time"), ylabel=column)
    return figure


def checked(fit: Fit) -> str:
    """Return why a fit has no visual predictive check; exact times of events have one by their hazard."""
    exact = any(has_exact_times(fit.problem, which) for which in np.unique(fit.problem.output))
    return "" if exact else simulated(fit)


def simulated(fit: Fit) -> str:
    """Return why the data of a fit cannot be simulated, '' if they can."""
    try:
        fit.model.simulate(fit.problem.data.subset(fit.problem.data.ids[:1]), seed=0)
    except Exception as error:  # a likelihood that cannot be drawn from says so in its own words
        return str(error)
    return ""


PICTURES = (
    Picture(
        "vpc",
        "Visual predictive check",
        check,
        "Lines: quantiles of the data; bands: where they lie in 95 % of data sets simulated from the model; a line "
        "that leaves its band is a misfit.",
        "Different doses or covariates in one bin widen the bands until anything fits: correct by the prediction or "
        "stratify; adaptive designs and drop-out make it wrong.",
        checked,
    ),
    Picture(
        "pcvpc",
        "Prediction-corrected visual predictive check",
        corrected,
        "As the visual predictive check, with data and simulations divided by their typical prediction: doses and "
        "covariates no longer widen the bands.",
        "Correction hides a misfit of the dose or covariate itself: look at the strata too.",
        lambda fit: (
            simulated(fit) or ("" if fit.problem.normal_rows.all() else "It corrects measured, normal data only.")
        ),
    ),
    Picture(
        "npde",
        "Normalised prediction distribution errors",
        errors,
        "N(0, 1) if the model is right, whatever its nonlinearity and shrinkage: points on the diagonal, and no trend "
        "over time.",
        "They are decorrelated within a subject by its mean and covariance only; with few replicates extremes are cut.",
        simulated,
    ),
)
