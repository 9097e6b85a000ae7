"""Inter-occasion variability: against the same model written out, exact likelihoods and simulated truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy.stats import multivariate_normal

import nlmewidgets as nw
from nlmewidgets.core.occasions import Occasions
from nlmewidgets.methods.focei import evaluate_focei

A, k = sp.symbols("A k", positive=True)
MOST = 3
TYPICAL = {A: (8.0, 0.3, 0.2), k: (0.25, 0.2, 0.1)}
CURVE = A * sp.exp(-k * nw.covariate("TAD"))


def design(subjects: int = 9, *, seed: int = 1, most: int = MOST) -> pd.DataFrame:
    """Return subjects with 1, 2 or 3 occasions, which come back and need not start at 1."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(1, subjects + 1):
        for o in range(1, 1 + (i % most) + 1):
            rows += [(i, 12.0 * (o - 1) + t, 10 * o, t, o) for t in (1.0, 3.0, 6.0, 9.0)]
        rows.append((i, 40.0, 10, 4.0, 1))  # the first occasion again
    frame = pd.DataFrame(rows, columns=["ID", "TIME", "OCC", "TAD", "place"])
    for o in range(1, most + 1):
        frame[f"O{o}"] = (frame.pop("place") if o == most else frame["place"]) == o
        frame[f"O{o}"] = frame[f"O{o}"].astype(float)
    frame["DV"] = 8 * np.exp(-0.25 * frame["TAD"]) * np.exp(0.3 * rng.standard_normal(len(frame))) + 0.2
    return frame


def declared(**changes) -> nw.Model:
    parameters = {s: nw.LogNormal(v, sd=sd, iov=iov) for s, (v, sd, iov) in TYPICAL.items()}
    correlation = {(A, k): -0.2, ("kappa_A", "kappa_k"): 0.3}
    return nw.Model(CURVE, parameters | changes, residual=nw.Combined(0.2, 0.1), correlation=correlation)


def written_out(most: int = MOST) -> nw.Model:
    """Return the same model with one eta for every occasion, times its indicator."""
    parameters = {}
    for s, (value, sd, iov) in TYPICAL.items():
        kappa = sum(nw.covariate(f"O{o}") * nw.eta(f"{s}{o}", sd=iov) for o in range(1, most + 1))
        parameters[s] = nw.theta(s.name, value, lower=0) * sp.exp(nw.eta(f"eta_{s}", sd=sd) + kappa)
    pairs = {(f"A{o}", f"k{o}"): 0.3 for o in range(1, most + 1)}
    return nw.Model(CURVE, parameters, residual=nw.Combined(0.2, 0.1), correlation={("eta_A", "eta_k"): -0.2} | pairs)


@pytest.mark.parametrize("method", ["fo", "focei", "laplace"])
def test_the_objective_is_that_of_one_eta_per_occasion(method):
    data = nw.Data.from_frame(design())
    assert declared().ofv(data, method) == pytest.approx(written_out().ofv(data, method), abs=1e-8)


def test_quadrature_by_occasion_is_the_sum_over_the_whole_grid():
    # Two etas and three kappas: the whole grid has 5^5 points, the one by occasion 5^3.  Both are placed by the
    # same Cholesky factor because the written-out model names its kappas before its etas.
    data = nw.Data.from_frame(design(6))
    short = nw.Model(
        CURVE, {A: nw.LogNormal(8.0, sd=0.3, iov=0.2), k: nw.LogNormal(0.25, sd=0.2)}, residual=nw.Additive(0.4)
    )
    kappa = sum(nw.covariate(f"O{o}") * nw.eta(f"A{o}", sd=0.2) for o in (1, 2, 3))
    level = nw.theta("A", 8.0, lower=0) * sp.exp(nw.eta("eta_A", sd=0.3) + kappa)
    long = nw.Model(CURVE, {A: level, k: nw.LogNormal(0.25, sd=0.2)}, residual=nw.Additive(0.4))
    assert long.space.eta == ("A1", "A2", "A3", "eta_A", "eta_k")
    assert short.ofv(data, "agq", nodes=5) == pytest.approx(long.ofv(data, "agq", nodes=5), abs=1e-9)
    assert short.ofv(data, "agq", nodes=5) != pytest.approx(short.ofv(data, "laplace"), abs=1e-3)


def test_an_iov_only_parameter_is_one_eta_per_occasion():
    data = nw.Data.from_frame(design(6, most=2))
    only = nw.Model(CURVE, {A: nw.LogNormal(8.0, iov=0.2), k: nw.LogNormal(0.25, sd=0.2)}, residual=nw.Additive(0.4))
    kappa = sum(nw.covariate(f"O{o}") * nw.eta(f"A{o}", sd=0.2) for o in (1, 2))
    long = nw.Model(
        CURVE,
        {A: nw.theta("A", 8.0, lower=0) * sp.exp(kappa), k: nw.LogNormal(0.25, sd=0.2)},
        residual=nw.Additive(0.4),
    )
    assert only.space.within == ("kappa_A",)
    assert only.names == ("A", "k", "omega_k", "iov_A", "additive")
    for method in ("fo", "focei", "laplace"):
        assert only.ofv(data, method) == pytest.approx(long.ofv(data, method), abs=1e-8)


def test_in_full_an_effect_may_be_an_occasions():
    data = nw.Data.from_frame(design(6))
    full = nw.Model(
        CURVE,
        {
            A: nw.theta("A", 8.0, lower=0) * sp.exp(nw.eta("eta_A", sd=0.3) + nw.eta("kappa_A", sd=0.2, occasion=True)),
            k: nw.LogNormal(0.25, sd=0.2, iov=0.1),
        },
        residual=nw.Combined(0.2, 0.1),
        correlation={(A, k): -0.2, ("kappa_A", "kappa_k"): 0.3},
    )
    assert full.ofv(data) == pytest.approx(declared().ofv(data), abs=1e-9)


def test_a_linear_gaussian_model_has_its_exact_likelihood():
    level = sp.Symbol("level", real=True)
    frame = design(7)
    data = nw.Data.from_frame(frame)
    model = nw.Model(level, {level: nw.Normal(3.0, sd=0.8, iov=0.5)}, residual=nw.Additive(0.6))
    exact = 0.0
    for _, rows in frame.groupby("ID"):
        same = rows["OCC"].to_numpy()[:, None] == rows["OCC"].to_numpy()
        covariance = 0.8**2 + 0.5**2 * same + 0.6**2 * np.eye(len(rows))
        exact -= 2 * multivariate_normal(np.full(len(rows), 3.0), covariance).logpdf(rows["DV"])
        exact -= len(rows) * np.log(2 * np.pi)
    for method in ("fo", "focei", "laplace"):
        assert model.ofv(data, method) == pytest.approx(exact, rel=1e-12)
    assert model.ofv(data, "agq", nodes=5) == pytest.approx(exact, rel=1e-12)


def test_saem_and_focei_recover_the_truth():
    # Per SD: standard error about SD/sqrt(2·draws) from the draws, plus what the residuals add: information from
    # 4 observations of SD 0.1 on the log scale leaves 0.05 to 0.1 per occasion.  Bounds are 4 standard errors.
    truth = nw.Model(
        CURVE, {A: nw.LogNormal(8.0, sd=0.3, iov=0.2), k: nw.LogNormal(0.25, sd=0.2)}, residual=nw.Proportional(0.1)
    )
    frame = design(80)
    frame["DV"] = truth.simulate(nw.Data.from_frame(frame), seed=5)["DV"]
    data = nw.Data.from_frame(frame)
    focei = truth.fit(data, "focei")
    saem = truth.fit(data, "saem", seed=2, explore=100, smooth=50)
    occasions = focei.problem.occasions.count.sum()
    bounds = {
        "A": 4 * 8.0 * np.sqrt(0.3**2 / 80 + 0.25**2 / occasions),
        "k": 4 * 0.25 * np.sqrt((0.2**2 + 0.03**2) / 80),
        "omega_A": 4 * np.sqrt(2 * (0.3**2 + 0.2**2 / 2 + 0.1**2) ** 2 / 80) / (2 * 0.3),
        "omega_k": 4 * (0.2**2 + 0.06**2) / 0.2 / np.sqrt(2 * 80),
        "iov_A": 4 * (0.2**2 + 0.08**2) / 0.2 / np.sqrt(2 * (occasions - 80)),
        "proportional": 4 * 0.1 / np.sqrt(2 * (data.n_obs - 80 - occasions)),
    }
    for fit in (focei, saem):
        for name, bound in bounds.items():
            assert abs(fit.estimates[name] - truth.table()["value"][name]) < bound, (fit.method, name)
    # Both maximise nearly the same likelihood: the difference is small against the standard error.
    for name in bounds:
        assert saem.estimates[name] == pytest.approx(focei.estimates[name], abs=0.25 * bounds[name])


@pytest.fixture(scope="module")
def fitted() -> nw.Fit:
    return declared().fit(nw.Data.from_frame(design()), "fo", max_iterations=4)


def test_fits_show_etas_by_subject_and_kappas_by_occasion(fitted):
    assert list(fitted.eta) == ["eta_A", "eta_k"]
    assert list(fitted.kappa) == ["kappa_A", "kappa_k"]
    assert fitted.kappa.index.names == ["ID", "OCC"]
    seen = design().groupby("ID")["OCC"].unique().explode()
    assert list(fitted.kappa.index) == list(zip(seen.index, seen, strict=True))
    problem = fitted.problem
    place = {occ: n for n, occ in enumerate((10, 20, 30))}
    for (label, occ), row in fitted.kappa.iterrows():
        kept = fitted.etas[problem.data.ids.index(label)]
        np.testing.assert_array_equal(row, kept[2 + 2 * place[occ] :][:2])
    assert list(fitted.omega) == ["eta_A", "eta_k", "kappa_A", "kappa_k"]
    shrunk = 1 - fitted.kappa["kappa_A"].std() / fitted.estimates["iov_A"]
    assert fitted.shrinkage["kappa_A"] == pytest.approx(shrunk, rel=1e-12)
    assert fitted.summary().loc["iov_A", "shrinkage_%"] == pytest.approx(100 * shrunk, rel=1e-12)
    assert np.isfinite(fitted.table().to_numpy(dtype=float)).all()
    assert fitted.start.table().loc["iov_A", "kind"] == "iov (SD)"


def test_simulated_occasions_vary_as_declared():
    level = sp.Symbol("level", real=True)
    frame = design(60)
    model = nw.Model(level, {level: nw.Normal(3.0, sd=0.8, iov=0.5)}, residual=nw.Additive(1e-3))
    drawn = model.simulate(nw.Data.from_frame(frame), 50, seed=3)
    frame = pd.concat([frame] * 50).reset_index(drop=True).assign(REP=drawn["REP"], IPRED=drawn["IPRED"])
    means = frame.groupby(["REP", "ID", "OCC"])["IPRED"]
    assert means.std().max() < 1e-12
    by_occasion = means.first()
    n = by_occasion.groupby(["REP", "ID"]).size()
    within = (by_occasion.groupby(["REP", "ID"]).var() * (n - 1)).sum() / (n - 1).sum()
    # A variance from v draws has the relative standard error sqrt(2/v).
    assert within == pytest.approx(0.25, rel=4 * np.sqrt(2 / (n - 1).sum()))


def test_expand_and_collapse_are_each_others_transpose():
    occasions = Occasions(2, 2, np.zeros(0, dtype=int), np.array([1, 3]), (1, 1, 2, 3))
    rng = np.random.default_rng(0)
    omega = np.zeros((4, 4))
    omega[:2, :2], omega[2:, 2:] = rng.normal(size=(2, 2)), rng.normal(size=(2, 2))
    g = rng.normal(size=(8, 8))
    assert (occasions.expand(omega) * g).sum() == pytest.approx((omega * occasions.collapse(g)).sum(), rel=1e-12)
    assert occasions.present.tolist() == [[1, 1]] * 4 + [[0, 1]] * 4


def test_a_model_without_kappas_has_no_occasions():
    data = nw.Data.from_frame(design())
    problem = nw.Model(CURVE, {A: nw.LogNormal(8.0, sd=0.3), k: nw.LogNormal(0.2, sd=0.1)}, residual=nw.Additive(1))
    assert problem.problem(data)._identity
    assert (
        problem.problem(data).blocks.n
        == nw.Model(CURVE, {A: 8.0, k: 0.2}, residual=nw.Additive(1)).problem(data).blocks.n
    )


@pytest.mark.parametrize(
    ("declaration", "sentence"),
    [
        ({A: nw.LogNormal(8.0, iov=-0.1)}, "The parameter 'A' has iov=-0.1; a standard deviation is positive"),
        ({A: nw.LogNormal(8.0, iov=float("nan"))}, "The iov of parameter 'A' has the initial value nan"),
    ],
)
def test_impossible_iov_is_refused(declaration, sentence):
    with pytest.raises(nw.ModelError, match="^" + sentence):
        nw.Model(CURVE, declaration | {k: 0.3}, residual=nw.Additive(1))


def test_one_occasion_for_all_is_refused():
    data = nw.Data.from_frame(design().drop(columns="OCC"))
    with pytest.raises(nw.DataError, match="inter-occasion variability .kappa_A, kappa_k., but every subject"):
        declared().fit(data)


def test_correlations_between_subject_and_occasion_are_refused():
    with pytest.raises(nw.ModelError, match="between one effect per subject and one per occasion; they have none"):
        nw.Model(
            CURVE,
            {A: nw.LogNormal(8.0, iov=0.2), k: nw.LogNormal(0.3, sd=0.2)},
            residual=nw.Additive(1),
            correlation={(A, k): 0.1},
        )


def carried(parameters: dict) -> nw.Model:
    """Return one compartment with absorption, whose state outlives the occasion."""
    depot, central = nw.states("depot central")
    ka, CL, V = parameters
    return nw.Model(
        odes={depot: -ka * depot, central: ka * depot - CL / V * central},
        prediction=central / V,
        parameters=parameters,
        residual=nw.Proportional(0.1),
    )


@pytest.mark.parametrize("method", ["fo", "focei", "laplace"])
def test_what_one_occasion_did_is_carried_into_the_next(method):
    ka, CL, V = sp.symbols("ka CL V", positive=True)
    rows = []
    for i in range(1, 5):
        for o in range(1, 2 + i % 2):
            start = 6.0 * (o - 1)  # the first dose is far from gone when the second occasion begins
            rows += [(i, start, 1, 100.0, np.nan, o)]
            rows += [(i, start + t, 0, 0.0, 4.0 / t + i / 7, o) for t in (1.0, 2.5, 5.0)]
    frame = pd.DataFrame(rows, columns=["ID", "TIME", "EVID", "AMT", "DV", "OCC"])
    for o in (1, 2):
        frame[f"O{o}"] = (frame["OCC"] == o).astype(float)
    data = nw.Data.from_frame(frame)
    short = carried({ka: 1.1, CL: nw.LogNormal(3.0, sd=0.3, iov=0.25), V: nw.LogNormal(20.0, sd=0.2)})
    kappa = sum(nw.covariate(f"O{o}") * nw.eta(f"CL{o}", sd=0.25) for o in (1, 2))
    clearance = nw.theta("CL", 3.0, lower=0) * sp.exp(nw.eta("eta_CL", sd=0.3) + kappa)
    long = carried({ka: 1.1, CL: clearance, V: nw.LogNormal(20.0, sd=0.2)})
    assert short.ofv(data, method) == pytest.approx(long.ofv(data, method), abs=1e-8)
    # Kappas of the first occasion act on observations of the second.
    problem = short.problem(data)
    slots = problem.slots(problem.typical(short.values.theta).slots, np.zeros((problem.n_eta, problem.n_subjects)))
    first, _ = problem.along_eta(*problem.structure(slots, 2)[1:])
    second = problem.occasions.number[data.observed] == 1
    place = list(problem.occasions.copy).index(0)
    assert (np.abs(first[place, second]) > 1e-3).all()


def test_scores_of_carried_occasions_equal_differences():
    ka, CL, V = sp.symbols("ka CL V", positive=True)
    rows = [(1, 0.0, 1, 100.0, np.nan, 1), (1, 2.0, 0, 0.0, 3.0, 1), (1, 5.0, 0, 0.0, 2.0, 2), (1, 9.0, 0, 0.0, 1.2, 3)]
    rows += [(2, 0.0, 1, 80.0, np.nan, 1), (2, 3.0, 0, 0.0, 2.0, 1), (2, 4.0, 0, 0.0, 2.4, 2)]
    data = nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "EVID", "AMT", "DV", "OCC"]))
    model = carried({ka: 1.1, CL: nw.LogNormal(3.0, sd=0.3, iov=0.25), V: nw.LogNormal(20.0, iov=0.2)})
    problem, space = model.problem(data), model.space
    x = space.pack(model.values)
    found = evaluate_focei(problem, model.values, gradient=True, tolerance=1e-24).scores.along(space, model.values)
    for n, e in enumerate(np.eye(len(x))):
        ends = [evaluate_focei(problem, space.unpack(x + h * e), tolerance=1e-24).per_subject for h in (1e-4, -1e-4)]
        np.testing.assert_allclose(found[:, n], (ends[0] - ends[1]) / 2e-4, rtol=1e-5, atol=1e-6)
