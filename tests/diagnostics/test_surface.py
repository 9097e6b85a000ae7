"""The surface of two parameters against direct evaluation, and where it is a paraboloid against its ellipse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nlmewidgets as nw
from nlmewidgets.diagnostics import profile, surface
from tests.kinds import KINDS


@pytest.fixture(scope="module")
def fit() -> nw.Fit:
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
    )
    return model.fit(nw.datasets.load("theophylline"), "focei")


def last(problem: object, values: object, names: list[str], **options: object) -> object:
    *_, found = surface(problem, values, names, **options)
    return found


def line(seed: int = 0) -> tuple[nw.Model, nw.Data]:
    """A straight line without random effects and with a known error: −2 log L is a paraboloid in (a, b)."""
    rng = np.random.default_rng(seed)
    t = np.tile(np.linspace(1.0, 4.0, 6), 3)
    frame = pd.DataFrame({"ID": np.repeat([1, 2, 3], 6), "TIME": t, "DV": 2.0 + 0.7 * t + 0.5 * rng.normal(size=18)})
    model = nw.Model("a + b*t", {"a": nw.Normal(2.0), "b": nw.Normal(0.7)}, residual=nw.Additive(0.5, fixed=True))
    return model, nw.Data.from_frame(frame)


@pytest.mark.parametrize("method", ["focei", "fo", "laplace"])
def test_every_point_is_the_objective_there(fit: nw.Fit, method: str) -> None:
    found = last(fit.problem, fit.values, ["ka", "omega_CL"], method=method, points=9)
    assert found.ofv.shape == (9, 9)
    for i, j in ((0, 0), (8, 0), (3, 5), (4, 4)):
        there = fit.model.with_values({"ka": found.axes[0][i], "omega_CL": found.axes[1][j]})
        # Modes followed from a neighbour and sought from zero agree to the decrement they end at, 1e-6 a subject.
        assert found.ofv[i, j] == pytest.approx(there.ofv(fit.data, method=method), abs=12e-6)


def test_the_contours_of_a_paraboloid_are_its_ellipses() -> None:
    model, data = line()
    found = last(model.problem(data), model.values, ["a", "b"], method="fo", points=33)
    x = np.column_stack([np.ones(data.n_obs), data.time])
    estimate, *_ = np.linalg.lstsq(x, data.dv, rcond=None)
    information = x.T @ x / 0.25
    covariance = np.linalg.inv(information)
    lowest = float(((data.dv - x @ estimate) ** 2).sum() / 0.25 + data.n_obs * np.log(0.25))
    # The lowest point known is one of the grid, at most half a square from the estimate.
    half = 0.5 * np.array([np.ptp(found.axes[k]) / 32 for k in range(2)])
    above = max(float(d @ information @ d) for d in half * np.array([[1, 1], [1, -1]]))
    assert 0.0 <= found.minimum - lowest <= above
    for level, (a, b) in found.contours().items():
        inside = np.isfinite(a)
        away = np.column_stack([a[inside], b[inside]]) - estimate
        rise = np.einsum("ni,ij,nj->n", away, information, away) - (found.minimum - lowest)
        # A contour is made of chords on squares a quarter of the grid's: their sag is quadratic in these.
        assert rise == pytest.approx(level, abs=above / 4)
    sd = np.sqrt(np.diag(covariance))
    assert found.correlation == pytest.approx(covariance[0, 1] / sd.prod(), rel=1e-4)
    for k, (low, high) in enumerate(found.extent(5.99).values()):
        reach = np.sqrt((5.99 + found.minimum - lowest) * covariance[k, k])
        assert (low, high) == pytest.approx((estimate[k] - reach, estimate[k] + reach), abs=0.02 * sd[k])


def test_a_profiled_surface_projects_to_the_profile_intervals(fit: nw.Fit) -> None:
    """Its 3.84 contour reaches as far along each parameter as the likelihood profile of that one, from other code."""
    fit = fit.model.fix("omega_ka", "omega_CL", "omega_V", "additive").fit(fit.data, "focei")
    found = last(fit.problem, fit.values, ["CL", "V"], profile=True, points=9, start=fit.etas.T)
    assert found.profiled
    intervals = profile(fit, ["CL", "V"], progress=False).intervals
    for name, (low, high) in found.extent(3.84).items():
        width = intervals.loc[name, "upper"] - intervals.loc[name, "lower"]
        assert low == pytest.approx(intervals.loc[name, "lower"], abs=0.02 * width)
        assert high == pytest.approx(intervals.loc[name, "upper"], abs=0.02 * width)


def test_it_comes_coarse_to_fine_and_may_be_left(fit: nw.Fit) -> None:
    seen = []
    for found in surface(fit.problem, fit.values, ["ka", "CL"], points=9):
        seen.append((len(found.ofv), found.done))
    assert [n for n, _ in dict.fromkeys((n, 0) for n, _ in seen)] == [0, 5, 9]
    assert [d for _, d in seen] == sorted(d for _, d in seen)
    assert seen[-1] == (9, 1.0)


def test_around_a_point_that_is_no_minimum_the_minimum_is_in_the_picture(fit: nw.Fit) -> None:
    away = fit.start.space.from_dict({"CL": 3.4, "V": 28.0}, fit.values)
    found = last(fit.problem, away, ["CL", "V"], points=17)
    for k, name in enumerate(("CL", "V")):
        assert found.axes[k][0] < fit.estimates[name] < found.axes[k][-1]
    assert found.minimum < found.centre - 5.0


def test_correlations_stay_within_their_bounds_and_priors_count() -> None:
    data = nw.datasets.load("theophylline")
    options = {
        "ka": nw.LogNormal(1.5, sd=0.6),
        "CL": nw.LogNormal(2.8, sd=0.3),
        "V": nw.LogNormal(32.0, sd=0.2),
        "residual": nw.Additive(0.7),
    }
    model = nw.library.oral_1cpt(**options, correlation={("CL", "V"): 0.3})
    found = last(model.problem(data), model.values, ["corr_CL_V", "omega_CL"], points=5)
    assert np.all(np.abs(found.axes[0]) < 1)
    assert np.isfinite(found.ofv).all()
    model, data = line()
    parameters = {"a": nw.Normal(2.0), "b": nw.Normal(0.7)}
    informed = nw.Model("a + b*t", parameters, residual=nw.Additive(0.5), priors={"a": nw.priors.Normal(1.0, 0.1)})
    prior, none = (next(surface(m.problem(data), m.values, ["a", "b"])).centre for m in (informed, model))
    assert prior - none == pytest.approx(informed.problem(data).penalty.value(informed.values))


def test_what_cannot_be_drawn_is_refused(fit: nw.Fit) -> None:
    with pytest.raises(nw.ModelError, match="two different parameters"):
        next(surface(fit.problem, fit.values, ["ka", "ka"]))
    with pytest.raises(nw.ModelError, match="There is no population parameter 'kb'"):
        next(surface(fit.problem, fit.values, ["ka", "kb"]))
    with pytest.raises(nw.ModelError, match="power of two and one"):
        next(surface(fit.problem, fit.values, ["ka", "CL"], points=20))


@pytest.mark.parametrize("kind", ["counts", "occasions"])
def test_other_kinds_of_model_have_a_surface(kind: str) -> None:
    model, data = KINDS[kind]()
    names = list(model.names[:2])
    found = last(model.problem(data), model.values, names, points=5, method="laplace")
    assert np.isfinite(found.ofv).all()
    corner = model.with_values({n: axis[0] for n, axis in zip(names, found.axes, strict=True)})
    assert found.ofv[0, 0] == pytest.approx(corner.ofv(data, method="laplace"), abs=1e-4)
