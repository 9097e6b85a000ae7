"""Covariate effects: the factors they stand for, and categories with names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.core.effects import EFFECTS
from nlmewidgets.fit.store import model_from_dict, model_to_dict

X = sp.Symbol("X", positive=True)
W = np.array([40.0, 70.0, 71.0, 95.0])
B = 0.3


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"ID": [1, 2, 3, 4], "TIME": 0.0, "DV": [1.0, 2.0, 3.0, 4.0], "W": W} | columns)


def declare(effect: sp.Expr, distribution: Any = nw.LogNormal) -> nw.Model:
    return nw.Model(X, {X: distribution(2.0, sd=0.1, effect=effect)}, residual=nw.Additive(1.0))


b = nw.theta("b", B)
FACTORS: dict[str, tuple[sp.Expr, Callable[[], np.ndarray]]] = {
    "power": (nw.power("W", 70, b), lambda: (W / 70) ** B),
    "allometric": (nw.allometric(nw.covariate("W")), lambda: (W / 70) ** 0.75),
    "exponential": (nw.exponential("W", 70, nw.theta("b", 0.01)), lambda: np.exp(0.01 * (W - 70))),
    "linear": (nw.linear("W", 70, nw.theta("b", 0.01)), lambda: 1 + 0.01 * (W - 70)),
    "hockey_stick": (
        nw.hockey_stick("W", 70.5, nw.theta("b", 0.01), nw.theta("c", -0.02)),
        lambda: 1 + (W - 70.5) * np.where(W <= 70.5, 0.01, -0.02),
    ),
    "saturation": (nw.saturation("W", 2.0, nw.theta("b", 30.0, lower=0)), lambda: 1 + 2 * W / (30 + W)),
    "maturation": (nw.maturation("W", nw.theta("b", 50.0, lower=0), 3.4), lambda: W**3.4 / (50**3.4 + W**3.4)),
    "category": (
        nw.category("W", {40: None, 70: 0.1, 71: nw.theta("own", -0.2), 95: nw.theta("c", 0.3, fixed=True)}),
        lambda: np.exp([0.0, 0.1, -0.2, 0.3]),
    ),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_is_the_factor_it_says(name):
    effect, factor = FACTORS[name]
    model, data = declare(effect), nw.Data.from_frame(frame())
    np.testing.assert_allclose(model.predict(data)["PRED"], 2.0 * factor(), rtol=1e-13)
    assert "X" in model.equations()
    read = model_from_dict(model_to_dict(model))
    assert read.names == model.names
    assert read.ofv(data) == model.ofv(data)
    scope: dict[str, Any] = {"sp": sp, "nw": nw}
    exec(model.to_code(), scope)
    assert scope["model"].ofv(data) == pytest.approx(model.ofv(data), rel=1e-13)


@pytest.mark.parametrize("distribution", [nw.Normal, nw.LogNormal])
def test_effects_are_on_the_scale_of_the_distribution(distribution):
    model = declare(nw.exponential("W", 70, nw.theta("b", 0.01)), distribution)
    shift = 0.01 * (W - 70)
    wanted = 2.0 + shift if distribution is nw.Normal else 2.0 * np.exp(shift)
    np.testing.assert_allclose(model.predict(nw.Data.from_frame(frame()))["PRED"], wanted, rtol=1e-13)


SEX = ["female", "male", "male", "unknown"]
LEVELS = {"female": None, "male": 0.1, "unknown": -0.2}


def test_levels_of_text_are_what_indicator_columns_would_be():
    text = nw.Data.from_frame(frame(SEX=SEX))
    coded = nw.Data.from_frame(frame(male=[0, 1, 1, 0], unknown=[0, 0, 0, 1]))
    by_hand = nw.theta("m", 0.1) * nw.covariate("male") + nw.theta("u", -0.2) * nw.covariate("unknown")
    model = declare(nw.category("SEX", LEVELS))
    assert model.names[:3] == ("X", "X_SEX_male", "X_SEX_unknown")
    assert model.covariates == ("SEX",)
    for method in ("fo", "focei", "laplace"):
        assert model.ofv(text, method) == pytest.approx(declare(by_hand).ofv(coded, method), rel=1e-13)
    fits = [m.fit(d, "focei").estimates.to_numpy() for m, d in ((model, text), (declare(by_hand), coded))]
    np.testing.assert_allclose(*fits, rtol=1e-9)


def test_two_parameters_have_coefficients_of_their_own():
    Y = sp.Symbol("Y", positive=True)
    effect = nw.category("SEX", LEVELS)
    model = nw.Model(
        X + Y, {X: nw.LogNormal(1.0, effect=effect), Y: nw.theta("y", 1.0) + effect}, residual=nw.Additive(1.0)
    )
    assert {"X_SEX_male", "Y_SEX_male"} < set(model.names)


def test_a_category_is_shown_by_its_levels():
    assert r"[\mathrm{SEX} = \mathrm{male}]" in declare(nw.category("SEX", LEVELS)).equations()
    assert "nw.level('SEX', 'male', ('female', 'male', 'unknown'))" in declare(nw.category("SEX", LEVELS)).to_code()


def test_a_level_the_model_does_not_declare_is_refused_with_the_subject():
    model = declare(nw.category("SEX", {"female": None, "male": 0.1}))
    with pytest.raises(
        nw.DataError,
        match=r"^Subject 4 has SEX 'unknown', which is not among the levels of the model \('female', 'male'\); add it "
        r"to nw.category\(\), or leave the subject out.$",
    ):
        model.predict(nw.Data.from_frame(frame(SEX=SEX)))
    numbers = declare(nw.category("W", {40: None, 70: 0.1, 71: 0.2}))
    with pytest.raises(nw.DataError, match=r"^Subject 4 has W 95, which is not among .* \(40, 70, 71"):
        numbers.predict(nw.Data.from_frame(frame()))


def test_a_level_that_no_record_has_is_refused():
    model = declare(nw.category("SEX", LEVELS | {"mael": 0.1}))
    with pytest.raises(
        nw.DataError,
        match=r"^The model has an effect of SEX mael, a level that is not in the data \(female, male, unknown\); "
        "remove it, or correct its spelling.$",
    ):
        model.fit(nw.Data.from_frame(frame(SEX=SEX)))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nw.category("SEX", {"F": 0.1, "M": 0.2}), "category.. of 'SEX' has 0 reference levels; give exactly"),
        (
            lambda: nw.category("SEX", {"F": None, "M": None}),
            "category.. of 'SEX' has 2 reference levels; give",
        ),
        (lambda: nw.category("SEX", {"F": None}), "category.. of 'SEX' needs a mapping of at least two levels"),
        (
            lambda: nw.category("SEX", {"F": None, "M": "b"}),
            "category.. of 'SEX' gives the level 'M' 'b'; give",
        ),
        (lambda: nw.category(3, {"F": None, "M": 0.1}), "category.. was given 3; give a covariate or its name"),
        (lambda: nw.power("W", 0, b), "The centre of a power effect is 0; give a positive number"),
        (lambda: nw.maturation("W", -1.0), "The age of half maturation is -1.0; give a positive number"),
    ],
)
def test_impossible_effects_are_refused(make, sentence):
    with pytest.raises(nw.ModelError, match="^" + sentence):
        make()


def test_text_used_as_a_number_is_refused_with_the_remedy():
    with pytest.raises(nw.DataError, match=r"'SEX', which holds text .*; code it as numbers, or use nw.category\(\)"):
        declare(nw.power("SEX", 1, b)).predict(nw.Data.from_frame(frame(SEX=SEX)))
