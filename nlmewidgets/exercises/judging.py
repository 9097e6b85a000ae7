"""Exercises on shrinkage, predictive checks and Bayes (notebooks 8 to 10)."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from nlmewidgets.core.data import Data
from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.core.model import Model
from nlmewidgets.diagnostics import npde_test, predicted_shrinkage
from nlmewidgets.exercises.exercise import Choice, Exercise, Mistake, Number
from nlmewidgets.exercises.study import study
from nlmewidgets.fit import Fit
from nlmewidgets.library import LIBRARY
from nlmewidgets.library.residual import Proportional

__all__ = ["EXERCISES", "two_phases"]

# ------------------------------------------------------------------------------------------------- 8 shrinkage


def _shrinkage_number() -> Number:
    sd, omega = 0.12, 0.30
    return Number(
        1.0 - sd / omega,
        decimals=2,
        mistakes=(
            Mistake(sd / omega, "this is what is left; shrinkage is what is gone."),
            Mistake(
                1.0 - (sd / omega) ** 2,
                "you took variances; NONMEM and fit.shrinkage compare standard deviations (Monolix variances).",
            ),
        ),
        why="More than half of the spread between people has gone out of the EBEs.",
    )


@cache
def sampled(times: tuple[float, ...]) -> float:
    """Return the shrinkage of CL that a design of notebook 8 will have."""
    model = LIBRARY["iv_1cpt"].function(
        CL=LogNormal(5.0, sd=0.3), V=LogNormal(50.0, sd=0.3), residual=Proportional(0.2)
    )
    design = study(model, times=times, dose=100, subjects=1)
    return float(predicted_shrinkage(model.problem(design), model.values)["sd"]["eta_CL"])


def _late_sample() -> Number:
    times = np.array([2.0, 4.0, 8.0, 12.0, 24.0])
    shrunk = [sampled((1.0, float(t))) for t in times]
    enough = [float(t) for t, s in zip(times, shrunk, strict=True) if s < 0.3]
    below = [float(t) for t, s in zip(times, shrunk, strict=True) if s < 0.5]
    mistakes = (
        (Mistake(below[0], "there shrinkage is below 50 %, not yet below 30 %."),) if below[0] < enough[0] else ()
    )
    return Number(
        enough[0],
        decimals=0,
        mistakes=mistakes,
        why="Clearance is a slope: what counts is the distance between the samples, not their number.",
    )


_MASKED = Choice(
    "cannot tell",
    {
        "no effect": "Shrunken EBEs lie on the typical value whatever the truth is: a flat plot is what they show.",
        "an effect": "A flat plot is no evidence for one either.",
        "cannot tell": "At 70 % shrinkage the plot shows the design; use covariate_tests, or fit the effect.",
    },
)

# ----------------------------------------------------------------------------------------- 9 predictive checks


@cache
def two_phases(name: str) -> Fit:
    """Return a fit of notebook 9: 'one' or 'two' compartments to data of two."""
    make = {
        "one": lambda: LIBRARY["iv_1cpt"].function(
            CL=LogNormal(5.0, sd=0.3), V=LogNormal(30.0, sd=0.3), residual=Proportional(0.2)
        ),
        "two": _truth,
    }
    return make[name]().fit(_phases(), "focei")  # type: ignore[no-any-return]


def _truth() -> Model:
    model: Model = LIBRARY["iv_2cpt"].function(
        CL=LogNormal(5.0, sd=0.3), V=LogNormal(10.0, sd=0.3), Q=LogNormal(10.0), V2=LogNormal(30.0),
        residual=Proportional(0.15),
    )  # fmt: skip
    return model


@cache
def _phases() -> Data:
    return study(_truth(), times=(0.25, 0.5, 1, 2, 4, 8, 12, 24), dose=100, subjects=40, seed=4)


def _outside() -> Number:
    return Number(
        0.1 * 250,
        decimals=0,
        mistakes=(
            Mistake(12.5, "that is one side; there are two."),
            Mistake(225, "these are inside."),
        ),
        why="None outside would be as bad a sign as fifty: the band would be too wide.",
    )


_NPDE = Choice(
    "too small",
    {
        "too small": "The data scatter more than simulations: an omega or a sigma is too small, or a part is missing.",
        "too large": "Then the data would sit in the middle of the simulations and the variance would be below 1.",
        "right": "NPDE of data from the model have variance 1.",
    },
)


def _rejected() -> Choice:
    p = {n: float(npde_test(two_phases(n).npde(n=500, seed=1)["NPDE"])["global_p"]) for n in ("one", "two")}
    wrong = min(p, key=lambda n: p[n])
    return Choice(
        wrong,
        {
            name: f"Its NPDE are N(0, 1) with p = {value:.2g}{'' if name == wrong else ': nothing against it'}."
            for name, value in p.items()
        },
    )


# ----------------------------------------------------------------------------------------------------- 10 Bayes


def _prior_weight() -> Number:
    measured, before = (math.log(2.7), 0.3), (math.log(3.0), 0.5)
    weights = measured[1] ** -2, before[1] ** -2
    middle = (weights[0] * measured[0] + weights[1] * before[0]) / sum(weights)
    by_sd = (measured[0] / measured[1] + before[0] / before[1]) / (1.0 / measured[1] + 1.0 / before[1])
    return Number(
        math.exp(middle),
        decimals=2,
        mistakes=(
            Mistake(2.7, "this is what the data say alone."),
            Mistake(3.0, "this is what was known before."),
            Mistake(math.sqrt(2.7 * 3.0), "the two do not weigh alike: the data are more precise."),
            Mistake(math.exp(by_sd), "weights are precisions, 1/variance, not 1/SD."),
        ),
        why="Between the two, nearer to the more precise one.",
    )


def _monte_carlo_error() -> Number:
    return Number(
        400.0**-0.5,
        decimals=2,
        mistakes=(
            Mistake(1.0 / 400.0, "you took the variance for the SD."),
            Mistake(1600.0**-0.5, "draws of a chain are not independent: the effective size counts."),
        ),
        why="Enough for a mean; tails need more.",
    )


_R_HAT = Choice(
    "go on",
    {
        "report": "The chains are in different places still: their mean is none of them.",
        "go on": "The chains do not agree yet: fit.resume(draws=...), or a longer warm-up.",
        "drop a chain": "Which one? Throwing away the chain one does not like is choosing the answer.",
    },
)

_EIGHT, _NINE, _TEN = "08-shrinkage", "09-predictive-checks", "10-bayes"

EXERCISES = (
    Exercise(
        "shrinkage-number",
        _EIGHT,
        r"The EBEs of CL have an SD of 0.12 where $\omega = 0.30$. How large is the shrinkage, as a fraction and as "
        "`fit.shrinkage` defines it? Two decimals.",
        _shrinkage_number,
        ("Which share of the spread is gone?", r"$1 - \mathrm{SD}(\hat\eta)/\omega$."),
    ),
    Exercise(
        "late-sample",
        _EIGHT,
        "The first sample is at 1 h. When must the second be, at the earliest, so that the shrinkage of CL stays below "
        "30 %: at 2, 4, 8, 12 or 24 h?",
        _late_sample,
        (
            "`predicted_shrinkage(model.problem(design), model.values)` for a design of each.",
            "The table above has the answer in a column.",
        ),
    ),
    Exercise(
        "masked",
        _EIGHT,
        "EBEs of CL show no trend against weight, and their shrinkage is 70 %. What follows: `'no effect'`, "
        "`'an effect'` or `'cannot tell'`?",
        lambda: _MASKED,
        ("What would the plot look like at 100 %?",),
    ),
    Exercise(
        "outside",
        _NINE,
        "Of 250 observations, how many do you expect outside a right model's 90 % prediction interval?",
        _outside,
        ("90 % inside leaves …",),
    ),
    Exercise(
        "npde-variance",
        _NINE,
        "The NPDE have a variance of 1.8. The model's variability is `'too small'`, `'too large'` or `'right'`?",
        lambda: _NPDE,
        ("An NPDE of 3 is a datum beyond almost all simulated ones.",),
    ),
    Exercise(
        "rejected",
        _NINE,
        "Which of the two models do the NPDE reject: the one with `'one'` or with `'two'` compartments?",
        _rejected,
        ("`nw.diagnostics.npde_test(fit.npde()['NPDE'])` for both.", "Look at global_p."),
    ),
    Exercise(
        "prior-weight",
        _TEN,
        "The prior of a clearance is `LogNormal(3, 0.5)`; the data alone say 2.7 with a standard error of 0.3 on the "
        "log scale. What is the posterior median, both being normal on the log scale? Two decimals.",
        _prior_weight,
        ("Precisions (1/variance) are weights.", r"Average $\ln 2.7$ and $\ln 3$, weights $1/0.3^2$ and $1/0.5^2$."),
    ),
    Exercise(
        "monte-carlo-error",
        _TEN,
        "1600 draws have an effective sample size of 400. How large is the Monte Carlo error of a posterior mean, in "
        "posterior standard deviations? Two decimals.",
        _monte_carlo_error,
        ("The SD of a mean of n independent draws.", r"$1/\sqrt{400}$"),
    ),
    Exercise(
        "r-hat",
        _TEN,
        "R-hat of one parameter is 1.3. What now: `'report'`, `'go on'` or `'drop a chain'`?",
        lambda: _R_HAT,
        ("R-hat compares the scatter between chains with that within.",),
    ),
)
