"""Exercises on the integral, its approximations, SAEM and model selection (notebooks 4 to 7)."""

from __future__ import annotations

from functools import cache

from nlmewidgets.core.data import Data
from nlmewidgets.core.distributions import LogNormal
from nlmewidgets.core.model import Model
from nlmewidgets.diagnostics import integrand
from nlmewidgets.exercises.exercise import Choice, Exercise, Mistake, Number
from nlmewidgets.exercises.parameters import theophylline
from nlmewidgets.exercises.study import study
from nlmewidgets.fit import Fit, bic, lrt
from nlmewidgets.library import LIBRARY
from nlmewidgets.library.residual import Additive
from nlmewidgets.methods.quadrature import product_grid

__all__ = ["EXERCISES", "bolus", "emax"]

# ------------------------------------------------------------------------------------------------ 4 the integral


@cache
def bolus() -> tuple[Model, Data]:
    """Return truth and data of notebook 4."""
    truth = LIBRARY["iv_1cpt"].function(CL=LogNormal(2.0, sd=0.7), V=LogNormal(10.0), residual=Additive(1.0))
    return truth, study(truth, times=(2, 12), dose=100, subjects=60, seed=3)


def _fo_error() -> Number:
    truth, data = bolus()
    off = integrand(truth.problem(data), truth.values, 1).contributions["difference"]
    return Number(
        off["fo"],
        decimals=1,
        mistakes=(
            Mistake(off["focei"], "this is FOCEI's."),
            Mistake(off["laplace"], "this is Laplace's."),
            Mistake(
                integrand(truth.problem(data), truth.values, 1).contributions["minus2ll"]["fo"],
                "this is FO's value itself; its distance from the finest quadrature is asked for.",
            ),
        ),
        why="FO linearises at the typical person, and subject 1 is far from typical.",
    )


def _grid_points() -> Number:
    nodes, etas, subjects = 7, 4, 50
    points = product_grid(nodes, etas)[0].shape[1]
    return Number(
        subjects * points,
        decimals=0,
        mistakes=(
            Mistake(subjects * nodes * etas, "nodes of a grid multiply: 7 × 7 × 7 × 7, not 7 × 4."),
            Mistake(points, "this is one subject's grid."),
            Mistake(subjects * etas**nodes, "7 nodes in each of 4 directions are 7⁴, not 4⁷."),
        ),
        why="Each further random effect makes it 7 times as many: hence Laplace, SAEM and importance sampling.",
    )


_LINEAR = Choice(
    "all",
    {
        "quadrature": "It is, but so are the others: a Gaussian integrand is what each of them assumes.",
        "laplace": "It is, but not alone: the integrand is Gaussian, and any Gaussian approximation of it is exact.",
        "fo": "It is, but not alone: the integrand is Gaussian, and any Gaussian approximation of it is exact.",
        "all": "A linear model with normal errors has a Gaussian integrand, and all of them integrate Gaussians.",
    },
)

# ---------------------------------------------------------------------------------------- 5 the approximations


@cache
def emax(method: str) -> Fit:
    """Return a fit of notebook 5."""
    truth = LIBRARY["dose_response_emax"].function(
        E0=LogNormal(5.0, sd=0.3), Emax=LogNormal(30.0, sd=0.3), ED50=LogNormal(40.0, sd=1.0), residual=Additive(1.5)
    )
    return truth.fit(study(truth, times=(0, 20, 100), subjects=100, seed=2), method)  # type: ignore[no-any-return]


def _price() -> Number:
    fo, best = emax("fo"), emax("agq")
    one, two = fo.yardstick(), best.yardstick()
    return Number(
        one.ofv - two.ofv,
        decimals=1,
        error=one.error + two.error,
        mistakes=(
            Mistake(fo.ofv - best.ofv, "these are the methods' own objectives, which are not on one scale."),
            Mistake((one.ofv - two.ofv) / 2.0, "this is log L; −2 log L is asked for."),
        ),
        why="FO's own objective does not tell: only the yardstick sees what the approximation cost.",
    )


_ONE_NODE = Choice(
    "laplace",
    {
        "fo": "FO is centred at η = 0; the one node sits at the mode.",
        "foce": "Nearly: FOCE too is centred at the mode, but takes the curvature from first derivatives only.",
        "laplace": "One node at the mode, scaled by the exact curvature there, is Laplace's approximation.",
    },
)

_LOWER = Choice(
    "nothing",
    {
        "the fit of A is better": "The two objectives approximate −2 log L with errors of their own, decimals or tens.",
        "the fit of B is better": "The two objectives approximate −2 log L with errors of their own, decimals or tens.",
        "nothing": "Only a common scale tells: fit.yardstick() or nw.compare.",
    },
)

# ------------------------------------------------------------------------------------------------------- 6 SAEM


@cache
def saem() -> Fit:
    """Return the fit of notebook 6."""
    from nlmewidgets.datasets import load

    start = theophylline().start
    return start.fit(load("theophylline"), "saem", seed=1, explore=60, smooth=40, chains=1)  # type: ignore[no-any-return]


def _gamma() -> Number:
    history = saem().history
    tenth = float(history.loc[history["phase"] == "smooth", "gamma"].iloc[9])
    return Number(
        tenth,
        decimals=2,
        mistakes=(
            Mistake(0.1, "this is 1/k; the exponent here is 0.7, so that the past is forgotten faster."),
            Mistake(1.0, "this is the step size of exploring."),
        ),
        why="The tenth simulation enters with a fifth of its weight.",
    )


_FOREVER = Choice(
    "noise",
    {
        "bias": "Each iterate is about right; it is the scatter that never goes.",
        "noise": "With γ = 1 every simulation replaces the last one: the estimates wander for ever around the maximum.",
        "nothing": "Look at the traces before smoothing begins: they do not settle, they wander.",
    },
)


def _chains() -> Number:
    return Number(
        (1.0 / 4.0) ** 0.5,
        decimals=2,
        mistakes=(
            Mistake(0.25, "you took the variance for the SD."),
            Mistake(2.0, "it becomes smaller, not larger."),
            Mistake(4.0, "it becomes smaller, and by the root of 4."),
        ),
        why="Averaging iterates (smoothing) does the same for less work.",
    )


# --------------------------------------------------------------------------------------------------- 7 criteria

_SMALL, _LARGE, _SUBJECTS = (-1200.4, 7), (-1197.9, 9), 80


def _bic_difference() -> Number:
    difference = bic(*_LARGE, _SUBJECTS) - bic(*_SMALL, _SUBJECTS)
    lost = 2.0 * (_LARGE[0] - _SMALL[0])
    return Number(
        difference,
        decimals=1,
        mistakes=(
            Mistake(4.0 - lost, "this is AIC; BIC charges ln N for a parameter."),
            Mistake(difference + lost / 2.0, "log L enters twice: −2 log L."),
            Mistake(-difference, "the sign is that of the larger model minus the smaller."),
        ),
        why="The larger model fits better, by less than two parameters cost: BIC keeps the smaller one.",
    )


def _lrt_p() -> Number:
    right = lrt(_SMALL[0], _LARGE[0], 2)
    return Number(
        right.p,
        decimals=3,
        mistakes=(
            Mistake(lrt(_SMALL[0], _LARGE[0], 1).p, "there are two more parameters, so 2 degrees of freedom."),
            Mistake(lrt(_SMALL[0], 0.5 * (_SMALL[0] + _LARGE[0]), 2).p, "the statistic is twice the difference."),
        ),
        why="Not significant at 5 %, and AIC prefers the larger model by one unit: a test and a criterion differ.",
    )


def _boundary_p() -> Number:
    right = lrt(-1000.0, -998.5, 1, boundary=1)
    return Number(
        right.p,
        decimals=3,
        mistakes=(
            Mistake(
                lrt(-1000.0, -998.5, 1).p,
                "zero is the end of a variance's range: half of the time the statistic is zero, so p is halved.",
            ),
            Mistake(lrt(-1000.0, -999.25, 1, boundary=1).p, "the statistic is twice the difference of log L."),
        ),
        why="Tested as if it could be negative, a variance is kept out of a model too often.",
    )


_FOUR, _FIVE, _SIX, _SEVEN = "04-integral", "05-approximations", "06-saem", "07-criteria"

EXERCISES = (
    Exercise(
        "fo-error",
        _FOUR,
        "By how much is FO off in −2 log L of **subject 1** of the nonlinear study? One decimal.",
        _fo_error,
        ("`integrand(problem, values, 1).contributions` is a table.", "Row fo, column difference."),
    ),
    Exercise(
        "linear-exact",
        _FOUR,
        r"In a model linear in $\eta$ with additive normal error, which approximation is exact: `'quadrature'`, "
        "`'laplace'`, `'fo'` or `'all'`?",
        lambda: _LINEAR,
        (r"What shape has $p(y, \eta)$ as a function of $\eta$?",),
    ),
    Exercise(
        "grid-points",
        _FOUR,
        "Quadrature with 7 nodes per random effect, 4 random effects, 50 subjects: how often is the model evaluated "
        "for *one* value of the objective?",
        _grid_points,
        ("A grid in four dimensions has nodes in every direction.", "7 × 7 × 7 × 7 for a subject."),
    ),
    Exercise(
        "price-of-fo",
        _FIVE,
        "How much −2 log L do FO's estimates lose against those of quadrature, on the yardstick? One decimal.",
        _price,
        ("`fit.yardstick().ofv`, for both fits.", "Or the column -2LL of `nw.compare`."),
    ),
    Exercise(
        "one-node",
        _FIVE,
        "Adaptive quadrature with a *single* node is which other method: `'fo'`, `'foce'` or `'laplace'`?",
        lambda: _ONE_NODE,
        ("Where does the node sit, and what sets its scale?", "Try `model.ofv(data, 'agq', nodes=1)`."),
    ),
    Exercise(
        "two-objectives",
        _FIVE,
        "Method A ends at an objective of 594.9, method B at 594.0. What follows: `'the fit of A is better'`, "
        "`'the fit of B is better'` or `'nothing'`?",
        lambda: _LOWER,
        ("Are the two numbers values of one function?",),
    ),
    Exercise(
        "gamma",
        _SIX,
        r"What is the step size $\gamma$ at the *tenth* smoothing iteration? Two decimals.",
        _gamma,
        ("It is a column of `fit.history`.", r"$k^{-0.7}$ at $k = 10$."),
    ),
    Exercise(
        "gamma-forever",
        _SIX,
        r"What would be wrong with $\gamma = 1$ to the end: `'bias'`, `'noise'` or `'nothing'`?",
        lambda: _FOREVER,
        ("Look at the left part of the traces.",),
    ),
    Exercise(
        "chains",
        _SIX,
        "Four times as many chains: by which factor does the *standard deviation* of the noise change? Two decimals.",
        _chains,
        ("The variance of a mean of n is 1/n of one.", "The SD is its root."),
    ),
    Exercise(
        "bic-difference",
        _SEVEN,
        r"$\ell_1 = -1200.4$ with 7 parameters, $\ell_2 = -1197.9$ with 9, 80 subjects. What is BIC of the larger "
        "model minus BIC of the smaller? One decimal.",
        _bic_difference,
        ("`nw.bic(loglik, k, n)`.", r"$-2(\ell_2 - \ell_1) + 2\ln 80$."),
    ),
    Exercise(
        "lrt-p",
        _SEVEN,
        "What is the *p* value of the likelihood-ratio test between them, no parameter being a variance? "
        "Three decimals.",
        _lrt_p,
        ("`nw.lrt(smaller, larger, df)` has an attribute p.", "df = 9 − 7."),
    ),
    Exercise(
        "boundary-p",
        _SEVEN,
        r"One more *variance* raises $\ell$ from −1000.0 to −998.5. What is *p*? Three decimals.",
        _boundary_p,
        ("A variance cannot be negative.", "`nw.lrt(..., boundary=1)`."),
    ),
)
