"""The normal form: which parameters share a slot, and that the form means what was declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings

import nlmewidgets as nw
from nlmewidgets.core import symbols as role
from tests.models import Case, cases

x, y, z = sp.symbols("x y z", positive=True)
WT, SEX = nw.covariate("WT"), nw.covariate("SEX")


def model(**parameters: Any) -> nw.Model:
    """Return a model whose prediction is the sum of its parameters."""
    total = sum(sp.Symbol(name, positive=True) for name in parameters)
    return nw.Model(total, parameters, residual=nw.Additive(1.0))


def th(name: str = "th", value: float = 2.0, lower: float | None = 0.0) -> sp.Symbol:
    return nw.theta(name, value, lower=lower)


def eta(name: str = "eta_x", sd: float = 0.3) -> sp.Symbol:
    return nw.eta(name, sd=sd)


ONE_SLOT = {
    "LogNormal": nw.LogNormal(2.0, sd=0.3),
    "Normal": nw.Normal(2.0, sd=0.3),
    "LogitNormal": nw.LogitNormal(0.5, sd=0.3),
    "with an effect": nw.LogNormal(2.0, sd=0.3, effect=nw.theta("b", 0.7) * sp.log(WT / 70)),
    "th + eta": th(lower=None) + eta(),
    "th*WT + eta": th(lower=None) * WT + eta(),
    "th + 2*eta": th(lower=None) + 2 * eta(),
    "th*exp(eta)": th() * sp.exp(eta()),
    "3*th*exp(eta)": 3 * th() * sp.exp(eta()),
    "th*exp(-eta/2)": th() * sp.exp(-eta() / 2),
    "th*(WT/70)**b*exp(eta)": th() * (WT / 70) ** nw.theta("b", 0.75) * sp.exp(eta()),
    "th*WT*exp(eta)": th() * WT * sp.exp(eta()),
    "th*exp(b*SEX + eta)": th() * sp.exp(nw.theta("b", 0.1) * SEX + eta()),
    "(th + b*WT)*exp(eta)": (th() + th("b", 0.1) * WT) * sp.exp(eta()),
    "two etas": th() * sp.exp(eta() + eta("eta_y")),
}


@pytest.mark.parametrize("name", ONE_SLOT)
def test_a_transform_of_a_normal_takes_one_slot(name):
    form = model(x=ONE_SLOT[name]).form
    assert len(form.symbols) == 1
    assert form.n_random == 1
    assert not form.typical[0].atoms(role.Eta)


SEVERAL = {
    # The parameter, its slots (thetas and etas by name), and the random ones among them.
    "a theta of unknown sign": (th(lower=None) * sp.exp(eta()), 2, 1),
    "th*(1 + eta)": (th() * (1 + eta()), 2, 1),
    "th**eta": (1 + th() ** eta(), 2, 1),
    "a mixture": (th() + th("b") * sp.exp(eta()), 3, 1),
    "random slope on a covariate": (th(lower=None) + eta() * WT, 2, 1),
    "two etas": (th() * (1 + eta()) * sp.exp(eta("eta_y")), 3, 2),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_any_other_expression_takes_a_slot_for_each_theta_and_eta(name):
    expression, slots, random = SEVERAL[name]
    form = model(x=expression).form
    assert (len(form.symbols), form.n_random) == (slots, random)


def test_random_slots_come_first_and_constants_take_none():
    form = model(x=nw.LogNormal(2.0), y=nw.LogNormal(1.0, sd=0.3), z=2.5).form
    assert [s.name for s in form.symbols] == ["s_y", "s_x"]
    assert form.loadings == ((1.0,), (0.0,))
    assert form.parameters[sp.Symbol("z", real=True)] == 2.5


def test_a_shared_eta_loads_on_several_slots():
    shared = eta("eta_s", 0.3)
    form = model(x=th("a") * sp.exp(shared), y=th("b") * sp.exp(shared / 2 + eta("eta_y", 0.2))).form
    assert form.loadings == ((1.0, 0.0), (0.5, 1.0))


def test_a_covariate_whose_sign_is_unknown_stays_outside_the_exponential():
    # log(SEX) would be log(0); the exponential of the slot is multiplied by SEX instead.
    form = model(x=th() * SEX * sp.exp(eta())).form
    (slot,) = form.symbols
    assert form.parameters[sp.Symbol("x", real=True)] == SEX * sp.exp(slot)
    assert not form.typical[0].has(SEX)


def value_of(expr: sp.Expr, numbers: dict[sp.Symbol, float]) -> float:
    return float(expr.subs(numbers).evalf())


@pytest.mark.parametrize("name", [*ONE_SLOT, *SEVERAL])
def test_the_form_means_what_was_declared(name):
    declared = ONE_SLOT.get(name) if name in ONE_SLOT else SEVERAL[name][0]
    m = model(x=declared)
    numbers = {"th": 2.3, "x": 2.3, "b": 0.4} | ({"x": 0.4} if name == "LogitNormal" else {})
    thetas = {s: numbers[s.name] for e in m.form.typical for s in e.atoms(role.Theta)}
    etas = {e: 0.2 * (k + 1) for k, e in enumerate(m.etas)}
    covariates = {WT: 81.0, SEX: 1.0}
    by_form = m.form.parameters[sp.Symbol("x", real=True)]
    for k, slot in enumerate(m.form.symbols):
        shift = sum(b * v for b, v in zip(m.form.loadings[k], etas.values(), strict=True))
        by_form = by_form.subs(slot, value_of(m.form.typical[k], thetas | covariates) + shift)
    if name == "LogNormal":
        expected = 2.3 * np.exp(0.2)
    elif name == "Normal":
        expected = 2.3 + 0.2
    elif name == "LogitNormal":
        expected = 1 / (1 + np.exp(-(np.log(0.4 / 0.6) + 0.2)))
    elif name == "with an effect":
        expected = 2.3 * (81 / 70) ** 0.4 * np.exp(0.2)
    else:
        by_name = {"eta_x": 0.2, "eta_y": 0.4} | numbers | {"WT": 81.0, "SEX": 1.0}
        expected = value_of(declared, {s: by_name[s.name] for s in declared.free_symbols})
    assert value_of(by_form, covariates) == pytest.approx(expected, rel=1e-12)


@given(cases)
@settings(max_examples=20, deadline=None)
def test_loadings_carry_every_eta_and_typical_values_none(case: Case):
    form = case.model.form
    loadings = np.array(form.loadings).reshape(len(form.symbols), len(case.model.etas))
    assert (np.abs(loadings).sum(axis=0) > 0).all()
    assert (np.abs(loadings[form.n_random :]) == 0).all()
    assert not any(e.atoms(role.Eta) for e in form.typical)
    # Nothing but slots, covariates and reserved symbols is left in the parameters.
    left = {s for e in form.parameters.values() for s in e.free_symbols} - set(form.symbols)
    assert all(isinstance(s, role.Covariate) for s in left)
