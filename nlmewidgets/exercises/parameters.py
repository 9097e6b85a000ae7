r"""Exercises on the hierarchy, residual errors and log-normal parameters (notebooks 1 to 3)."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.core.symbols import f
from nlmewidgets.datasets import load
from nlmewidgets.diagnostics import variance_split
from nlmewidgets.exercises.exercise import Choice, Exercise, Mistake, Number
from nlmewidgets.fit import Fit
from nlmewidgets.library import LIBRARY
from nlmewidgets.library.residual import Additive, Combined, Combined1, Proportional, Residual
from nlmewidgets.methods.quadrature import product_grid

__all__ = ["EXERCISES", "theophylline"]


@cache
def theophylline() -> Fit:
    """Return the fit of notebook 1."""
    model = LIBRARY["oral_1cpt"].function(
        ka=LogNormal(1.5, sd=0.6), CL=LogNormal(2.8, sd=0.3), V=LogNormal(32.0, sd=0.2), residual=Additive(0.7)
    )
    return model.fit(load("theophylline"), "focei")  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------- 1 the hierarchy


def _share_between() -> Number:
    fit = theophylline()
    design = fit.data.subset([1]).on_grid(times=np.array([1.0]))
    table = variance_split(fit.start.problem(design), fit.values).set_index("part")
    parts, error = table["simulation"], table["error"]
    share = parts["between"] / parts["total"]
    return Number(
        share,
        decimals=2,
        # d share = (1 − share)/total · d between; two simulations may both be off.
        error=4.0 * math.sqrt(2.0) * error["between"] * (1.0 - share) / parts["total"],
        mistakes=(
            Mistake(1.0 - share, "this is the share within a person; the one between people is asked for."),
            Mistake(
                math.sqrt(parts["between"]) / (math.sqrt(parts["between"]) + math.sqrt(parts["residual"])),
                "these are standard deviations; only variances add up to the total.",
            ),
        ),
        why="An hour after the dose people differ mostly by how fast they absorb.",
    )


def _residual_variance() -> Number:
    sd = float(theophylline().values.sigma[0])
    return Number(
        sd**2,
        decimals=2,
        mistakes=(Mistake(sd, "you took the standard deviation for the variance: fit.sigma holds SDs."),),
        why="NONMEM prints the variance, as SIGMA.",
    )


_MEASURE_TWICE = Choice(
    "within",
    {
        "between": "A second look at the same sample leaves people as different as they were.",
        "within": "The mean of two independent errors has half the variance of one; the people stay as they are.",
        "both": "The measurement gets better; people differ by as much as before.",
        "neither": "The mean of two independent errors has half the variance of one.",
    },
)

# -------------------------------------------------------------------------------------- 2 residual error models


def _sd(error: Residual, prediction: float) -> float:
    """Return the standard deviation of an observation around a prediction."""
    values = {symbol: symbol.details[0] for symbol in error.sigmas()}  # type: ignore[attr-defined]
    return float(error.sd_expression(f).subs({f: prediction, **values}))


def _combined_sd() -> Number:
    a, b, at = 0.3, 0.1, 10.0
    right = _sd(Combined(a, b), at)
    return Number(
        right,
        decimals=2,
        mistakes=(
            Mistake(
                _sd(Combined1(a, b), at),
                "these are standard deviations added; independent errors add their variances.",
            ),
            Mistake(right**2, "you took the variance for the SD."),
            Mistake(math.hypot(a, b), "the proportional part is a tenth of the prediction, not 0.1."),
        ),
        why="nw.Combined1 adds the SDs instead and gives 1.30.",
    )


def _crossing() -> Number:
    a, b = 0.3, 0.1
    return Number(
        a / b,
        decimals=1,
        mistakes=(
            Mistake(b / a, "you divided the wrong way round."),
            Mistake((a / b) ** 2, "you took the ratio of the variances; the prediction enters squared as well."),
        ),
        why="Below it the error is about constant, above it about a tenth of the prediction.",
    )


@cache
def indomethacin(error: str) -> Fit:
    """Return a fit of notebook 2."""
    errors = {
        "additive": Additive(0.1),
        "proportional": Proportional(0.2),
        "combined": Combined(additive=0.02, proportional=0.15),
    }
    model = LIBRARY["iv_2cpt"].function(
        CL=LogNormal(8.0, sd=0.3), V=LogNormal(9.0, sd=0.3), Q=LogNormal(6.0, sd=0.3), V2=LogNormal(20.0),
        residual=errors[error],
    )  # fmt: skip
    return model.fit(load("indomethacin"), "focei")  # type: ignore[no-any-return]


def _error_model() -> Choice:
    names = ("additive", "proportional", "combined")
    criterion = {n: indomethacin(n).yardstick().ofv + 2.0 * indomethacin(n).n_parameters for n in names}
    best = min(criterion, key=lambda n: criterion[n])
    return Choice(
        best,
        {
            name: f"Its AIC is {criterion[name] - criterion[best]:.1f} above the best."
            if name != best
            else "Nothing that has as few parameters comes as near to the data."
            for name in names
        },
    )


# ------------------------------------------------------------------------------------- 3 log-normal parameters


def _mean(theta: float, omega: float) -> float:
    """Return the mean of a log-normal parameter, by quadrature over its random effect."""
    x, log_weight = product_grid(31, 1)
    weight = np.exp(log_weight - 0.5 * x[0] ** 2)
    return float(weight @ (theta * np.exp(omega * x[0])))


def _mean_clearance() -> Number:
    theta, omega = 3.0, 0.6
    return Number(
        _mean(theta, omega),
        decimals=2,
        mistakes=(
            Mistake(theta, "you gave the median; a few large values pull the mean above it."),
            Mistake(theta * math.exp(omega**2), "you forgot to halve the variance in the exponent."),
            Mistake(theta * math.exp(omega / 2.0), "you took the SD for the variance."),
            Mistake(theta * math.exp(-(omega**2) / 2.0), "the sign of the exponent is wrong: the mean is larger."),
            Mistake(theta + omega**2 / 2.0, "the half variance is added on the log scale, not to the median."),
        ),
        why="Half the people have a clearance below 3, and the mean is a fifth above it.",
    )


def _variation() -> Number:
    omega = 0.6
    mean, square = _mean(1.0, omega), _mean(1.0, 2.0 * omega)
    return Number(
        math.sqrt(square - mean**2) / mean,
        decimals=2,
        mistakes=(
            Mistake(omega, "omega is only nearly the coefficient of variation, below 0.3 or so."),
            Mistake(omega**2, "you gave the variance of the logarithm."),
            Mistake(math.exp(omega**2) - 1.0, "this is the square of it; take the root."),
            Mistake(math.sqrt(square - mean**2), "this is the SD in units of the median; divide by the mean."),
        ),
        why="What is often reported as “60 % variability” is 66 %.",
    )


_TYPICAL = Choice(
    "median",
    {
        "mean": "The mean of curves is not the curve of the mean: the exponential is convex in the clearance.",
        "median": "A monotone function carries the median with it: half the people are above, at every time.",
        "mode": "The mode is not carried along by a nonlinear function; the median is.",
    },
)

_ONE, _TWO, _THREE = "01-hierarchy", "02-residual-errors", "03-log-normal"

EXERCISES = (
    Exercise(
        "share-between",
        _ONE,
        "Which share of the variance of a concentration **one hour** after subject 1's dose lies *between* people? "
        "Two decimals.",
        _share_between,
        (
            "`variance_split` has rows called between, residual and total.",
            "Make a design observed at 1 h: `data.subset([1]).on_grid(times=[1.0])`.",
            "Divide the row between by the row total, column simulation.",
        ),
    ),
    Exercise(
        "residual-variance",
        _ONE,
        "What is the *variance* of the residual error, in (mg/L)²? Two decimals.",
        _residual_variance,
        ("`fit.sigma` holds what you need.", "All arguments and sigmas of this package are standard deviations."),
    ),
    Exercise(
        "measure-twice",
        _ONE,
        "The laboratory measures every sample twice and reports the mean. Which part of the variance becomes smaller: "
        "`'between'`, `'within'`, `'both'` or `'neither'`?",
        lambda: _MEASURE_TWICE,
        ("Which of the two variances does a better assay know about?",),
    ),
    Exercise(
        "combined-sd",
        _TWO,
        "With `nw.Combined(additive=0.3, proportional=0.1)`, what is the SD of an observation whose prediction is 10? "
        "Two decimals.",
        _combined_sd,
        ("Independent errors add their variances.", r"$\sqrt{a^2 + (b f)^2}$ with a = 0.3, b = 0.1, f = 10."),
    ),
    Exercise(
        "error-crossing",
        _TWO,
        "At which prediction are the additive and the proportional part of that error equally large? One decimal.",
        _crossing,
        ("Set the two standard deviations equal.", r"Solve $a = b f$."),
    ),
    Exercise(
        "error-model",
        _TWO,
        "Which error model has the lowest AIC for indomethacin, on the common scale of −2 log L: `'additive'`, "
        "`'proportional'` or `'combined'`?",
        _error_model,
        ("`nw.compare` has a column AIC.", "An extra parameter must earn 2 units of −2 log L."),
    ),
    Exercise(
        "mean-clearance",
        _THREE,
        "`LogNormal(3, sd=0.6)`: what is the *mean* clearance? Two decimals.",
        _mean_clearance,
        (r"The mean of $e^\eta$ with $\eta \sim N(0, \omega^2)$ is above 1.", r"It is $e^{\omega^2/2}$."),
    ),
    Exercise(
        "variation",
        _THREE,
        "And its coefficient of variation, SD divided by mean, as a fraction? Two decimals.",
        _variation,
        (r"$E[e^{2\eta}] = e^{2\omega^2}$.", r"$\sqrt{e^{\omega^2} - 1}$, which is near $\omega$ when that is small."),
    ),
    Exercise(
        "typical-curve",
        _THREE,
        "In a one-compartment model after a bolus *only CL varies*. At every time the curve of the typical person is "
        "the … of the population's curves: `'mean'`, `'median'` or `'mode'`?",
        lambda: _TYPICAL,
        ("Is the concentration at a given time a monotone function of CL?", "What does such a function do to ranks?"),
    ),
)
