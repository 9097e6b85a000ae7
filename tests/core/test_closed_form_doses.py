"""Superposition of a closed form over the doses of NONMEM's records."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import sympy as sp

import nlmewidgets as nw

V, K = 20.0, 0.15


def read(text: str) -> nw.Data:
    return nw.Data.from_frame(pd.read_csv(io.StringIO(text), sep=r"\s+", na_values=["."]))


@pytest.fixture(scope="module")
def bolus():
    v, k = sp.symbols("V k", positive=True)
    return nw.Model(
        prediction=nw.dose / v * sp.exp(-k * nw.time),
        parameters={v: nw.LogNormal(V), k: nw.LogNormal(K, sd=0.1)},
        residual=nw.Additive(1.0),
    )


def amount(doses: list[tuple[float, float]], t: float) -> float:
    """Return the concentration at t of doses (time, amount), each counted from its own time on."""
    return sum(a / V * np.exp(-K * (t - s)) for s, a in doses if s <= t)


def test_additional_doses_are_given_until_each_observation(bolus):
    # An additional dose at an observation's own time comes before it (NONMEM's predictions in nmtest, scenario 15).
    data = read("ID TIME AMT ADDL II DV\n1 0 100 3 0.1 .\n1 0.05 0 0 0 1\n1 0.2 0 0 0 1\n1 0.3 0 0 0 1\n1 9 0 0 0 1")
    doses = [(0.1 * k, 100.0) for k in range(4)]
    want = [amount(doses[:n], t) for n, t in ((1, 0.05), (3, 0.2), (4, 0.3), (4, 9))]
    np.testing.assert_allclose(bolus.predict(data)["PRED"], want, rtol=1e-13)


def test_additional_doses_are_the_same_as_written_out(bolus):
    rng = np.random.default_rng(1)
    rows, plain = [], []
    for i in range(20):
        start, n, every = rng.uniform(0, 5), int(rng.integers(0, 6)), rng.uniform(0.5, 9)
        rows.append((i, start, 10.0 + i, n, every, np.nan))
        plain += [(i, start + k * every, 10.0 + i, 0, 0.0, np.nan) for k in range(n + 1)]
        for t in np.sort(rng.uniform(5, 40, 6)):
            rows.append((i, t, 0.0, 0, 0.0, 1.0))
            plain.append((i, t, 0.0, 0, 0.0, 1.0))
    names = ["ID", "TIME", "AMT", "ADDL", "II", "DV"]
    once = bolus.predict(nw.Data.from_frame(pd.DataFrame(rows, columns=names)))
    table = pd.DataFrame(plain, columns=names).sort_values(["ID", "TIME"])
    np.testing.assert_allclose(once["PRED"], bolus.predict(nw.Data.from_frame(table))["PRED"], rtol=1e-12)


def test_a_reset_ends_earlier_doses_and_those_still_to_come(bolus):
    data = read(
        "ID TIME AMT ADDL II EVID DV\n1 0 100 5 4 1 .\n1 1 0 0 0 0 1\n1 6 0 0 0 3 .\n1 9 0 0 0 0 1\n"
        "1 10 50 0 0 4 .\n1 11 0 0 0 0 1\n2 1 0 0 0 0 1\n2 2 30 0 0 1 .\n2 3 0 0 0 0 1"
    )
    want = [amount([(0, 100)], 1), 0.0, amount([(10, 50)], 11), 0.0, amount([(2, 30)], 3)]
    np.testing.assert_allclose(bolus.predict(data)["PRED"], want, rtol=1e-13)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "ID TIME AMT RATE DV\n1 0 100 . .\n1 2 50 25 .\n1 3 0 0 1",
            "RATE=25 for subject 1 at TIME 2 asks for an infusion, which a prediction in time and dose cannot express; "
            "declare the compartments with odes= or take a structure of nw.library.",
        ),
        (
            "ID TIME AMT SS II DV\n1 0 100 1 12 .\n1 3 0 0 0 1",
            "SS=1 for subject 1 at TIME 0 asks for a steady state, which a prediction in time and dose cannot express; "
            "declare the compartments with odes= or take a structure of nw.library.",
        ),
        (
            "ID TIME AMT CMT DV\n1 0 100 1 .\n2 1 100 2 .\n2 3 0 0 1",
            "Doses go into the compartments 1 and 2 (subject 2, TIME 1), which a prediction in time and dose cannot "
            "tell apart; declare the compartments with odes= or take a structure of nw.library.",
        ),
    ],
)
def test_doses_that_are_no_sum_are_refused(bolus, text, sentence):
    with pytest.raises(nw.DataError) as error:
        bolus.predict(read(text))
    assert str(error.value) == sentence
