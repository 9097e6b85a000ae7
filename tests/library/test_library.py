"""Contracts over the registries: a new structure, residual model or distribution needs no test of its own."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy.special import ndtri

import nlmewidgets as nw
from nlmewidgets.core.distributions import DISTRIBUTIONS, Distribution
from nlmewidgets.fit.store import model_from_dict, model_to_dict
from nlmewidgets.library import RESIDUALS
from nlmewidgets.library.residual import Residual


def build(structure: str, residual: Any = None, **changes: Any) -> nw.Model:
    """Return a structure with plain values: 1.1, 1.2, … so that no two are equal."""
    entry = nw.library.describe(structure)
    values = {a.name: nw.LogNormal(1.1 + 0.1 * k, sd=0.2) for k, a in enumerate(entry.arguments)}
    return entry.function(residual=residual or nw.Additive(0.3), **(values | changes))


def design(dosed: bool = True) -> nw.Data:
    rows = []
    for i in (1, 2, 3):
        if dosed:
            rows.append((i, 0.0, 100.0, 1, np.nan))
        rows += [(i, t, 0.0, 0, 1.0) for t in (0.5, 1.0, 2.0, 4.0, 8.0)]
    return nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV"]))


def simulated(model: nw.Model) -> nw.Data:
    plan = design()
    table = plan.records.copy()
    table.loc[plan.observed, "DV"] = model.simulate(plan, seed=3)["DV"].to_numpy()
    return nw.Data.from_frame(table)


# --------------------------------------------------------------------------- structures


def test_oral_absorption_is_the_textbook_solution_and_its_limit_where_the_rates_meet():
    t, (ka, cl, v) = np.array([0.5, 1, 2, 4, 8]), (1.1, 1.2, 1.3)
    textbook = 100 * ka / (v * ka - cl) * (np.exp(-cl / v * t) - np.exp(-ka * t))
    pred = build("oral_1cpt").predict(design())["PRED"].to_numpy().reshape(3, -1)
    np.testing.assert_allclose(pred, np.broadcast_to(textbook, pred.shape), rtol=1e-12)
    met = build("oral_1cpt").with_values({"ka": 1.0, "CL": 1.3, "V": 1.3}).predict(design())["PRED"].to_numpy()
    np.testing.assert_allclose(met.reshape(3, -1)[0], 100 / 1.3 * t * np.exp(-t), rtol=1e-12)


def test_iv_bolus_decays_from_dose_over_volume():
    t = np.array([0.5, 1, 2, 4, 8])
    pred = build("iv_bolus_1cpt").predict(design())["PRED"].to_numpy()[:5]
    np.testing.assert_allclose(pred, 100 / 1.2 * np.exp(-1.1 / 1.2 * t), rtol=1e-12)


def test_logistic_growth_is_half_its_asymptote_at_the_midpoint():
    growth = build("logistic_growth")
    table = pd.DataFrame({"ID": 1, "TIME": [1.2, 1.2 + 1.3, 1e6], "DV": 1.0})
    pred = growth.predict(nw.Data.from_frame(table))["PRED"].to_numpy()
    np.testing.assert_allclose(pred, [0.55, 1.1 / (1 + math.exp(-1)), 1.1], rtol=1e-12)


# ---------------------------------------------------------------------------- residuals


NAMED = [name for name in RESIDUALS if name != "TransformBothSides"]
"""Those whose arguments are numbers; the other contains one of them."""
NORMAL = ["Additive", "Proportional", "Combined", "Combined1", "Power"]
"""Those with y normal around f; the distributions of all are tested in tests/core/test_observation.py."""


def make(residual: str, **changes: Any) -> Residual:
    """Return a residual model with SDs 0.3, 0.1, …"""
    numbers = {name: (0.3, 0.1, 0.7)[k] for k, name in enumerate(RESIDUALS[residual].sigma_names)}
    return RESIDUALS[residual](**(numbers | changes))


@pytest.mark.parametrize("residual", RESIDUALS)
def test_a_residual_model_is_public_and_documented(residual):
    assert getattr(nw, residual) is RESIDUALS[residual]
    assert RESIDUALS[residual].__doc__


@pytest.mark.parametrize("residual", NAMED)
def test_the_arguments_of_a_residual_model_are_standard_deviations_by_name(residual):
    model = build("iv_bolus_1cpt", make(residual))
    names = list(RESIDUALS[residual].sigma_names.values())
    assert [p.name for p in model.space.sigma] == names
    assert list(model.values.sigma) == [getattr(make(residual), f) for f in RESIDUALS[residual].sigma_names]
    assert {f.name for f in fields(RESIDUALS[residual])} == {*RESIDUALS[residual].sigma_names, "fixed"}


@pytest.mark.parametrize("residual", NORMAL)
def test_the_sd_of_a_residual_model_is_positive_and_grows_with_its_arguments(residual):
    f = sp.Symbol("f", positive=True)
    at = {f: 4.0}

    def sd(model: Residual) -> float:
        expression = model.sd_expression(f)
        numbers = {s: s.details[0] for s in expression.free_symbols if s != f}
        return float(expression.subs(numbers | at))

    base = sd(make(residual))
    assert base > 0
    for name in RESIDUALS[residual].sigma_names:
        assert sd(make(residual, **{name: 0.9})) > base


@pytest.mark.parametrize("residual", NORMAL)
def test_simulated_errors_have_the_sd_of_the_residual_model(residual):
    # 4,000 replicates fix an SD to about 1 %.
    model = build("iv_bolus_1cpt", make(residual))
    drawn = model.simulate(design(), n=4000, seed=2)
    problem = model.problem(design())
    rows = drawn["TIME"] == 1.0
    expected = problem.residual_sd(drawn["IPRED"].to_numpy().reshape(4000, -1), model.values.sigma)
    scaled = (drawn["DV"] - drawn["IPRED"])[rows] / expected.ravel()[rows]
    assert scaled.std() == pytest.approx(1.0, rel=0.04)


@pytest.mark.parametrize("residual", NAMED)
@pytest.mark.parametrize("held", ["all", "one", True])
def test_the_sigmas_of_a_residual_model_may_be_fixed(residual, held):
    names = tuple(RESIDUALS[residual].sigma_names.values())
    fixed = {"all": names, "one": names[0], True: True}[held]
    model = build("iv_bolus_1cpt", make(residual, fixed=fixed))
    assert [p.name for p in model.space.sigma if p.fixed] == list(names if held != "one" else names[:1])


@pytest.mark.parametrize("residual", NAMED)
@pytest.mark.parametrize("number", [0, -1, math.nan, "x", None])
def test_an_impossible_sigma_is_refused_in_a_sentence(residual, number):
    first = next(iter(RESIDUALS[residual].sigma_names))
    if first in RESIDUALS[residual].any_sign and number in (0, -1):
        return
    with pytest.raises(nw.ModelError, match=r"^(sigma|theta) '\w+' .*; give a .*\.$"):
        build("iv_bolus_1cpt", make(residual, **{first: number}))


@pytest.mark.parametrize("residual", NAMED)
def test_a_residual_model_survives_code_json_and_a_fit(residual):
    model = build("iv_bolus_1cpt", make(residual)).with_values(
        dict.fromkeys(RESIDUALS[residual].sigma_names.values(), 0.2)
    )
    data = simulated(model)
    namespace: dict[str, Any] = {"sp": sp, "nw": nw}
    exec(model.to_code(), namespace)
    stored = model_from_dict(model_to_dict(model))
    for other in (namespace["model"], stored):
        assert other.ofv(data, "laplace") == pytest.approx(model.ofv(data, "laplace"), rel=1e-12)
    assert type(stored.residual) is type(model.residual)
    if residual in NORMAL:
        assert model.fit(data, "fo", max_iterations=3).sigma.gt(0).all()


@pytest.mark.parametrize(
    ("residual", "expected"),
    [
        (nw.Additive(0.3), 0.3),
        (nw.Proportional(0.1), 0.1 * 4),
        (nw.Combined(0.3, 0.1), math.hypot(0.3, 0.4)),  # variances add
        (nw.Combined1(0.3, 0.1), 0.3 + 0.4),  # standard deviations add
    ],
)
def test_residual_models_by_hand_at_a_prediction_of_4(residual, expected):
    model = nw.Model("A", {"A": nw.theta("A", 4.0)}, residual=residual)
    problem = model.problem(nw.Data.from_frame(pd.DataFrame({"ID": [1], "TIME": [0.0], "DV": [4.0]})))
    assert problem.residual_sd(np.array([4.0]), model.values.sigma) == pytest.approx(expected, rel=1e-12)


# ------------------------------------------------------------------------ distributions


def distribution(kind: str, **changes: Any) -> Distribution:
    bounds = {"lower": 0.0, "upper": 9.0} if kind in ("logitnormal", "probitnormal") else {}
    return DISTRIBUTIONS[kind](**({"typical": 1.2, "sd": 0.2} | bounds | changes))


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_a_distribution_is_public_under_its_class_name(kind):
    assert getattr(nw, DISTRIBUTIONS[kind].__name__) is DISTRIBUTIONS[kind]
    assert DISTRIBUTIONS[kind].kind == kind


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_link_and_inverse_undo_each_other_and_increase(kind):
    d = distribution(kind)
    values = [float(d.inverse(sp.Float(s))) for s in (-1.5, 0.0, 0.8)]
    assert values == sorted(values)
    assert [float(d.link(sp.Float(v))) for v in values] == pytest.approx([-1.5, 0.0, 0.8], abs=1e-12)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_individual_values_have_the_sd_of_their_distribution_on_its_own_scale(kind):
    plan = nw.Data.from_frame(pd.DataFrame({"ID": np.arange(4000), "TIME": 1.0, "AMT": 0.0, "DV": 1.0}), amt=None)
    model = nw.Model("V", {"V": distribution(kind)}, residual=nw.Additive(0.01))
    drawn = model.simulate(plan, seed=1)["IPRED"].to_numpy()
    d, x = distribution(kind), sp.Symbol("x")
    link = sp.lambdify(x, d.link(x), [{"ndtri": ndtri}, "numpy"])
    # 4,000 draws: the median's standard error is 1.25·0.2/√4000 = 0.4 % (logit and probit: less than four times that).
    assert np.median(drawn) == pytest.approx(1.2, rel=0.05)
    if d.shapes:
        return  # its own tests know the shape of its tails
    assert np.std(link(drawn)) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_a_distribution_survives_code_json_and_a_fit(kind):
    model = build("iv_bolus_1cpt", V=distribution(kind, fixed_sd=True))
    data = simulated(model)
    namespace: dict[str, Any] = {"sp": sp, "nw": nw}
    exec(model.to_code(), namespace)
    for other in (namespace["model"], model_from_dict(model_to_dict(model))):
        assert other.ofv(data) == pytest.approx(model.ofv(data), rel=1e-12)
        assert dict(zip(other.names, other.table()["fixed"], strict=True))["omega_V"]
    assert math.isfinite(model.fit(data, "fo", max_iterations=3).ofv)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_the_equation_of_a_distribution_has_its_parts_and_no_others(kind):
    full = distribution(kind).latex("X", r"\theta", " + e", r"\eta")
    assert full.count("&=") == 1
    assert r"\theta" in full
    assert " + e + " in full
    assert r"\eta" in full
    assert distribution(kind).latex("X", r"\theta", "", "").endswith(r"\theta")
