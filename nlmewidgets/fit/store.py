"""Fits as readable JSON: written in full, read back without evaluating anything."""

from __future__ import annotations

import base64
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sympy as sp

from nlmewidgets.core import symbols as role
from nlmewidgets.core.data import Data
from nlmewidgets.core.declaration import Declaration
from nlmewidgets.core.distributions import DISTRIBUTIONS, Distribution
from nlmewidgets.core.errors import DataError, NlmeError
from nlmewidgets.core.exclusions import sentences
from nlmewidgets.core.expression import parse, role_key, to_text
from nlmewidgets.core.likelihood import Likelihood
from nlmewidgets.core.model import Model
from nlmewidgets.core.observation import Observation, normal
from nlmewidgets.core.parameters import Parameter, ParameterSpace, Values
from nlmewidgets.core.priors import PRIORS, Prior
from nlmewidgets.core.system import Route, System
from nlmewidgets.core.tolerance import Tolerance
from nlmewidgets.fit.result import Fit
from nlmewidgets.library.likelihood import LIKELIHOODS
from nlmewidgets.library.residual import RESIDUALS, Residual

__all__ = [
    "data_from_dict",
    "data_to_dict",
    "fit_from_dict",
    "fit_to_dict",
    "load_fit",
    "model_from_dict",
    "model_to_dict",
    "save",
    "to_json",
]

FORMAT = 3


def fit_to_dict(fit: Fit) -> dict[str, Any]:
    """Return a fit as JSON-ready values; numbers that are not finite are null."""
    document = {
        "format": FORMAT,
        "written_by": _versions(),
        "method": fit.method,
        "options": dict(fit.options),
        "seed": fit.seed,
        "status": fit.status,
        "message": fit.message,
        "elapsed_s": fit.elapsed,
        "ofv": fit.ofv,
        "ofv_by": fit.ofv_by,
        "estimates": {k: float(v) for k, v in fit.estimates.items()},
        "theta": fit.values.theta.tolist(),
        "omega": fit.values.omega.tolist(),
        "sigma": fit.values.sigma.tolist(),
        "eta": fit.etas.tolist(),
        "excluded": [[k, v] for k, v in fit.excluded.items()],
        "arrays": {name: _array_to_dict(values) for name, values in fit.arrays.items()},
        "model": model_to_dict(fit.start),
        "data": data_to_dict(fit.data),
        "history": {c: fit.iterations[c].tolist() for c in fit.iterations},
    }
    strict: dict[str, Any] = _strict(document)
    return strict


def to_json(document: Mapping[str, Any]) -> str:
    """Return a document as JSON by its letter: what is no number is null."""
    return json.dumps(_strict(document), indent=1, allow_nan=False, ensure_ascii=False)


def save(fit: Fit, path: str | Path) -> Path:
    """Write a fit as JSON and return the path."""
    target = Path(path)
    text = json.dumps(fit_to_dict(fit), indent=1, allow_nan=False, ensure_ascii=False)
    try:
        target.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise NlmeError(
            f"'{target}' cannot be written ({error.strerror}); give a file in an existing folder."
        ) from None
    return target


def _strict(value: Any) -> Any:
    """Return the value with null where JSON has no number: what is not finite."""
    if isinstance(value, Mapping):
        return {k: _strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_fit(path: str | Path) -> Fit:
    """Read a fit written by `Fit.save`.

    Raises
    ------
    NlmeError
        If the file is not a saved fit, or written by a later version.
    DataError
        If its data do not have the fingerprint they were saved with.
    """
    file = Path(path)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NlmeError(f"There is no file '{file}'; check the path.") from None
    except OSError as error:
        raise NlmeError(f"'{file}' cannot be read ({error.strerror}); give the file of a saved fit.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NlmeError(f"'{file.name}' is not a saved fit ({error}); give a file written by Fit.save().") from None
    if not isinstance(document, dict) or not isinstance(document.get("format"), int):
        raise NlmeError(f"'{file.name}' is JSON but not a saved fit; give a file written by Fit.save().")
    if document["format"] > FORMAT:
        raise NlmeError(f"'{file.name}' was saved by a later version of nlmewidgets; update to read it.")
    return fit_from_dict(document, file.name)


def fit_from_dict(document: Mapping[str, Any], file: str, data: Data | None = None) -> Fit:
    """Return the fit of `fit_to_dict`; `file` is what a refusal names.

    Its data may be given, where one file holds them once for several fits.

    Raises
    ------
    NlmeError
        If the document is not one of a fit.
    """
    try:
        return _fit_from_dict(document, file, data)
    except NlmeError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise NlmeError(f"'{file}' is a damaged fit ({type(error).__name__}: {error}); save it again.") from None


def _fit_from_dict(document: Mapping[str, Any], file: str, data: Data | None) -> Fit:
    history = document["history"]
    return Fit(
        start=model_from_dict(document["model"]),
        data=data_from_dict(document["data"], file) if data is None else data,
        method=document["method"],
        options=document["options"],
        values=Values(_floats(document["theta"]), _matrix(document["omega"]), _floats(document["sigma"])),
        ofv=_missing(document["ofv"]),
        ofv_by=document["ofv_by"],
        etas=_floats(document["eta"]).reshape(len(document["eta"]), -1 if any(document["eta"]) else 0),
        iterations=pd.DataFrame({c: list(map(_missing, column)) for c, column in history.items()}),
        status=document["status"],
        message=document["message"],
        seed=document["seed"],
        elapsed=document["elapsed_s"],
        excluded=dict(document["excluded"]),
        arrays={name: _array_from_dict(entry) for name, entry in document.get("arrays", {}).items()},
    )


_MANY = 1_000
"""From here on an array is written as base64 of little-endian 64-bit numbers: exact, and a third of the size."""


def _array_to_dict(values: np.ndarray) -> dict[str, Any]:
    flat = np.ascontiguousarray(values, dtype="<f8")
    if flat.size < _MANY:
        return {"shape": list(flat.shape), "values": flat.ravel().tolist()}
    return {"shape": list(flat.shape), "base64": base64.b64encode(flat.tobytes()).decode("ascii")}


def _array_from_dict(entry: Mapping[str, Any]) -> np.ndarray:
    if "base64" in entry:
        flat = np.frombuffer(base64.b64decode(entry["base64"], validate=True), dtype="<f8")
    else:
        flat = _floats([_missing(v) for v in entry["values"]])
    out = flat.reshape(entry["shape"]).astype(float)
    out.setflags(write=False)
    return out


def _floats(values: list[Any]) -> np.ndarray:
    return np.array(values, dtype=float)


def _missing(value: Any) -> Any:
    return math.nan if value is None else value


def _matrix(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, dtype=float).reshape(len(rows), len(rows))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("nlmewidgets", "numpy", "scipy", "pandas", "sympy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


# --------------------------------------------------------------------------- model


def model_to_dict(model: Model) -> dict[str, Any]:
    """Return the declaration as JSON-ready values; expressions are infix text."""
    space = model.space
    parameters = []
    for symbol, value in model.parameters.items():
        entry: dict[str, Any] = {"name": symbol.name, "positive": bool(symbol.is_positive)}
        if isinstance(value, Distribution):
            entry |= {"distribution": value.kind, **asdict(value), "effect": to_text(sp.sympify(value.effect))}
        else:
            entry["expression"] = to_text(value)
        parameters.append(entry)
    return {
        "name": model.name,
        "blq": model.blq,
        "outputs": [_output_to_dict(model, name) for name in model.outputs],
        "residual_correlation": [[*pair, name] for pair, name in model.residual_correlation.items()],
        "system": None if model.system is None else _system_to_dict(model.system),
        "tolerance": None if model.system is None else asdict(model.system.tolerance),
        "parameters": parameters,
        "theta": [asdict(p) for p in space.theta],
        "sigma": [asdict(p) for p in space.sigma],
        "eta": list(space.eta),
        "n_iov": space.n_iov,
        "omega": [list(row) for row in space.omega],
        "blocks": [list(b) for b in space.blocks],
        "omega_fixed": list(space.omega_fixed),
        "sd_fixed": list(space.sd_fixed),
        "same": list(space.same),
        "priors": [
            {"of": list(key) if isinstance(key, tuple) else key, "prior": type(p).__name__, **asdict(p)}
            for key, p in model.priors.items()
        ],
        "covariates": [s.name for s in model.covariate_symbols if not isinstance(s, role.Level)],
        "levels": [list(s.details) for s in model.covariate_symbols if isinstance(s, role.Level)],
    }


def _priors(entries: Any) -> dict[str | tuple[str, ...], Prior]:
    out: dict[str | tuple[str, ...], Prior] = {}
    for entry in entries:
        arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items() if k not in ("of", "prior")}
        key = tuple(entry["of"]) if isinstance(entry["of"], list) else entry["of"]
        out[key] = PRIORS[entry["prior"]](**arguments)
    return out


def _output_to_dict(model: Model, name: str) -> dict[str, Any]:
    declared = model.residuals[name]
    own = model.observations[name]
    if isinstance(declared, Likelihood):
        return {"name": name, "likelihood": declared.to_dict(to_text)}
    residual: dict[str, Any] = {} if own.sd is None else {"sd": to_text(own.sd)}
    if type(declared).__name__ in RESIDUALS:
        residual |= _residual_to_dict(declared)
    return {"name": name, "prediction": to_text(model.outputs[name]), "residual": residual}


def _system_to_dict(system: System) -> list[dict[str, Any]]:
    return [
        {
            "state": state.name,
            "equation": to_text(rhs),
            "initial": to_text(start),
            "doses": {part: to_text(expr) for part, expr in route.parts().items()},
        }
        for state, rhs, start, route in zip(system.states, system.rhs, system.initial, system.routes, strict=True)
    ]


def _system_from_dict(
    entries: list[Mapping[str, Any]], symbols: dict[str, sp.Symbol], tolerance: Mapping[str, Any]
) -> System:
    return System(
        tuple(role.State(e["state"], real=True) for e in entries),
        tuple(parse(e["equation"], symbols) for e in entries),
        tuple(parse(e["initial"], symbols) for e in entries),
        tuple(Route(**{part: parse(text, symbols) for part, text in e["doses"].items()}) for e in entries),
        Tolerance(**tolerance),
    )


def _residual_to_dict(residual: Residual) -> dict[str, Any]:
    arguments = {x.name: getattr(residual, x.name) for x in fields(residual)}
    nested = {k: _residual_to_dict(v) if isinstance(v, Residual) else v for k, v in arguments.items()}
    return {"model": type(residual).__name__, "arguments": nested}


def _residual_from_dict(entry: Mapping[str, Any]) -> Residual:
    arguments = dict(entry["arguments"])
    if "fixed" in arguments:
        arguments["fixed"] = tuple(arguments["fixed"])
    nested = {k: _residual_from_dict(v) if isinstance(v, Mapping) else v for k, v in arguments.items()}
    return RESIDUALS[entry["model"]](**nested)


def model_from_dict(entry: Mapping[str, Any]) -> Model:
    """Return the model of `model_to_dict`; text is parsed, never evaluated."""
    space = ParameterSpace(
        tuple(Parameter(**p) for p in entry["theta"]),
        tuple(Parameter(**p) for p in entry["sigma"]),
        tuple(entry["eta"]),
        tuple(tuple(row) for row in entry["omega"]),
        tuple(tuple(b) for b in entry["blocks"]),
        tuple(entry["omega_fixed"]),
        entry.get("n_iov", 0),
        tuple(entry.get("sd_fixed", ())),
        tuple(entry.get("same", ())),
    )
    symbols: dict[str, sp.Symbol] = {"t": role.time, "dose": role.dose, "f": role.f, "dv": role.dv}
    for p in space.theta:
        symbols[f"theta({p.name!r})"] = role.plain_theta(p.name, p.lower)
    for p in space.sigma:
        symbols[f"sigma({p.name!r})"] = role.plain_sigma(p.name, p.lower)
    for name in space.eta:
        symbols[f"eta({name!r})"] = role.plain_eta(name)
    for name in entry["covariates"]:
        symbols[role_key(role.covariate(name))] = role.covariate(name)
    for details in entry.get("levels", ()):
        indicator = role.level(*details)
        symbols[role_key(indicator)] = indicator
    for part in entry.get("system") or ():
        state = role.State(part["state"], real=True)
        symbols[role_key(state)] = state
    for p in entry["parameters"]:
        symbols[p["name"]] = sp.Symbol(p["name"], **({"positive": True} if p["positive"] else {"real": True}))
    parameters: dict[sp.Symbol, Distribution | sp.Expr] = {}
    for p in entry["parameters"]:
        if "distribution" in p:
            arguments = {k: v for k, v in p.items() if k not in ("name", "positive", "distribution", "effect")}
            kind = DISTRIBUTIONS[p["distribution"]]
            parameters[symbols[p["name"]]] = kind(**arguments, effect=parse(p["effect"], symbols))
        else:
            parameters[symbols[p["name"]]] = parse(p["expression"], symbols)
    # Format 1 had one output without a name.
    stored = entry.get("outputs") or [{"name": "y"} | {k: entry[k] for k in ("prediction", "residual")}]
    outputs: dict[str, sp.Expr] = {}
    observations: dict[str, Observation] = {}
    residuals: dict[str, Any] = {}
    for output in stored:
        name = output["name"]
        if "likelihood" in output:
            family = LIKELIHOODS[output["likelihood"]["model"]]
            likelihood = family.from_dict(output["likelihood"]["arguments"], lambda text: parse(text, symbols))
            outputs[name], observations[name] = likelihood.prediction, likelihood.observation()
            residuals[name] = likelihood
            continue
        residual = output["residual"]
        outputs[name] = parse(output["prediction"], symbols)
        if "sd" in residual:
            sd = parse(residual["sd"], symbols)
            observations[name] = normal(sd)
            residuals[name] = {"sd": sd}
        if "model" in residual:
            residuals[name] = _residual_from_dict(residual)
            observations[name] = Declaration({}).residual(residuals[name], name if len(stored) > 1 else "")
    system = _system_from_dict(entry["system"], symbols, entry.get("tolerance") or {}) if entry.get("system") else None
    return Model.from_parts(
        outputs,
        parameters,
        observations,
        residuals,
        space,
        entry["name"],
        system,
        entry.get("blq", "M3"),
        _priors(entry.get("priors", ())),
        {(one, two): name for one, two, name in entry.get("residual_correlation", ())},
    )


# ---------------------------------------------------------------------------- data


def data_to_dict(data: Data) -> dict[str, Any]:
    """Return the data as JSON-ready values, with their fingerprint."""
    return {
        "records": {c: data.records[c].tolist() for c in data.records},
        "covariates": list(data.covariates),
        "units": dict(data.units),
        "notes": [*data.notes, *(f"Left out before saving: {sentence}" for sentence in sentences(data))],
        "origin": dict(data.origin),
        "sha256": data.fingerprint,
    }


def data_from_dict(entry: Mapping[str, Any], file: str) -> Data:
    """Return the data of `data_to_dict`; `file` names them where they were changed."""
    frame = pd.DataFrame({c: pd.Series(v, dtype=_dtype(c, v)) for c, v in entry["records"].items()})
    data = Data(frame, tuple(entry["covariates"]), entry["units"], tuple(entry["notes"]), entry["origin"])
    if data.fingerprint != entry["sha256"]:
        raise DataError(f"The data in '{file}' are not those it was saved with (SHA-256 differs); the file was edited.")
    return data


def _dtype(column: str, values: list[Any]) -> str:
    if column in ("EVID", "ADDL", "SS", "MDV", "CENS"):
        return "int64"
    if any(isinstance(v, str) for v in values):
        return "object"
    if column in ("ID", "CMT", "DVID", "OCC") and all(isinstance(v, int) for v in values):
        return "int64"
    return "float64"
