"""Every number of the TOML files beside this module (README.md there says how to read them)."""

from __future__ import annotations

import math
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values
from nlmewidgets.diagnostics import residual_table, shrinkage
from nlmewidgets.methods import METHODS
from nlmewidgets.methods.uncertainty import uncertainty

FOLDER = Path(__file__).parent
FILES = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.toml"))}
SHARED = FOLDER.parents[2] / "shared" / "reference"


def checks(kind: str) -> list[Any]:
    """Return (file, check) of every check of a kind, with a readable test name."""
    return [
        pytest.param(name, check, id="-".join([name, *(str(check[k]) for k in ("method", "at") if k in check)]))
        for name, content in FILES.items()
        for check in content["check"]
        if check["do"] == kind
    ]


def shared_file(path: str) -> Path:
    if not SHARED.is_dir():
        pytest.skip("the folder shared/reference is not beside the repository")
    return SHARED / path


@cache
def read(name: str) -> tuple[nw.Model, nw.Data]:
    """Return the model at its starting values, and the data."""
    content = FILES[name]
    source, model = content["data"], content["model"]
    if "dataset" in source:
        data = nw.datasets.load(source["dataset"])
    else:
        columns = {k: v or None for k, v in source.get("columns", {}).items()}
        data = nw.Data.read_csv(shared_file(source["file"]), **columns)
    parameters = {}
    for symbol, value in model["parameters"].items():
        if isinstance(value, dict):
            value = dict(value)
            value = getattr(nw, value.pop("distribution"))(**value)
        parameters[symbol] = value
    residual = dict(model["residual"])
    made = nw.Model(
        model["prediction"],
        parameters,
        residual=getattr(nw, residual.pop("model"))(**residual),
        correlation={(a, b): c for a, b, c in model.get("correlation", [])},
    )
    return made, data


def values_at(name: str, point: str) -> Values:
    """Return the population values of a point, from logarithms and variances where these are printed."""
    p = FILES[name]["points"][point]
    theta = np.exp(p["log_theta"]) if "log_theta" in p else np.array(p["theta"])
    omega = np.square(p["omega_sd"]) if "omega_sd" in p else np.array(p["omega"])
    sigma = np.sqrt(p["sigma_variance"]) if "sigma_variance" in p else np.array(p["sigma"])
    return Values(theta, np.diag(omega) if omega.ndim == 1 else omega, sigma)


def constant(check: dict[str, Any], data: nw.Data) -> float:
    return data.n_obs * math.log(2 * math.pi) if check.get("complete") else 0.0


# ------------------------------------------------------------------------ tests


@pytest.mark.parametrize("name", FILES)
def test_every_number_has_a_source_and_a_tolerance(name: str) -> None:
    content = FILES[name]
    assert len(content["source"]) > 40
    assert content["check"]
    for check in content["check"]:
        assert any("tolerance" in key for key in check) or all(len(v) == 2 for v in check["value"].values())
        if "at" in check:
            assert check["at"] in content["points"]


@pytest.mark.parametrize(("name", "check"), checks("ofv"))
def test_objective(name: str, check: dict[str, Any]) -> None:
    model, data = read(name)
    found = model.with_values(values_at(name, check["at"])).ofv(data, check["method"], **check.get("options", {}))
    assert found + constant(check, data) == pytest.approx(check["value"], abs=check["tolerance"])


@pytest.mark.parametrize(("name", "check"), checks("individual"))
def test_individual_objectives_and_modes(name: str, check: dict[str, Any]) -> None:
    model, data = read(name)
    table = pd.read_csv(shared_file(check["file"]))
    if "id" in check:
        table = table.drop_duplicates(check["id"])
    assert len(table) == data.n_subjects
    result = METHODS["focei"]().evaluate(model.problem(data), values_at(name, check["at"]))
    np.testing.assert_allclose(result.eta.T, table[check["etas"]], rtol=0, atol=check["eta_tolerance"])
    if "objective" in check:
        np.testing.assert_allclose(
            result.per_subject, table[check["objective"]], rtol=0, atol=check["objective_tolerance"]
        )


@pytest.mark.parametrize(("name", "check"), checks("residuals"))
def test_residuals(name: str, check: dict[str, Any]) -> None:
    model, data = read(name)
    values, problem = values_at(name, check["at"]), model.problem(data)
    table = pd.read_csv(shared_file(check["file"]))
    found = residual_table(problem, values, METHODS["focei"]().evaluate(problem, values).eta)
    for ours, theirs in check["columns"].items():
        allowed = check["tolerance"] * np.maximum(1.0, np.abs(table[theirs]))
        worst = (np.abs(found[ours] - table[theirs]) / allowed).max()
        assert worst <= 1.0, f"{ours}: {worst:.2f} times the tolerance"


@pytest.mark.parametrize(("name", "check"), checks("shrinkage"))
def test_shrinkage(name: str, check: dict[str, Any]) -> None:
    model, data = read(name)
    values, problem = values_at(name, check["at"]), model.problem(data)
    found = 100 * shrinkage(problem, values, METHODS["focei"]().evaluate(problem, values).eta)
    assert set(found.index) == set(check["value"])
    for key, value in check["value"].items():
        assert found[key] == pytest.approx(value, abs=check["tolerance"])


@pytest.mark.parametrize(("name", "check"), checks("se"))
def test_standard_errors(name: str, check: dict[str, Any]) -> None:
    model, data = read(name)
    values, problem = values_at(name, check["at"]), model.problem(data)
    found = uncertainty(problem, values, "focei", METHODS["focei"]().evaluate(problem, values).eta).se
    assert set(check["value"]) <= set(found.index)
    for key, value in check["value"].items():
        assert found[key] == pytest.approx(value, rel=check["tolerance"]), key


@pytest.mark.parametrize(("name", "check"), checks("fit"))
def test_fit(name: str, check: dict[str, Any]) -> None:
    model, data = read(name)
    if "start" in check:
        model = model.with_values(values_at(name, check["start"]))
    options = check.get("options", {})
    fits = [model.fit(data, check["method"], seed=seed, **options) for seed in check.get("seeds", [1])]
    assert all(fit.converged for fit in fits)
    if "ofv" in check:
        for fit in fits:
            above = fit.ofv + constant(check, data) - check["ofv"]
            assert above <= check["tolerance"]
            assert above >= -check["tolerance"] or not check.get("two_sided")
    estimates = pd.DataFrame([fit.estimates for fit in fits])
    if check.get("mean"):
        logs = {f"log {k}": np.log(estimates[k]) for k in estimates if (estimates[k] > 0).all()}
        estimates = estimates.assign(**logs).mean().to_frame().T
    for key, (value, tolerance) in check.get("value", {}).items():
        if key not in estimates:
            estimates[key] = np.log(estimates[key.removeprefix("log ")])
        np.testing.assert_allclose(estimates[key], value, rtol=0, atol=tolerance, err_msg=key)
