"""Predictive checks: each table against its definition, and against the truth where the data come from the model."""

from __future__ import annotations

import itertools
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from scipy import stats

import nlmewidgets as nw
from nlmewidgets.diagnostics import npc, npde, vpc
from nlmewidgets.diagnostics.bins import bin_edges, find_bins
from nlmewidgets.diagnostics.correction import Correction
from nlmewidgets.diagnostics.replicates import Source, replicates
from nlmewidgets.diagnostics.statistics import Cells, Events, LocalQuantiles, Quantiles, ordered_quantiles

TIMES = [0.5, 1.0, 2.0, 4.0, 8.0]


def decay(residual: object = None) -> nw.Model:
    v, k = sp.symbols("v k", positive=True)
    return nw.Model(
        nw.dose / v * sp.exp(-k * nw.time),
        {v: nw.LogNormal(10.0, sd=0.3), k: nw.LogNormal(0.25, sd=0.4)},
        residual=nw.Combined(0.2, 0.1) if residual is None else residual,
    )


def study(subjects: int, amounts: tuple[float, ...] = (100.0,)) -> pd.DataFrame:
    n = len(TIMES) + 1
    table = pd.DataFrame({"ID": np.repeat(np.arange(subjects), n), "TIME": np.tile([0.0, *TIMES], subjects)})
    table["EVID"] = np.tile([1] + [0] * len(TIMES), subjects)
    table["AMT"] = np.repeat(np.resize(amounts, subjects), n) * table["EVID"]
    table["WT"] = np.repeat(np.resize([60.0, 80.0], subjects), n)
    return table.assign(DV=1.0)


def simulated(model: nw.Model, table: pd.DataFrame, seed: int) -> pd.DataFrame:
    drawn = model.simulate(nw.Data.from_frame(table), seed=seed)["DV"].to_numpy()
    out = table.copy()
    observed = out["EVID"] == 0 if "EVID" in out else np.ones(len(out), dtype=bool)
    out.loc[observed, "DV"] = drawn
    return out


@pytest.fixture(scope="module")
def data() -> nw.Data:
    return nw.Data.from_frame(simulated(decay(), study(60), 1), covariates=["WT"])


# -------------------------------------------------------------------------- bins


def test_bins_minimise_the_sum_of_squares_over_all_partitions() -> None:
    x = np.sort(np.random.default_rng(0).exponential(size=11))

    def squares(parts: list[np.ndarray]) -> float:
        return sum(float(((p - p.mean()) ** 2).sum()) for p in parts)

    for k in range(1, 6):
        best = min(squares(np.split(x, list(c))) for c in itertools.combinations(range(1, 11), k - 1))
        found = find_bins(x, k)
        assert (found.count > 0).all()
        assert len(found.edges) == k + 1
        assert squares([x[found.label == b] for b in range(k)]) == pytest.approx(best, rel=1e-9)


def test_automatic_bins_find_the_clock(theophylline: nw.Data) -> None:
    found = find_bins(theophylline.time, "auto")
    assert found.count.tolist() == [12] * 11
    nominal = np.tile([0.25, 0.5, 1.0, 2.0, 4.0, 24.0], 50)
    assert len(find_bins(nominal, "auto").count) == 6
    jittered = nominal + np.random.default_rng(1).uniform(-0.05, 0.05, len(nominal))
    assert set(find_bins(jittered, "auto").count) <= {50, 100, 150}
    assert len(find_bins(np.random.default_rng(1).uniform(0, 1, 20_000), "auto").count) <= 12
    assert bin_edges(np.full(5, 3.0)).tolist() == [3.0, 4.0]


def test_edges_are_taken_as_given_and_what_lies_outside_is_left_out(data: nw.Data) -> None:
    found = vpc(decay(), data, n=50, seed=1, bins=[0.0, 1.5, 5.0])
    assert found.bins["n"].tolist() == [120, 120]
    assert (found.points["bin"] == -1).sum() == 60


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"bins": "many"}, "bins='many' is not known; give 'auto', 'smooth', a number or increasing edges."),
        ({"bins": [2.0, 1.0]}, "bins must be 'auto', 'smooth', a number or two or more increasing edges."),
        ({"bins": 0}, "bins=0 is not a number of bins; give 1 or more, or 'auto'."),
        ({"bins": [50.0, 60.0]}, "No observation lies within the edges given as bins=."),
        ({"quantiles": (0.0, 0.5)}, "quantiles= and level= must be between 0 and 1."),
        ({"output": "cq"}, "output='cq' is not known; there are 'f'."),
        ({"kind": "bars"}, "kind='bars' is not known; there are 'quantiles', 'classes', 'events'."),
        ({"x": "CRCL"}, "x='CRCL' is no column of the data; give 'TIME', 'TAD', 'PRED' or a column of numbers."),
        (
            {"uncertainty": True},
            "A model without a fit has no uncertainty of its parameters; pass a fit, or uncertainty=False.",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(data: nw.Data, options: dict, sentence: str) -> None:
    with pytest.raises(nw.DataError) as error:
        vpc(decay(), data, n=10, **options)
    found = str(error.value)
    assert found.replace("'y'", "'f'") == sentence


# --------------------------------------------------------------------- quantiles


def test_quantiles_are_numpys_and_infinite_ones_stay() -> None:
    x = np.sort(np.random.default_rng(1).normal(size=(7, 23)), axis=1)
    levels = np.array([0.0, 0.05, 0.5, 0.77, 1.0])
    np.testing.assert_allclose(ordered_quantiles(x, levels), np.quantile(x, levels, axis=1).T, rtol=1e-12)
    x = np.array([-np.inf, -np.inf, 1.0, 2.0, np.inf])
    found = ordered_quantiles(x, np.array([0.0, 0.3, 0.5, 0.7, 0.8, 1.0]))
    np.testing.assert_allclose(found, [-np.inf, -np.inf, 1.0, 1.8, np.inf, np.inf], rtol=1e-15)


def test_a_vpc_is_its_definition(data: nw.Data) -> None:
    found = vpc(decay(), data, n=200, seed=3, stratify="WT")
    source = Source(decay().problem(data), decay().values)
    y = np.concatenate([chunk.y for chunk in replicates(source, 200, np.random.default_rng(3))])
    weight = data.records["WT"].to_numpy()[data.observed]
    for _, row in found.table.iterrows():
        own = (weight == float(row["stratum"])) & (data.time == row["x"])
        assert row["n"] == own.sum() == 30
        assert row["observed"] == pytest.approx(np.quantile(data.dv[own], row["quantile"]), rel=1e-12)
        bands = np.quantile(np.quantile(y[:, own], row["quantile"], axis=1), [0.025, 0.5, 0.975])
        np.testing.assert_allclose(row[["low", "median", "high"]].astype(float), bands, rtol=1e-12)
    assert found.table["x"].nunique() == len(TIMES)
    assert (found.kind, found.n, found.level) == ("quantiles", 200, 0.95)
    assert "VPC of quantiles: 200 replicates" in repr(found)
    with pytest.raises(FrozenInstanceError):
        found.n = 3  # type: ignore[misc]


def test_chunks_do_not_change_what_is_drawn_with_a_seed_and_progress_stops(data: nw.Data) -> None:
    one, two = (vpc(decay(), data, n=40, seed=3).table for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    seen: list[float] = []
    stopped = vpc(decay(), data, n=10**6, seed=3, progress=lambda done: seen.append(done) or len(seen) < 2)
    assert stopped.n < 10**6
    assert len(seen) == 2
    assert stopped.table["low"].notna().all()


def test_prediction_correction_is_bergstrands() -> None:
    table = simulated(decay(), study(40, (50.0, 200.0)), 2)
    data = nw.Data.from_frame(table)
    model = decay()
    found = vpc(model, data, n=50, seed=1, prediction_corrected=True)
    pred = model.predict(data)["PRED"].to_numpy()
    for t in TIMES:
        own = data.time == t
        wanted = data.dv[own] * np.median(pred[own]) / pred[own]
        np.testing.assert_allclose(found.points.loc[own, "y"], wanted, rtol=1e-12)
    logged = vpc(model, data, n=50, seed=1, prediction_corrected=True, additive=True)
    own = data.time == 2.0
    wanted = data.dv[own] + np.median(pred[own]) - pred[own]
    np.testing.assert_allclose(logged.points.loc[own, "y"], wanted, rtol=1e-12)
    # Doses a factor of four apart are one population after the correction, and two before.
    plain = vpc(model, data, n=50, seed=1)
    outer = [v.table.query("x == 0.5").set_index("quantile")["median"] for v in (plain, found)]
    apart, together = (np.log(q[0.95] / q[0.05]) for q in outer)
    assert together < 0.6 * apart


def test_the_correction_for_variability_makes_spreads_equal() -> None:
    pred = np.array([1.0, 2.0, 4.0, 8.0])
    cells = (np.arange(4),)
    correction = Correction.of(pred, np.full(4, 3.0))
    y = np.random.default_rng(1).normal(pred, [0.5, 1.5, 1.0, 6.0], (20_000, 4))
    sd = correction(y).std(axis=0)
    after = correction.of_variability(sd, cells)(y)
    np.testing.assert_allclose(after.std(axis=0), np.median(sd), rtol=1e-10)
    np.testing.assert_allclose(after.mean(axis=0), 3.0, atol=5 * np.median(sd) / np.sqrt(20_000))
    zero = Correction.of(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
    np.testing.assert_array_equal(zero(np.array([0.3, 2.0])), [0.3, 1.0])


def test_local_quantiles_without_bins_follow_the_curve() -> None:
    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(0, 10, 4000))
    y = np.sin(x / 3) + rng.normal(0, 0.2, (3, len(x)))
    local = LocalQuantiles((("all", np.arange(len(x))),), x, (0.1, 0.5, 0.9), span=0.1)
    index, found = local.index, local(y)
    inside = index["x"].between(0.6, 9.4).to_numpy()
    wanted = np.sin(index["x"] / 3) + 0.2 * stats.norm.ppf(index["quantile"])
    # About 400 x (mean of the squared weight ratio 0.7) data: standard error 0.2·1.7/√280, and 0.01 of bias in bends.
    np.testing.assert_allclose(found[:, inside], np.tile(wanted[inside], (3, 1)), atol=4.5 * 0.02 + 0.01)
    wide = LocalQuantiles((("all", np.arange(5)),), np.zeros(5), (0.5,))
    assert wide(np.array([[5.0, 1.0, 3.0, 2.0, 4.0]])).tolist() == [[3.0]]


def test_smooth_and_binned_checks_see_the_same(data: nw.Data) -> None:
    smooth = vpc(decay(), data, n=200, seed=1, bins="smooth")
    assert smooth.bins.empty
    assert smooth.outside < 0.25
    wrong = vpc(decay().with_values({"k": 0.5}), data, n=200, seed=1, bins="smooth")
    assert wrong.outside > 0.4


def test_censored_data_have_their_share_and_quantiles_among_them_are_missing() -> None:
    table = simulated(decay(), study(80), 4)
    limit = 2.0
    observed = table["EVID"] == 0
    table["CENS"] = (observed & (table["DV"] < limit)).astype(int)
    table.loc[table["CENS"] == 1, "DV"] = limit
    data = nw.Data.from_frame(table)
    found = vpc(decay(), data, n=300, seed=1)
    below = found.censored.query("side == 'below'")
    share = [float((data.cens[data.time == t] == 1).mean()) for t in TIMES]
    np.testing.assert_allclose(below["observed"], share)
    assert (below["low"] <= below["high"]).all()
    assert not below["outside"].any()
    last = found.table.query("x == 8.0").set_index("quantile")
    assert share[-1] > 0.5
    assert np.isnan(last.loc[0.5, "observed"])
    assert last.loc[0.95, "observed"] > limit
    # A model without elimination expects none of it.
    wrong = vpc(decay().with_values({"k": 0.02}), data, n=100, seed=1)
    assert wrong.censored.query("side == 'below' and x == 8.0")["outside"].all()


# ------------------------------------------------------------- classes and events


def test_proportions_of_classes() -> None:
    a = sp.Symbol("a", real=True)
    model = nw.Model({"y": nw.Bernoulli(nw.expit(a + nw.time))}, {a: nw.Normal(-1.0, sd=1.0)})
    table = pd.DataFrame({"ID": np.repeat(np.arange(150), 3), "TIME": np.tile([0.0, 1.0, 2.0], 150), "DV": 0.0})
    data = nw.Data.from_frame(simulated(model, table, 3))
    found = vpc(model, data, n=200, seed=1)
    assert found.kind == "classes"
    assert found.table["class"].tolist() == ["0", "1"] * 3
    wanted = pd.Series(data.dv).groupby(data.time).mean()
    np.testing.assert_allclose(found.table.query("`class` == '1'")["observed"], wanted)
    np.testing.assert_allclose(found.table.groupby("x")["observed"].sum(), 1.0)
    assert found.outside <= 0.34
    # The exact proportion, E expit(a + t), is within the band of every time.
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    exact = [(weights / weights.sum()) @ (1 / (1 + np.exp(-(nodes - 1 + t)))) for t in (0.0, 1.0, 2.0)]
    ones = found.table.query("`class` == '1'")
    assert ((ones["low"] < exact) & (exact < ones["high"])).all()
    with pytest.raises(nw.DataError, match="Prediction correction is for quantiles"):
        vpc(model, data, n=20, prediction_corrected=True)


def test_counts_as_classes_have_an_open_last_one() -> None:
    rate = sp.Symbol("rate", positive=True)
    model = nw.Model({"y": nw.Poisson(rate * (1 + nw.time))}, {rate: nw.LogNormal(2.0, sd=0.5)})
    table = pd.DataFrame({"ID": np.repeat(np.arange(50), 2), "TIME": np.tile([0.0, 4.0], 50), "DV": 0.0})
    data = nw.Data.from_frame(simulated(model, table, 3))
    found = vpc(model, data, n=100, seed=1, kind="classes")
    assert found.table["class"].unique().tolist() == ["0", "1", "2", "3", "4", "5 or more"]
    np.testing.assert_allclose(found.table.groupby("x")["observed"].sum(), 1.0)
    assert vpc(model, data, n=100, seed=1).kind == "quantiles"


def test_survival_curves_are_scipys() -> None:
    rng = np.random.default_rng(5)
    times = np.arange(1.0, 21.0)
    ended = rng.integers(5, 21, 40)
    rows = [(i, t) for i in range(40) for t in times if t <= ended[i]]
    subject, time = (np.array(c) for c in zip(*rows, strict=True))
    y = (rng.random((2, len(rows))) < 0.08).astype(float)
    events = Events((("all", np.arange(len(rows))),), time, subject)
    found = events(y)
    for r in range(2):
        first = [time[(subject == i) & (y[r] > 0)] for i in range(40)]
        uncensored = [f[0] for f in first if len(f)]
        right = [float(ended[i]) for i, f in enumerate(first) if not len(f)]
        wanted = stats.ecdf(stats.CensoredData(uncensored=uncensored, right=right)).sf.evaluate(events.index["x"])
        np.testing.assert_allclose(found[r], wanted, atol=1e-12)
    repeated = Events((("all", np.arange(len(rows))),), time, subject, repeated=True)(y)
    at_risk = np.array([(ended >= t).sum() for t in times])
    wanted = np.cumsum([y[0][time == t].sum() for t in times] / at_risk)
    np.testing.assert_allclose(repeated[0], wanted, atol=1e-12)


def test_events_in_intervals_are_checked_by_kaplan_meier() -> None:
    hazard = sp.Symbol("h", positive=True)
    model = nw.Model({"y": nw.Event(cumulative=hazard * nw.time, interval=True)}, {hazard: nw.LogNormal(0.1, sd=0.5)})
    times = np.arange(0.0, 11.0)
    table = pd.DataFrame({"ID": np.repeat(np.arange(100), 11), "TIME": np.tile(times, 100), "DV": 0.0})
    table["EVID"] = np.where(table["TIME"] == 0, 2, 0)
    data = nw.Data.from_frame(simulated(model, table, 3))
    found = vpc(model, data, n=200, seed=1)
    assert found.kind == "events"
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    exact = np.exp(-0.1 * np.exp(0.5 * nodes) * times[1:, None]) @ (weights / weights.sum())
    # The median of 200 curves of 100 subjects: 5 standard errors of a mean of 20,000, and of a median's own.
    np.testing.assert_allclose(found.table["median"], exact, atol=5 * 0.5 / np.sqrt(20_000) * 1.3 + 0.005)
    assert found.outside < 0.5
    wrong = vpc(model.with_values({"h": 0.3}), data, n=100, seed=1)
    assert wrong.outside > 0.8


# ----------------------------------------------------------- uncertainty, npc, fits


def test_uncertainty_widens_the_bands_and_a_posterior_is_taken_where_there_is_one(data: nw.Data) -> None:
    few = data.subset(data.ids[:8])
    fit = decay().fit(few, "focei")
    plain, uncertain = (fit.vpc(n=300, seed=1, bins=2, uncertainty=u).table for u in (False, True))
    assert (uncertain["high"] - uncertain["low"]).mean() > 1.1 * (plain["high"] - plain["low"]).mean()
    from dataclasses import replace

    space = fit.start.space
    posterior = np.tile(list(space.to_dict(fit.values).values()), (2, 5, 1))
    # One population far away: the check must follow it.
    posterior[..., space.names.index("v")] *= 3
    bayes = replace(fit, arrays={"posterior": posterior})
    shifted = bayes.vpc(n=300, seed=1, bins=2)
    assert shifted.options["uncertainty"]
    ratio = (shifted.table["median"] / plain["median"])[plain["quantile"] == 0.5]
    assert ratio.between(0.25, 0.45).all()


def test_a_numerical_check_counts_what_is_outside_the_intervals(data: nw.Data) -> None:
    found = npc(decay(), data, n=300, seed=1, level=0.998)
    assert found.groupby("side")["expected"].max().tolist() == [0.5, 0.5]
    assert not found["outside"].any()
    assert (found["low"] <= found["expected"] + 0.02).all()
    source = Source(decay().problem(data), decay().values)
    y = np.concatenate([chunk.y for chunk in replicates(source, 300, np.random.default_rng(1))])
    row = found.query("interval == 0.5 and side == 'below'").iloc[0]
    assert row["observed"] == pytest.approx((data.dv < np.quantile(y, 0.25, axis=0)).mean())
    wrong = npc(decay().with_values({"omega_v": 0.9}), data, n=300, seed=1).query("interval == 0.8")
    assert wrong["outside"].all()
    with pytest.raises(nw.DataError, match="intervals= must be shares"):
        npc(decay(), data, intervals=(1.0,))


def test_a_fit_has_its_checks_and_contributions(data: nw.Data) -> None:
    fit = decay().fit(data, "focei")
    table = fit.table()
    assert {"NPDE", "NPD", "EPRED", "EWRES", "CWRES", "CWRESI"} <= set(table)
    assert np.isfinite(table.drop(columns=["ID"]).to_numpy(dtype=float)).all()
    assert "NPDE" not in fit.table(n=0)
    assert fit.npde(n=50, seed=1)["ECWRES"].notna().all()
    assert fit.npc(n=50, seed=1)["observed"].between(0, 1).all()
    assert fit.iofv().sum() == pytest.approx(fit.ofv, abs=1e-6)
    # Modes from other starts: each known to √1e-13 of its scale, which enters the determinants of 60 subjects.
    assert fit.iofv("laplace").sum() == pytest.approx(fit.model.ofv(data, "laplace"), abs=60 * 3e-7)
    assert fit.iofv("agq, 3 nodes").sum() == pytest.approx(fit.model.ofv(data, "agq", nodes=3), abs=60 * 3e-7)
    with pytest.raises(nw.MethodError, match="gives no contributions of subjects"):
        fit.iofv("saem")


# -------------------------------------------------------------------- calibration


def test_a_vpc_covers_at_its_nominal_rate_over_200_data_sets() -> None:
    """The small form of benchmarks/diagnostics.py: 12 subjects, 5 times, 3 quantiles, 90 % bands."""
    model = decay()
    design = nw.Data.from_frame(study(12))
    drawn = model.simulate(design, n=200, seed=7)["DV"].to_numpy().reshape(200, -1)
    bands = vpc(model, design, n=3000, seed=1, level=0.9).table
    rows = tuple(np.flatnonzero(design.time == t) for t in TIMES)
    cells = Cells(pd.DataFrame({"stratum": "all", "bin": range(5), "x": TIMES, "n": 12}), rows)
    observed = Quantiles(cells, (0.05, 0.5, 0.95))(drawn)
    assert bands["x"].tolist() == np.repeat(TIMES, 3).tolist()
    inside = ((bands["low"].to_numpy() <= observed) & (observed <= bands["high"].to_numpy())).mean(axis=1)
    error = inside.std(ddof=1) / np.sqrt(len(inside))
    # The bands' own ends are quantiles of 3,000: each end has the standard error √(0.05·0.95/3000) = 0.4 %.
    assert abs(inside.mean() - 0.9) < 4 * np.hypot(error, 0.004 * np.sqrt(2))
    assert error < 0.01
    # Half as much again of v is flagged in nine of ten, where one in twenty of the right model is.
    wrong = vpc(model.with_values({"v": 15.0}), design, n=1000, seed=1, level=0.9).table
    within = ((wrong["low"].to_numpy() <= observed) & (observed <= wrong["high"].to_numpy())).mean(axis=1)
    assert (within < np.quantile(inside, 0.05)).mean() > 0.8


# ---------------------------------------------------------------- exact event times


def test_exact_times_of_events_are_checked_by_kaplan_meier() -> None:
    """Weibull times with a random scale: the survival function is known by quadrature."""
    scale = sp.Symbol("scale", positive=True)
    event = nw.Event(hazard=1.5 / scale * sp.sqrt(nw.time / scale), cumulative=(nw.time / scale) ** sp.Rational(3, 2))
    model = nw.Model(event, {scale: nw.LogNormal(5.0, sd=0.4)})
    rng = np.random.default_rng(3)
    times = 5.0 * np.exp(0.4 * rng.standard_normal(150)) * rng.standard_exponential(150) ** (1 / 1.5)
    ends = np.where(np.arange(150) % 3 == 0, 4.0, 10.0)
    rows = {"ID": np.arange(150), "TIME": np.minimum(times, ends), "DV": (times <= ends).astype(float)}
    data = nw.Data.from_frame(pd.DataFrame(rows))
    found = vpc(model, data, n=400, seed=1)
    assert found.kind == "events"
    at = found.table["x"].to_numpy()
    own = stats.ecdf(stats.CensoredData(uncensored=times[times <= ends], right=ends[times > ends])).sf
    np.testing.assert_allclose(found.table["observed"], own.evaluate(at), atol=1e-12)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    exact = np.exp(-((at[:, None] / (5 * np.exp(0.4 * nodes))) ** 1.5)) @ (weights / weights.sum())
    # Medians of 400 curves of 150 subjects (fewer at risk late): 5·1.25·0.5/√(400·60), and half a step of a curve.
    np.testing.assert_allclose(found.table["median"], exact, atol=5 * 1.25 * 0.5 / np.sqrt(400 * 60) + 0.5 / 100)
    assert found.outside < 0.3
    assert vpc(model.with_values({"scale": 8.0}), data, n=100, seed=1).outside > 0.6
    assert (found.points["censored"].to_numpy() == (times > ends)).all()
    # Their residuals: F(t) of an event, a draw above it of an end of follow-up.
    p = 1 - np.exp(-((rows["TIME"][:, None] / (5 * np.exp(0.4 * nodes))) ** 1.5)) @ (weights / weights.sum())
    pd_ = npde(model, data, n=4000, seed=1)["PD"].to_numpy()
    happened = times <= ends
    np.testing.assert_allclose(pd_[happened], p[happened], atol=5 * 0.5 / np.sqrt(4000))
    assert (pd_[~happened] > p[~happened] - 5 * 0.5 / np.sqrt(4000)).all()
    assert stats.kstest(pd_, "uniform").pvalue > 1e-4


def test_repeated_exact_events_are_checked_by_their_mean_number() -> None:
    h = sp.Symbol("h", positive=True)
    model = nw.Model(nw.Event(hazard=h, cumulative=h * nw.time), {h: nw.LogNormal(0.4, sd=0.3)})
    rng = np.random.default_rng(8)
    rows = []
    for i, rate in enumerate(0.4 * np.exp(0.3 * rng.standard_normal(80))):
        rows += [(i, float(t), 1.0) for t in np.sort(rng.uniform(0, 8, rng.poisson(8 * rate)))] + [(i, 8.0, 0.0)]
    data = nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "DV"]))
    found = vpc(model, data, n=300, seed=1)
    exact = 0.4 * np.exp(0.045) * found.table["x"]
    # Counts of 300 × 80 subjects; the variance of one is its mean and that of the rate.
    se = np.sqrt((exact + exact**2 * np.expm1(0.09)) / (300 * 80)) * 1.25
    assert (np.abs(found.table["median"] - exact) < 5 * se + 0.5 / 80).all()
    total = sum(1 for r in rows if r[2] == 1)
    assert found.table["observed"].iloc[-1] == pytest.approx(total / 80, rel=1e-12)
    assert found.outside < 0.5
