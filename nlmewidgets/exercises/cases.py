"""Exercises of the cases: kinetics, effect, perception (notebooks 11 to 13)."""

from __future__ import annotations

import math
from functools import cache

import sympy as sp
from scipy import special

from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.core.effects import power
from nlmewidgets.core.model import Model
from nlmewidgets.core.symbols import covariate, dv, time
from nlmewidgets.datasets import describe, load
from nlmewidgets.exercises.exercise import Better, Choice, Exercise, Mistake, Number
from nlmewidgets.fit import Fit
from nlmewidgets.library import LIBRARY
from nlmewidgets.library.likelihood import LogLikelihood
from nlmewidgets.library.residual import Proportional

__all__ = ["EXERCISES", "phenobarbital", "psychometric"]

# ------------------------------------------------------------------------------------------- 11 phenobarbital


@cache
def phenobarbital() -> Fit:
    """Return the best fit known of notebook 11: clearance and volume grow with weight."""
    weight = covariate("WT")
    model = LIBRARY["iv_1cpt"].function(
        CL=LogNormal(0.007, sd=0.2, effect=power(weight, 1.5, 1.0)),
        V=LogNormal(1.5, sd=0.2, effect=power(weight, 1.5, 1.0)),
        residual=Proportional(0.1),
    )
    return model.fit(load("phenobarbital"), "focei")  # type: ignore[no-any-return]


def _with_weight() -> Better:
    # Differences of AIC below 2 are no evidence (Burnham & Anderson 2002, section 2.6).
    return Better(phenobarbital(), within=2.0, criterion="AIC")


def _loading_dose() -> Number:
    fit = phenobarbital()
    per_kg = fit.theta["V"] / 1.5
    return Number(
        20.0 * per_kg * 2.0,
        decimals=0,
        mistakes=(
            Mistake(20.0 * fit.theta["V"], "this is for a neonate of 1.5 kg; this one weighs 2 kg."),
            Mistake(20.0 * per_kg, "this is for one kilogram."),
            Mistake(20.0 * fit.theta["CL"] * 2.0 / 1.5, "clearance maintains a concentration; volume fills it."),
        ),
        why="Twenty milligrams per kilogram: what neonatal units give.",
    )


def _half_life() -> Number:
    fit = phenobarbital()
    hours = math.log(2.0) * fit.theta["V"] / fit.theta["CL"]
    return Number(
        hours / 24.0,
        decimals=1,
        mistakes=(
            Mistake(hours, "this is in hours."),
            Mistake(hours / 24.0 / math.log(2.0), "this is the mean residence time V/CL; half-life is ln 2 of it."),
        ),
        why="As both grow with weight alike, it does not depend on weight: steady state takes weeks.",
    )


# ------------------------------------------------------------------------------------------------ 12 turnover


def _residence() -> Number:
    kout = 0.05
    return Number(
        1.0 / kout,
        decimals=0,
        mistakes=(
            Mistake(math.log(2.0) / kout, "this is the half-life; the mean is 1/kout."),
            Mistake(kout, "this is the rate; the time is its reciprocal."),
        ),
        why="Many times what the drug takes to be absorbed: the effect lags days behind.",
    )


def _steady() -> Number:
    t = sp.Symbol("C_over_IC50")
    left = float((1 - t / (1 + t)).subs(t, 3))
    return Number(
        left,
        decimals=2,
        mistakes=(
            Mistake(1.0 - left, "this is the inhibition; what is left is asked for."),
            Mistake(1.0 / 3.0, "at IC50 itself a half is left: 1/(1 + C/IC50)."),
        ),
        why="kout does not enter: it sets how soon, not how far.",
    )


_LAG = Choice(
    "turnover",
    {
        "absorption": "The concentration peaks within a few hours; the activity falls for days longer.",
        "turnover": "The drug stops the production; what is there already leaves with kout.",
        "distribution": "There is one compartment; the response follows its concentration through production alone.",
    },
)

# --------------------------------------------------------------------------------------------- 13 psychometric


@cache
def psychometric() -> Fit:
    """Return the fit of notebook 13."""
    threshold, slope = sp.symbols("threshold slope", positive=True)
    n = covariate("N")
    p = sp.Rational(1, 2) + sp.Rational(48, 100) * (1 - sp.exp(-((time / threshold) ** slope)))
    model = Model(
        {"correct": LogLikelihood(dv * sp.log(p) + (n - dv) * sp.log(1 - p))},
        {threshold: LogNormal(7.0, sd=0.4), slope: LogNormal(2.0, sd=0.3)},
    )
    return model.fit(load("psychometric"), "saem", seed=1, explore=100, smooth=60)  # type: ignore[no-any-return]


def _at_threshold() -> Number:
    truth = describe("psychometric").truth
    guess, lapse = truth["guess"], truth["lapse"]
    seen = 1.0 - math.exp(-1.0)
    return Number(
        guess + (1.0 - guess - lapse) * seen,
        decimals=2,
        mistakes=(
            Mistake(seen, "who does not see it guesses, and is right half of the time."),
            Mistake(0.5, "at the threshold 63 % are seen; the others are guessed."),
            Mistake(0.75, "the threshold of a Weibull function is where 1 − 1/e are seen, not half."),
        ),
        why="Between chance (50 %) and the ceiling (98 %).",
    )


def _sees() -> Number:
    fit = psychometric()
    median, omega = float(fit.theta["threshold"]), float(fit.estimates["omega_threshold"])
    z = math.log(16.0 / median) / omega
    share = float(special.ndtr(z))
    # SAEM ends within 0.1 standard errors of the maximum; the delta method carries that to the share.
    se = fit.uncertainty_by("S").se
    error = (
        0.1
        * math.exp(-0.5 * z * z)
        / math.sqrt(2.0 * math.pi)
        / omega
        * math.hypot(se["threshold"] / median, z * se["omega_threshold"])
    )
    return Number(
        share,
        decimals=2,
        error=error,
        mistakes=(
            Mistake(1.0 - share, "these have a threshold above 16 %."),
            Mistake(float(special.ndtr((16.0 - median) / (median * omega))), "thresholds are log-normal: take logs."),
        ),
        why="The question is about people, so omega answers it; the standard error of the median does not.",
    )


_BINOMIAL = Choice(
    "binomial",
    {
        "additive": "Forty right of forty has no spread left; a constant SD does not know that.",
        "proportional": "The spread is largest near 50 % and vanishes at 100 %: the opposite of proportional.",
        "binomial": "The number right of N independent trials: its spread follows from p and N, no sigma needed.",
    },
)

_PK, _PD, _NEURO = "11-phenobarbital", "12-turnover", "13-psychometric"

EXERCISES = (
    Exercise(
        "with-weight",
        _PK,
        "Improve the model until its AIC, on the yardstick, is within 2 of the best one known. Hand in the fit.",
        _with_weight,
        (
            "Which covariate do the tests name, and on which parameters?",
            "`effect=nw.power(WT, 1.5, 1.0)` makes a parameter grow with weight; do it for CL and V.",
            "The residuals over the prediction open like a funnel: try `nw.Proportional(0.1)`.",
        ),
    ),
    Exercise(
        "loading-dose",
        _PK,
        "Which loading dose brings a neonate of **2 kg** to 20 mg/L, by the fit with weight on both parameters (power, "
        "reference 1.5 kg, exponents 1 as estimated or fixed)? Whole milligrams, V proportional to weight.",
        _loading_dose,
        ("Dose = concentration × volume.", "V of 1.5 kg is theta V; take 2/1.5 of it."),
    ),
    Exercise(
        "half-life",
        _PK,
        "What is the typical half-life, in **days**? One decimal.",
        _half_life,
        (r"$\ln 2 \cdot V / CL$", "The data are in hours."),
    ),
    Exercise(
        "residence",
        _PD,
        "kout is 0.05 1/h. How long does a molecule of the response stay on average, in hours?",
        _residence,
        ("A constant rate of loss makes exponential life times.", "Their mean is 1/kout."),
    ),
    Exercise(
        "steady-response",
        _PD,
        "The concentration stays at *three times* IC50. Which fraction of the baseline is left in the end? "
        "Two decimals.",
        _steady,
        ("Set the derivative of the response to zero.", r"$R/R_0 = 1 - C/(IC_{50} + C)$."),
    ),
    Exercise(
        "lag",
        _PD,
        "Why is the activity lowest days after the concentration was highest: `'absorption'`, `'turnover'` or "
        "`'distribution'`?",
        lambda: _LAG,
        ("What does the drug act on: the response, or its production?",),
    ),
    Exercise(
        "at-threshold",
        _NEURO,
        "What is the probability of a right answer *at* the threshold (guess 0.5, lapse 0.02)? Two decimals.",
        _at_threshold,
        ("Put contrast = threshold into the function.", r"$0.5 + 0.48\,(1 - e^{-1})$"),
    ),
    Exercise(
        "who-sees",
        _NEURO,
        "Which share of *observers* has a threshold below a contrast of 16 %? Two decimals.",
        _sees,
        ("The thresholds are log-normal.", r"$\Phi\left(\ln(16/\theta)/\omega\right)$: `scipy.stats.norm.cdf`."),
    ),
    Exercise(
        "which-error",
        _NEURO,
        "Which distribution has the number of right answers of 40: `'additive'` or `'proportional'` normal error, or "
        "`'binomial'`?",
        lambda: _BINOMIAL,
        ("How large can the spread be where everything is right?",),
    ),
)
