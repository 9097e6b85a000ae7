"""Declarations: what may be written, what it means, and the sentence for everything else."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import given, settings

import nlmewidgets as nw
from nlmewidgets.core import symbols as role
from nlmewidgets.core.distributions import DISTRIBUTIONS
from nlmewidgets.core.expression import FUNCTIONS
from tests.models import Case, every_case

t, dose = nw.time, nw.dose
ka, CL, V, ke = sp.symbols("ka CL V ke", positive=True)
A, k = sp.symbols("A k", positive=True)
WT = nw.covariate("WT")
BOLUS = dose / V * sp.exp(-CL / V * t)
DECAY = A * sp.exp(-k * t)
DATA = nw.Data.from_frame(
    pd.DataFrame(
        {
            "ID": [1, 1, 1, 2, 2, 2, 3, 3],
            "TIME": [0.0, 1, 4, 0, 2, 6, 0, 3],
            "AMT": [100.0, 0, 0, 200, 0, 0, 100, 0],
            "DV": [np.nan, 2.7, 1.9, np.nan, 5.0, 2.8, np.nan, 2.4],
            "WT": [70.0, 70, 70, 90, 90, 90, 50, 50],
        }
    )
)


def bolus(cl: Any = None, v: Any = None, **changes: Any) -> nw.Model:
    """Return a one-compartment bolus model with CL and V as given."""
    parts: dict[str, Any] = {
        "prediction": BOLUS,
        "parameters": {
            CL: nw.LogNormal(2.8, sd=0.3) if cl is None else cl,
            V: nw.LogNormal(32.0, sd=0.2) if v is None else v,
        },
        "residual": nw.Additive(0.3),
    }
    return nw.Model(**(parts | changes))


def pred(model: nw.Model, data: nw.Data = DATA) -> np.ndarray:
    return model.predict(data)["PRED"].to_numpy()


def by_hand(cl: Any, v: Any) -> np.ndarray:
    """Return dose/V·exp(−CL/V·t) for the three subjects."""
    amount = np.array([100.0, 100, 200, 200, 100])
    time = np.array([1.0, 4, 2, 6, 3])
    return amount / v * np.exp(-np.asarray(cl) / v * time)


WEIGHT = np.array([70.0, 70, 90, 90, 50])

# ----------------------------------------------------------------- the design's page


def test_the_declaration_of_the_design_page_works():
    b = nw.theta("b_CL_WT", 0.75)
    model = nw.Model(
        prediction=dose * ka / (V * ka - CL) * (sp.exp(-CL / V * t) - sp.exp(-ka * t)),
        parameters={
            ka: nw.LogNormal(1.5, sd=0.6),
            CL: nw.LogNormal(2.8, sd=0.3, effect=b * sp.log(WT / 70)),
            V: nw.LogNormal(32.0, sd=0.2),
        },
        correlation={(CL, V): 0.3},
        residual=nw.Combined(additive=0.3, proportional=0.1),
    )
    assert model.names == (
        *("ka", "CL", "b_CL_WT", "V", "omega_ka", "omega_CL", "omega_V", "corr_CL_V"),
        *("additive", "proportional"),
    )
    assert model.covariates == ("WT",)
    omega = pd.DataFrame(model.values.omega, model.space.eta, model.space.eta)
    assert omega.loc["eta_CL", "eta_V"] == pytest.approx(0.3 * 0.3 * 0.2)
    assert omega.loc["eta_ka"].tolist() == pytest.approx([0.36, 0, 0])
    assert math.isfinite(model.ofv(nw.datasets.load("theophylline")))


def test_a_log_normal_effect_multiplies_the_median():
    model = bolus(nw.LogNormal(2.8, sd=0.3, effect=nw.theta("b", 0.75) * sp.log(WT / 70)))
    np.testing.assert_allclose(pred(model), by_hand(2.8 * (WEIGHT / 70) ** 0.75, 32.0), rtol=1e-12)


def test_a_normal_effect_adds():
    model = bolus(nw.Normal(2.8, sd=0.3, effect=nw.theta("b", 0.02) * (WT - 70)))
    np.testing.assert_allclose(pred(model), by_hand(2.8 + 0.02 * (WEIGHT - 70), 32.0), rtol=1e-12)


def test_a_logit_normal_effect_moves_the_logit_between_the_bounds():
    model = bolus(nw.LogitNormal(2.8, sd=0.3, lower=1, upper=5, effect=nw.theta("b", 0.02) * (WT - 70)))
    logit = np.log((2.8 - 1) / (5 - 2.8)) + 0.02 * (WEIGHT - 70)
    np.testing.assert_allclose(pred(model), by_hand(1 + 4 / (1 + np.exp(-logit)), 32.0), rtol=1e-12)


FULL = {
    # The same typical CL = 2.8 at 70 kg in several ways, with the CL they mean at each weight.
    "th*WT + eta": (nw.theta("th", 0.04) * WT + nw.eta("eta_CL", sd=0.7), 0.04 * WEIGHT),
    "th*exp(eta)": (nw.theta("th", 2.8, lower=0) * sp.exp(nw.eta("eta_CL", sd=0.3)), 2.8 + 0 * WEIGHT),
    "th*WT/70*exp(eta)": (nw.theta("th", 2.8, lower=0) * WT / 70 * sp.exp(nw.eta("eta_CL", sd=0.3)), 0.04 * WEIGHT),
    "th*(WT/70)**b*exp(eta)": (
        nw.theta("th", 2.8) * (WT / 70) ** nw.theta("b", 0.75) * sp.exp(nw.eta("eta_CL", sd=0.3)),
        2.8 * (WEIGHT / 70) ** 0.75,
    ),
    "(a + b*(WT - 70))*exp(eta)": (
        (nw.theta("a", 2.8) + nw.theta("b", 0.01) * (WT - 70)) * sp.exp(nw.eta("eta_CL", sd=0.3)),
        2.8 + 0.01 * (WEIGHT - 70),
    ),
    "number": (2.8, 2.8 + 0 * WEIGHT),
    "covariate": (WT / 25, WEIGHT / 25),
    "text": ("70/25*exp(0)", 2.8 + 0 * WEIGHT),
}


@pytest.mark.parametrize("name", FULL)
def test_a_parameter_may_be_any_expression(name):
    expression, expected = FULL[name]
    np.testing.assert_allclose(pred(bolus(expression)), by_hand(expected, 32.0), rtol=1e-12)


def test_in_full_and_by_distribution_are_the_same_model():
    th, b = nw.theta("th", 2.8, lower=0), nw.theta("b", 0.75)
    short = bolus(nw.LogNormal(2.8, sd=0.3, effect=b * sp.log(WT / 70)))
    full = bolus(th * sp.exp(b * sp.log(WT / 70) + nw.eta("eta_CL", sd=0.3)))
    for method in ("fo", "focei"):
        assert full.ofv(DATA, method) == pytest.approx(short.ofv(DATA, method), rel=1e-10)


def test_a_covariate_that_is_negative_may_scale_a_parameter():
    # Its sign is nobody's to take the logarithm of.
    z = nw.covariate("Z")
    table = pd.DataFrame({"ID": [1, 2], "TIME": [1.0, 1.0], "DV": [-3.0, 2.0], "Z": [-2.0, 1.0]})
    model = nw.Model(
        A * sp.exp(-t), {A: nw.theta("a", 5.0, lower=0) * z * sp.exp(nw.eta("e", sd=0.3))}, residual=nw.Additive(1)
    )
    np.testing.assert_allclose(pred(model, nw.Data.from_frame(table)), [-10 / math.e, 5 / math.e], rtol=1e-12)
    assert math.isfinite(model.ofv(nw.Data.from_frame(table)))


def test_one_eta_may_be_shared():
    shared = nw.eta("eta_size", sd=0.3)
    model = bolus(nw.theta("a", 2.8, lower=0) * sp.exp(shared), nw.theta("v", 32, lower=0) * sp.exp(shared))
    assert model.space.eta == ("eta_size",)
    problem = model.problem(DATA)
    values = problem.individual_parameters(model.values.theta, np.array([[0.1, 0.2, -0.3]]))
    np.testing.assert_allclose(values["CL"] / 2.8, values["V"] / 32, rtol=1e-12)


def test_derived_parameters_may_chain_in_any_order_and_have_etas_of_their_own():
    half = sp.Symbol("half", positive=True)
    parameters = {
        ke: sp.log(2) / half,  # before what it is made of
        half: sp.log(2) * V / CL * sp.exp(nw.eta("eta_half", sd=0.1)),
        CL: nw.LogNormal(2.8, sd=0.3),
        V: nw.LogNormal(32.0, sd=0.2),
    }
    model = nw.Model(dose / V * sp.exp(-ke * t), parameters, residual=nw.Additive(0.3))
    np.testing.assert_allclose(pred(model), by_hand(2.8, 32.0), rtol=1e-12)
    assert set(model.space.eta) == {"eta_half", "eta_CL", "eta_V"}
    fit = model.fit(DATA, max_iterations=1)
    assert list(fit.individual) == ["ke", "half", "CL", "V"]  # in the order of the declaration


def test_a_derived_parameter_may_not_change_the_model():
    plain = bolus()
    derived = nw.Model(
        dose / V * sp.exp(-ke * t),
        {CL: nw.LogNormal(2.8, sd=0.3), V: nw.LogNormal(32.0, sd=0.2), ke: CL / V},
        residual=nw.Additive(0.3),
    )
    assert derived.ofv(DATA) == pytest.approx(plain.ofv(DATA), rel=1e-12)


def test_thetas_and_etas_may_stand_in_the_prediction():
    model = nw.Model(
        nw.theta("base", 1.0) + nw.eta("eta_base", sd=0.2) + BOLUS,
        {CL: nw.LogNormal(2.8, sd=0.3), V: 32.0},
        residual=nw.Additive(0.3),
    )
    assert model.names == ("CL", "base", "omega_CL", "omega_base", "additive")
    np.testing.assert_allclose(pred(model), 1 + by_hand(2.8, 32.0), rtol=1e-12)


def test_fixed_and_bounded_thetas_go_to_the_table():
    model = bolus(
        nw.theta("th", 2.8, lower=1, upper=5) * sp.exp(nw.eta("eta_CL", sd=0.3, fixed=True)),
        nw.LogNormal(32.0, sd=0.2, fixed=True, upper=100),
        residual=nw.Additive(0.3, fixed=("additive",)),
    )
    table = model.table()
    assert table.loc["th", ["lower", "upper", "fixed"]].tolist() == [1.0, 5.0, False]
    assert table.loc["V", ["lower", "upper", "fixed"]].tolist() == [0.0, 100.0, True]
    assert table.index[table["fixed"]].tolist() == ["V", "omega_CL", "additive"]
    assert model.space.x_names == ("logit th", "log chol eta_V")


def test_infinite_bounds_are_no_bounds():
    model = bolus(nw.Normal(2.8, sd=0.3, lower=-math.inf, upper=math.inf))
    assert model.space.theta[0].scale == "identity"
    assert bolus(nw.LogNormal(2.8, upper=math.inf)).space.theta[0].scale == "log"


def test_connected_correlations_make_one_block():
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
        correlation={("ka", CL): 0.2, ("eta_V", "ka"): -0.1},
    )
    assert model.space.blocks == ((0, 1, 2),)
    numbers = model.space.to_dict(model.values)
    expected = {"corr_ka_CL": 0.2, "corr_ka_V": -0.1, "corr_CL_V": 0.0}
    assert {n: v for n, v in numbers.items() if n.startswith("corr")} == pytest.approx(expected)


@pytest.mark.parametrize(
    "residual",
    [
        {"sd": nw.sigma("a", 0.3)},
        {"sd": nw.sigma("a", 0.3) + nw.sigma("b", 0.1) * nw.f},
        {"sd": nw.sigma("a", 0.3) * sp.exp(nw.theta("decay", -0.1) * t)},
        {"sd": nw.sigma("a", 0.01) * WT},
        {"sd": 0.3},
        {"sd": "0.3 + 0.1*f"},
    ],
    ids=str,
)
def test_the_residual_sd_may_be_any_expression(residual):
    assert math.isfinite(bolus(residual=residual).ofv(DATA))


def test_an_sd_expression_and_the_residual_model_it_writes_out_agree():
    a, b = nw.sigma("additive", 0.3), nw.sigma("proportional", 0.1)
    written = bolus(residual={"sd": sp.sqrt(a**2 + b**2 * nw.f**2)})
    assert written.ofv(DATA) == pytest.approx(bolus(residual=nw.Combined(0.3, 0.1)).ofv(DATA), rel=1e-12)


def test_everything_may_be_written_as_text():
    model = nw.Model(
        "dose/V*exp(-CL/V*t)",
        {"CL": nw.LogNormal(2.8, sd=0.3), "V": nw.LogNormal(32.0, sd=0.2)},
        residual={"sd": "0.3"},
        correlation={("CL", "V"): 0.3},
    )
    np.testing.assert_allclose(pred(model), by_hand(2.8, 32.0), rtol=1e-12)


def test_symbols_of_one_name_are_one_parameter():
    # sp.Symbol("CL") in the prediction, sp.Symbol("CL", positive=True) among the parameters.
    model = nw.Model(
        dose / sp.Symbol("V") * sp.exp(-sp.Symbol("CL") / sp.Symbol("V") * t),
        {CL: nw.LogNormal(2.8, sd=0.3), "V": nw.LogNormal(32.0, sd=0.2)},
        residual=nw.Additive(0.3),
    )
    np.testing.assert_allclose(pred(model), by_hand(2.8, 32.0), rtol=1e-12)


def test_doses_superpose_with_time_counted_from_each():
    table = pd.DataFrame({"ID": 1, "TIME": [0.0, 1, 3, 4], "AMT": [100.0, 0, 50, 0], "DV": [np.nan, 2, np.nan, 3]})
    expected = [100 / 32 * math.exp(-2.8 / 32), 100 / 32 * math.exp(-2.8 / 8) + 50 / 32 * math.exp(-2.8 / 32)]
    np.testing.assert_allclose(pred(bolus(), nw.Data.from_frame(table)), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", DISTRIBUTIONS)
def test_every_distribution_has_its_typical_value_at_eta_0_and_undoes_its_link(kind):
    bounds = {"lower": 1.0, "upper": 5.0} if kind in ("logitnormal", "probitnormal") else {}
    distribution = DISTRIBUTIONS[kind](2.8, sd=0.3, **bounds)
    np.testing.assert_allclose(pred(bolus(distribution)), by_hand(2.8, 32.0), rtol=1e-12)
    assert float(distribution.inverse(distribution.link(sp.Float(2.8)))) == pytest.approx(2.8, rel=1e-14)


# ------------------------------------------------------------------------- refusals

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown symbol": (
        {"prediction": BOLUS + sp.Symbol("base")},
        "'base' in prediction= is not a parameter; declare it in parameters=, or as nw.covariate() or nw.theta().",
    ),
    "a plain t": (
        {"prediction": dose / V * sp.exp(-CL / V * sp.Symbol("t"))},
        "'t' in prediction= is not a parameter; did you mean nw.time?",
    ),
    "an unknown name in text": (
        {"prediction": "dose/V*exp(-CL/V*t) + base"},
        "'base' cannot be used in an expression: no symbol of this name is declared (there are CL, V, dose, f, t, "
        "time).",
    ),
    "an unused parameter": (
        {"parameters": {CL: 2.8, V: 32.0, ka: nw.LogNormal(1.0)}},
        "The parameter 'ka' does not occur in the prediction; use it or remove it.",
    ),
    "no parameters": (
        {"parameters": {}},
        "parameters= is empty; give each symbol of the prediction a distribution or an expression.",
    ),
    "parameters that are no mapping": (
        {"parameters": [CL, V]},
        "parameters= is not a mapping; give each symbol of the prediction a distribution or an expression.",
    ),
    "a key that is no symbol": (
        {"parameters": {CL / V: 1.0}},
        "parameters= has the key CL/V; a key is a plain SymPy symbol or a name.",
    ),
    "a key with a role": (
        {"parameters": {nw.time: 1.0}},
        "parameters= has the key t; a key is a plain SymPy symbol or a name.",
    ),
    "a key twice": (
        {"parameters": {CL: 2.8, "CL": 3.0, V: 32.0}},
        "parameters= declares 'CL' twice; keep one.",
    ),
    "a name with a meaning": (
        {"parameters": {"f": 1.0}},
        "parameters= has the name 'f', which stands for nw.f; choose another name.",
    ),
    "no prediction": (
        {"prediction": None},
        "prediction= is None; give a SymPy expression, a number or a string.",
    ),
    "a condition as prediction": (
        {"prediction": CL < V},
        "prediction= is CL < V, which is not a numerical expression; give one number, not a StrictLessThan.",
    ),
    "a matrix as prediction": (
        {"prediction": sp.Matrix([CL, V])},
        "prediction= is Matrix([[CL], [V]]), which is not a numerical expression; give one number, not a "
        "ImmutableDenseMatrix.",
    ),
    "a function that is not available": (
        {"prediction": BOLUS + sp.gamma(V)},
        f"prediction= contains the function 'gamma', which is not available; there are {', '.join(FUNCTIONS)}.",
    ),
    "a derivative": (
        {"prediction": BOLUS + sp.Derivative(sp.Function("g")(V), V)},
        f"prediction= contains the function 'Derivative', which is not available; there are {', '.join(FUNCTIONS)}.",
    ),
    "an infinite prediction": (
        {"prediction": BOLUS + sp.oo},
        "prediction= is oo, which is not a finite real number; correct the expression.",
    ),
    "a distribution in the prediction": (
        {"prediction": nw.LogNormal(1.0)},
        "prediction= is LogNormal(typical=1.0, sd=0.0, effect=0, fixed=False, fixed_sd=False, lower=None, upper=None, "
        "iov=0.0, fixed_iov=False); "
        "a distribution belongs in parameters=.",
    ),
    "f in the prediction": (
        {"prediction": BOLUS + nw.f},
        "'f' cannot be used in prediction=; the residual sd is where it belongs.",
    ),
    "time in a parameter": (
        {"parameters": {CL: 2.8 + t, V: 32.0}},
        "'t' cannot be used in parameter 'CL'; put what depends on it in prediction=.",
    ),
    "a sigma in the prediction": (
        {"prediction": BOLUS + nw.sigma("a", 1.0)},
        "sigma 'a' is used in prediction=; a sigma belongs in residual=.",
    ),
    "a dose term that does not vanish": (
        {"prediction": BOLUS + sp.cos(dose)},
        "The term cos(dose) of the prediction contains dose but does not vanish at dose = 0; write what does "
        "not depend on the dose as a term of its own.",
    ),
    "a negative sd": (
        {"parameters": {CL: nw.LogNormal(2.8, sd=-0.3), V: 32.0}},
        "The parameter 'CL' has sd=-0.3; a standard deviation is positive (0: no eta).",
    ),
    "an sd that is no number": (
        {"parameters": {CL: nw.LogNormal(2.8, sd="0.3 or so"), V: 32.0}},
        "The sd of parameter 'CL' has the initial value '0.3 or so'; give a number.",
    ),
    "a typical value that is no number": (
        {"parameters": {CL: nw.LogNormal(math.nan), V: 32.0}},
        "The parameter 'CL' has the initial value nan; give a finite number.",
    ),
    "a median below 0": (
        {"parameters": {CL: nw.LogNormal(-2.8), V: 32.0}},
        "The parameter 'CL' starts at -2.8, not above its lower bound 0; move one of them.",
    ),
    "a lower bound below the distribution's": (
        {"parameters": {CL: nw.LogNormal(2.8, lower=-1), V: 32.0}},
        "The parameter 'CL' has lower=-1, but a LogNormal parameter stays above 0; change the bounds or the "
        "distribution.",
    ),
    "a logit without bounds": (
        {"parameters": {CL: nw.LogitNormal(2.8, upper=math.inf), V: 32.0}},
        "The parameter 'CL' is LogitNormal without a finite lower= and upper=; change the bounds or the distribution.",
    ),
    "bounds the wrong way round": (
        {"parameters": {CL: nw.LogitNormal(2.8, lower=5, upper=1), V: 32.0}},
        "The parameter 'CL' has lower bound 5 and upper bound 1; the lower must be smaller.",
    ),
    "a bound that is no number": (
        {"parameters": {CL: nw.LogNormal(2.8, upper="high"), V: 32.0}},
        "The parameter 'CL' has the bound 'high'; give a number, or None for no bound.",
    ),
    "a start beyond the bounds": (
        {"parameters": {CL: nw.LogitNormal(7.0, lower=1, upper=5), V: 32.0}},
        "The parameter 'CL' starts at 7, not below its upper bound 5; move one of them.",
    ),
    "an eta in an effect": (
        {"parameters": {CL: nw.LogNormal(2.8, effect=nw.eta("e", sd=0.1)), V: 32.0}},
        "The effect on 'CL' may contain thetas and covariates only; write it in full instead.",
    ),
    "a parameter in an effect": (
        {"parameters": {CL: nw.LogNormal(2.8, effect=V), V: 32.0}},
        "The effect on 'CL' may contain thetas and covariates only; write it in full instead.",
    ),
    "a parameter of itself": (
        {"parameters": {CL: CL + 1, V: 32.0}},
        "The parameter 'CL' is defined by itself; use theta() for its typical value.",
    ),
    "parameters of each other": (
        {"parameters": {CL: V / 10, V: CL * 10}},
        "The parameters 'CL' and 'V' are defined by each other; give one of them its own value.",
    ),
    "one theta, two values": (
        {"parameters": {CL: nw.theta("a", 2.8), V: 11 * nw.theta("a", 2.9)}},
        "'a' is declared twice with different numbers; keep one.",
    ),
    "a theta of a parameter's name": (
        {"parameters": {CL: nw.LogNormal(2.8), V: 11 * nw.theta("CL", 2.9)}},
        "'CL' is declared twice with different numbers; keep one.",
    ),
    "one eta, two sds": (
        {"parameters": {CL: nw.LogNormal(2.8, sd=0.3), V: 32 * sp.exp(nw.eta("eta_CL", sd=0.2))}},
        "eta 'eta_CL' is declared twice with different numbers; keep one of them.",
    ),
    "a theta and a sigma of one name": (
        {"parameters": {CL: nw.theta("additive", 2.8), V: 32.0}},
        "Two population parameters are called 'additive'; rename one of them.",
    ),
    # --------------------------------------------------------------- residual
    "no residual": (
        {"residual": 0.3},
        "residual=0.3 is not a residual error model; use Additive(sd), Proportional(sd), Combined(additive, "
        'proportional), Combined1(additive, proportional) or {"sd": expression}.',
    ),
    "a residual without its number": (
        {"residual": nw.Additive},
        "residual=Additive is a class; give it its standard deviations, e.g. Additive(0.5).",
    ),
    "a residual of 0": ({"residual": nw.Additive(0)}, "sigma 'additive' is 0; give a positive standard deviation."),
    "a residual of text": (
        {"residual": nw.Additive("small")},
        "sigma 'additive' has the initial value 'small'; give a number.",
    ),
    "an unknown fixed sigma": (
        {"residual": nw.Combined(0.3, 0.1, fixed=("add",))},
        "fixed= names 'add'; the sigmas are additive, proportional.",
    ),
    "another key": (
        {"residual": {"var": 0.3}},
        "residual= has the keys ['var']; as a mapping it is {\"sd\": expression in nw.f}.",
    ),
    "an sd of 0": ({"residual": {"sd": 0}}, "The residual sd is 0; a standard deviation is positive."),
    "a parameter in the sd": (
        {"residual": {"sd": V}},
        "'V' cannot be used in the residual sd; use nw.f, nw.sigma(), nw.time and covariates.",
    ),
    "a theta shared with the prediction": (
        {"parameters": {CL: nw.theta("a", 2.8), V: 32.0}, "residual": {"sd": nw.theta("a", 2.8)}},
        "theta 'a' is used in the prediction and in residual=; use two.",
    ),
    # ------------------------------------------------------------ correlation
    "correlation that is no mapping": (
        {"correlation": [(CL, V, 0.3)]},
        'correlation= is not a mapping of pairs to numbers, e.g. {(CL, V): 0.3}, nor "full".',
    ),
    "a key that is no pair": (
        {"correlation": {CL: 0.3}},
        "correlation= has the key CL; a key is a pair of parameters, e.g. (CL, V).",
    ),
    "correlation of what has no eta": (
        {"correlation": {(CL, ka): 0.3}},
        "correlation= names 'ka', which has no random effect; give it an sd (there are eta_CL, eta_V).",
    ),
    "correlation with itself": (
        {"correlation": {(CL, "eta_CL"): 0.3}},
        "The correlation of eta_CL and eta_CL is one eta with itself; a key is a pair of different parameters.",
    ),
    "correlation of 1": (
        {"correlation": {(CL, V): 1.0}},
        "The correlation of eta_CL and eta_V is 1; a correlation is between -1 and 1.",
    ),
    "correlation that is no number": (
        {"correlation": {(CL, V): "high"}},
        "The 'correlation of eta_CL and eta_V' has the initial value 'high'; give a number.",
    ),
    "one correlation twice": (
        {"correlation": {(CL, V): 0.3, (V, CL): 0.2}},
        "The correlation of eta_V and eta_CL is given twice with different numbers; keep one of them.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_declaration_is_refused_in_one_sentence_with_the_remedy(case):
    changes, sentence = REFUSED[case]
    with pytest.raises(nw.ModelError) as error:
        bolus(**changes)
    assert str(error.value) == sentence


def test_an_omega_that_is_no_covariance_matrix_is_refused():
    # Each correlation is possible, the three together are not.
    with pytest.raises(
        nw.ModelError, match=r"^The initial Omega of eta_ka, eta_CL, eta_V is not positive definite; lower"
    ):
        nw.library.oral_1cpt(
            ka=nw.LogNormal(1.5, sd=0.6),
            CL=nw.LogNormal(2.8, sd=0.3),
            V=nw.LogNormal(32.0, sd=0.2),
            residual=nw.Additive(0.7),
            correlation={("ka", "CL"): 0.9, ("ka", "V"): 0.9, ("CL", "V"): -0.9},
        )


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: nw.theta("a", "x"), "theta 'a' has the initial value 'x'; give a number."),
        (lambda: nw.theta("a", math.inf), "theta 'a' has the initial value inf; give a finite number."),
        (lambda: nw.theta("a", 1, lower=2), "theta 'a' starts at 1, not above its lower bound 2; move one of them."),
        (lambda: nw.theta("a", 1, upper=math.nan), "theta 'a' has the bound nan; give a number, or None for no bound."),
        (
            lambda: nw.eta("a", sd=0),
            "eta 'a' has sd=0; give a positive standard deviation, or leave the eta out.",
        ),
        (lambda: nw.sigma("a", -1), "sigma 'a' is -1; give a positive standard deviation."),
    ],
)
def test_impossible_symbols_are_refused(make, sentence):
    with pytest.raises(nw.ModelError) as error:
        make()
    assert str(error.value) == sentence


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (
            lambda m: m.predict(nw.datasets.load("orange")),
            "The prediction uses dose, but the data have no dose records; name the amounts with amt=.",
        ),
        (
            lambda m: bolus(nw.LogNormal(2.8, effect=nw.theta("b", 1.0) * nw.covariate("AGE"))).predict(DATA),
            "The model uses the covariate 'AGE', which is not in the data (covariates: WT); add the column, or name it "
            "in covariates=.",
        ),
        (
            lambda m: m.predict(DATA.records),
            "The data are a DataFrame; read them with Data.from_frame() or Data.read_csv().",
        ),
        (
            lambda m: m.fit(DATA.on_grid(5)),
            "The data have no DV: a grid of on_grid() is for predictions; fit the data it was made of.",
        ),
    ],
)
def test_data_that_lack_what_the_model_uses_are_refused(ask, sentence):
    with pytest.raises(nw.DataError) as error:
        ask(bolus())
    assert str(error.value) == sentence


# ---------------------------------------------------------------------- immutability


def test_a_model_is_immutable():
    model = bolus()
    for change in (
        lambda: setattr(model, "name", "x"),
        lambda: setattr(model, "parameters", {}),
        lambda: setattr(model, "anything", 1),
        lambda: delattr(model, "name"),
    ):
        with pytest.raises(AttributeError, match="immutable"):
            change()
    with pytest.raises(TypeError):
        model.parameters[CL] = 3.0
    with pytest.raises(ValueError, match="read-only"):
        model.values.theta[0] = 3.0


def test_changes_return_new_models_and_leave_the_old_one():
    model = bolus(correlation={(CL, V): 0.3})
    before = model.space
    moved = model.with_values({"CL": 3.0, "omega_V": 0.4, "additive": 0.5})
    held = model.fix("CL", "corr_CL_V")
    assert model.space == before
    assert moved.space.to_dict(moved.values) == pytest.approx(
        {"CL": 3.0, "V": 32.0, "omega_CL": 0.3, "omega_V": 0.4, "corr_CL_V": 0.3, "additive": 0.5}
    )
    assert [n for n in held.names if held.space.is_fixed(n)] == ["CL", "corr_CL_V"]
    assert held.free("CL", "corr_CL_V").space == before
    assert moved.with_values(model.values).space.initial == model.values


@pytest.mark.parametrize("change", ["with_values", "fix", "free"])
def test_an_unknown_name_is_refused_with_those_there_are(change):
    argument = {"Q": 1.0} if change == "with_values" else "Q"
    with pytest.raises(nw.ModelError, match=r"^There is no population parameter 'Q'; there are CL, V, omega_CL, "):
        getattr(bolus(), change)(argument)


def test_a_model_survives_pickling():
    # A study sends models to other processes.
    model = bolus(nw.LogNormal(2.8, sd=0.3, effect=nw.theta("b", 0.75) * sp.log(WT / 70)), correlation={(CL, V): 0.3})
    copy = pickle.loads(pickle.dumps(model))
    assert copy.ofv(DATA) == model.ofv(DATA)
    assert copy.to_code() == model.to_code()


# ----------------------------------------------------------------------- simulation


def test_simulate_repeats_with_its_seed_and_has_one_row_per_observation_and_replicate():
    model = bolus()
    first, again, other = (model.simulate(DATA, n=3, seed=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first["DV"].equals(other["DV"])
    assert list(first) == ["REP", "ID", "TIME", "IPRED", "DV"]
    assert first.groupby("REP").size().tolist() == [DATA.n_obs] * 3
    assert first["ID"].tolist() == [1, 1, 2, 2, 3] * 3


def test_simulate_has_the_variances_it_was_told():
    # ln IPRED at time 0 is ln(dose/V) − eta_V; 20,000 draws fix an SD to 0.5 %.
    table = pd.DataFrame({"ID": 1, "TIME": [0.0, 0.0], "AMT": [100.0, 0], "DV": [np.nan, 3]})
    drawn = bolus().simulate(nw.Data.from_frame(table), n=20_000, seed=3)
    assert np.log(drawn["IPRED"]).std() == pytest.approx(0.2, rel=0.03)
    assert (drawn["DV"] - drawn["IPRED"]).std() == pytest.approx(0.3, rel=0.03)


# -------------------------------------------------------------------------- display


def balanced(latex: str) -> bool:
    """Whether braces, \\left/\\right and begin/end match, and each row has one alignment mark."""
    depth = 0
    for k, c in enumerate(latex):
        if c in "{}" and latex[k - 1] != "\\":
            depth += 1 if c == "{" else -1
            if depth < 0:
                return False
    body = latex.removeprefix("\\begin{aligned}\n").removesuffix("\n\\end{aligned}")
    rows = body.replace(r"\begin{cases}", "\0").replace(r"\end{cases}", "\0").split("\0")[::2]
    marks = "".join(rows).replace(r"\&", "").count("&")
    return (
        depth == 0
        and latex.count(r"\left") == latex.count(r"\right")
        and latex.startswith("\\begin{aligned}\n")
        and latex.endswith("\n\\end{aligned}")
        and marks == body.count(" \\\\\n") + 1
    )


def test_equations_show_every_part():
    b = nw.theta("b", 0.75)
    model = bolus(
        nw.LogNormal(2.8, sd=0.3, effect=b * sp.log(WT / 70)),
        nw.Normal(32.0),
        residual=nw.Combined(0.3, 0.1),
    )
    latex = model.equations()
    assert balanced(latex)
    for part in (
        r"f &= ",
        r"\text{summed over past doses, } t \text{ since each}",
        r"\log \mathrm{CL} &= \log \theta_{\mathrm{CL}} + \theta_{b}",
        r"\log{\left(\frac{\mathrm{WT}}{70} \right)} + \eta_{\mathrm{CL}}",
        r"V &= \theta_{V}",
        r"\eta_{\mathrm{CL}} &\sim N\left(0,\; \omega_{\mathrm{CL}}^2\right)",
        r"y &= f + \varepsilon,\quad \varepsilon \sim N\left(0,\; ",
        r"f^{2}\, \sigma_{\mathrm{proportional}}^{2} + \sigma_{\mathrm{additive}}^{2}",
    ):
        assert part in latex, part
    assert model._repr_latex_() == f"$$\n{latex}\n$$"


def test_equations_show_blocks_bounds_and_derivatives():
    model = bolus(nw.LogitNormal(2.8, sd=0.3, lower=1, upper=5), correlation={(CL, V): 0.3})
    latex = model.equations(derivatives=True)
    assert balanced(latex)
    assert r"\operatorname{logit}_{(1,\,5)}" in latex
    assert (
        r"\left(\eta_{\mathrm{CL}},\, \eta_{V}\right) &\sim N\left(0,\; \Omega\right),\quad \Omega \text{ full}"
        in latex
    )
    assert r"\frac{\partial f}{\partial \mathrm{CL}} &= " in latex
    assert r"\frac{\partial f}{\partial V} &= " in latex
    assert r"\partial" not in model.equations()


@pytest.mark.parametrize("sign", [1, -1])
def test_equations_keep_the_sign_of_every_term_of_an_effect(sign):
    effect = sign * (nw.theta("b", 0.1) * (WT - 70) + nw.theta("c", 0.2) * nw.covariate("SEX"))
    latex = bolus(nw.LogNormal(2.8, sd=0.3, effect=effect)).equations()
    line = next(row for row in latex.splitlines() if r"\log \mathrm{CL}" in row)
    word = "-" if sign < 0 else "+"
    assert f"{word} \\mathrm{{SEX}}\\, \\theta_{{c}}" in line
    assert f"{word} \\theta_{{b}}" in line


@pytest.mark.parametrize("name", ["k_{12}", "a&b", "50%", "#1", "x^2", r"a\b", "$", "~", "alpha", "µ"])
def test_equations_survive_any_name(name):
    symbol = sp.Symbol(name, positive=True)
    model = nw.Model(symbol * sp.exp(-k * t), {symbol: nw.LogNormal(1.0, sd=0.1), k: 0.3}, residual=nw.Additive(1))
    assert balanced(model.equations(derivatives=True))


@given(every_case)
@settings(max_examples=15, deadline=None)
def test_equations_of_any_model_are_balanced(case: Case):
    assert balanced(case.model.equations(derivatives=True))


def test_repr_shows_the_prediction_and_every_parameter():
    text = repr(bolus(name="Bolus"))
    assert text.startswith("Bolus: f = dose*exp(")
    for name in bolus().names:
        assert name in text
    assert repr(bolus()).startswith("Model: f = ")


def test_roles_are_told_apart_by_kind_name_and_numbers():
    assert nw.covariate("x") != sp.Symbol("x", real=True)
    assert nw.covariate("x") == nw.covariate("x")
    assert nw.theta("x", 1.0) != nw.theta("x", 2.0)
    assert nw.theta("x", 1.0) != role.plain_theta("x")
    assert pickle.loads(pickle.dumps(nw.theta("x", 1.0, lower=0))) == nw.theta("x", 1.0, lower=0)
