"""Predictions of every structure against equations written again here: SciPy's integrator, or plain formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy.integrate import solve_ivp

import nlmewidgets as nw
from nlmewidgets.library import LIBRARY

Rhs = Callable[..., Sequence[float]]
TIMES = np.array([0.5, 1.0, 3.0, 6.0, 12.0, 12.5, 14.0, 20.0, 36.0])
DOSES = ((0.0, 80.0), (12.0, 120.0))


def solve(rhs: Rhs, start: Sequence[float], doses: Sequence[tuple[float, int, float, float]], times: Any) -> np.ndarray:
    """Return states (times, states); doses are (time, state, amount, duration)."""
    breaks = sorted({0.0, *times, *(d[0] for d in doses), *(d[0] + d[3] for d in doses)})
    y, out = np.array(start, dtype=float), {}
    for k, t in enumerate(breaks):
        out[t] = y.copy()  # as observed before a dose of the same time
        for at, state, amount, duration in doses:
            if at == t and not duration:
                y[state] += amount
        if k + 1 == len(breaks) or t >= max(times):
            break
        rate = np.zeros(len(y))
        for at, state, amount, duration in doses:
            if duration and at <= t < at + duration:
                rate[state] += amount / duration
        right = breaks[k + 1]
        solution = solve_ivp(
            lambda s, x, r=rate: np.asarray(rhs(s, x)) + r, (t, right), y, method="LSODA", rtol=1e-11, atol=1e-12
        )
        y = solution.y[:, -1]
    return np.array([out[t] for t in times])


# ------------------------------------------------------------------------------ pharmacokinetics, by rates


def body(p: dict[str, float]) -> tuple[float, list[tuple[float, float]]]:
    """Return elimination and (out, back) of each peripheral compartment, from whatever parameters there are."""
    if "CL" in p or "Vmax" in p:
        pairs = [(p[q] / p["V"], p[q] / p[v]) for q, v in (("Q", "V2"), ("Q3", "V3")) if q in p]
        return p.get("CL", 0.0) / p["V"], pairs
    return p["k"], [(p[o], p[b]) for o, b in (("k12", "k21"), ("k13", "k31")) if o in p]


def pharmacokinetics(name: str, p: dict[str, float]) -> np.ndarray:
    """Return concentrations after the two doses."""
    k, pairs = body(p)
    n = len(pairs)

    def disposition(x: Any, inflow: float) -> list[float]:
        """Return the slopes of central and peripheral compartments."""
        lost = k * x[0] + (p["Vmax"] * (x[0] / p["V"]) / (p["Km"] + x[0] / p["V"]) if "Vmax" in p else 0.0)
        slopes = [inflow - lost]
        for (out, back), side in zip(pairs, x[1:], strict=True):
            slopes[0] += back * side - out * x[0]
            slopes.append(out * x[0] - back * side)
        return slopes

    lag, duration, first = p.get("Tlag", 0.0), p.get("Tk0", 0.0), 1
    if name.startswith("iv_") or "zero" in name:
        rhs: Rhs = lambda t, x: disposition(x, 0.0)  # noqa: E731
        first = 0
    elif "transit" in name:
        ktr, first = 4.0 / p["MTT"], 4

        def rhs(t: float, x: Any) -> list[float]:
            chain = [-ktr * x[0], *(ktr * (x[i - 1] - x[i]) for i in (1, 2, 3))]
            return [*chain, *disposition(x[4:], ktr * x[3])]
    elif "parallel" in name:
        first = 2

        def rhs(t: float, x: Any) -> list[float]:
            return [-p["ka"] * x[0], -p["ka2"] * x[1], *disposition(x[2:], p["ka"] * x[0] + p["ka2"] * x[1])]
    else:
        rhs = lambda t, x: [-p["ka"] * x[0], *disposition(x[1:], p["ka"] * x[0])]  # noqa: E731
    share = [(0, p["Fr"]), (1, 1 - p["Fr"])] if "Fr" in p else [(0, 1.0)]
    doses = [(t + lag, state, amount * part, duration) for t, amount in DOSES for state, part in share]
    states = solve(rhs, [0.0] * (first + 1 + n), doses, TIMES)
    return states[:, first] / p["V"]


def data_of(name: str, times: Any = TIMES, doses: Any = DOSES, outputs: Sequence[str] = ("y",)) -> nw.Data:
    rows = [(1, t, 0.0, 0, 0.0, o, 1.0) for t in times for o in outputs]
    rate = -2.0 if LIBRARY[name].model.routes and "Tk0" in {a.name for a in LIBRARY[name].arguments} else 0.0
    rows += [(1, t, amount, 1, rate, outputs[0], np.nan) for t, amount in doses]
    rows.sort(key=lambda r: (r[1], r[3]))
    table = pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "RATE", "DVID", "DV"])
    if not doses:
        table = table.drop(columns=["AMT", "EVID", "RATE"])
    return nw.Data.from_frame(table)


def values(name: str) -> dict[str, float]:
    """Return the default typical values."""
    return {a.name: a.default.typical for a in LIBRARY[name].arguments}


def predicted(name: str, data: nw.Data) -> np.ndarray:
    """Return the predictions at the default values."""
    return LIBRARY[name].model.predict(data)["PRED"].to_numpy()


def close(name: str, got: np.ndarray, expected: np.ndarray) -> None:
    """Compare as tightly as the structure is evaluated: exact ones to 1e-9, differential equations to 1e-5."""
    system = LIBRARY[name].model.system
    rtol = 1e-9 if system is None or system.linear is not None else 1e-5
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


PLAIN = [
    name
    for name, e in LIBRARY.items()
    if e.family in ("PK, intravenous", "PK, oral", "PK, saturable elimination") and "macro" not in name
]


@pytest.mark.parametrize("name", PLAIN)
def test_pharmacokinetics_is_that_of_its_rates(name):
    close(name, predicted(name, data_of(name)), pharmacokinetics(name, values(name)))


@pytest.mark.parametrize("name", ["iv_2cpt_macro", "iv_3cpt_macro", "oral_2cpt_macro"])
def test_macro_constants_are_the_exponentials_of_the_curve(name):
    p = values(name)
    expected = np.zeros(len(TIMES))
    pairs = [(p[c], p[r]) for c, r in (("A", "alpha"), ("B", "beta"), ("C", "gamma")) if c in p]
    for at, amount in DOSES:
        past = at < TIMES
        t = TIMES[past] - at
        for c, r in pairs:
            ka = p.get("ka")
            one = np.exp(-r * t) if ka is None else ka / (ka - r) * (np.exp(-r * t) - np.exp(-ka * t))
            expected[past] += amount * c * one
    close(name, predicted(name, data_of(name)), expected)


def test_parameterisations_of_one_body_agree():
    """CL, V, Q, V2 as rate constants, and as macro constants found by NumPy's eigenvalues."""
    CL, V, Q, V2 = 3.0, 15.0, 5.0, 30.0
    data = data_of("iv_2cpt")
    reference = nw.library.iv_2cpt(CL=CL, V=V, Q=Q, V2=V2).predict(data)["PRED"]
    micro = nw.library.iv_2cpt_k(k=CL / V, V=V, k12=Q / V, k21=Q / V2).predict(data)["PRED"]
    beta, alpha = sorted(-np.linalg.eigvals([[-(CL + Q) / V, Q / V2], [Q / V, -Q / V2]]))
    A, B = (alpha - Q / V2) / (alpha - beta) / V, (Q / V2 - beta) / (alpha - beta) / V
    macro = nw.library.iv_2cpt_macro(A=A, alpha=alpha, B=B, beta=beta).predict(data)["PRED"]
    np.testing.assert_allclose(micro, reference, rtol=1e-11)
    np.testing.assert_allclose(macro, reference, rtol=1e-10)


def test_the_same_model_as_closed_form_and_as_compartments_also_where_rates_meet():
    data = data_of("oral_1cpt")
    ka, CL, V = sp.symbols("ka CL V", positive=True)
    closed = nw.Model(
        nw.dose * ka * nw.time / V * nw.ExpMix(0, 0, ka * nw.time, CL / V * nw.time),
        {ka: nw.LogNormal(1.5), CL: nw.LogNormal(2.8), V: nw.LogNormal(32.0)},
        residual=nw.Additive(1.0),
    )
    for numbers in ({"ka": 1.5}, {"ka": 2.8 / 32.0}, {"ka": 2.8 / 32.0 * (1 + 1e-9)}):
        other = nw.library.oral_1cpt().with_values(numbers)
        np.testing.assert_allclose(
            other.predict(data)["PRED"], closed.with_values(numbers).predict(data)["PRED"], rtol=1e-12
        )


def test_a_bolus_divided_by_volume_decays():
    t = np.array([0.5, 1, 2, 4, 8])
    table = nw.library.iv_bolus_1cpt(CL=1.1, V=1.2).predict(data_of("iv_1cpt", t, [(0.0, 100.0)]))
    np.testing.assert_allclose(table["PRED"], 100 / 1.2 * np.exp(-1.1 / 1.2 * t), rtol=1e-12)


def test_parallel_absorption_is_the_same_whichever_path_is_the_faster():
    data = data_of("oral_parallel_1cpt")
    one = nw.library.oral_parallel_1cpt(Fr=0.3, ka=2.0, ka2=0.4).predict(data)["PRED"]
    other = nw.library.oral_parallel_1cpt(Fr=0.7, ka=0.4, ka2=2.0).predict(data)["PRED"]
    np.testing.assert_allclose(one, other, rtol=1e-11)


# ----------------------------------------------------------------- systems with several outputs or states


def _pk(p: dict[str, float], x: Any) -> tuple[list[float], float]:
    return [-p["ka"] * x[0], p["ka"] * x[0] - p["CL"] / p["V"] * x[1]], x[1] / p["V"]


def _emax(p: dict[str, float], c: float) -> float:
    h = p.get("hill", 1.0)
    if "Imax" in p:
        return p["E0"] * (1 - p["Imax"] * c / (p["IC50"] + c))
    return p["E0"] + p["Emax"] * c**h / (p["EC50"] ** h + c**h)


def direct(p: dict[str, float]) -> tuple[Rhs, list[float], Callable[[Any], list[float]]]:
    return lambda t, x: _pk(p, x)[0], [0.0, 0.0], lambda x: [x[1] / p["V"], _emax(p, max(x[1], 0.0) / p["V"])]


def delayed(p: dict[str, float]) -> tuple[Rhs, list[float], Callable[[Any], list[float]]]:
    def rhs(t: float, x: Any) -> list[float]:
        slopes, c = _pk(p, x)
        return [*slopes, p["ke0"] * (c - x[2])]

    return rhs, [0.0] * 3, lambda x: [x[1] / p["V"], _emax(p, x[2])]


def indirect(number: int) -> Any:
    def make(p: dict[str, float]) -> tuple[Rhs, list[float], Callable[[Any], list[float]]]:
        def rhs(t: float, x: Any) -> list[float]:
            slopes, c = _pk(p, x)
            drug = 1 - p["Imax"] * c / (p["IC50"] + c) if number < 3 else 1 + p["Smax"] * c / (p["SC50"] + c)
            gain, loss = (drug, 1.0) if number in (1, 3) else (1.0, drug)
            return [*slopes, p["kout"] * p["base"] * gain - p["kout"] * loss * x[2]]

        return rhs, [0.0, 0.0, p["base"]], lambda x: [x[1] / p["V"], x[2]]

    return make


def metabolite(p: dict[str, float]) -> tuple[Rhs, list[float], Callable[[Any], list[float]]]:
    k, km = p["CL"] / p["V"], p["CLm"] / p["Vm"]
    if "ka" in p:
        return (
            lambda t, x: [-p["ka"] * x[0], p["ka"] * x[0] - k * x[1], k * x[1] - km * x[2]],
            [0.0] * 3,
            lambda x: [x[1] / p["V"], x[2] / p["Vm"]],
        )
    return lambda t, x: [-k * x[0], k * x[0] - km * x[1]], [0.0] * 2, lambda x: [x[0] / p["V"], x[1] / p["Vm"]]


def tmdd(p: dict[str, float]) -> tuple[Rhs, list[float], Callable[[Any], list[float]]]:
    def rhs(t: float, x: Any) -> list[float]:
        c = x[0] / p["V"]
        bind = p["kon"] * c * x[1] - p["koff"] * x[2]
        return [
            p["V"] * (-p["CL"] / p["V"] * c - bind), p["kdeg"] * (p["R0"] - x[1]) - bind, bind - p["kint"] * x[2]
        ]  # fmt: skip

    return rhs, [0.0, p["R0"], 0.0], lambda x: [x[0] / p["V"]]


def _free(total: float, target: float, kss: float) -> float:
    b = total - target - kss
    return 0.5 * (b + math.sqrt(b * b + 4 * kss * total))


def tmdd_qss(p: dict[str, float]) -> tuple[Rhs, list[float], Callable[[Any], list[float]]]:
    def rhs(t: float, x: Any) -> list[float]:
        c = _free(x[0] / p["V"], x[1], p["KSS"])
        bound = x[1] * c / (p["KSS"] + c)
        return [
            -p["CL"] * c - p["kint"] * bound * p["V"],
            p["kdeg"] * p["R0"] - p["kdeg"] * (x[1] - bound) - p["kint"] * bound,
        ]

    return rhs, [0.0, p["R0"]], lambda x: [_free(x[0] / p["V"], x[1], p["KSS"])]


def tmdd_mm(p: dict[str, float]) -> tuple[Rhs, list[float], Callable[[Any], list[float]]]:
    def rhs(t: float, x: Any) -> list[float]:
        c = x[0] / p["V"]
        return [-p["CL"] * c - p["kint"] * p["R0"] * p["V"] * c / (p["Km"] + c)]

    return rhs, [0.0], lambda x: [x[0] / p["V"]]


def friberg(p: dict[str, float]) -> tuple[Rhs, list[float], Callable[[Any], list[float]]]:
    ktr = 4 / p["MTT"]

    def rhs(t: float, x: Any) -> list[float]:
        effect = p["slope"] * x[0] / p["V"]
        cells = x[1:]
        born = ktr * cells[0] * (1 - effect) * (p["base"] / cells[4]) ** p["feedback"]
        rest = [ktr * (cells[i - 1] - cells[i]) for i in (1, 2, 3, 4)]
        return [-p["CL"] / p["V"] * x[0], born - ktr * cells[0], *rest]

    return rhs, [0.0] + [p["base"]] * 5, lambda x: [x[5]]


def simeoni(p: dict[str, float]) -> tuple[Rhs, list[float], Callable[[Any], list[float]]]:
    def rhs(t: float, x: Any) -> list[float]:
        c, cells = x[0] / p["V"], x[1:]
        growth = (
            p["lambda0"] * cells[0] / (1 + (p["lambda0"] / p["lambda1"] * sum(cells)) ** p["psi"]) ** (1 / p["psi"])
        )
        rest = [p["k2"] * c * cells[0] - p["k1"] * cells[1], *(p["k1"] * (cells[i - 1] - cells[i]) for i in (2, 3))]
        return [-p["CL"] / p["V"] * x[0], growth - p["k2"] * c * cells[0], *rest]

    return rhs, [0.0, p["base"], 0.0, 0.0, 0.0], lambda x: [sum(x[1:])]


def recovery(p: dict[str, float]) -> tuple[Rhs, list[float], Callable[[Any], list[float]]]:
    return lambda t, x: [p["kin"] - p["kout"] * x[0]], [p["start"]], lambda x: [x[0]]


SYSTEMS = {
    "direct_emax": direct, "direct_sigmoid_emax": direct, "direct_imax": direct, "effect_compartment": delayed,
    "indirect_response_1": indirect(1), "indirect_response_2": indirect(2), "indirect_response_3": indirect(3),
    "indirect_response_4": indirect(4), "metabolite_iv": metabolite, "metabolite_oral": metabolite, "tmdd": tmdd,
    "tmdd_qss": tmdd_qss, "tmdd_mm": tmdd_mm, "myelosuppression": friberg, "tumour_simeoni": simeoni,
    "turnover": recovery,
}  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_is_that_of_its_equations_written_again(name):
    rhs, start, outputs = SYSTEMS[name](values(name))
    given, times = ((), np.array([0.0, *TIMES])) if name == "turnover" else (DOSES, TIMES)
    data = data_of(name, times, given, tuple(LIBRARY[name].model.outputs))
    states = solve(rhs, start, [(t, 0, amount, 0.0) for t, amount in given], times)
    close(name, predicted(name, data), np.array([outputs(x) for x in states]).ravel())


# ------------------------------------------------------------------------------------------ closed forms

FORMULAS: dict[str, Callable[..., float]] = {
    "dose_response_emax": lambda t, E0, Emax, ED50: E0 + Emax * t / (ED50 + t),
    "dose_response_sigmoid": lambda t, E0, Emax, ED50, hill: E0 + Emax / (1 + (ED50 / t) ** hill),
    "dose_response_imax": lambda t, E0, Imax, ID50: E0 * (1 - Imax / (1 + ID50 / t)),
    "logistic_growth": lambda t, asym, mid, scale: asym / (1 + math.exp((mid - t) / scale)),
    "gompertz_growth": lambda t, asym, mid, scale: asym * math.exp(-math.exp((mid - t) / scale)),
    "richards_growth": lambda t, asym, mid, scale, shape: (
        asym / (1 + shape * math.exp((mid - t) / scale)) ** (1 / shape)
    ),
    "weibull_growth": lambda t, asym, base, scale, shape: (
        base + (asym - base) * (1 - math.exp(-math.pow(t / scale, shape)))
    ),
    "tumour_exponential": lambda t, base, kg: base * math.exp(kg * t),
    "psychometric": lambda t, threshold, steepness, guess, lapse: (
        guess + (1 - guess - lapse) * -math.expm1(-math.pow(t / threshold, steepness))
    ),
    "tuning_curve": lambda t, base, top, preferred, width: base + top * math.exp(-0.5 * ((t - preferred) / width) ** 2),
    "tuning_curve_circular": lambda t, base, top, preferred, concentration: (
        base + top * math.exp(-2 * concentration * math.sin(math.radians(t - preferred) / 2) ** 2)
    ),
    "counts_poisson": lambda t, base, fall, onset: base * math.exp(fall * math.expm1(-t / onset)),
    "exponential_decay": lambda t, amplitude, tau, offset: offset + amplitude * math.exp(-t / tau),
    "biexponential_decay": lambda t, amplitude, tau, amplitude2, tau2, offset: (
        offset + amplitude * math.exp(-t / tau) + amplitude2 * math.exp(-t / tau2)
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_a_closed_form_is_its_formula(name):
    data = data_of(name, TIMES, ())
    expected = np.array([FORMULAS[name](t, **values(name)) for t in TIMES])
    close(name, predicted(name, data), expected)


def test_gompertz_tumours_grow_at_a_rate_that_falls():
    p = values("tumour_gompertz")
    x = solve(lambda t, x: [p["kg"] * math.exp(-p["decay"] * t) * x[0]], [p["base"]], [], TIMES)
    np.testing.assert_allclose(predicted("tumour_gompertz", data_of("tumour_gompertz", TIMES, ())), x[:, 0], rtol=1e-8)


def test_richards_growth_is_logistic_at_shape_1_and_gompertz_near_0():
    data = data_of("richards_growth", TIMES, ())
    for shape, other in ((1.0, "logistic_growth"), (1e-7, "gompertz_growth")):
        given = {"asym": 20.0, "mid": 12.0, "scale": 5.0}
        one = nw.library.richards_growth(**given, shape=shape).predict(data)["PRED"]
        two = getattr(nw.library, other)(**given).predict(data)["PRED"]
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_every_structure_has_a_reference():
    covered = {*PLAIN, *SYSTEMS, *FORMULAS, "iv_2cpt_macro", "iv_3cpt_macro", "oral_2cpt_macro", "tumour_gompertz"}
    assert covered == set(LIBRARY)
