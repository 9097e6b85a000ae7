"""Other programs on the same model and data: an oral curve, log-normal ka, CL and V, additive error.

Each reports its processor time of one fit, without reading data, and its estimates.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values

NAMES = ("ka", "CL", "V")
START = {"ka": 1.5, "CL": 2.8, "V": 32.0}

PREAMBLE = """
d <- read.csv("data.csv"); d$id <- factor(d$id)
write_result <- function(seconds, beta, sd, sigma) {
  digits <- function(x) paste(sprintf("%.17g", x), collapse = ", ")
  cat(sprintf('RESULT {"seconds": %.6f, "beta": [%s], "sd": [%s], "sigma": %.17g}\n',
              seconds, digits(beta), digits(sd), sigma))
}
curve <- deriv(~ dose*exp(ka)/(exp(V + ka) - exp(CL))*(exp(-exp(CL - V)*t) - exp(-exp(ka)*t)), c("ka", "CL", "V"),
               function(dose, t, ka, CL, V) {})
start <- c(ka = log(1.5), CL = log(2.8), V = log(32))
"""
NLME = """
suppressMessages(library(nlme))
g <- groupedData(y ~ t | id, d)
used <- system.time(fit <- nlme(y ~ curve(dose, t, ka, CL, V), data = g, fixed = ka + CL + V ~ 1,
  random = pdDiag(ka + CL + V ~ 1), start = start, method = "ML"))
write_result(sum(used[1:2]), fixef(fit), as.numeric(VarCorr(fit)[1:3, "StdDev"]), fit$sigma)
"""
LME4 = """
suppressMessages(library(lme4))
used <- system.time(fit <- nlmer(y ~ curve(dose, t, ka, CL, V) ~ (ka | id) + (CL | id) + (V | id), d, start = start))
sds <- sapply(VarCorr(fit), function(v) attr(v, "stddev")); names(sds) <- sapply(VarCorr(fit), rownames)
write_result(sum(used[1:2]), fixef(fit)[c("ka", "CL", "V")], sds[c("ka", "CL", "V")], sigma(fit))
"""


@dataclass(frozen=True)
class Result:
    """What a program took and found."""

    seconds: float
    values: Values


class Peer(Protocol):
    """A program and one of its methods.

    Attributes
    ----------
    name : str
    ours : str
        The method here that is nearest to it.
    """

    @property
    def name(self) -> str: ...
    @property
    def ours(self) -> str: ...

    def absent(self) -> str:
        """Return why it cannot be run, or ''."""

    def run(self, model: nw.Model, data: nw.Data) -> Result:
        """Fit."""


def columns(data: nw.Data) -> dict[str, np.ndarray]:
    """Return a row per observation."""
    dose = data.records["AMT"].to_numpy()[data.dosed][data.subject]
    return {"id": np.asarray(data.subject), "t": data.time, "dose": dose, "y": data.dv}


@dataclass(frozen=True)
class Pynlme:
    """The Python package of that name."""

    method: str
    ours: str

    @property
    def name(self) -> str:
        return f"pynlme {self.method}"

    def absent(self) -> str:
        return "" if importlib.util.find_spec("pynlme") else "pynlme is not installed (pip install pynlme)"

    def run(self, model: nw.Model, data: nw.Data) -> Result:
        import pynlme

        def curve(p: Any, x: Any, v: Any) -> Any:
            ka, cl, size = (p[n] for n in NAMES)
            return v["dose"] * ka / (size * ka - cl) * (np.exp(-cl / size * x["t"]) - np.exp(-ka * x["t"]))

        began = time.process_time()
        found = pynlme.fit(
            curve,
            columns(data),
            "y",
            "id",
            start=START,
            predictors=["t"],
            group_predictors=["dose"],
            transform=dict.fromkeys(NAMES, "log"),
            method=self.method,
            **({"random_state": 1} if self.method == "SAEM" else {}),
        )
        seconds = time.process_time() - began
        theta = np.array([found["typical"][n] for n in NAMES])
        omega = np.diag(np.diag(found["psi"]["matrix"]))
        return Result(seconds, Values(theta, omega, np.array([float(found["error"]["parameters"][0])])))


@dataclass(frozen=True)
class R:
    """A package of R."""

    package: str
    method: str
    ours: str
    script: str

    @property
    def name(self) -> str:
        return f"R {self.package}, {self.method}"

    def absent(self) -> str:
        if not shutil.which("Rscript"):
            return "Rscript is not installed"
        asked = ["Rscript", "-e", f'cat(requireNamespace("{self.package}", quietly = TRUE))']
        out = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
        return "" if out.endswith("TRUE") else f"the R package {self.package} is not installed"

    def run(self, model: nw.Model, data: nw.Data) -> Result:
        with tempfile.TemporaryDirectory() as folder:
            pd.DataFrame(columns(data)).to_csv(Path(folder) / "data.csv", index=False)
            (Path(folder) / "fit.R").write_text(PREAMBLE + self.script, "utf-8")
            done = subprocess.run(["Rscript", "fit.R"], cwd=folder, capture_output=True, text=True, check=False)
        said = [text for text in done.stdout.splitlines() if text.startswith("RESULT ")]
        if not said:
            raise RuntimeError(" ".join(done.stderr.split()[-25:]) or "no result")
        found = json.loads(said[0].removeprefix("RESULT "))
        return Result(
            found["seconds"], Values(np.exp(found["beta"]), np.diag(np.square(found["sd"])), np.array([found["sigma"]]))
        )


PEERS: tuple[Peer, ...] = (
    R("nlme", "Lindstrom-Bates", "foce", NLME),
    R("lme4", "nlmer, Laplace", "laplace", LME4),
    Pynlme("FOCE", "foce"),
    Pynlme("SAEM", "saem"),
)
"""In the order they take turns."""
