"""Simulated studies whose truth is stated; ``python -m nlmewidgets.datasets`` writes their files.

Only NumPy and SciPy are used, none of the package's own models: a fit that finds the truth says something.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.arrays import Array
from nlmewidgets.datasets.card import Dataset

__all__ = ["SIMULATED", "SIMULATORS", "simulate", "write"]

_SEED = 20240229
Truth = dict[str, float]


def _lognormal(rng: np.random.Generator, median: float, sd: float, n: int) -> Array:
    return median * np.exp(sd * rng.standard_normal(n))


# --------------------------------------------------------------------------- turnover

TURNOVER: Truth = {
    "ka": 0.9, "CL": 0.135, "V": 8.0, "R0": 96.0, "kout": 0.05, "IC50": 1.2,
    "omega_ka": 0.6, "omega_CL": 0.28, "omega_V": 0.2, "omega_R0": 0.06, "omega_kout": 0.12, "omega_IC50": 0.35,
    "b_CL_WT": 0.75, "b_V_WT": 1.0, "prop_cp": 0.1, "add_cp": 0.1, "add_pca": 4.0,
}  # fmt: skip


def _oral(t: Array, dose: float, ka: float, cl: float, v: float) -> Array:
    k = cl / v
    return dose * ka / (v * (ka - k)) * (np.exp(-k * t) - np.exp(-ka * t))


def pkpd_turnover(rng: np.random.Generator) -> pd.DataFrame:
    """Return an oral anticoagulant whose concentration inhibits the production of clotting activity."""
    from scipy.integrate import solve_ivp  # dear to import, and needed only to make the file

    p, n = TURNOVER, 32
    male = rng.random(n) < 0.7
    weight = np.round(np.clip(rng.normal(np.where(male, 75.0, 60.0), 9.0), 42.0, 105.0), 1)
    age = np.round(rng.uniform(21.0, 63.0, n))
    ka = _lognormal(rng, p["ka"], p["omega_ka"], n)
    cl = _lognormal(rng, p["CL"], p["omega_CL"], n) * (weight / 70.0) ** p["b_CL_WT"]
    v = _lognormal(rng, p["V"], p["omega_V"], n) * (weight / 70.0) ** p["b_V_WT"]
    r0 = _lognormal(rng, p["R0"], p["omega_R0"], n)
    kout = _lognormal(rng, p["kout"], p["omega_kout"], n)
    ic50 = _lognormal(rng, p["IC50"], p["omega_IC50"], n)
    dose = np.round(1.5 * weight, 1)
    cp_times = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 36.0, 48.0, 72.0, 96.0, 120.0])
    pca_times = np.array([0.0, 24.0, 36.0, 48.0, 72.0, 96.0, 120.0, 144.0])
    rows: list[tuple[Any, ...]] = []
    for i in range(n):
        who = (weight[i], age[i], "male" if male[i] else "female")
        cp = _oral(cp_times, dose[i], ka[i], cl[i], v[i])

        def slope(t: float, r: Array, i: int = i) -> Array:
            c = _oral(np.array(t), dose[i], ka[i], cl[i], v[i])
            return kout[i] * (r0[i] * (1.0 - c / (ic50[i] + c)) - r)

        solution = solve_ivp(slope, (0.0, 144.0), [r0[i]], "LSODA", pca_times, rtol=1e-10, atol=1e-10)
        sd = np.sqrt(p["add_cp"] ** 2 + (p["prop_cp"] * cp) ** 2)
        cp = np.maximum(cp + sd * rng.standard_normal(len(cp)), 0.01)
        pca = np.maximum(solution.y[0] + p["add_pca"] * rng.standard_normal(len(pca_times)), 1.0)
        rows.append((i + 1, 0.0, dose[i], 1, "cp", np.nan, *who))
        rows += [(i + 1, t, 0.0, 0, "cp", round(y, 2), *who) for t, y in zip(cp_times, cp, strict=True)]
        rows += [(i + 1, t, 0.0, 0, "pca", round(y, 1), *who) for t, y in zip(pca_times, pca, strict=True)]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DVID", "DV", "WT", "AGE", "SEX"])
    return table.sort_values(["ID", "TIME", "EVID"], ascending=[True, True, False], kind="stable")


# ------------------------------------------------------------------------ two occasions

OCCASIONS: Truth = {
    "ka": 1.2, "CL": 3.0, "V": 40.0, "omega_ka": 0.4, "omega_CL": 0.25, "omega_V": 0.15,
    "iov_ka": 0.3, "iov_CL": 0.15, "prop": 0.1,
}  # fmt: skip


def two_occasions(rng: np.random.Generator) -> pd.DataFrame:
    """Return two oral doses a week apart, with parameters that change between the occasions."""
    p, n = OCCASIONS, 24
    cl, v, ka = (_lognormal(rng, p[k], p[f"omega_{k}"], n) for k in ("CL", "V", "ka"))
    times = np.array([0.5, 1.0, 2.0, 4.0, 6.0, 9.0, 12.0, 24.0])
    rows = []
    for i in range(n):
        for occasion, start in ((1, 0.0), (2, 168.0)):
            own_cl = cl[i] * np.exp(p["iov_CL"] * rng.standard_normal())
            own_ka = ka[i] * np.exp(p["iov_ka"] * rng.standard_normal())
            y = _oral(times, 200.0, own_ka, own_cl, v[i]) * (1.0 + p["prop"] * rng.standard_normal(len(times)))
            rows.append((i + 1, start, 200.0, 1 if occasion == 1 else 4, occasion, np.nan))
            rows += [(i + 1, start + t, 0.0, 0, occasion, round(c, 3)) for t, c in zip(times, y, strict=True)]
    return pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "OCC", "DV"])


# -------------------------------------------------------------------------- dose-response

EMAX: Truth = {
    "E0": 5.0,
    "Emax": 25.0,
    "ED50": 40.0,
    "omega_E0": 0.2,
    "omega_Emax": 0.25,
    "omega_ED50": 0.5,
    "add": 1.5,
}


def emax(rng: np.random.Generator) -> pd.DataFrame:
    """Return responses of each subject at five doses."""
    p, n = EMAX, 40
    e0, top, ed50 = (_lognormal(rng, p[k], p[f"omega_{k}"], n) for k in ("E0", "Emax", "ED50"))
    doses = np.array([0.0, 10.0, 30.0, 100.0, 300.0])
    y = e0[:, None] + top[:, None] * doses / (ed50[:, None] + doses) + p["add"] * rng.standard_normal((n, 5))
    ids = np.repeat(np.arange(1, n + 1), 5)
    return pd.DataFrame({"ID": ids, "TIME": np.tile(doses, n), "DV": y.ravel().round(2), "DOSE": np.tile(doses, n)})


# --------------------------------------------------------------------------------- counts

COUNTS: Truth = {"base": 6.0, "effect": 0.5, "onset": 3.0, "omega_base": 0.6, "omega_effect": 0.4}


def counts(rng: np.random.Generator) -> pd.DataFrame:
    """Return weekly numbers of seizures, Poisson, under a drug or placebo."""
    p, n = COUNTS, 60
    weeks = np.arange(1.0, 13.0)
    treated = np.arange(n) % 2
    base = _lognormal(rng, p["base"], p["omega_base"], n)
    effect = _lognormal(rng, p["effect"], p["omega_effect"], n) * treated
    rate = base[:, None] * np.exp(-effect[:, None] * (1.0 - np.exp(-weeks / p["onset"])))
    return pd.DataFrame(
        {
            "ID": np.repeat(np.arange(1, n + 1), 12),
            "TIME": np.tile(weeks, n),
            "DV": rng.poisson(rate).ravel(),
            "TRT": np.repeat(treated, 12),
        }
    )


# -------------------------------------------------------------------------- time to event

EVENT: Truth = {"lambda": 0.03, "shape": 1.4, "b_TRT": -0.7, "end": 52.0}


def time_to_event(rng: np.random.Generator) -> pd.DataFrame:
    """Return the week of relapse, Weibull, right-censored by drop-out and at the end of the study."""
    p, n = EVENT, 150
    treated = np.arange(n) % 2
    # S(t) = exp(−(λ t)^shape · exp(b·TRT))
    event = (rng.exponential(size=n) / np.exp(p["b_TRT"] * treated)) ** (1.0 / p["shape"]) / p["lambda"]
    leaves = np.minimum(rng.exponential(150.0, n), p["end"])
    time = np.round(np.minimum(event, leaves), 2)
    return pd.DataFrame({"ID": np.arange(1, n + 1), "TIME": time, "DV": (event <= leaves).astype(int), "TRT": treated})


# --------------------------------------------------------------------------- neuroscience

TUNING: Truth = {
    "base": 4.0, "top": 30.0, "preferred": 90.0, "width": 22.0,
    "omega_base": 0.3, "omega_top": 0.35, "sd_preferred": 12.0, "omega_width": 0.2, "add": 2.0,
}  # fmt: skip


def tuning_curves(rng: np.random.Generator) -> pd.DataFrame:
    """Return mean firing rates of neurons at twelve orientations of a grating."""
    p, n = TUNING, 30
    base, top, width = (_lognormal(rng, p[k], p[f"omega_{k}"], n)[:, None] for k in ("base", "top", "width"))
    preferred = p["preferred"] + p["sd_preferred"] * rng.standard_normal(n)[:, None]
    angle = np.arange(0.0, 180.0, 15.0)
    rate = base + top * np.exp(-0.5 * ((angle - preferred) / width) ** 2) + p["add"] * rng.standard_normal((n, 12))
    return pd.DataFrame(
        {"ID": np.repeat(np.arange(1, n + 1), 12), "TIME": np.tile(angle, n), "DV": rate.ravel().round(2)}
    )


PSYCHOMETRIC: Truth = {
    "threshold": 8.0,
    "slope": 2.2,
    "lapse": 0.02,
    "guess": 0.5,
    "omega_threshold": 0.35,
    "omega_slope": 0.2,
}


def psychometric(rng: np.random.Generator) -> pd.DataFrame:
    """Return numbers of correct answers of observers who choose between two at seven contrasts."""
    p, n, trials = PSYCHOMETRIC, 25, 40
    threshold, slope = (_lognormal(rng, p[k], p[f"omega_{k}"], n)[:, None] for k in ("threshold", "slope"))
    contrast = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0])
    seen = 1.0 - np.exp(-((contrast / threshold) ** slope))
    chance = p["guess"] + (1.0 - p["guess"] - p["lapse"]) * seen
    return pd.DataFrame(
        {
            "ID": np.repeat(np.arange(1, n + 1), 7),
            "TIME": np.tile(contrast, n),
            "DV": rng.binomial(trials, chance).ravel(),
            "N": trials,
        }
    )


SIMULATORS: dict[str, Callable[[np.random.Generator], pd.DataFrame]] = {
    "pkpd_turnover": pkpd_turnover,
    "two_occasions": two_occasions,
    "emax": emax,
    "counts": counts,
    "time_to_event": time_to_event,
    "tuning_curves": tuning_curves,
    "psychometric": psychometric,
}
"""Every simulator by the name of its data set."""


def simulate(name: str) -> pd.DataFrame:
    """Return a data set made again, from its own random stream."""
    return SIMULATORS[name](np.random.default_rng([_SEED, list(SIMULATORS).index(name)]))


_SOURCE = f"Simulated, seed {_SEED}, by datasets/simulated.py (2024)."

SIMULATED: dict[str, Dataset] = {
    "pkpd_turnover": Dataset(
        "pkpd_turnover.csv",
        "Simulated: one oral dose of 1.5 mg/kg of a warfarin-like anticoagulant in 32 subjects, concentration and "
        "prothrombin complex activity.",
        _SOURCE,
        {"TIME": "h", "AMT": "mg", "cp": "mg/L", "pca": "%", "WT": "kg", "AGE": "years"},
        {
            "ID": "subject",
            "TIME": "time after the dose",
            "AMT": "dose",
            "DVID": "output: cp plasma concentration, pca prothrombin complex activity in per cent of normal",
            "DV": "the measurement",
            "WT": "body weight",
            "AGE": "age",
            "SEX": "sex",
        },
        TURNOVER,
        "cp = oral one-compartment (ka, CL, V); d(pca)/dt = kout·(R0·(1 − cp/(IC50 + cp)) − pca), pca(0) = R0; "
        "parameters log-normal (omega: SDs); CL ∝ (WT/70)^0.75, V ∝ WT/70; cp with combined error, pca additive",
    ),
    "two_occasions": Dataset(
        "two_occasions.csv",
        "Simulated: 200 mg by mouth on two occasions a week apart, 24 subjects × 2 × 8 concentrations; the second dose "
        "is a reset (EVID 4).",
        _SOURCE,
        {"TIME": "h", "AMT": "mg", "DV": "mg/L"},
        {
            "ID": "subject",
            "TIME": "time since the first dose",
            "AMT": "dose",
            "EVID": "0 observation, 1 dose, 4 dose after a reset",
            "OCC": "occasion",
            "DV": "plasma concentration",
        },
        OCCASIONS,
        "oral one-compartment; log-normal parameters between subjects (omega) and, for ka and CL, between occasions "
        "(iov), both SDs; proportional error",
    ),
    "emax": Dataset(
        "emax.csv",
        "Simulated: the response of each of 40 subjects at five doses; TIME is the dose, so that it is the axis.",
        _SOURCE,
        {"TIME": "mg", "DV": "points", "DOSE": "mg"},
        {"ID": "subject", "TIME": "dose, as the axis", "DV": "response", "DOSE": "dose, as a covariate"},
        EMAX,
        "E0 + Emax·dose/(ED50 + dose), log-normal parameters, additive error",
    ),
    "counts": Dataset(
        "counts.csv",
        "Simulated: weekly numbers of seizures of 60 patients over 12 weeks, half of them treated.",
        _SOURCE,
        {"TIME": "weeks", "DV": "seizures per week"},
        {"ID": "patient", "TIME": "week", "DV": "number of seizures", "TRT": "0 placebo, 1 drug"},
        COUNTS,
        "Poisson with rate base·exp(−effect·TRT·(1 − exp(−t/onset))), base and effect log-normal",
    ),
    "time_to_event": Dataset(
        "time_to_event.csv",
        "Simulated: weeks to relapse of 150 patients, half of them treated; censored by drop-out and at 52 weeks.",
        _SOURCE,
        {"TIME": "weeks", "DV": "event"},
        {
            "ID": "patient",
            "TIME": "week of relapse, or last week seen",
            "DV": "1 relapse at TIME, 0 none until TIME",
            "TRT": "0 placebo, 1 drug",
        },
        EVENT,
        "survival exp(−(lambda·t)^shape·exp(b_TRT·TRT)), no random effect; drop-out exponential with mean 150 weeks",
    ),
    "tuning_curves": Dataset(
        "tuning_curves.csv",
        "Simulated: mean firing rates of 30 neurons of visual cortex at 12 orientations; TIME is the orientation.",
        _SOURCE,
        {"TIME": "degrees", "DV": "spikes/s"},
        {"ID": "neuron", "TIME": "orientation of the grating, as the axis", "DV": "mean firing rate"},
        TUNING,
        "base + top·exp(−½·((angle − preferred)/width)²); preferred normal (SD sd_preferred), the others log-normal; "
        "additive error",
    ),
    "psychometric": Dataset(
        "psychometric.csv",
        "Simulated: correct answers of 25 observers in 40 two-alternative trials at each of 7 contrasts; TIME is the "
        "contrast.",
        _SOURCE,
        {"TIME": "%", "DV": "correct answers", "N": "trials"},
        {
            "ID": "observer",
            "TIME": "contrast, as the axis",
            "DV": "correct answers of N",
            "N": "trials at this contrast",
        },
        PSYCHOMETRIC,
        "binomial with probability guess + (1 − guess − lapse)·(1 − exp(−(contrast/threshold)^slope)); threshold and "
        "slope log-normal",
    ),
}
"""Simulated studies by their name."""


def write(folder: Path) -> None:
    """Write every simulated data set as CSV."""
    for name in SIMULATORS:
        text = simulate(name).to_csv(index=False, na_rep=".", lineterminator="\n")
        card = SIMULATED[name]
        (folder / card.file).write_text(f"# {card.description} Source: see datasets/simulated.py\n{text}", "utf-8")
