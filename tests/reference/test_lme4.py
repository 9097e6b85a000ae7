"""R's lme4, run here where it is installed: linear models and generalised linear ones on data R brings.

The data are not committed: Rscript prints them with −2 log L (lme4 1.1-31 under R 4.2.2: sleepstudy 1751.939344,
cbpp 184.052564, grouseticks 1782.039957).  A linear model's likelihood is exact by every method; glmer's with one
node is Laplace's.
"""

from __future__ import annotations

import io
import shutil
import subprocess

import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw

PROGRAM = """
suppressMessages(library(lme4)); options(digits = 12); sharp <- glmerControl(tolPwrss = 1e-12)
grouseticks$cH <- grouseticks$HEIGHT - mean(grouseticks$HEIGHT)
fits <- list(
  sleepstudy = lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE),
  cbpp = glmer(cbind(incidence, size - incidence) ~ period + (1 | herd), cbpp, family = binomial, control = sharp))
show <- function(name, value) { cat("#", name, value, "\n"); write.csv(get(name), row.names = FALSE) }
for (name in names(fits)) show(name, -2 * as.numeric(logLik(fits[[name]])))
show("grouseticks", 1782.0399565555)
"""
"""glmer(TICKS ~ YEAR + cH + (1 | BROOD) + (1 | INDEX), grouseticks, family = poisson, control = sharp) takes R six
seconds: its −2 log L, printed once, stands in the program."""

Printed = dict[str, tuple[float, pd.DataFrame]]


@pytest.fixture(scope="module")
def printed() -> Printed:
    """−2 log L and the data, by name; skips where R or lme4 is not installed."""
    if shutil.which("Rscript") is None:
        pytest.skip("Rscript is not installed")
    run = subprocess.run(["Rscript", "-e", PROGRAM], capture_output=True, text=True, timeout=120, check=False)
    if run.returncode:
        pytest.skip(f"lme4 did not run: {run.stderr.strip()[:200]}")
    parts = [part.split("\n", 1) for part in run.stdout.split("# ")[1:]]
    return {head.split()[0]: (float(head.split()[1]), pd.read_csv(io.StringIO(body))) for head, body in parts}


@pytest.mark.parametrize("method", ["fo", "foi", "foce", "focei", "laplace", "agq"])
def test_a_linear_model_is_exact_by_every_method(method: str, printed: Printed) -> None:
    wanted, table = printed["sleepstudy"]
    a, b = sp.symbols("a b", real=True)
    model = nw.Model(
        a + b * nw.time,
        {a: nw.Normal(300.0, sd=50.0), b: nw.Normal(5.0, sd=10.0)},
        correlation={(a, b): 0.0},
        residual=nw.Additive(50.0),
    )
    fit = model.fit(nw.Data.from_frame(table, id="Subject", time="Days", dv="Reaction"), method)
    assert fit.converged
    assert -2.0 * fit.loglik == pytest.approx(wanted, abs=1e-4)


def test_binomial_data_with_their_numbers_of_trials(printed: Printed) -> None:
    wanted, table = printed["cbpp"]
    table["TIME"] = table.groupby("herd").cumcount()
    data = nw.Data.from_frame(table, id="herd", dv="incidence", covariates=["size", "period"])
    logit, size, y = sp.Symbol("logit", real=True), nw.covariate("size"), nw.dv
    ways = sp.loggamma(size + 1) - sp.loggamma(y + 1) - sp.loggamma(size - y + 1)
    log_density = ways + y * sp.log(nw.expit(logit)) + (size - y) * sp.log(1 - nw.expit(logit))
    effect = nw.category("period", {1: None} | {k: nw.theta(f"period{k}", 0.0) for k in (2, 3, 4)})
    model = nw.Model(nw.LogLikelihood(log_density), {logit: nw.Normal(-1.0, sd=1.0, effect=effect)})
    assert -2.0 * model.fit(data, "laplace").loglik == pytest.approx(wanted, abs=1e-4)


def test_counts_with_an_effect_of_the_brood_and_one_of_the_chick(printed: Printed) -> None:
    wanted, table = printed["grouseticks"]
    table = table.sort_values(["BROOD", "INDEX"])
    table["TIME"] = table.groupby("BROOD").cumcount()
    data = nw.Data.from_frame(table, id="BROOD", dv="TICKS", occ="INDEX", covariates=["YEAR", "cH"])
    rate = sp.Symbol("log_rate", real=True)
    effect = nw.category("YEAR", {95: None, 96: nw.theta("y96", 0.0), 97: nw.theta("y97", 0.0)})
    effect += nw.theta("height", 0.0) * nw.covariate("cH")
    model = nw.Model(nw.Poisson(sp.exp(rate)), {rate: nw.Normal(0.0, sd=1.0, iov=0.5, effect=effect)})
    assert -2.0 * model.fit(data, "laplace").loglik == pytest.approx(wanted, abs=1e-4)
