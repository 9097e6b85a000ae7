"""Models and data as code: what runs in a fresh kernel is the same model, and the same data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import given, settings

import nlmewidgets as nw
from nlmewidgets.core.code import data_code
from tests.models import Case, every_case

t, dose = nw.time, nw.dose
WT = nw.covariate("WT")


def run(source: str, variable: str = "model") -> Any:
    """Execute code where only sp and nw are imported, and return a variable."""
    namespace: dict[str, Any] = {"sp": sp, "nw": nw}
    exec(compile(source, "<exported>", "exec"), namespace)
    return namespace[variable]


def data(**columns: Any) -> nw.Data:
    rng = np.random.default_rng(5)
    table = {
        "ID": np.repeat([1, 2, 3], 4),
        "TIME": np.tile([0.5, 1.0, 2.0, 4.0], 3),
        "WT": np.repeat([60.0, 70, 90], 4),
    }
    return nw.Data.from_frame(pd.DataFrame(table | {"DV": 4 + rng.normal(size=12)} | columns))


def same(model: nw.Model, other: nw.Model, on: nw.Data) -> None:
    assert other.names == model.names
    pd.testing.assert_frame_equal(other.table(), model.table(), rtol=1e-14)
    assert other.space.blocks == model.space.blocks
    assert other.name == model.name
    for method in ("fo", "focei"):
        assert other.ofv(on, method) == pytest.approx(model.ofv(on, method), abs=1e-9, rel=1e-12)


def decay(parameters: dict[Any, Any] | None = None, prediction: Any = None, **changes: Any) -> nw.Model:
    """Return A·exp(−k·t) with parameters as given."""
    a, k = sp.symbols("A k", positive=True)
    if parameters is None:
        parameters = {a: nw.LogNormal(6.0, sd=0.2), k: nw.LogNormal(0.2, sd=0.3)}
    parts = {"residual": nw.Additive(0.7)} | changes
    return nw.Model(a * sp.exp(-k * t) if prediction is None else prediction, parameters, **parts)


A, K = sp.symbols("A k", positive=True)
ODD = sp.Symbol("k_{el}", positive=True)
WORD = sp.Symbol("lambda", positive=True)
MODELS = {
    "as declared": decay(),
    "named": decay(name='It\'s a "decay"'),
    "combined": decay(residual=nw.Combined(0.3, 0.1)),
    "combined1, one fixed": decay(residual=nw.Combined1(0.3, 0.1, fixed=("proportional",))),
    "own sd": decay(residual={"sd": nw.sigma("s", 0.3) * (1 + nw.f**2) ** nw.theta("power", 0.3, upper=2)}),
    "an sd without sigmas": decay(residual={"sd": sp.Rational(1, 3) + nw.f / 7}),
    "correlated": decay(correlation={("A", "k"): -0.4}),
    "an effect": decay({A: nw.LogNormal(6.0, sd=0.2, effect=nw.theta("b", 0.7) * sp.log(WT / 70)), K: 0.2}),
    "a subtracted effect": decay({A: nw.Normal(6.0, sd=0.2, effect=-nw.theta("b", 0.01) * (WT - 70)), K: 0.2}),
    "fixed and bounded": decay(
        {
            A: nw.LogNormal(6.0, sd=0.2, fixed_sd=True, lower=1, upper=20),
            K: nw.LogitNormal(0.2, sd=0.3, fixed=True, lower=0.01, upper=2),
        }
    ),
    "in full": decay(
        {
            A: nw.theta("a", 6.0, lower=0, fixed=True) * sp.exp(nw.eta("eta_size", sd=0.2, fixed=True)),
            K: nw.theta("kk", 0.2, lower=0.01, upper=3) * sp.exp(nw.eta("eta_size", sd=0.2, fixed=True) / 2),
        }
    ),
    "derived": decay(
        {A: nw.LogNormal(6.0, sd=0.2), K: sp.log(2) / sp.Symbol("half"), "half": nw.LogNormal(3.5, sd=0.2)}
    ),
    "thetas in the prediction": decay(
        prediction=nw.theta("base", 0.1) + nw.eta("eta_base", sd=0.2) + A * sp.exp(-K * t),
    ),
    "etas without the prefix, correlated": decay(
        {A: 6 * sp.exp(nw.eta("A", sd=0.2)), K: nw.LogNormal(0.2, sd=0.3)}, correlation={("A", "k"): 0.3}
    ),
    "names that are no identifiers": decay(
        {ODD: nw.LogNormal(0.2, sd=0.3), WORD: nw.LogNormal(6.0, sd=0.2), "A/F": nw.theta("a b", 1.0)},
        WORD * sp.Symbol("A/F") * sp.exp(-ODD * t),
        correlation={(ODD, WORD): 0.2},
    ),
    "names that are taken": decay(
        {"nw": nw.LogNormal(6.0, sd=0.2), "sp": nw.LogNormal(0.2, sd=0.3), "model": nw.theta("nw2", 1.0), "data": 1.0},
        "nw*model*data*exp(-sp*t)",
    ),
    "symbols without assumptions": decay(
        {sp.Symbol("A"): nw.LogNormal(6.0, sd=0.2), sp.Symbol("k"): 0.2}, sp.Symbol("A") * sp.exp(-sp.Symbol("k") * t)
    ),
    "one name in several roles": decay(
        {
            A: nw.theta("x", 6.0, lower=0) * (nw.covariate("WT") / 70) ** nw.theta("WT", 0.5),
            K: nw.LogNormal(0.2, sd=0.3),
        }
    ),
    "rational numbers and roots": decay(
        prediction=sp.Rational(1, 3) * A / sp.sqrt(1 + K)
        + 1 / sp.sqrt(K + 1)
        + 2 * A ** sp.Rational(2, 3)
        + sp.E * sp.pi
        - 9
    ),
    "conditions": decay(
        prediction=A * sp.exp(-K * t)
        + sp.Piecewise((sp.Min(t, 1), (WT < 65) | sp.Eq(WT, 70)), (sp.Max(0.5, K), sp.Ne(t, 1) & (t > 0.7)), (0, True))
    ),
    "special functions": decay(
        prediction=A * nw.expit(1 - K * t) + nw.ndtr(t) + sp.tanh(K) + sp.floor(t) * sp.sign(A) * sp.Abs(sp.sin(t))
    ),
    "no etas": decay({A: nw.LogNormal(6.0), K: nw.LogNormal(0.2)}),
}


@pytest.mark.parametrize("name", MODELS)
def test_exported_code_declares_the_same_model(name):
    model = MODELS[name]
    same(model, run(model.to_code()), data())


@pytest.mark.parametrize("name", MODELS)
def test_exporting_again_gives_the_same_code(name):
    # After one pass: SymPy may write -(x - 1)*y as (1 - x)*y.
    code = run(MODELS[name].to_code()).to_code()
    assert run(code).to_code() == code


@given(every_case)
@settings(max_examples=10, deadline=None)
def test_exported_code_declares_any_model(case: Case):
    same(case.model, run(case.model.to_code()), case.data)


def test_exported_code_has_the_present_values_and_flags(oral_model):
    model = oral_model(correlation={("CL", "V"): 0.3}).with_values({"CL": 3.1, "omega_ka": 0.45, "corr_CL_V": -0.2})
    model = model.fix("V", "additive", "omega_ka")
    again = run(model.to_code())
    pd.testing.assert_frame_equal(again.table(), model.table(), rtol=1e-14)
    same(model, again, nw.datasets.load("theophylline"))


def test_exported_code_reads_like_a_declaration(oral_model):
    code = oral_model(name="Theophylline").to_code()
    assert 'ka, CL, V = sp.symbols("ka CL V", positive=True)\n' in code
    assert "        CL: nw.LogNormal(2.8, sd=0.3),\n" in code
    assert "    residual=nw.Additive(sd=0.7),\n" in code
    assert code.endswith("    name='Theophylline',\n)")


def test_the_variable_may_be_named():
    assert isinstance(run(decay().to_code("first"), "first"), nw.Model)


# ------------------------------------------------------------------------------ data


def test_a_data_set_is_loaded_by_name():
    assert data_code(nw.datasets.load("orange")) == "data = nw.datasets.load('orange')"


def test_a_file_is_read_with_the_same_options(tmp_path, monkeypatch):
    (tmp_path / "my.csv").write_text("Subject;Time;conc;Wt\n1;0;1.5;70\n2;0;2.5;80\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {
        "id": "Subject",
        "dv": "conc",
        "amt": None,
        "covariates": ("Wt",),
        "units": {"Time": "h"},
    }
    original = nw.Data.read_csv("my.csv", sep=";", **options)
    again = run(data_code(original, "d"), "d")
    assert again.fingerprint == original.fingerprint
    assert again.units == original.units


FRAMES = {
    "as NONMEM has it": data(),
    "doses and missing values": nw.Data.from_frame(
        pd.DataFrame(
            {"ID": [1, 1, 1], "TIME": [0, 1, 2], "AMT": [100, 0, 0], "DV": [np.nan, 1 / 3, np.nan], "WT": 70.1}
        )
    ),
    "text": nw.Data.from_frame(
        pd.DataFrame(
            {"ID": ["01", "1", "NA 3"], "DV": [1.0, 2, 3], "Z": ['say "hello"', "a,b", 'back\\slash """quoted"""']}
        ).assign(NONE=["None", "null", "x"])
    ),
    "numbers as text": nw.Data.from_frame(pd.DataFrame({"ID": ["10", "9"], "DV": [1e-300, 0.1 + 0.2]})),
    "units": data().__class__.from_frame(data().records, units={"TIME": "h", "WT": "kg"}),
    "a covariate of an item's name": nw.Data.from_frame(
        pd.DataFrame({"ID": [1, 2], "DV": [1.0, 2.0], "dv": [3.0, 4.0]}), dv="DV", covariates=["dv"]
    ),
    "doses of every kind": nw.Data.from_frame(
        pd.DataFrame(
            {
                "ID": 1,
                "TIME": [0.0, 1, 2, 3, 4, 0, 1, 2, 3],
                "EVID": [1, 0, 1, 1, 2, 4, 0, 3, 0],
                "AMT": [100, 0, 0, 50, 0, 70, 0, 0, 0],
                "CMT": ["depot", None, "central", "depot", None, "depot", None, None, None],
                "RATE": [0, 0, 10, -2, 0, -1, 0, 0, 0],
                "ADDL": [3, 0, 0, 0, 0, 0, 0, 0, 0],
                "II": [12.5, 0, 0, 6, 0, 0, 0, 0, 0],
                "SS": [0, 0, 1, 2, 0, 0, 0, 0, 0],
                "DV": [np.nan, 1.0, np.nan, np.nan, np.nan, np.nan, 0.1, np.nan, 7],
                "DVID": [None, "cp", None, None, None, None, "pca", None, "cp"],
                "CENS": [0, 0, 0, 0, 0, 0, 1, 0, -1],
                "LIMIT": [np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, 0.01, np.nan, np.nan],
                "OCC": [1, 1, 1, 1, 1, 2, 2, 2, 2],
            }
        )
    ),
    "predictions only": nw.Data.from_frame(pd.DataFrame({"ID": 1, "TIME": [0.0, 1.5]}), dv=None),
    "an occasion as covariate": nw.Data.from_frame(
        pd.DataFrame({"ID": 1, "DV": [1.0, 2], "OCC": [1, 2]}), covariates=["OCC"]
    ),
    "a subset": nw.datasets.load("theophylline").subset([3, 5]),
    "no covariates": nw.datasets.load("orange").subset([1]),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_is_written_out_to_the_last_digit(name):
    original = FRAMES[name]
    again = run(data_code(original), "data")
    assert again.fingerprint == original.fingerprint
    assert again.covariates == original.covariates
    assert again.units == original.units


def test_a_large_frame_is_refused_with_the_remedy():
    table = pd.DataFrame({"ID": np.arange(6000), "DV": 1.0})
    with pytest.raises(
        nw.DataError, match=r"DataFrame of 6000 rows, too many .* save them with to_csv\(\) and load them"
    ):
        data_code(nw.Data.from_frame(table))


def test_model_and_data_together_reproduce_an_objective():
    case_data = data()
    source = "\n".join([data_code(case_data), decay().to_code(), "ofv = model.ofv(data)"])
    assert math.isclose(run(source, "ofv"), decay().ofv(case_data), rel_tol=1e-12)
