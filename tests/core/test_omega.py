"""Omega: full, partly fixed, shared; by every method."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy.optimize import minimize

import nlmewidgets as nw
from nlmewidgets.core.parameters import ParameterSpace
from nlmewidgets.fit.store import model_from_dict, model_to_dict
from nlmewidgets.methods.covariance_step import best_omega

A, k, C = sp.symbols("A k C", positive=True)
CURVE = A * sp.exp(-k * nw.time) + C


def declare(**options) -> nw.Model:
    return nw.Model(
        CURVE,
        {A: nw.LogNormal(8.0, sd=0.3), k: nw.LogNormal(0.3, sd=0.3), C: nw.LogNormal(2.0, sd=0.3)},
        residual=nw.Additive(0.3),
        **options,
    )


def simulated(model: nw.Model, subjects: int = 40, seed: int = 1) -> nw.Data:
    frame = pd.DataFrame({"ID": np.repeat(np.arange(subjects), 6), "TIME": np.tile([0.0, 1, 2, 4, 8, 16], subjects)})
    frame["DV"] = 1.0
    frame["DV"] = model.simulate(nw.Data.from_frame(frame), seed=seed)["DV"]
    return nw.Data.from_frame(frame)


TRUTH = declare(correlation={(A, k): 0.5})
DATA = simulated(TRUTH)


def test_full_is_every_correlation_from_zero():
    full = declare(correlation="full")
    assert full.space.blocks == ((0, 1, 2),)
    assert [n for n in full.names if n.startswith("corr")] == ["corr_A_k", "corr_A_C", "corr_k_C"]
    assert full.ofv(DATA) == pytest.approx(declare().ofv(DATA), abs=1e-10)
    with pytest.raises(nw.ModelError, match='correlation= is not a mapping of pairs to numbers.*nor "full"'):
        declare(correlation="whole")


def test_full_leaves_kappas_alone():
    model = nw.Model(
        CURVE,
        {A: nw.LogNormal(8.0, sd=0.3, iov=0.1), k: nw.LogNormal(0.3, sd=0.3, iov=0.1), C: 2.0},
        residual=nw.Additive(0.3),
        correlation="full",
    )
    assert model.space.blocks == ((0, 1), (2,), (3,))


SHARED = declare(same=[(A, k, C)])


def test_a_shared_variance_is_one_parameter():
    assert SHARED.names == ("A", "k", "C", "omega_A", "additive")
    moved = SHARED.with_values({"omega_A": 0.5})
    np.testing.assert_allclose(np.diag(moved.values.omega), 0.25)
    assert SHARED.fix("omega_A").space.x_names == ("log A", "log k", "log C", "log additive")
    for again in (model_from_dict(model_to_dict(SHARED)), run(SHARED.to_code())):
        assert again.space == SHARED.space


def run(code: str) -> nw.Model:
    scope = {"sp": sp, "nw": nw}
    exec(code, scope)
    return scope["model"]


def profile(model: nw.Model, data: nw.Data, sds: tuple[str, ...], **kept: float) -> float:
    """Return the least FOCEI objective with these SDs held equal, by SciPy over their common value."""

    def best(log_sd: np.ndarray) -> float:
        values = dict.fromkeys(sds, float(np.exp(log_sd[0])))
        return model.with_values(values | kept).fix(*sds, *kept).fit(data, "focei").ofv

    return float(minimize(best, [np.log(0.3)], method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-6}).fun)


def test_a_shared_variance_is_where_one_value_for_all_is_best():
    fit = SHARED.fit(DATA, "focei")
    assert fit.converged
    # Nelder–Mead stops within 1e-6 of the least value, or 1e-4 in log SD of the place.
    assert fit.ofv == pytest.approx(profile(declare(), DATA, ("omega_A", "omega_k", "omega_C")), abs=1e-4)
    saem = SHARED.fit(DATA, "saem", seed=1, explore=80, smooth=60)
    # The variance of 120 draws has a relative SE of 0.13; SAEM's noise is a small part of it.
    assert saem.estimates["omega_A"] == pytest.approx(fit.estimates["omega_A"], rel=0.05)
    assert np.ptp(np.diag(saem.omega)) == 0.0
    assert fit.se["omega_A"] > 0


def test_blocks_may_be_the_same():
    B, m = sp.symbols("B m", positive=True)
    four = {s: nw.LogNormal(v, sd=sd) for s, v, sd in ((A, 8.0, 0.3), (k, 0.3, 0.2), (B, 4.0, 0.3), (m, 0.1, 0.2))}
    model = nw.Model(
        A * sp.exp(-k * nw.time) + B * sp.exp(-m * nw.time),
        four,
        residual=nw.Additive(0.2),
        correlation={(A, k): 0.3, (B, m): 0.3},
        same=[(A, B), (k, m)],
    )
    assert model.names == ("A", "k", "B", "m", "omega_A", "omega_k", "corr_A_k", "additive")
    moved = model.with_values({"corr_A_k": -0.5, "omega_k": 0.4})
    np.testing.assert_allclose(moved.values.omega[2:, 2:], moved.values.omega[:2, :2])
    assert run(moved.to_code()).values.omega == pytest.approx(moved.values.omega, rel=1e-12)
    fit = model.fit(simulated(moved, 30), "focei")
    np.testing.assert_array_equal(fit.values.omega[2:, 2:], fit.values.omega[:2, :2])


@pytest.mark.parametrize("held", [("omega_A",), ("corr_A_k",), ("omega_A", "omega_k")])
def test_partly_fixed_blocks_are_fitted_by_every_method(held):
    model = TRUTH.fix(*held)
    fits = {name: model.fit(DATA, name, seed=1) for name in ("fo", "focei")}
    fits["saem"] = model.fit(DATA, "saem", seed=1, explore=80, smooth=60)
    for name, fit in fits.items():
        for parameter in held:
            assert fit.estimates[parameter] == pytest.approx(TRUTH.table()["value"][parameter], rel=1e-9), name
    # A correlation of 40 draws has an SE of 0.12 and a log SD one of 0.11.
    for parameter in ("omega_A", "omega_k", "omega_C", "corr_A_k"):
        assert fits["saem"].estimates[parameter] == pytest.approx(fits["focei"].estimates[parameter], abs=0.05)
    again = run(model.to_code())
    assert again.space.x_names == model.space.x_names


@pytest.mark.parametrize("held", ["omega_A", "omega_k", "corr_A_k"])
def test_the_covariance_step_finds_the_least_by_scipy(held):
    space = TRUTH.space.with_fixed([held])
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(25, 3)) @ np.array([[0.3, 0.1, 0.0], [0.0, 0.3, 0.1], [0.0, 0.0, 0.2]])
    squares, counts = draws.T @ draws, np.full((3, 3), 25.0)
    found = best_omega(space, space.initial.omega, squares, counts, 0.0, tolerance=1e-10)

    def objective(x: np.ndarray) -> float:
        omega = space.omega_map.natural(x, space.initial.omega)
        kept = np.where(space.initial.omega != 0, squares, 0.0)
        return 25 * np.linalg.slogdet(omega)[1] + np.trace(np.linalg.solve(omega, kept))

    wanted = minimize(objective, space.omega_map.free(space.initial.omega), tol=1e-10)
    assert objective(space.omega_map.free(found)) == pytest.approx(wanted.fun, abs=1e-8)
    free = best_omega(TRUTH.space, space.initial.omega, squares, counts, 0.0, tolerance=1e-10)
    np.testing.assert_allclose(free, np.where(space.initial.omega != 0, squares / 25, 0.0), rtol=1e-12)
    # Symmetric to the last bit, also where the sums are not.
    uneven = squares * (1.0 + 1e-15 * rng.normal(size=(3, 3)))
    assert (uneven != uneven.T).any()
    for one in (space, TRUTH.space):
        best = best_omega(one, one.initial.omega, uneven, counts, 0.0)
        np.testing.assert_array_equal(best, best.T)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"same": "AC"}, "same= is not a list of groups that share a variance"),
        ({"same": [(A,)]}, "same= has the group .A,.; a group is a tuple of parameters"),
        ({"same": [(A, A)]}, "same= has eta_A in two groups or twice"),
        ({"same": [(A, k), (k, C)]}, "same= has eta_C in two groups or twice|same= has eta_k in two groups or twice"),
        ({"same": [(A, "Q")]}, "same= names 'Q', which has no random effect"),
        ({"same": [(A, k)], "correlation": {(A, k): 0.2}}, "same= and correlation= do not fit for eta_A, eta_k"),
        ({"same": [(A, C)], "correlation": {(A, k): 0.2}}, "same= and correlation= do not fit for"),
    ],
)
def test_groups_that_do_not_fit_are_refused(options, sentence):
    with pytest.raises(nw.ModelError, match=sentence):
        declare(**options)


def test_a_shared_variance_starts_at_one_value():
    with pytest.raises(nw.ModelError, match="eta_A and eta_k share a variance, but they start at different standard"):
        nw.Model(
            A * sp.exp(-k * nw.time),
            {A: nw.LogNormal(8.0, sd=0.3), k: nw.LogNormal(0.3, sd=0.2)},
            residual=nw.Additive(0.3),
            same=[(A, k)],
        )


def test_plain_spaces_take_the_short_way():
    assert declare().space.omega_map.plain
    assert TRUTH.space.omega_map.plain
    assert not TRUTH.fix("omega_A").space.omega_map.whole
    assert isinstance(SHARED.space, ParameterSpace)
