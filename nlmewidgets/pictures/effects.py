"""Random effects: their distribution, their correlations, and what covariates have to do with them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from scipy import special

from nlmewidgets.diagnostics import covariate_tests, eta_samples
from nlmewidgets.fit import Fit
from nlmewidgets.pictures.base import BLUE, DARK, GREY, ORANGE, Picture, grid, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PICTURES"]

_MOST_ETAS = 5
_MOST_PANELS = 12


def _shown(fit: Fit, samples: bool | int) -> tuple[pd.DataFrame, str]:
    """Return the random effects to draw, subjects (perhaps many times) × eta, and what they are, in words."""
    draws = int(samples)
    if not draws:
        return fit.eta.dropna(), "EBEs"
    words = "one draw per subject" if draws == 1 else f"{draws} draws per subject, each of weight 1/{draws}"
    known = _SAMPLES.setdefault(fit, {})
    if draws not in known:
        known[draws] = eta_samples(fit, draws).droplevel("draw")
    return known[draws], words


_SAMPLES: WeakKeyDictionary[Fit, dict[int, pd.DataFrame]] = WeakKeyDictionary()
"""Draws already made of a fit: all of its pictures show the same."""


def _title(fit: Fit, name: str, samples: bool | int) -> str:
    return f"{name}" + ("" if samples else f", {100 * fit.shrinkage[name]:.0f} % shrunk")


def distribution(fit: Fit, samples: bool | int = False) -> Figure:
    """Draw histograms and normal QQ plots of the EBEs, or of conditional draws, beside N(0, omega²)."""
    values, words = _shown(fit, samples)
    names = list(fit.start.space.between)
    sds = np.sqrt(np.diag(fit.values.omega))
    figure, axes = grid(2 * len(names), max(2, min(len(names), 4)) if len(names) < 5 else 4, width=2.7, height=2.2)
    columns = max(2, min(len(names), 4))
    order = [
        (kind, k)
        for row in range(-(-len(names) // columns))
        for kind in ("hist", "qq")
        for k in range(row * columns, min(len(names), (row + 1) * columns))
    ]
    for ax, (kind, k) in zip(axes, order, strict=True):
        eta = np.sort(values[names[k]].to_numpy())
        normal = special.ndtri((np.arange(len(eta)) + 0.5) / max(len(eta), 1))
        if kind == "hist":
            reach = max(3.0 * sds[k], float(np.abs(eta).max(initial=0.0)))
            x = np.linspace(-reach, reach, 200)
            ax.hist(eta, bins=min(30, max(6, int(np.sqrt(len(eta)) * 1.5))), density=True, color=BLUE, alpha=0.45)
            if sds[k] > 0:
                ax.plot(x, np.exp(-0.5 * (x / sds[k]) ** 2) / (np.sqrt(2.0 * np.pi) * sds[k]), color=DARK, lw=1.2)
            ax.set(xlabel=names[k], ylabel="density")
            ax.set_title(_title(fit, names[k], samples), fontsize=8.5)
        else:
            ax.plot(sds[k] * normal, eta, "o", color=BLUE, ms=3, mew=0, alpha=0.7)
            ends = [float(min(sds[k] * normal[0], eta[0])), float(max(sds[k] * normal[-1], eta[-1]))]
            ax.plot(ends, ends, color=DARK, lw=0.9)
            ax.set(xlabel=f"quantile of N(0, {sds[k]:.3g}²)", ylabel=names[k])
    figure.suptitle(words, fontsize=9)
    return figure


def pairs(fit: Fit, samples: bool | int = False) -> Figure:
    """Draw every pair of EBEs, or of conditional draws, with the ellipses of Omega."""
    values, words = _shown(fit, samples)
    names = list(fit.start.space.between)[:_MOST_ETAS]
    n = len(names)
    figure, axes = grid(n * n, n, width=2.2, height=2.0)
    angle = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for place, ax in enumerate(axes):
        i, j = divmod(place, n)
        if j >= i:
            if i == j:
                ax.set_axis_off()
                ax.text(
                    0.5,
                    0.5,
                    names[i].removeprefix("eta_"),
                    ha="center",
                    va="center",
                    transform=ax.transAxes,
                    fontsize=11,
                    color=DARK,
                )
            else:
                r = values[names[i]].corr(values[names[j]])
                ax.set_axis_off()
                ax.text(0.5, 0.5, f"r = {r:.2f}", ha="center", va="center", transform=ax.transAxes, color=GREY)
            continue
        ax.plot(values[names[j]], values[names[i]], "o", color=BLUE, ms=3, mew=0, alpha=0.6)
        omega = fit.values.omega[np.ix_([j, i], [j, i])]
        if np.linalg.eigvalsh(omega)[0] > 0:
            chol = np.linalg.cholesky(omega)
            for share in (0.5, 0.95):
                ellipse = np.sqrt(-2.0 * np.log1p(-share)) * chol @ circle
                ax.plot(*ellipse, color=DARK, lw=0.9, ls="-" if share < 0.9 else "--")
        ax.tick_params(labelsize=7)
        ax.set_xlabel(names[j] if i == n - 1 else "", fontsize=8)
        ax.set_ylabel(names[i] if j == 0 else "", fontsize=8)
    figure.suptitle(words, fontsize=9)
    return figure


def covariates(fit: Fit, samples: bool | int = False) -> Figure:
    """Draw EBEs, or draws, against covariates, the strongest relations first, with what an effect would be worth."""
    tests = covariate_tests(fit.problem, fit.values, fit.etas.T).head(_MOST_PANELS)
    values, words = _shown(fit, samples)
    table = fit.problem.data.subject_covariates().reindex(values.index)
    figure, axes = grid(len(tests), 4, width=2.6, height=2.4)
    for ax, (_, row) in zip(axes, tests.iterrows(), strict=True):
        eta, z = values[row["eta"]], table[row["covariate"]]
        ax.axhline(0.0, color=GREY, lw=0.8)
        if row["kind"] == "numeric":
            x = z.to_numpy(float)
            ax.plot(x, eta, "o", color=BLUE, ms=3, mew=0, alpha=0.6)
            line = np.linspace(np.nanmin(x), np.nanmax(x), 2)
            known = np.isfinite(x)
            slope, intercept = np.polyfit(x[known], eta[known], 1)
            ax.plot(line, intercept + slope * line, color=BLUE, lw=1.0)
            if np.isfinite(row["effect"]):
                away = line - np.nanmean(x)
                ax.plot(line, row["effect"] * away, color=ORANGE, lw=1.4)
                ax.fill_between(line, row["lower"] * away, row["upper"] * away, color=ORANGE, alpha=0.15, lw=0)
            ax.set_xlabel(label(fit, row["covariate"]), fontsize=8)
        else:
            levels = sorted(pd.unique(z.dropna()), key=str)
            ax.boxplot(
                [eta[(z == level).to_numpy()] for level in levels],
                widths=0.5,
                showfliers=True,
                medianprops={"color": ORANGE},
                flierprops={"ms": 3},
                boxprops={"color": BLUE},
                whiskerprops={"color": BLUE},
                capprops={"color": BLUE},
            )
            ax.set_xticks(range(1, len(levels) + 1), [str(x)[:8] for x in levels])
            ax.set_xlabel(row["covariate"], fontsize=8)
        ax.set_ylabel(row["eta"], fontsize=8)
        p = f"p {row['p']:.2g}" if row["p"] >= 1e-4 else "p < 0.0001"
        ax.set_title(
            f"{p}, worth {row['worth']:.1f}, shrunk {100 * row['shrinkage']:.0f} %", fontsize=7.5, fontweight="normal"
        )
        ax.tick_params(labelsize=7)
    figure.suptitle(words, fontsize=9)
    return figure


def _etas(fit: Fit) -> str:
    return "" if fit.start.space.between else "The model has no random effects between subjects."


def _two(fit: Fit) -> str:
    return _etas(fit) or ("" if len(fit.start.space.between) > 1 else "The model has one random effect only.")


def _covariates(fit: Fit) -> str:
    if why := _etas(fit):
        return why
    table = fit.problem.data.subject_covariates()
    varying = [c for c in table if table[c].nunique() > 1]
    return "" if varying and fit.n_subjects > 4 else "The data have no covariate that differs between subjects."


_SAMPLED = ("samples",)

PICTURES = (
    Picture(
        "eta-distribution",
        "Distribution of the random effects",
        distribution,
        "Bars: EBEs, or draws given the data; line: N(0, omega²); below, their quantiles, on the diagonal if "
        "all is well.",
        "Under shrinkage EBEs are narrower than the line and look normal whatever the truth is: judge shapes with "
        "draws (samples=True), which show the model rather than the data where the data say little.",
        _etas,
        _SAMPLED,
    ),
    Picture(
        "eta-pairs",
        "Pairs of random effects with the ellipses of Omega",
        pairs,
        "Half of the subjects belong in the solid ellipse, 95 % in the dashed one.",
        "Shrinkage makes correlations between EBEs where Omega has none, and hides those it has.",
        _two,
        _SAMPLED,
    ),
    Picture(
        "eta-covariates",
        "Random effects against covariates",
        covariates,
        "Orange: the effect the likelihood asks for, with its 95 % band; p tests it given the effects on the other "
        "etas, 'worth' is the fall of −2 log L it would bring; blue: the trend of the points.",
        "Above 20–30 % shrinkage the EBEs (points, blue) hide effects and show those of other parameters; the orange "
        "line does not.",
        _covariates,
        _SAMPLED,
    ),
)
