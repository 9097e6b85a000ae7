"""The joint posterior density: its gradient, its Jacobians, its coordinates, and its default priors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import sympy as sp
from hypothesis import HealthCheck, Phase, given, settings
from scipy import stats

import nlmewidgets as nw
from nlmewidgets import priors
from nlmewidgets.core.default_priors import complete
from nlmewidgets.core.priors import InverseWishart, Penalty
from nlmewidgets.methods.joint import Joint
from tests.models import Case, every_case, make

A, K = sp.symbols("A k", positive=True)
DECAY = A * sp.exp(-K * nw.time)


def table(subjects: int = 5, times: tuple[float, ...] = (0.5, 2.0, 5.0), seed: int = 0, **columns: Any) -> nw.Data:
    rng = np.random.default_rng(seed)
    rows = [(i + 1, t, 8 * np.exp(-0.3 * t + 0.2 * rng.standard_normal())) for i in range(subjects) for t in times]
    return nw.Data.from_frame(pd.DataFrame(rows, columns=["ID", "TIME", "DV"]).assign(**columns))


def joint_of(model: nw.Model, data: nw.Data, seed: int = 0, points: int = 2) -> tuple[Joint, np.ndarray]:
    """Return the density and points around the initial values."""
    problem = model.problem(data)
    start = problem.space.initial
    joint, eta = Joint.around(problem, start, complete(model), start)
    rng = np.random.default_rng(seed)
    return joint, joint.point(start, eta) + 0.1 * rng.standard_normal((points, joint.size))


def check(joint: Joint, points: np.ndarray, seed: int = 0) -> None:
    """The gradient along coordinates and a random direction is the central difference, to 1e-6."""
    _, gradient, _ = joint(points)
    rng = np.random.default_rng(seed)
    chosen = [*range(joint.n_population), *rng.permutation(np.arange(joint.n_population, joint.size))[:3]]
    directions = [*np.eye(joint.size)[chosen], rng.standard_normal(joint.size) / np.sqrt(joint.size)]
    for direction in directions:
        h, found = 1e-3, []
        for _ in range(2):  # Richardson's extrapolation leaves an error of h⁴
            up, down = joint(points + h * direction)[0], joint(points - h * direction)[0]
            found.append((up - down) / (2 * h))
            h /= 2
        difference = (4 * found[1] - found[0]) / 3
        along = gradient @ direction
        size = 1.0 + np.abs(along) + 1e-3 * np.abs(gradient).max(axis=1)
        assert (np.abs(along - difference) < 1e-6 * size).all(), (along, difference)


@settings(max_examples=5, deadline=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
@given(case=every_case)
def test_the_gradient_is_the_central_difference(case: Case) -> None:
    joint, points = joint_of(case.model, case.data)
    value, gradient, _ = joint(points)
    assert np.isfinite(value).all()
    check(joint, points)
    for k, point in enumerate(points):  # a batch says what its members say
        own = joint(point[None])
        assert own[0][0] == pytest.approx(value[k], rel=1e-12)
        np.testing.assert_allclose(own[1][0], gradient[k], rtol=1e-9, atol=1e-9)


COUNTS = nw.Model(
    {"y": DECAY, "n": nw.Poisson(DECAY)},
    {A: nw.LogNormal(8.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.2)},
    residual={"y": nw.Combined(0.3, 0.1)},
)
PRIORS = {
    "k": priors.LogNormal(0.3, 0.4),
    ("A", "k"): InverseWishart(6.0, ((0.3, 0.02), (0.02, 0.2))),
    "additive": priors.InverseGamma(3.0, 0.4),
}
PAIRED = nw.Model(
    {"y": DECAY, "n": DECAY / 2},
    {A: nw.LogNormal(8.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.2)},
    residual={"y": nw.Additive(0.3), "n": nw.Additive(0.2)},
    residual_correlation={("y", "n"): 0.4},
)
SPECIAL = {
    "residuals correlated between outputs": (
        PAIRED,
        {"DVID": np.tile(["y", "n", "y"], 5), "TIME": np.tile([1.0, 1.0, 3.0], 5)},
    ),
    "several outputs, counts": (COUNTS, {"DVID": np.tile(["y", "n", "y"], 5)}),
    "censored": (
        nw.Model(DECAY, {A: nw.LogNormal(8.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.2)}, residual=nw.Additive(0.5)),
        {"CENS": np.tile([0, 0, 1], 5)},
    ),
    "priors of a block and of variances": (
        nw.Model(
            DECAY,
            {A: nw.LogNormal(8.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.2)},
            correlation={(A, K): 0.3},
            residual=nw.Additive(0.5),
            priors=PRIORS,
        ),
        {},
    ),
    "priors of single SDs and a correlation": (
        nw.Model(
            DECAY,
            {A: nw.LogNormal(8.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.2)},
            correlation={(A, K): 0.3},
            residual=nw.Additive(0.5),
            priors={"corr_A_k": priors.Normal(0.2, 0.5), "omega_A": priors.InverseGamma(4.0, 0.3)},
        ),
        {},
    ),
    "a shared variance": (
        nw.Model(
            DECAY,
            {A: nw.LogNormal(8.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.3)},
            same=[(A, K)],
            residual=nw.Additive(0.5),
        ),
        {},
    ),
    "a fixed SD in a block": (
        nw.Model(
            DECAY,
            {A: nw.LogNormal(8.0, sd=0.3), K: nw.LogNormal(0.3, sd=0.2)},
            correlation={(A, K): 0.3},
            residual=nw.Additive(0.5),
        ).fix("omega_k"),
        {},
    ),
    "no random effect": (nw.Model(DECAY, {A: nw.LogNormal(8.0), K: nw.LogNormal(0.3)}, residual=nw.Additive(0.5)), {}),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_the_gradient_of_what_is_special(name: str) -> None:
    model, columns = SPECIAL[name]
    check(*joint_of(model, table(**columns)))


# -------------------------------------------------------------------- Jacobians


def named(joint: Joint, point: np.ndarray) -> np.ndarray:
    """Return what the priors are densities of (variances and covariances where these are meant), and every η."""
    space = joint.problem.space
    numbers = dict(zip(space.names, joint.natural(point[None])[0], strict=True))
    out = [v for n, v in numbers.items() if not space.is_fixed(n)]
    free = [n for n in numbers if not space.is_fixed(n)]
    for key, prior in joint.priors.natural.items():
        if isinstance(prior, InverseWishart):
            i, j = (space.omega_names[space.eta.index(name)] for name in key)
            r = next(n for n, a, b in space.correlations)
            sd, other, corr = numbers[i], numbers[j], numbers[r]
            for name, value in ((i, sd**2), (j, other**2), (r, corr * sd * other)):
                out[free.index(name)] = value
        elif isinstance(key, str) and prior.of_variance:
            out[free.index(key)] = numbers[key] ** 2
    for name, (_, _) in joint.priors.coordinate.items():
        parameter = next(p for p in (*space.theta, *space.sigma) if p.name == name)
        out[free.index(name)] = parameter.free(numbers[name])
    return np.concatenate([out, joint.etas(point[None])[0].ravel()])


def log_density(joint: Joint, point: np.ndarray) -> float:
    """Return log p of the parameters as they are named, by the problem, SciPy and the penalty of a penalised fit."""
    problem, space = joint.problem, joint.problem.space
    values = space.from_dict(
        {n: v for n, v in zip(space.names, joint.natural(point[None])[0], strict=True) if not space.is_fixed(n)}
    )
    eta = joint.etas(point[None])[0]
    f = problem.predict(problem.slots(problem.typical(values.theta).slots, eta))
    out = -0.5 * float(problem.minus2ll(f, values.sigma).sum())
    if len(eta):
        omega = problem.occasions.expand(values.omega)
        out += float(stats.multivariate_normal(np.zeros(len(omega)), omega).logpdf(eta.T).sum())
    out -= 0.5 * Penalty(space, joint.priors.natural).value(values)
    for name, (mean, sd) in joint.priors.coordinate.items():
        parameter = next(p for p in (*space.theta, *space.sigma) if p.name == name)
        out += stats.norm(mean, sd).logpdf(parameter.free(space.to_dict(values)[name]))
    return out


@pytest.mark.parametrize("name", [*SPECIAL, "growth with logit", "three in a block"])
def test_the_density_is_that_of_the_named_parameters_times_the_jacobian(name: str) -> None:
    """log p(coordinates) − log p(named) is log|∂ named/∂ coordinates|, but for a constant."""
    if name == "growth with logit":
        joint, points = joint_of(*(lambda c: (c.model, c.data))(make("growth", "additive", ("logit",), subjects=3)))
    elif name == "three in a block":
        case = make("oral", "additive", subjects=3)
        ka, cl, v = case.model.parameters
        block = nw.Model(
            case.model.prediction,
            dict(case.model.parameters),
            correlation={(ka, cl): 0.4, (ka, v): 0.1, (cl, v): -0.2},
            residual=nw.Additive(0.4),
        )
        joint, points = joint_of(block, case.data)
    else:
        model, columns = SPECIAL[name]
        joint, points = joint_of(model, table(**columns))
    excess = []
    for point in points:
        h = 1e-5
        jacobian = [(named(joint, point + h * e) - named(joint, point - h * e)) / (2 * h) for e in np.eye(joint.size)]
        own = joint(point[None])[0][0] - log_density(joint, point)
        excess.append(own - np.linalg.slogdet(np.array(jacobian))[1])
    assert excess[0] == pytest.approx(excess[1], abs=1e-6)


def test_a_point_and_its_etas_are_inverse() -> None:
    case = make("oral", "combined", ("block", "iov"), subjects=4)
    joint, points = joint_of(case.model, case.data)
    space = case.model.space
    values = space.from_dict(dict(zip(space.names, joint.natural(points)[0], strict=True)))
    np.testing.assert_allclose(joint.point(values, joint.etas(points)[0]), points[0], atol=1e-9)


def test_in_a_linear_model_the_coordinates_of_the_effects_are_standard_normal_whatever_omega() -> None:
    """Exactly so: the conditional distribution of η is the Gaussian that the coordinates are made of."""
    mu, b = sp.symbols("mu b")
    model = nw.Model(
        mu + b * nw.time, {mu: nw.Normal(3.0, sd=1.0), b: nw.Normal(0.5, sd=0.4)}, residual=nw.Additive(0.5)
    ).fix("additive")
    joint, points = joint_of(model, table())
    u = points[:, joint.n_population :]
    moved = points.copy()
    moved[:, : joint.n_population] += np.array([0.7, -0.3, 0.5, -0.9])
    for at in (points, moved):
        np.testing.assert_allclose(joint(at)[1][:, joint.n_population :], -u, atol=1e-9)


def test_where_there_is_no_number_the_density_is_zero() -> None:
    case = make("decay", "additive")
    joint, points = joint_of(case.model, case.data)
    points[0, 0] = np.nan
    value, gradient, _ = joint(points)
    assert value[0] == -np.inf
    assert not gradient[0].any()
    assert np.isfinite(value[1])


# ------------------------------------------------------------------ default priors


def test_default_priors_are_said_in_words_and_only_for_what_is_free() -> None:
    model = nw.Model(
        DECAY,
        {A: nw.LogNormal(8.0, sd=0.3, effect=nw.theta("beta", 0.2)), K: nw.LogitNormal(0.3, sd=0.2, lower=0, upper=2)},
        correlation={(A, K): 0.3},
        residual=nw.Combined(0.5, 0.1),
        priors={"omega_A": priors.LogNormal(0.3, 0.5)},
    ).fix("proportional")
    assert complete(model).words == {
        "omega_A": "LogNormal(median=0.3, sd=0.5)",
        "A": "LogNormal(median=8, sd=1.5) (default)",
        "beta": "Normal(mean=0.2, sd=2.5) (default)",
        "k": "logit-normal(median=0.3, sd=1.5) on (0, 2) (default)",
        "additive": "HalfNormal(scale=2.5) (default)",
        "omega_k": "HalfNormal(scale=1) (default)",
        "eta_A, eta_k": "LKJ(shape=2) (default)",
    }
