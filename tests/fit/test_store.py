"""Saved fits: readable JSON that gives the same fit back, and nothing else is taken for one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import HealthCheck, given, settings

import nlmewidgets as nw
from nlmewidgets.fit.store import FORMAT, model_from_dict, model_to_dict
from tests.models import Case, every_case


def quick(model: nw.Model, data: nw.Data, method: str = "focei", **options: Any) -> nw.Fit:
    return model.fit(data, method, seed=1, **({"max_iterations": 2} | options))


def strict(text: str) -> Any:
    """Parse JSON by its letter: NaN and Infinity are no numbers."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def round_trip(fit: nw.Fit, path: Path) -> nw.Fit:
    fit.save(path)
    strict(path.read_text(encoding="utf-8"))
    return nw.load_fit(path)


def same(loaded: nw.Fit, fit: nw.Fit) -> None:
    for name in ("method", "ofv_by", "status", "message", "seed", "elapsed", "excluded", "converged"):
        assert getattr(loaded, name) == getattr(fit, name), name
    for name in ("n_parameters", "n_obs", "n_subjects"):
        assert getattr(loaded, name) == getattr(fit, name), name
    for name in ("ofv", "loglik", "aic", "bic"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(fit, name), name)
    assert dict(loaded.options) == dict(fit.options)
    assert loaded.values == fit.values
    assert loaded.start.space == fit.start.space
    assert loaded.start.name == fit.start.name
    for name in ("theta", "sigma", "estimates", "shrinkage"):
        pd.testing.assert_series_equal(getattr(loaded, name), getattr(fit, name), rtol=1e-12)
    for name in ("omega", "eta", "individual", "history"):
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(fit, name), rtol=1e-12)
    pd.testing.assert_frame_equal(loaded.table(), fit.table(), rtol=1e-11)
    pd.testing.assert_frame_equal(loaded.data.records, fit.data.records)
    assert list(loaded.arrays) == list(fit.arrays)
    for name, values in fit.arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], values, name)
    assert loaded.data.fingerprint == fit.data.fingerprint
    assert (loaded.data.covariates, loaded.data.notes) == (fit.data.covariates, fit.data.notes)
    assert dict(loaded.data.units) == dict(fit.data.units)
    assert json.dumps(dict(loaded.data.origin)) == json.dumps(dict(fit.data.origin))
    assert loaded.model.to_code() == fit.model.to_code()
    assert repr(loaded) == repr(fit)


@pytest.mark.parametrize("method", ["fo", "focei", "saem"])
def test_a_saved_fit_is_read_back_whole(method, tmp_path, oral_model, theophylline):
    short = {"saem": {"explore": 10, "smooth": 5}, "bayes": {"chains": 2, "warmup": 4, "draws": 6, "max_depth": 4}}
    options = short.get(method, {})
    fit = oral_model(correlation={("CL", "V"): 0.2}, name="Théophylline").fit(theophylline, method, seed=1, **options)
    loaded = round_trip(fit, tmp_path / "fit.json")
    same(loaded, fit)
    pd.testing.assert_series_equal(loaded.se, fit.se, rtol=1e-9)


@given(case=every_case)
@settings(max_examples=7, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_fit_is_read_back_whole(case: Case, tmp_path):
    fit = quick(case.model, case.data, "fo")
    same(round_trip(fit, tmp_path / "fit.json"), fit)


def test_a_loaded_fit_goes_on(tmp_path, oral_model, theophylline):
    fit = quick(oral_model(), theophylline)
    loaded = round_trip(fit, tmp_path / "fit.json")
    assert loaded.model.fit(loaded.data).ofv == pytest.approx(fit.model.fit(fit.data).ofv, abs=1e-9)
    assert loaded.model.ofv(loaded.data) == pytest.approx(fit.model.ofv(fit.data), rel=1e-12)


def test_arrays_of_a_method_are_kept_to_the_last_bit(tmp_path, oral_model, theophylline):
    rng = np.random.default_rng(3)
    arrays = {
        "few": np.array([[1.0, np.nan], [np.pi, -0.0]]),
        "many": rng.normal(size=(5, 300)),
        "none": np.zeros((0, 3)),
    }
    fit = replace(quick(oral_model(), theophylline), arrays=arrays)
    same(round_trip(fit, tmp_path / "fit.json"), fit)


def decay(**parts: Any) -> nw.Model:
    a, k = sp.symbols("A k", positive=True)
    default: dict[str, Any] = {
        "prediction": a * sp.exp(-k * nw.time),
        "parameters": {a: nw.LogNormal(6.0, sd=0.2), k: nw.LogNormal(0.2, sd=0.3)},
        "residual": nw.Additive(0.7),
    }
    return nw.Model(**(default | parts))


def data(**columns: Any) -> nw.Data:
    rng = np.random.default_rng(5)
    table = {
        "ID": np.repeat([1, 2, 3], 4),
        "TIME": np.tile([0.5, 1.0, 2.0, 4.0], 3),
        "WT": np.repeat([60.0, 70, 90], 4),
    }
    return nw.Data.from_frame(pd.DataFrame(table | {"DV": 4 + rng.normal(size=12)} | columns))


ODD = sp.Symbol("k_{el}", positive=True)
MODELS = {
    "names that are no identifiers": decay(
        prediction=sp.Symbol("lambda") * sp.exp(-ODD * nw.time) + sp.Symbol("µ"),
        parameters={ODD: nw.LogNormal(0.2, sd=0.3), "lambda": nw.LogNormal(6.0, sd=0.2), "µ": nw.theta("x'y", 0.1)},
    ),
    "constants and parameters called alike": decay(
        prediction=sp.Symbol("E") * sp.E * sp.pi * sp.exp(-sp.Symbol("pi") * nw.time),
        parameters={"E": nw.LogNormal(0.7, sd=0.2), "pi": nw.LogNormal(0.2, sd=0.3)},
    ),
    "own sd": decay(residual={"sd": nw.sigma("s", 0.3) * (1 + nw.f**2) ** nw.theta("power", 0.3, upper=2)}),
    "a fixed sigma": decay(residual=nw.Combined(0.3, 0.1, fixed=("additive",))),
    "conditions": decay(
        prediction=sp.Symbol("A") * sp.exp(-sp.Symbol("k") * nw.time)
        + sp.Piecewise((1, sp.Eq(nw.covariate("WT"), 70) | (nw.time > 2)), (0, True))
    ),
    "in full": decay(
        parameters={
            "A": nw.theta("a", 6.0, lower=0) * nw.covariate("WT") / 70 * sp.exp(nw.eta("eta_s", sd=0.2)),
            "k": nw.theta("kk", 0.2, lower=0.01, upper=3) + nw.eta("eta_s", sd=0.2) / 20,
        }
    ),
    "no random effects": decay(parameters={"A": nw.LogNormal(6.0), "k": nw.LogNormal(0.2)}),
}


@pytest.mark.parametrize("name", MODELS)
def test_any_declaration_is_read_back(name, tmp_path):
    fit = quick(MODELS[name], data())
    same(round_trip(fit, tmp_path / "fit.json"), fit)


def test_data_of_every_kind_are_read_back(tmp_path):
    table = data().records[["ID", "TIME", "DV", "WT"]]
    kinds = {
        "text labels": table.assign(ID=table["ID"].map({1: "a", 2: "b", 3: "Ö"})),
        "numbers as labels": table.assign(ID=table["ID"] + 0.5),
        "a text covariate": table.assign(SEX=["F", "M"] * 6),
        "a covariate that is an item": table.assign(OCC=[1, 2] * 6),
        "a text item": table.assign(CMT=["depot", "central"] * 6, LIMIT=[0.1, np.nan] * 6),
        "missing DV": table.assign(DV=table["DV"].where(table["TIME"] > 1)),
    }
    for kind, frame in kinds.items():
        fit = quick(decay(), nw.Data.from_frame(frame, units={"TIME": "h"}), "fo")
        same(round_trip(fit, tmp_path / f"{kind}.json"), fit)


def test_a_file_origin_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data().records[["ID", "TIME", "DV", "WT"]].to_csv("d.csv", index=False)
    read = nw.Data.read_csv("d.csv", covariates=("WT",), amt=None, units={"TIME": "h"})
    fit = quick(decay(), read, "fo")
    same(round_trip(fit, tmp_path / "fit.json"), fit)


def test_what_is_not_finite_is_null_and_comes_back_as_nan(tmp_path):
    table = data().records[["ID", "TIME", "DV", "WT"]].copy()
    table.loc[table["ID"] == 2, "WT"] = -1.0
    model = decay(
        parameters={
            "A": nw.LogNormal(6.0, sd=0.2, effect=nw.theta("b", 0.5) * sp.log(nw.covariate("WT") / 70)),
            "k": nw.LogNormal(0.2, sd=0.3),
        }
    )
    fit = quick(model, nw.Data.from_frame(table))
    assert list(fit.excluded) == [2]
    loaded = round_trip(fit, tmp_path / "fit.json")
    same(loaded, fit)
    assert loaded.eta.loc[2].isna().all()


def test_a_fit_without_a_finite_objective_can_be_saved(tmp_path, oral_model, theophylline):
    fit = replace(quick(oral_model(), theophylline), ofv=math.inf, etas=np.full((12, 3), np.nan))
    loaded = round_trip(fit, tmp_path / "fit.json")
    assert math.isnan(loaded.ofv)
    assert loaded.etas.shape == (12, 3)
    assert np.isnan(loaded.etas).all()


def test_the_file_is_readable_and_says_what_wrote_it(tmp_path, oral_model, theophylline):
    path = quick(oral_model(), theophylline).save(tmp_path / "fit.json")
    document = strict(path.read_text(encoding="utf-8"))
    assert document["format"] == FORMAT
    assert {"python", "nlmewidgets", "numpy", "sympy"} <= set(document["written_by"])
    assert set(document["estimates"]) == set(oral_model().names)
    assert document["model"]["parameters"][1]["name"] == "CL"
    assert document["model"]["outputs"][0]["prediction"] == "state('central')/V"


def test_saving_overwrites_and_takes_text_paths(tmp_path, oral_model, theophylline):
    path = tmp_path / "fit.json"
    path.write_text("old", encoding="utf-8")
    assert quick(oral_model(), theophylline).save(str(path)) == path
    assert nw.load_fit(str(path)).method == "focei"


# ------------------------------------------------------------------------------ refusals


@pytest.fixture(scope="module")
def document(tmp_path_factory: Any, oral_model: Any, theophylline: nw.Data) -> dict[str, Any]:
    path = quick(oral_model(), theophylline).save(tmp_path_factory.mktemp("store") / "fit.json")
    return json.loads(path.read_text(encoding="utf-8"))


def refusal(text: str, tmp_path: Path) -> str:
    path = tmp_path / "f.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(nw.NlmeError) as error:
        nw.load_fit(path)
    return str(error.value)


NO_FITS = {
    "": r"'f.json' is not a saved fit (Expecting value: line 1 column 1 (char 0)); give a file written by Fit.save().",
    "[1, 2]": "'f.json' is JSON but not a saved fit; give a file written by Fit.save().",
    '{"a": 1}': "'f.json' is JSON but not a saved fit; give a file written by Fit.save().",
    '{"format": "x"}': "'f.json' is JSON but not a saved fit; give a file written by Fit.save().",
    '{"format": 99}': "'f.json' was saved by a later version of nlmewidgets; update to read it.",
    '{"format": 1}': "'f.json' is a damaged fit (KeyError: 'history'); save it again.",
}


@pytest.mark.parametrize("text", NO_FITS, ids=lambda t: t or "empty")
def test_what_is_no_saved_fit_is_refused(text, tmp_path):
    assert refusal(text, tmp_path) == NO_FITS[text]


def test_files_that_cannot_be_read_or_written_are_refused(tmp_path, oral_model, theophylline):
    for path, sentence in {
        tmp_path / "no.json": f"There is no file '{tmp_path / 'no.json'}'; check the path.",
        tmp_path: f"'{tmp_path}' cannot be read (Is a directory); give the file of a saved fit.",
    }.items():
        with pytest.raises(nw.NlmeError) as error:
            nw.load_fit(path)
        assert str(error.value) == sentence
    (tmp_path / "latin.json").write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(nw.NlmeError, match=r"^'latin.json' is not a saved fit \(.*\); give a file written by"):
        nw.load_fit(tmp_path / "latin.json")
    with pytest.raises(
        nw.NlmeError, match=r"cannot be written \(No such file or directory\); give a file in an existing"
    ):
        quick(oral_model(), theophylline).save(tmp_path / "no" / "fit.json")


@pytest.mark.parametrize("column", ["DV", "TIME", "AMT", "WT", "ID"])
def test_edited_data_are_detected(column, document, tmp_path):
    edited = json.loads(json.dumps(document))
    values = edited["data"]["records"][column]
    values[-1] = values[-1] + 1
    assert refusal(json.dumps(edited), tmp_path) == (
        "The data in 'f.json' are not those it was saved with (SHA-256 differs); the file was edited."
    )


@pytest.mark.parametrize("key", ["method", "theta", "omega", "eta", "model", "data", "history", "status", "seed"])
def test_a_file_with_a_part_missing_or_wrong_is_refused_in_a_sentence(key, document, tmp_path):
    damaged = {k: v for k, v in document.items() if k != key}
    assert refusal(json.dumps(damaged), tmp_path) == f"'f.json' is a damaged fit (KeyError: '{key}'); save it again."
    if key in ("theta", "omega", "eta", "model", "data", "history"):
        assert refusal(json.dumps(document | {key: "x"}), tmp_path).startswith("'f.json' is a damaged fit (")


@pytest.mark.parametrize("where", ["prediction", "residual", "effect"])
def test_text_in_a_file_is_never_executed(where, document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = json.loads(json.dumps(document))
    text = "__import__('pathlib').Path('pwned').touch()"
    if where == "prediction":
        hostile["model"]["outputs"][0]["prediction"] = text
    elif where == "residual":
        hostile["model"]["outputs"][0]["residual"]["sd"] = text
    else:
        hostile["model"]["parameters"][0]["effect"] = text
    assert "cannot be used in an expression" in refusal(json.dumps(hostile), tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_an_impossible_omega_in_a_file_is_refused(document, tmp_path):
    hostile = json.loads(json.dumps(document))
    hostile["model"]["omega"][0][0] = -1.0
    assert "is not positive definite" in refusal(json.dumps(hostile), tmp_path)


def test_a_model_alone_goes_through_json():
    model = MODELS["in full"]
    again = model_from_dict(json.loads(json.dumps(model_to_dict(model))))
    assert again.prediction == model.prediction
    assert dict(again.parameters) == dict(model.parameters)
    assert again.space == model.space
    assert again.sd == model.sd
