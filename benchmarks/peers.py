"""Other programs on the same models and data, with independent random effects and additive error.

Each reports its processor time of one fit, without reading data, its estimates, and its own −2 log L of them, which
is an approximation of −2 log L: nlme's by linearisation around the modes, nlmer's and pynlme's by a Laplace
approximation whose Hessian is Gauss-Newton's, as FOCE's here.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import sympy as sp
from problems import WARFARIN, warfarin_kinetics
from theophylline import declare, design

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values

PREAMBLE = """
d <- read.csv("data.csv"); d$id <- factor(d$id)
write_result <- function(seconds, fit, beta, sd) {
  digits <- function(x) paste(sprintf("%.17g", x), collapse = ", ")
  cat(sprintf('RESULT {"seconds": %.6f, "beta": [%s], "sd": [%s], "sigma": %.17g, "deviance": %.17g}\n',
              seconds, digits(beta), digits(sd), sigma(fit), -2*as.numeric(logLik(fit))))
}
"""
NLME = """
suppressMessages(library(nlme))
g <- groupedData(y ~ t | id, d)
used <- system.time(fit <- nlme(y ~ @call, data = g, fixed = @fixed ~ 1, random = pdDiag(@random ~ 1), start = start,
  method = "ML"@more))
write_result(sum(used[1:2]), fit, fixef(fit), as.numeric(VarCorr(fit)[moving, "StdDev"]))
"""
LME4 = """
suppressMessages(library(lme4))
used <- system.time(fit <- nlmer(y ~ @call ~ @bars, d, start = start))
sds <- sapply(VarCorr(fit), function(v) attr(v, "stddev")); names(sds) <- sapply(VarCorr(fit), rownames)
write_result(sum(used[1:2]), fit, fixef(fit)[names(start)], sds[moving])
"""


@dataclass(frozen=True)
class Case:
    """Data and a model, as every program is told of them.

    Attributes
    ----------
    start : dict
        Typical values, in the model's order.
    columns : dict
        What R and pynlme read: a row per observation, or per record.
    curve, call, more : str
        R: what defines the curve and its gradient, its call in the formula, further arguments of nlme.
    moving : tuple of str
        The parameters with a random effect.
    logarithmic : bool
        Whether the logarithms of all parameters are normal, rather than the parameters.
    predict : callable
        pynlme: ``(parameters, columns by observation, columns by subject)``.
    lacks : dict
        Why a program cannot be told of it.
    """

    model: nw.Model
    data: nw.Data
    start: Mapping[str, float]
    columns: Mapping[str, Any]
    curve: str
    call: str
    moving: tuple[str, ...]
    logarithmic: bool = True
    more: str = ""
    predict: Callable[[Any, Any, Any], Any] | None = None
    lacks: Mapping[str, str] = field(default_factory=dict)

    def values(self, beta: Any, variances: Any, sigma: float) -> Values:
        """Return population values from a program's estimates."""
        theta = np.exp(beta) if self.logarithmic else np.asarray(beta, dtype=float)
        return Values(theta, np.diag(np.asarray(variances, dtype=float)), np.array([sigma]))

    def script(self, fit: str) -> str:
        """Return R's script of a fit."""
        start = {name: math.log(x) if self.logarithmic else x for name, x in self.start.items()}
        named = ", ".join(f"{name} = {x!r}" for name, x in start.items())
        moving = ", ".join(f'"{name}"' for name in self.moving)
        fills = {
            "@call": self.call, "@fixed": " + ".join(start), "@random": " + ".join(self.moving), "@more": self.more,
            "@bars": " + ".join(f"({name} | id)" for name in self.moving),
        }  # fmt: skip
        for place, text in fills.items():
            fit = fit.replace(place, text)
        return f"{PREAMBLE}{self.curve}\nstart <- c({named})\nmoving <- c({moving}){fit}"


ORAL = """
curve <- deriv(~ dose*exp(ka)/(exp(V + ka) - exp(CL))*(exp(-exp(CL - V)*t) - exp(-exp(ka)*t)), c("ka", "CL", "V"),
               function(dose, t, ka, CL, V) {})
"""


def oral(model: nw.Model, data: nw.Data, start: Mapping[str, float]) -> Case:
    """Return the case of an oral curve after one dose."""

    def predict(p: Any, x: Any, v: Any) -> Any:
        ka, cl, size = (p[name] for name in ("ka", "CL", "V"))
        return v["dose"] * ka / (size * ka - cl) * (np.exp(-cl / size * x["t"]) - np.exp(-ka * x["t"]))

    dose = data.records["AMT"].to_numpy()[data.dosed][data.subject]
    columns = {"id": np.asarray(data.subject), "t": data.time, "dose": dose, "y": data.dv}
    call = "curve(dose, t, ka, CL, V)"
    return Case(model, data, start, columns, ORAL, call, ("ka", "CL", "V"), predict=predict)


def theophylline() -> Case:
    return oral(declare(), nw.datasets.load("theophylline"), {"ka": 1.5, "CL": 2.8, "V": 32.0})


def simulated(subjects: int) -> Case:
    return oral(declare(), design(subjects, declare()), {"ka": 1.5, "CL": 2.8, "V": 32.0})


def warfarin() -> Case:
    """The curve without a lag: R's formulas have no kink."""
    start = {"ka": 1.0, "CL": 0.13, "V": 8.0}
    sds = {"ka": 0.5, "CL": 0.3, "V": 0.2}
    model = nw.library.oral_1cpt(
        **{name: nw.LogNormal(x, sd=sds[name]) for name, x in start.items()}, residual=nw.Additive(1.0)
    )
    return oral(model, warfarin_kinetics()[1], start)


def orange() -> Case:
    """R's own example of both packages."""
    asym, mid, scale = sp.symbols("Asym xmid scal", positive=True)
    start = {"Asym": 190.0, "xmid": 700.0, "scal": 350.0}
    model = nw.Model(
        asym / (1 + sp.exp(-(nw.time - mid) / scale)),
        {asym: nw.Normal(190.0, sd=30.0), mid: nw.Normal(700.0), scale: nw.Normal(350.0)},
        residual=nw.Additive(8.0),
    )

    def predict(p: Any, x: Any) -> Any:
        return p["Asym"] / (1 + np.exp(-(x["t"] - p["xmid"]) / p["scal"]))

    data = nw.datasets.load("orange")
    columns = {"id": np.asarray(data.subject), "t": data.time, "y": data.dv}
    call = "SSlogis(t, Asym, xmid, scal)"
    return Case(model, data, start, columns, "", call, ("Asym",), logarithmic=False, predict=predict)


def phenobarbital() -> Case:
    """R's own example, doses at many times."""
    model = nw.library.iv_1cpt(CL=nw.LogNormal(0.006, sd=0.4), V=nw.LogNormal(1.4, sd=0.4), residual=nw.Additive(3.0))
    data = nw.datasets.load("phenobarbital")
    records = data.records
    observed = records["EVID"] == 0
    columns = {
        "id": records["ID"], "t": records["TIME"], "dose": records["AMT"].where(~observed),
        "y": records["DV"].where(observed),
    }  # fmt: skip
    return Case(
        model, data, {"CL": 0.006, "V": 1.4}, columns, "", "phenoModel(id, t, dose, CL, V)", ("CL", "V"),
        more=", na.action = NULL, naPattern = ~ !is.na(y)",
        lacks={"lme4": "phenoModel, which comes with nlme, gives no gradient", "pynlme": "it has no records of doses"},
    )  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What a program took and found."""

    seconds: float
    values: Values
    own: float
    """Its own −2 log L, without n·log 2π."""


class Peer(Protocol):
    """A program and one of its methods.

    Attributes
    ----------
    program, name : str
    ours : str
        The method here that is nearest to it.
    """

    @property
    def program(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def ours(self) -> str: ...

    def absent(self) -> str:
        """Return why it cannot be run, or ''."""

    def run(self, case: Case) -> Result:
        """Fit."""


@dataclass(frozen=True)
class Pynlme:
    """The Python package of that name."""

    method: str
    ours: str
    program: str = "pynlme"

    @property
    def name(self) -> str:
        return f"pynlme {self.method}"

    def absent(self) -> str:
        return "" if importlib.util.find_spec("pynlme") else "pynlme is not installed (pip install pynlme)"

    def run(self, case: Case) -> Result:
        import pynlme

        began = time.process_time()
        found = pynlme.fit(
            case.predict,
            dict(case.columns),
            "y",
            "id",
            start=case.start,
            predictors=["t"],
            group_predictors=[name for name in ("dose",) if name in case.columns],
            transform=dict.fromkeys(case.start, "log" if case.logarithmic else "identity"),
            random=list(case.moving),
            method=self.method,
            **({"random_state": 1} if self.method == "SAEM" else {}),
        )
        seconds = time.process_time() - began
        values = case.values(
            list(found["fixed"].values()), np.diag(found["psi"]["matrix"]), float(found["error"]["parameters"][0])
        )
        likelihood = found["stats"].get("logl")
        return Result(seconds, values, np.nan if likelihood is None else without_constant(-2.0 * likelihood, case.data))


@dataclass(frozen=True)
class R:
    """A package of R."""

    program: str
    method: str
    ours: str
    fit: str

    @property
    def name(self) -> str:
        return f"R {self.program}, {self.method}"

    def absent(self) -> str:
        if not shutil.which("Rscript"):
            return "Rscript is not installed"
        asked = ["Rscript", "-e", f'cat(requireNamespace("{self.program}", quietly = TRUE))']
        out = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        return "" if out.endswith("TRUE") else f"the R package {self.program} is not installed"

    def run(self, case: Case) -> Result:
        with tempfile.TemporaryDirectory() as folder:
            pd.DataFrame(case.columns).to_csv(Path(folder) / "data.csv", index=False)
            (Path(folder) / "fit.R").write_text(case.script(self.fit), "utf-8")
            done = subprocess.run(["Rscript", "fit.R"], cwd=folder, capture_output=True, text=True, check=False)
        said = [text for text in done.stdout.splitlines() if text.startswith("RESULT ")]
        if not said:
            raise RuntimeError(" ".join(done.stderr.split()[-25:]) or "no result")
        found = json.loads(said[0].removeprefix("RESULT "))
        values = case.values(found["beta"], np.square(found["sd"]), found["sigma"])
        return Result(found["seconds"], values, without_constant(found["deviance"], case.data))


def without_constant(deviance: float, data: nw.Data) -> float:
    """Return −2 log L as objectives are given here, without n·log 2π."""
    return float(deviance) - data.n_obs * math.log(2 * math.pi)


CASES: dict[str, Callable[[], Case]] = {
    "theophylline": theophylline, "orange": orange, "phenobarbital": phenobarbital, "warfarin PK": warfarin,
    "1,000 × 8": lambda: simulated(1000), "10,000 × 8": lambda: simulated(10_000),
}  # fmt: skip
"""By name, the larger later; without warfarin where its data are absent."""
if not WARFARIN.exists():
    del CASES["warfarin PK"]

PEERS: tuple[Peer, ...] = (
    R("nlme", "Lindstrom-Bates", "foce", NLME),
    R("lme4", "nlmer, Laplace", "foce", LME4),
    Pynlme("FOCE", "foce"),
    Pynlme("SAEM", "saem"),
)
"""In the order they take turns."""
