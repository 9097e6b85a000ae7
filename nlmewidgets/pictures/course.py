"""How the fit went, what single subjects did to it, and what the integral it approximates looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.diagnostics import influence, integrand, profile, variance_split
from nlmewidgets.fit import Fit
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.marginal import Approximation
from nlmewidgets.pictures.base import BLUE, DARK, GREEN, GREY, ORANGE, PINK, Picture, empty, grid, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES"]

_MOST_PANELS = 16


def convergence(fit: Fit) -> Figure:
    """Draw the objective and every estimated parameter against the iteration."""
    history = fit.history
    k = history["k_" if "k" in fit.start.names else "k"].to_numpy(float)
    ofv = history["ofv_" if "ofv" in fit.start.names else "ofv"].to_numpy(float)
    names = [n for n in fit.start.names if n in history and np.ptp(history[n].to_numpy(float)) > 0][: _MOST_PANELS - 1]
    figure, axes = grid(len(names) + 1, 4, width=2.4, height=1.8)
    phase = history["phase_" if "phase" in fit.start.names else "phase"].to_numpy()
    turns = k[1:][phase[1:] != phase[:-1]]
    for ax, name, values in zip(
        axes, ["OFV", *names], [ofv, *(history[n].to_numpy(float) for n in names)], strict=True
    ):
        ax.plot(k, values, color=BLUE, lw=1.2, marker="." if len(k) < 40 else "")
        for turn in turns:
            ax.axvline(turn, color=GREY, lw=0.7, ls=":")
        ax.set_title(name, fontsize=8.5)
        ax.tick_params(labelsize=7)
        ax.ticklabel_format(useOffset=False, style="plain", axis="y")
    figure.supxlabel("iteration", fontsize=9)
    return figure


def _approximation(fit: Fit) -> Approximation | None:
    """Return the method of the fit if it has scores, else the first that treats the data."""
    for method in (fit.estimator, *(METHODS[n]() for n in ("focei", "laplace"))):
        if isinstance(method, Approximation) and method.refusal(fit.problem) is None:
            return method
    return None


def subjects(fit: Fit) -> Figure:
    """Draw Cook's distance against each subject's part of the objective."""
    method = _approximation(fit)
    assert method is not None
    figure, (ax,) = grid(1, 1, width=5.2, height=3.2)
    try:
        table = influence(fit.problem, fit.values, method, fit.etas.T)
    except NlmeError as error:
        empty(ax, str(error))
        return figure
    ax.plot(table["iofv"], table["cook"], "o", color=BLUE, ms=4, mew=0, alpha=0.7)
    ax.set(xlabel="part of the objective (iOFV)", ylabel="Cook distance of leaving the subject out", ylim=(0, None))
    taken: list[np.ndarray] = []
    for i in table["cook"].nlargest(min(5, len(table))).index:
        point = (table.loc[i, "iofv"], table.loc[i, "cook"])
        at = np.asarray(ax.transData.transform(point))
        if any(abs(at[0] - other[0]) < 30 and abs(at[1] - other[1]) < 15 for other in taken):
            continue  # a name on top of another tells nothing
        taken.append(at)
        ax.annotate(f"{i}", point, xytext=(4, 3), textcoords="offset points", fontsize=8, color=ORANGE)
    return figure


def profiles(fit: Fit, parameters: str | Sequence[str] | None = None) -> Figure:
    """Draw the profile likelihood of parameters, of the thetas without a choice, beside Wald's parabola."""
    from scipy.interpolate import PchipInterpolator  # dear to import

    space = fit.start.space
    chosen = parameters if parameters is not None else [p.name for p in space.theta if not p.fixed]
    found = profile(fit, chosen, progress=False)
    figure, axes = grid(len(found.intervals), 4, width=2.5, height=2.3)
    for ax, (name, row) in zip(axes, found.intervals.iterrows(), strict=True):
        own = found.points[found.points["parameter"] == name]
        value, root = own["value"].to_numpy(float), np.sqrt(np.maximum(own["delta"].to_numpy(float), 0.0))
        signed = np.where(value < row["estimate"], -root, root)
        fine = np.linspace(value[0], value[-1], 200)
        curve = PchipInterpolator(*_increasing(value, signed))(fine) ** 2
        ax.axhline(found.limit, color=GREY, lw=0.9, ls="--")
        ax.plot(fine, curve, color=BLUE, lw=1.4)
        ax.plot(value, own["delta"], "o", color=BLUE, ms=3, mew=0)
        for end in (row["lower"], row["upper"]):
            if value[0] <= end <= value[-1]:
                ax.axvline(end, color=ORANGE, lw=0.9)
        ax.set(xlabel=str(name), ylabel="rise of −2 log L", ylim=(0.0, 1.6 * found.limit))
        ax.tick_params(labelsize=7)
        ax.locator_params(axis="x", nbins=4)
    return figure


def _increasing(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = np.concatenate([[True], np.diff(x) > 0])
    return x[kept], np.maximum.accumulate(y[kept])


def variance(fit: Fit) -> Figure:
    """Draw the parts of the variance of an observation over time, of the first subject's design."""
    one = fit.problem.data.subset([fit.problem.data.ids[0]])
    problem = fit.start.problem(one.on_grid(120))
    table = variance_split(problem, fit.values, n=500)
    outputs = list(dict.fromkeys(table["DVID"]))
    figure, axes = grid(len(outputs), 2, width=4.6, height=3.0)
    colours = (BLUE, GREEN, PINK, "#56b4e9", "#e69f00", GREY)
    for ax, output in zip(axes, outputs, strict=True):
        own = table[table["DVID"] == output]
        parts = own[own["kind"].isin(["eta", "interaction", "sigma", "other"])]
        wide = parts.pivot_table(index="TIME", columns="part", values="simulation", sort=False).clip(lower=0.0)
        if not len(wide.columns):  # no split where only draws are known
            wide = own[own["kind"].isin(["between", "residual"])].pivot_table(
                index="TIME", columns="part", values="simulation", sort=False
            )
        shades = [colours[k % len(colours)] for k in range(wide.shape[1])]
        ax.stackplot(wide.index, wide.T.to_numpy(), labels=list(wide.columns), colors=shades, alpha=0.75, lw=0)
        linear = own[own["part"] == "total"]
        ax.plot(linear["TIME"], linear["linearisation"], color=DARK, lw=1.2, ls="--", label="total, linearised")
        ax.set(xlabel=label(fit, "TIME", "Time"), ylabel="variance of an observation")
        if len(outputs) > 1:
            ax.set_title(str(output))
        ax.legend(loc="upper right", fontsize=7)
    return figure


def integral(fit: Fit) -> Figure:
    """Draw the integrand of the subject whose approximations differ most from quadrature, of the first few."""
    ids = fit.problem.data.ids[:6]
    found = [integrand(fit.problem, fit.values, i, points=61, nodes=3) for i in ids]
    worst = max(found, key=lambda x: float(np.nan_to_num(x.contributions["difference"].abs()).max()))
    shown = {"exact": worst.exact} | dict(worst.approximations)
    figure, axes = grid(len(shown) if len(worst.names) == 2 else 1, 5, width=2.4, height=2.5)
    least = worst.exact.min()
    if len(worst.names) == 1:
        for (name, surface), colour in zip(shown.items(), (DARK, BLUE, ORANGE, GREEN, PINK), strict=False):
            axes[0].plot(worst.axes[0], np.exp(-0.5 * (surface - least)), color=colour, lw=1.4, label=name)
        axes[0].set(xlabel=worst.names[0], ylabel="density, relative to its mode")
        axes[0].legend()
    else:
        for ax, (name, surface) in zip(axes, shown.items(), strict=True):
            ax.contour(
                *worst.axes, surface.T - surface.min(), levels=[0.5, 1, 2, 4, 6, 9], colors=[BLUE], linewidths=0.9
            )
            if name == "exact":
                ax.scatter(worst.nodes[:, 0], worst.nodes[:, 1], s=120 * worst.share + 2, color=ORANGE, lw=0, zorder=3)
            else:
                ax.plot(*worst.centres[name], "+", color=ORANGE, ms=8)
            value = worst.contributions["minus2ll"].get(name, worst.contributions["minus2ll"].iloc[-1])
            ax.set_title(f"{name}: {value:.3f}", fontsize=8.5)
            ax.set(xlabel=worst.names[0])
        axes[0].set_ylabel(worst.names[1])
    figure.suptitle(f"ID {worst.subject}: −2 log of its likelihood by each", fontsize=9)
    return figure


def _scores(fit: Fit) -> str:
    if _approximation(fit) is None:
        return "No approximation with scores treats these data."
    return "" if fit.start.space.x_names and fit.n_subjects > 2 else "There are too few subjects, or no free parameter."


def _thetas(fit: Fit) -> str:
    return "" if any(not p.fixed for p in fit.start.space.theta) else "No typical value is estimated."


def _effects(fit: Fit) -> str:
    return "" if fit.problem.n_eta else "The model has no random effects."


PICTURES = (
    Picture(
        "convergence",
        "The course of the fit",
        convergence,
        "Every line should end flat; dotted lines are where a phase of the method begins.",
        "A flat line is not an optimum: start elsewhere too, and look at the gradient.",
    ),
    Picture(
        "influence",
        "What leaving out each subject would do",
        subjects,
        "Far up: the estimates hang on this subject; far right: the model explains it badly.",
        "The distance is that of one Newton step: for the most extreme subjects refit without them.",
        _scores,
    ),
    Picture(
        "profile",
        "Profile likelihood of the typical values",
        profiles,
        "Where the curve crosses the dashed line the 95 % confidence interval ends; a curve that stays below it is a "
        "parameter the data do not bound.",
        "Every point is a refit that may have met another minimum: a curve with a jump or below zero says so.",
        _thetas,
        ("parameters",),
        slow=True,
    ),
    Picture(
        "variance",
        "Where the variance of an observation comes from",
        variance,
        "Heights add up to Var(Y): subjects differ by the etas' parts, the sigmas' are left within a subject.",
        "Where the dashed line leaves the top of the stack the linearised variance, and with it FO, is wrong; the "
        "parts of correlated etas overlap.",
        _effects,
    ),
    Picture(
        "integrand",
        "One subject's integral and its approximations",
        integral,
        "The better a method's ellipses match the exact contours (left), the closer its −2 log L; dots are quadrature "
        "nodes by weight.",
        "Only two random effects are shown, the others at the mode; it is the worst of the first six subjects.",
        _effects,
    ),
)
