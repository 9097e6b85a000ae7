"""Several outputs: each observation has the prediction and the residual error its DVID names."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.fit.store import model_from_dict, model_to_dict
from tests.methods.test_gradients import check_gradient
from tests.models import Case

A, K, B, H = sp.symbols("A k B h", positive=True)
T, WT = nw.time, nw.covariate("WT")
NAMES = {"one": "cp", "two": "pca"}


def parameters(*symbols: sp.Symbol) -> dict[sp.Symbol, nw.LogNormal]:
    every = {
        A: nw.LogNormal(8.0, sd=0.3, effect=nw.theta("b", 0.5) * sp.log(WT / 70)),
        K: nw.LogNormal(0.3, sd=0.2),
        B: nw.LogNormal(3.0, sd=0.4),
        H: nw.LogNormal(1.5, sd=0.25),
    }
    return {s: every[s] for s in symbols}


CP, PCA = A * sp.exp(-K * T), B * T / (H + T) + 1
BOTH = nw.Model(
    prediction={"cp": CP, "pca": PCA},
    parameters=parameters(A, K, B, H),
    residual={"cp": nw.Proportional(0.15), "pca": nw.Combined(0.2, 0.1)},
)


def observations(seed: int = 3, subjects: int = 7) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(subjects):
        weight = rng.uniform(50, 95)
        for t in np.sort(rng.uniform(0.2, 10.0, 5)):
            for label in ("one", "two") if rng.random() < 0.6 else ("one",):
                mean = 8 * np.exp(-0.3 * t) if label == "one" else 3 * t / (1.5 + t) + 1
                rows.append((i + 1, t, mean * np.exp(0.2 * rng.standard_normal()), weight, label))
    return pd.DataFrame(rows, columns=["ID", "TIME", "DV", "WT", "label"])


def labelled(frame: pd.DataFrame, labels: list) -> nw.Data:
    data = nw.Data.from_frame(frame.drop(columns="label"), covariates=["WT"])
    return replace(data, records=data.records.assign(DVID=labels))


FRAME = observations()
DATA = labelled(FRAME, FRAME["label"].map({"one": 1, "two": 2}).tolist())
EACH = {
    name: nw.Data.from_frame(FRAME[FRAME["label"] == name].drop(columns="label"), covariates=["WT"]) for name in NAMES
}
ALONE = {
    "one": nw.Model(CP, parameters(A, K), residual=nw.Proportional(0.15)),
    "two": nw.Model(PCA, parameters(B, H), residual=nw.Combined(0.2, 0.1)),
}


def test_the_sigmas_carry_the_names_of_their_outputs():
    assert BOTH.names[-3:] == ("proportional_cp", "additive_pca", "proportional_pca")
    assert list(BOTH.outputs) == ["cp", "pca"]
    with pytest.raises(nw.ModelError, match=r"ask for model.outputs\[name\] of one of them"):
        _ = BOTH.prediction


def test_predictions_are_those_of_each_output_alone():
    together = BOTH.predict(DATA)["PRED"].to_numpy()
    for name, data in EACH.items():
        np.testing.assert_allclose(together[(FRAME["label"] == name).to_numpy()], ALONE[name].predict(data)["PRED"])


@pytest.mark.parametrize("method", ["fo", "focei", "laplace", "agq"])
def test_outputs_without_common_parameters_have_the_sum_of_their_objectives(method):
    # The integral over independent etas factorises, and so does each approximation of it.
    options = {"nodes": 5} if method == "agq" else {}
    joint = BOTH.ofv(DATA, method, **options)
    assert joint == pytest.approx(sum(ALONE[n].ofv(EACH[n], method, **options) for n in NAMES), abs=1e-6)


@pytest.mark.parametrize("labels", [("1", "2"), ("cp", "pca"), (1.0, 2.0)])
def test_a_dvid_is_a_name_or_a_number(labels):
    data = labelled(FRAME, FRAME["label"].map(dict(zip(NAMES, labels, strict=True))).tolist())
    assert BOTH.ofv(data) == pytest.approx(BOTH.ofv(DATA), abs=1e-9)


def test_a_sigma_used_by_two_outputs_is_one_parameter():
    s = nw.sigma("s", 0.2)
    model = nw.Model(
        {"cp": CP, "pca": PCA}, parameters(A, K, B, H), residual={"cp": {"sd": s * nw.f}, "pca": {"sd": s}}
    )
    assert model.names[-1:] == ("s",)
    assert len(model.space.sigma) == 1
    problem = model.problem(DATA)
    f = model.predict(DATA)["PRED"].to_numpy()
    one = (FRAME["label"] == "one").to_numpy()
    log_density = stats.norm.logpdf(FRAME["DV"], f, np.where(one, 0.2 * f, 0.2))
    expected = np.bincount(FRAME["ID"] - 1, -2 * log_density - np.log(2 * np.pi))
    np.testing.assert_allclose(problem.minus2ll(f, np.array([0.2])), expected, rtol=1e-12)
    step = 1e-5
    up, down = (problem.minus2ll(f, np.array([0.2 + d])) for d in (step, -step))
    slope = problem.subjects(problem.newton_terms(f, np.array([0.2]), gradient=True).sigma)[0]
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("method", ["fo", "focei"])
def test_the_gradient_of_several_outputs_agrees_with_finite_differences(method):
    check_gradient(Case(BOTH, DATA, "two outputs"), method)


def test_code_and_json_give_the_model_back():
    scope: dict = {}
    exec("import sympy as sp\nimport nlmewidgets as nw\n" + BOTH.to_code(), scope)
    again = model_from_dict(json.loads(json.dumps(model_to_dict(BOTH))))
    for copy in (scope["model"], again):
        assert dict(copy.outputs) == dict(BOTH.outputs)
        assert dict(copy.observations) == dict(BOTH.observations)
        assert dict(copy.residuals) == dict(BOTH.residuals)
        assert copy.space == BOTH.space
    assert r"f_{\mathrm{pca}}" in BOTH.equations()


def test_the_first_format_of_the_store_is_still_read():
    entry = model_to_dict(ALONE["one"])
    (output,) = entry.pop("outputs")
    old = entry | {"prediction": output["prediction"], "residual": output["residual"]}
    assert dict(model_from_dict(old).outputs) == dict(ALONE["one"].outputs)


REFUSED = {
    "one residual for two outputs": (
        {"residual": nw.Additive(0.1)},
        "residual= has one model, Additive(sd=0.1, fixed=()); with several outputs give one to each: "
        "{'cp': …, 'pca': …}.",
    ),
    "a residual without its output": (
        {"residual": {"cp": nw.Additive(0.1)}},
        "residual= has the keys ['cp']; with several outputs give one to each: {'cp': …, 'pca': …}.",
    ),
    "a name that is no word": (
        {"prediction": {"c p": CP, "pca": PCA}},
        "prediction= has the key 'c p'; an output's name is a word such as 'cp'.",
    ),
    "no output": ({"prediction": {}}, "prediction= is an empty mapping; give each output's name its expression."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_is_refused_in_one_sentence(case):
    changes, sentence = REFUSED[case]
    declared = {"prediction": {"cp": CP, "pca": PCA}, "residual": {"cp": nw.Additive(0.1), "pca": nw.Additive(0.1)}}
    with pytest.raises(nw.ModelError) as error:
        nw.Model(parameters=parameters(A, K, B, H), **(declared | changes))
    assert str(error.value) == sentence


def test_a_dvid_without_an_output_is_refused_with_its_record():
    labels = FRAME["label"].map({"one": 1, "two": 2}).tolist()
    labels[4] = 3
    time = FRAME["TIME"].iloc[4]
    with pytest.raises(nw.DataError) as error:
        BOTH.predict(labelled(FRAME, labels))
    assert str(error.value) == (
        f"DVID=3 of subject {FRAME['ID'].iloc[4]} at TIME {time:g} (record 5) matches no output of the model "
        "(1 or cp, 2 or pca); add the output to prediction=, or leave these records out."
    )
