"""Contracts over the library: a new structure needs no test of its own for any of this."""

from __future__ import annotations

import inspect
import xml.etree.ElementTree as ElementTree
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.fit.store import model_from_dict, model_to_dict
from nlmewidgets.library import LIBRARY
from nlmewidgets.library.sheet import sheet
from nlmewidgets.library.structure import COMMON
from nlmewidgets.library.text import as_text
from nlmewidgets.library.vocabulary import VOCABULARY
from tests.demos import demonstration

EVERY = pytest.mark.parametrize("name", LIBRARY)


@cache
def shown(name: str) -> tuple[nw.Model, nw.Data, pd.DataFrame]:
    """Return the demonstration with its predictions."""
    model, data = demonstration(name)
    return model, data, model.predict(data)


@EVERY
def test_a_structure_is_public_and_named_as_it_is_registered(name):
    entry = LIBRARY[name]
    assert getattr(nw.library, name) is entry.function
    assert entry.function.__name__ == entry.name == name
    assert entry.title.strip()
    assert entry.family.strip()


@EVERY
def test_every_parameter_has_meaning_unit_and_default_and_stands_in_the_docstring(name):
    entry = LIBRARY[name]
    signature = inspect.signature(entry.function)
    assert all(p.kind is p.KEYWORD_ONLY for p in signature.parameters.values())
    assert list(signature.parameters) == [*(a.name for a in entry.arguments), *entry.options, *COMMON]
    for a in entry.arguments:
        assert a.meaning
        assert a.unit
        assert f"{a.name} : distribution, number or expression" in entry.function.__doc__
        assert entry.function.__doc__.count(a.meaning[1:]) >= 1
        assert signature.parameters[a.name].default == a.default.typical


def test_one_name_has_one_meaning_wherever_it_occurs():
    used = {a.name for e in LIBRARY.values() for a in e.arguments}
    assert used == set(VOCABULARY)
    for entry in LIBRARY.values():
        for a in entry.arguments:
            if "PK" in entry.family:
                assert a.meaning == VOCABULARY[a.name].meaning, (entry.name, a.name)


@EVERY
def test_without_arguments_a_structure_is_its_documented_defaults(name):
    entry = LIBRARY[name]
    model = entry.function()
    assert [s.name for s in model.parameters] == [a.name for a in entry.arguments]
    assert list(model.values.theta) == [a.default.typical for a in entry.arguments]
    assert model.name == entry.title


@EVERY
def test_the_demonstration_predicts_finite_positive_numbers(name):
    _, data, table = shown(name)
    pred = table["PRED"].to_numpy()
    assert np.isfinite(pred).all()
    assert np.isfinite(data.dv).all()
    assert (pred >= 0).all()
    assert (pred[data.time > 0] > 0).all()


@EVERY
def test_every_parameter_moves_the_demonstration_as_the_derivatives_say(name):
    model, data, _ = shown(name)
    problem = model.problem(data.subset(data.ids[:1]))
    slots = problem.typical(model.values.theta).slots
    n = len(slots)
    _, first, _ = problem.structure(slots, 1)
    step = 1e-4 * np.maximum(np.abs(slots).max(axis=-1), 0.1)
    moved = np.repeat(slots[:, None], 2 * n, axis=1)  # every slot up and down, in one batch
    for k in range(n):
        moved[k, 2 * k] += step[k]
        moved[k, 2 * k + 1] -= step[k]
    pred = problem.predict(moved)
    # What an integrator's relative tolerance of 1e-8 leaves in a difference quotient.
    noise = 0.0 if model.system is None or model.system.linear is not None else 2e-8 * np.abs(pred).max()
    for k in range(n):
        difference = (pred[2 * k] - pred[2 * k + 1]) / (2 * step[k])
        scale = np.abs(difference).max()
        assert scale > 0, problem.form.symbols[k]
        np.testing.assert_allclose(first[k], difference, rtol=1e-4, atol=1e-4 * scale + noise / step[k])


@EVERY
def test_a_structure_survives_code_and_json(name):
    model, data, _ = shown(name)
    namespace: dict[str, Any] = {"sp": sp, "nw": nw}
    exec(model.to_code(), namespace)
    for other in (namespace["model"], model_from_dict(model_to_dict(model))):
        assert other.space == model.space
        assert dict(other.observations) == dict(model.observations)
        if (other.outputs, other.parameters, other.system) == (model.outputs, model.parameters, model.system):
            continue  # the same expressions: nothing to predict
        few = data.subset(data.ids[:2])
        np.testing.assert_allclose(other.predict(few)["PRED"], model.predict(few)["PRED"], rtol=1e-9)


@EVERY
def test_equations_and_description_render(name):
    entry = LIBRARY[name]
    equations, plain, page = entry.equations, repr(entry), entry._repr_html_()
    depth = 0
    for letter in equations.replace(r"\{", "").replace(r"\}", ""):
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    assert depth == 0
    for text in (equations, page):
        assert r"\begin{aligned}" in text
    assert as_text(entry) == plain
    for a in entry.arguments:
        assert a.meaning in plain


@EVERY
def test_the_diagram_is_well_formed_and_shows_every_state(name):
    model = LIBRARY[name].model
    drawn = nw.library.diagram(model)
    if not model.odes:
        assert drawn == ""
        return
    root = ElementTree.fromstring(drawn)
    words = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {s.name for s in model.odes} <= set(words)
    assert root.get("aria-label")


@EVERY
def test_a_structure_is_found_by_its_title_and_by_its_model(name):
    assert nw.library.search(LIBRARY[name].title).index[0] == name
    assert nw.library.search(name).index[0] == name
    assert nw.library.structure_of(LIBRARY[name].model) is LIBRARY[name]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("oral 2 compartments", "oral_2cpt"),
        ("2cpt oral", "oral_2cpt"),
        ("two-compartment first order absorption", "oral_2cpt"),
        ("po 1 cpt lag", "oral_lag_1cpt"),
        ("iv infusion 3 cpt", "iv_3cpt"),
        ("bolus", "iv_1cpt"),
        ("iv MM", "iv_1cpt_mm"),
        ("michaelis menten oral", "oral_1cpt_mm"),
        ("zero order absorption", "oral_zero_1cpt"),
        ("target mediated qss", "tmdd_qss"),
        ("TMDD", "tmdd"),
        ("effect compartment", "effect_compartment"),
        ("indirect response III", "indirect_response_3"),
        ("idr 2", "indirect_response_2"),
        ("direct sigmoid Emax PD", "direct_sigmoid_emax"),
        ("transit absorption", "oral_transit_1cpt"),
        ("Friberg", "myelosuppression"),
        ("tumor growth simeoni", "tumour_simeoni"),
        ("gompertz growth", "gompertz_growth"),
        ("neural tuning", "tuning_curve"),
        ("psychometric", "psychometric"),
        ("bi-exponential decay", "biexponential_decay"),
        ("macro constants alpha beta", "iv_2cpt_macro"),
        ("metabolite", "metabolite_iv"),
        ("warfarin", "indirect_response_1"),
    ],
)
def test_search_understands_what_people_type(text, first):
    assert nw.library.search(text).index[0] == first


def test_search_without_words_shows_everything_and_nonsense_is_refused():
    assert list(nw.library.search().index) == list(LIBRARY)
    with pytest.raises(
        nw.ModelError, match=r"^No structure matches 'xyzzy'; there are the families PK, intravenous, .*\.$"
    ):
        nw.library.search("xyzzy")


def test_arguments_are_distributions_numbers_or_expressions():
    model = nw.library.oral_2cpt(
        ka=nw.LogNormal(0.7, sd=0.5), CL=4.0, Q="CL/2", V2="2*V", residual=nw.Proportional(0.2)
    )
    assert dict(zip((p.name for p in model.space.theta), model.values.theta, strict=True)) == {
        "ka": 0.7, "CL": 4.0, "V": 15.0,
    }  # fmt: skip
    sd = model.table().loc[["omega_ka", "omega_CL", "omega_V"], "value"]
    np.testing.assert_allclose(sd, [0.5, 0.3, 0.3])
    assert model.residual == nw.Proportional(0.2)
    assert nw.library.oral_2cpt(name="Mine", correlation={("CL", "V"): 0.4}).name == "Mine"


def test_wrong_arguments_are_refused_in_a_sentence():
    with pytest.raises(nw.ModelError, match=r"^oral_1cpt\(\) has no parameter 'Ka'; it has ka, CL, V; and residual, "):
        nw.library.oral_1cpt(Ka=1.0)
    with pytest.raises(
        nw.ModelError, match=r"^oral_transit_1cpt\(\) has transits=0; give a whole number from 1 to 20\.$"
    ):
        nw.library.oral_transit_1cpt(transits=0)
    with pytest.raises(
        nw.ModelError, match=r"^There is no structure 'oral_4cpt' in the library; search\(\) finds them"
    ):
        nw.library.describe("oral_4cpt")


def test_iv_bolus_1cpt_is_another_name_of_iv_1cpt():
    assert nw.library.iv_bolus_1cpt is nw.library.iv_1cpt
    assert nw.library.describe("iv_bolus_1cpt") is LIBRARY["iv_1cpt"]


def test_starting_values_come_from_the_quantities_of_an_analysis():
    nca = {"CL/F": 2.5, "Vz/F": 40.0, "tmax": 2.0, "lambda_z": 0.0625, "Cmax": np.nan}
    assert LIBRARY["oral_1cpt"].starting_values(nca) == pytest.approx({"CL": 2.5, "V": 40.0, "ka": 1.5})
    assert LIBRARY["iv_2cpt"].starting_values(nca | {"amount": 100.0, "C0": 10.0})["V2"] == pytest.approx(30.0)


@EVERY
def test_starting_values_are_of_known_quantities(name):
    nca = dict.fromkeys(("CL/F", "amount", "C0", "Cmax", "tmax", "lambda_z", "MRT"), 2.0) | {"Vz/F": 9.0}
    assert set(LIBRARY[name].starting_values(nca)) == set(LIBRARY[name].starts)


def test_a_shipped_study_of_known_truth_is_predicted_by_its_structure():
    """The values of the demonstration of indirect_response_1 are the truth of the shipped data: residuals are noise."""
    _, data, table = shown("indirect_response_1")
    residual = (data.dv - table["PRED"])[data.dvid == "effect"]
    assert abs(residual.mean()) < 5.0


@pytest.mark.parametrize("name", ["oral_1cpt", "oral_2cpt", "logistic_growth"])
def test_a_demonstration_is_the_same_every_time(name):
    again = nw.library.demo(name)[1]
    pd.testing.assert_frame_equal(again.records, shown(name)[1].records)


def test_the_contact_sheet_shows_diagram_and_curve_of_every_structure_given():
    names = ["iv_2cpt", "direct_emax", "tuning_curve"]
    page = sheet([LIBRARY[n] for n in names])
    root = ElementTree.fromstring(page[page.index("<html") :])
    cards = {a.get("id"): a for a in root.iter("article")}
    assert list(cards) == names
    svg = "{http://www.w3.org/2000/svg}svg"
    assert [len(list(c.iter(svg))) for c in cards.values()] == [2, 3, 1]
