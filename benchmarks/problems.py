"""Real and simulated problems that every method is put to: what the yardstick and the timings are made of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import sympy as sp

import nlmewidgets as nw

WARFARIN = Path(__file__).resolve().parents[2] / "shared" / "data" / "check-only" / "warfarin.csv"
"""Not ours to ship; what needs it is left out where it is absent."""

Problem = tuple[nw.Model, nw.Data]
T = nw.time


def theophylline() -> Problem:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3), V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
    )  # fmt: skip
    return model, nw.datasets.load("theophylline")


def phenobarbital() -> Problem:
    weight = sp.log(nw.covariate("WT"))
    model = nw.library.iv_1cpt(
        CL=nw.LogNormal(0.005, sd=0.3, effect=weight), V=nw.LogNormal(1.0, sd=0.3, effect=weight),
        residual=nw.Proportional(0.15),
    )  # fmt: skip
    return model, nw.datasets.load("phenobarbital")


def indomethacin() -> Problem:
    model = nw.library.iv_2cpt(
        CL=nw.LogNormal(8.0, sd=0.2), V=nw.LogNormal(9.0, sd=0.2), Q=nw.LogNormal(6.0, sd=0.3), V2=nw.LogNormal(15.0),
        residual=nw.Proportional(0.15),
    )  # fmt: skip
    return model, nw.datasets.load("indomethacin")


def orange() -> Problem:
    asym, mid, scale = sp.symbols("asym mid scale", positive=True)
    model = nw.Model(
        asym / (1 + sp.exp(-(T - mid) / scale)),
        {asym: nw.Normal(190.0, sd=30.0), mid: nw.Normal(700.0), scale: nw.Normal(350.0)},
        residual=nw.Additive(8.0),
    )
    return model, nw.datasets.load("orange")


def soybean() -> Problem:
    asym, mid, scale = sp.symbols("asym mid scale", positive=True)
    model = nw.Model(
        asym / (1 + sp.exp(-(T - mid) / scale)),
        {asym: nw.LogNormal(17.0, sd=0.25), mid: nw.LogNormal(52.0, sd=0.05), scale: nw.LogNormal(7.5)},
        residual=nw.Power(0.2, 0.95),
    )
    return model, nw.datasets.load("soybean")


def quinidine() -> Problem:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(0.8, fixed=True), CL=nw.LogNormal(12.0, sd=0.4), V=nw.LogNormal(230.0, sd=0.3),
        residual=nw.Proportional(0.3),
    )  # fmt: skip
    return model, nw.datasets.load("quinidine")


def emax() -> Problem:
    base, top, half = sp.symbols("E0 Emax ED50", positive=True)
    model = nw.Model(
        base + top * T / (half + T),
        {base: nw.LogNormal(6.0, sd=0.3), top: nw.LogNormal(20.0, sd=0.3), half: nw.LogNormal(30.0, sd=0.4)},
        residual=nw.Additive(2.0),
    )
    return model, nw.datasets.load("emax")


def counts() -> Problem:
    base, effect, onset = sp.symbols("base effect onset", positive=True)
    rate = base * sp.exp(-effect * nw.covariate("TRT") * (1 - sp.exp(-T / onset)))
    model = nw.Model(
        nw.Poisson(rate), {base: nw.LogNormal(6.0, sd=0.5), effect: nw.LogNormal(0.7, sd=0.4), onset: nw.LogNormal(2.0)}
    )
    return model, nw.datasets.load("counts")


def psychometric() -> Problem:
    threshold, slope = sp.symbols("threshold slope", positive=True)
    chance = sp.Rational(1, 2) + sp.Rational(48, 100) * (1 - sp.exp(-((T / threshold) ** slope)))
    trials = nw.covariate("N")
    model = nw.Model(
        nw.LogLikelihood(nw.dv * sp.log(chance) + (trials - nw.dv) * sp.log(1 - chance)),
        {threshold: nw.LogNormal(8.0, sd=0.35), slope: nw.LogNormal(2.2, sd=0.2)},
    )
    return model, nw.datasets.load("psychometric")


def tuning_curves() -> Problem:
    model = nw.library.tuning_curve(
        base=nw.LogNormal(5.0, sd=0.3), top=nw.LogNormal(28.0, sd=0.3), preferred=nw.Normal(92.0, sd=10.0),
        width=nw.LogNormal(20.0), residual=nw.Additive(2.5),
    )  # fmt: skip
    return model, nw.datasets.load("tuning_curves")


def occasions() -> Problem:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.2, sd=0.4), CL=nw.LogNormal(3.0, sd=0.25, iov=0.15), V=nw.LogNormal(40.0),
        residual=nw.Proportional(0.15),
    )  # fmt: skip
    return model, nw.datasets.load("two_occasions")


def turnover_kinetics() -> Problem:
    size = sp.log(nw.covariate("WT") / 70)
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(0.9, sd=0.6), CL=nw.LogNormal(0.135, sd=0.3, effect=nw.theta("b", 0.75) * size),
        V=nw.LogNormal(8.0, sd=0.2, effect=size), residual=nw.Combined(0.1, 0.1),
    )  # fmt: skip
    records = nw.datasets.load("pkpd_turnover").records
    return model, nw.Data.from_frame(
        records[records["DVID"].isin(["cp", 1]) | (records["EVID"] > 0)].drop(columns="DVID")
    )


def _drawn(model: nw.Model, table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the table with observations simulated from the model."""
    table = table.assign(DV=1.0)
    observed = table["EVID"] == 0 if "EVID" in table else pd.Series(True, index=table.index)
    table.loc[observed, "DV"] = model.simulate(nw.Data.from_frame(table), seed=seed)["DV"].to_numpy()
    return table


def censored() -> Problem:
    """Two decays of three below the limit at the end: about a third of all values."""
    a, k = sp.symbols("A k", positive=True)
    model = nw.Model(
        a * sp.exp(-k * T), {a: nw.LogNormal(5.0, sd=0.3), k: nw.LogNormal(0.4, sd=0.3)}, residual=nw.Additive(0.3)
    )
    times = [0.5, 1.0, 2.0, 4.0, 6.0]
    table = _drawn(model, pd.DataFrame({"ID": np.repeat(np.arange(60), 5), "TIME": np.tile(times, 60)}), 8)
    table["CENS"], table["DV"] = (table["DV"] < 1.0).astype(int), table["DV"].clip(lower=1.0)
    return model, nw.Data.from_frame(table)


def sparse() -> Problem:
    """Two samples of each of 120 subjects, at random times."""
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, fixed=True), CL=nw.LogNormal(2.8, sd=0.5), V=nw.LogNormal(32.0, sd=0.4),
        residual=nw.Proportional(0.25),
    )  # fmt: skip
    rng = np.random.default_rng(1)
    n = 120
    table = pd.DataFrame({"ID": np.repeat(np.arange(n), 3), "AMT": np.tile([320.0, 0.0, 0.0], n)})
    table["EVID"] = (table["AMT"] > 0).astype(int)
    table["TIME"] = np.stack([np.zeros(n), rng.uniform(0.5, 8, n), rng.uniform(8, 36, n)], axis=1).ravel()
    return model, nw.Data.from_frame(_drawn(model, table, 2))


def binary() -> Problem:
    """Yes or no at eight visits of 80 subjects: far from normal, so Laplace is biased."""
    a, b = sp.symbols("a b", real=True)
    model = nw.Model(nw.Bernoulli(nw.expit(a + b * T)), {a: nw.Normal(-1.0, sd=1.5), b: nw.Normal(0.3)})
    table = pd.DataFrame({"ID": np.repeat(np.arange(80), 8), "TIME": np.tile(np.arange(8.0), 80)})
    return model, nw.Data.from_frame(_drawn(model, table, 3))


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "theophylline": theophylline,
    "phenobarbital": phenobarbital,
    "indomethacin": indomethacin,
    "orange": orange,
    "soybean": soybean,
    "quinidine": quinidine,
    "emax": emax,
    "tuning_curves": tuning_curves,
    "pkpd_turnover, concentrations": turnover_kinetics,
    "two_occasions": occasions,
    "counts": counts,
    "psychometric": psychometric,
    "binary, simulated": binary,
    "censored, simulated": censored,
    "sparse, simulated": sparse,
}
"""Every problem by its name."""


def warfarin_kinetics() -> Problem:
    """Return concentrations only: absorption after a lag, as published models of these data have it."""
    model = nw.library.oral_lag_1cpt(
        ka=nw.LogNormal(1.0, sd=0.5), Tlag=nw.LogNormal(0.8), CL=nw.LogNormal(0.13, sd=0.3),
        V=nw.LogNormal(8.0, sd=0.2), residual=nw.Combined(0.3, 0.1),
    )  # fmt: skip
    table = _warfarin()
    return model, nw.Data.from_frame(table[table["DVID"] == "cp"].drop(columns="DVID"))


def warfarin_turnover() -> Problem:
    """Return concentration and effect: transit absorption, turnover with inhibited production, integrated."""
    ktr, ka, cl, v, emax_, ec50, kout, e0 = sp.symbols("ktr ka CL V Emax EC50 kout E0", positive=True)
    depot, gut, center, effect = nw.states("depot gut center effect")
    cp = center / v
    sds = {ktr: 0.5, ka: 0.5, cl: 0.3, v: 0.2, ec50: 0.4, kout: 0.1, e0: 0.1}
    typical = {ktr: 1.0, ka: 1.0, cl: 0.13, v: 8.0, ec50: 1.0, kout: 0.05, e0: 96.0}
    model = nw.Model(
        {"cp": cp, "pca": effect},
        {s: nw.LogNormal(x, sd=sds[s]) for s, x in typical.items()} | {emax_: nw.LogitNormal(0.9, sd=0.5)},
        odes={
            depot: -ktr * depot,
            gut: ktr * depot - ka * gut,
            center: ka * gut - cl / v * center,
            effect: e0 * kout * (1 - emax_ * cp / (ec50 + cp)) - kout * effect,
        },
        initial={effect: e0},
        residual={"cp": nw.Combined(0.3, 0.1), "pca": nw.Additive(4.0)},
    )
    return model, nw.Data.from_frame(_warfarin())


def _warfarin() -> pd.DataFrame:
    table = pd.read_csv(WARFARIN).rename(columns=str.upper)
    table.loc[table["EVID"] == 1, "DV"] = np.nan
    return table
