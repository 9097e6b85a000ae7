"""The parts of the variance of an observation, against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw
from nlmewidgets.diagnostics import variance_split

N = 20_000


def design(subjects: int = 1, times: tuple[float, ...] = (0.0, 1.0)) -> nw.Data:
    rows = [(i + 1, t, 1.0) for i in range(subjects) for t in times]
    return nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "DV"]))


def split(model: nw.Model, data: nw.Data | None = None, **options: int) -> pd.DataFrame:
    table = variance_split(model.problem(data or design()), model.values, **({"n": N} | options))
    return table.set_index("part")


def at(table: pd.DataFrame, time: float) -> pd.DataFrame:
    return table[table["TIME"] == time]


def test_log_normal_products_have_the_moments_of_the_textbook() -> None:
    r"""f = a·e^{η₁}·e^{η₂ t}: Var(E[f|η₁]) and all else follow from E e^{kη} = e^{k²ω²/2}."""
    a, b = sp.symbols("a b", positive=True)
    model = nw.Model(
        a * b**nw.time,
        {a: nw.LogNormal(3.0, sd=0.4), b: nw.LogNormal(1.0, sd=0.3)},
        residual=nw.Combined(additive=0.5, proportional=0.2),
    )
    table = split(model)
    for t in (0.0, 1.0):
        w1, w2 = 0.4**2, (0.3 * t) ** 2
        mean = 3.0 * np.exp((w1 + w2) / 2)
        square = 9.0 * np.exp(2 * (w1 + w2))
        exact = {
            "eta_a": mean**2 * np.expm1(w1),
            "eta_b": mean**2 * np.expm1(w2),
            "between": square - mean**2,
            "residual": 0.25 + 0.04 * square,
            "total": square - mean**2 + 0.25 + 0.04 * square,
        }
        linear = {
            "eta_a": 9.0 * w1,
            "eta_b": 9.0 * w2,
            "between": 9.0 * (w1 + w2),
            "residual": 0.25 + 0.04 * (9.0 + 9.0 * (w1 + w2)),
        }
        rows = at(table, t)
        for part, value in exact.items():
            found = rows.loc[part]
            # Five standard errors; those without one of their own are moments of f² with about its error.
            error = found["error"] if np.isfinite(found["error"]) else rows.loc["between", "error"]
            assert abs(found["simulation"] - value) < 5 * error + 1e-12, part
        for part, value in linear.items():
            assert rows.loc[part, "linearisation"] == pytest.approx(value, rel=1e-10)
        assert rows.loc["interaction", "simulation"] == pytest.approx(
            rows.loc["between", "simulation"] - rows.loc[["eta_a", "eta_b"], "simulation"].sum(), abs=1e-12
        )


def test_a_linear_model_is_split_alike_both_ways_and_correlation_is_shared() -> None:
    a, b = sp.symbols("a b")
    model = nw.Model(
        a + b * nw.time,
        {a: nw.Normal(1.0, sd=0.5), b: nw.Normal(2.0, sd=0.8)},
        residual=nw.Additive(0.3),
        correlation={(a, b): 0.6},
    )
    rows = at(split(model, n=60_000), 1.0)
    c = 0.6 * 0.5 * 0.8
    assert rows.loc["eta_a", "linearisation"] == pytest.approx(0.25 + c)
    assert rows.loc["eta_b", "linearisation"] == pytest.approx(0.64 + c)
    # Var(E[a+b|a]) = Var(a)·(1 + cov/var)²
    for part, exact in {"eta_a": 0.25 * (1 + c / 0.25) ** 2, "eta_b": 0.64 * (1 + c / 0.64) ** 2}.items():
        assert abs(rows.loc[part, "simulation"] - exact) < 5 * rows.loc[part, "error"]
    assert abs(rows.loc["between", "simulation"] - (0.89 + 2 * c)) < 5 * rows.loc["between", "error"]
    assert rows.loc["residual", "simulation"] == pytest.approx(0.09)
    assert rows.loc["residual", "linearisation"] == pytest.approx(0.09)


def test_sigma_parts_add_up_where_doubling_them_doubles_the_sd() -> None:
    a = sp.Symbol("a", positive=True)
    model = nw.Model(a, {a: nw.LogNormal(3.0, sd=0.4)}, residual=nw.Combined1(0.3, 0.1))
    rows = at(split(model, n=500), 0.0)
    sigmas = rows[rows["kind"] == "sigma"]
    assert len(sigmas) == 2
    assert sigmas["simulation"].sum() == pytest.approx(rows.loc["residual", "simulation"], rel=1e-12)
    assert "other" not in rows.index


def test_counts_are_split_by_draws() -> None:
    """For y ~ Poisson(λ e^η) the residual part is E[λ e^η] and the rest Var(λ e^η)."""
    rate = sp.Symbol("rate", positive=True)
    model = nw.Model({"y": nw.Poisson(rate)}, {rate: nw.LogNormal(4.0, sd=0.5)})
    rows = at(split(model), 0.0)
    mean = 4.0 * np.exp(0.125)
    between = mean**2 * np.expm1(0.25)
    error = rows.loc["between", "error"]
    assert abs(rows.loc["between", "simulation"] - between) < 5 * error
    assert abs(rows.loc["eta_rate", "simulation"] - between) < 5 * rows.loc["eta_rate", "error"]
    assert abs(rows.loc["residual", "simulation"] - mean) < 5 * error
    assert np.isnan(rows.loc["total", "linearisation"])


def test_occasions_are_a_part_of_their_own() -> None:
    a = sp.Symbol("a")
    model = nw.Model(a, {a: nw.Normal(1.0, sd=0.5, iov=0.2)}, residual=nw.Additive(0.3))
    frame = pd.DataFrame({"ID": 1, "TIME": [0.0, 1.0], "DV": 1.0, "OCC": [1, 2]})
    rows = at(split(model, nw.Data.from_frame(frame)), 1.0)
    assert rows.loc["kappa_a", "linearisation"] == pytest.approx(0.04)
    assert abs(rows.loc["kappa_a", "simulation"] - 0.04) < 5 * rows.loc["kappa_a", "error"]
    assert abs(rows.loc["eta_a", "simulation"] - 0.25) < 5 * rows.loc["eta_a", "error"]


def test_the_work_is_reported_and_can_be_ended() -> None:
    a = sp.Symbol("a")
    model = nw.Model(a, {a: nw.Normal(1.0, sd=0.5)}, residual=nw.Additive(0.3))
    seen: list[float] = []
    table = split(model, design(1000), n=4000, progress=lambda share: (seen.append(share), len(seen) < 2)[1])
    assert seen == [0.25, 0.5]
    assert np.isfinite(table["simulation"]).all()
    assert (split(model, n=50, seed=4)["simulation"] == split(model, n=50, seed=4)["simulation"]).all()
