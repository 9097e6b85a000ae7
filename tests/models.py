"""Random models that know their truth: a declaration, a design, and observations simulated from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import sympy as sp
from hypothesis import strategies as st

import nlmewidgets as nw

RESIDUALS = ("additive", "proportional", "combined", "combined1", "custom")
TRANSFORMS = ("lognormal", "boxcox", "yeo-johnson")
STRUCTURES = ("decay", "oral", "emax", "growth")
EXTRAS = ("covariate", "varying", "fixed", "fixed omega", "no eta", "shared eta", "block", "logit", "iov", "probit")
EXTRAS += ("boxcox", "student")


@dataclass(frozen=True)
class Case:
    """A model whose initial values are the truth, and data simulated from it."""

    model: nw.Model
    data: nw.Data
    label: str

    @cached_property
    def problem(self) -> nw.Problem:
        """The model bound to the data."""
        return self.model.problem(self.data)


def residual(kind: str) -> Any:
    """Return a residual error model by its word; predictions are of the order of 5."""
    f = nw.f
    return {
        "additive": nw.Additive(0.4),
        "proportional": nw.Proportional(0.12),
        "combined": nw.Combined(0.25, 0.1),
        "combined1": nw.Combined1(0.2, 0.08),
        "lognormal": nw.LogNormalError(0.15),
        "boxcox": nw.BoxCoxError(0.4, 0.3),
        "yeo-johnson": nw.TransformBothSides("yeo-johnson", nw.Combined(0.1, 0.05), power=0.6),
        "custom": {"sd": nw.sigma("s", 0.2) * sp.sqrt(1 + f**2) ** nw.theta("power", 0.6)},
    }[kind]


def _structure(kind: str) -> tuple[sp.Expr, dict[sp.Symbol, float]]:
    t, dose = nw.time, nw.dose
    if kind == "decay":
        a, k = sp.symbols("A k", positive=True)
        return a * sp.exp(-k * t), {a: 8.0, k: 0.25}
    if kind == "oral":
        ka, cl, v = sp.symbols("ka CL V", positive=True)
        f = dose * ka / (v * ka - cl) * (sp.exp(-cl / v * t) - sp.exp(-ka * t))
        return f + sp.Rational(3, 2), {ka: 1.2, cl: 2.5, v: 20.0}
    if kind == "emax":
        top, half = sp.symbols("Emax T50", positive=True)
        return 2 + top * t / (half + t), {top: 6.0, half: 3.0}
    a, m, s = sp.symbols("asym mid scale", positive=True)
    return 1 + a / (1 + sp.exp(-(t - m) / s)), {a: 7.0, m: 6.0, s: 2.5}


def make(
    structure: str, error: str, extras: tuple[str, ...] = (), *, seed: int = 0, subjects: int = 6, most: int = 6
) -> Case:
    """Return a case.

    Parameters
    ----------
    structure, error : str
        Words of `STRUCTURES` and of `RESIDUALS` or `TRANSFORMS`.
    extras : tuple of str
        Words of `EXTRAS`, those that fit together.
    seed : int
        Of the design and the observations.
    subjects, most : int
        Subjects, and observations of the largest; the smallest has one.
    """
    rng = np.random.default_rng(seed)
    f, typical = _structure(structure)
    symbols = list(typical)
    first, second, last = symbols[0], symbols[1], symbols[-1]
    weight = nw.covariate("WT")
    parameters: dict[sp.Symbol, Any] = {}
    for symbol, value in typical.items():
        sd, effect = 0.3, sp.S.Zero
        if "no eta" in extras and symbol is last and len(symbols) > 2:
            sd = 0.0
        if ("covariate" in extras or "varying" in extras) and symbol is first:
            effect = nw.theta("beta", 0.7, fixed="fixed" in extras) * sp.log(weight / 70)
        parameters[symbol] = nw.LogNormal(
            value,
            sd=sd,
            effect=effect,
            fixed="fixed" in extras and symbol is second,
            fixed_sd=_held(extras, symbol, second),
            iov=0.2 if "iov" in extras and symbol in (first, last) else 0.0,
        )
    if "logit" in extras:
        value = typical[second]
        parameters[second] = nw.LogitNormal(
            value, sd=0.5, lower=0.0, upper=4 * value, fixed_sd=_held(extras, second, second)
        )
        parameters[first] = nw.Normal(
            typical[first], sd=0.15 * typical[first], effect=parameters[first].effect * typical[first], lower=None
        )
    value, held = typical[last], _held(extras, last, second)
    if "probit" in extras:
        parameters[last] = nw.ProbitNormal(value, sd=0.3, lower=0.1 * value, upper=3 * value, fixed_sd=held)
    if "boxcox" in extras:
        parameters[last] = nw.BoxCoxNormal(value, sd=0.3, shape=0.4, fixed_sd=held, iov=parameters[last].iov)
    if "student" in extras:
        parameters[last] = nw.StudentLogNormal(value, sd=0.2, df=6.0, fixed_df="fixed" in extras)
    if "shared eta" in extras:
        shared = nw.eta("eta_shared", sd=0.3)
        effect = parameters[first].effect
        parameters[first] = nw.theta("pop1", typical[first], lower=0) * sp.exp(effect + shared)
        parameters[second] = nw.theta("pop2", typical[second], lower=0) * sp.exp(
            sp.Rational(1, 2) * shared + nw.eta("eta_own", sd=0.2)
        )
    correlation = {}
    if "block" in extras and not {"shared eta", "fixed omega", "student"} & set(extras):
        correlation = {(first, second): 0.4}
    model = nw.Model(f, parameters, residual=residual(error), correlation=correlation)
    design = _design(rng, subjects, most, structure == "oral", "varying" in extras)
    if "iov" in extras:
        design["OCC"] = 1 + (design["TIME"] > 4) + (design["TIME"] > 9)
    data = nw.Data.from_frame(design)
    simulated = model.simulate(data, seed=seed + 1)["DV"].to_numpy()
    if error in ("proportional", "combined1", "custom"):
        simulated = np.abs(simulated) + 0.05
    design.loc[design["EVID"] == 0, "DV"] = simulated
    return Case(model, nw.Data.from_frame(design), f"{structure}, {error}, {'+'.join(extras)}, seed {seed}")


def _held(extras: tuple[str, ...], symbol: sp.Symbol, second: sp.Symbol) -> bool:
    return "fixed omega" in extras and symbol is second


def _design(rng: np.random.Generator, subjects: int, most: int, dosed: bool, varying: bool) -> pd.DataFrame:
    rows = []
    for i in range(1, subjects + 1):
        size = 1 if i == 1 else int(rng.integers(2, most + 1))
        weight = float(rng.uniform(50, 95))
        if dosed:
            rows += [(i, 0.0, 1, 100.0, np.nan, weight)]
            if i % 3 == 0:
                rows += [(i, 6.0, 1, 60.0, np.nan, weight)]
        for t in np.sort(rng.uniform(0.3, 12.0, size)):
            now = weight + (3.0 * (t > 5) if varying else 0.0)
            rows += [(i, float(t), 0, 0.0, 1.0, now)]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "EVID", "AMT", "DV", "WT"])
    return table.sort_values(["ID", "TIME", "EVID"], ascending=[True, True, False], kind="stable").reset_index(
        drop=True
    )


def _cases(extras: tuple[str, ...]) -> st.SearchStrategy[Case]:
    return st.builds(
        make,
        st.sampled_from(STRUCTURES),
        st.sampled_from(RESIDUALS),
        st.lists(st.sampled_from(extras), max_size=3, unique=True).map(lambda e: tuple(sorted(e))),
        seed=st.integers(0, 10_000),
    )


cases = _cases(tuple(e for e in EXTRAS if e not in ("iov", "boxcox", "student")))
"""Random cases, small enough for a property-based test; one random effect of a subject per eta, as it is."""

every_case = _cases(EXTRAS)
"""The same with inter-occasion variability and shaped random effects."""
