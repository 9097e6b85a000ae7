"""A run of SAEM that is not at a maximum says so, and one that is does not."""

from __future__ import annotations

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.core.parameters import Values
from nlmewidgets.diagnostics.remedies import remedies
from nlmewidgets.methods.arrival import not_arrived


def per_kg(far: float, narrow: float) -> nw.Model:
    return nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5 * far, sd=0.6 * narrow),
        CL=nw.LogNormal(0.04 * far, sd=0.3 * narrow),
        V=nw.LogNormal(0.45 * far, sd=0.2 * narrow),
        residual=nw.Additive(0.7 * narrow),
    )


def test_an_exploration_that_is_stuck_is_not_called_converged() -> None:
    """Ten times too large and far too certain: variances vanish before typical values arrive, and nothing drifts."""
    data = nw.datasets.load("theophylline_per_kg")
    best = per_kg(1.0, 1.0).fit(data, "saem", seed=1, explore=150, smooth=50)
    assert best.status == "converged"
    stuck = per_kg(10.0, 0.1).fit(data, "saem", seed=1, explore=400, smooth=50, orient=False)
    assert stuck.ofv > best.ofv + 100
    assert stuck.status == "limit"
    assert "It is not at a maximum: −2 log L falls along" in stuck.message
    labels = [remedy.label for remedy in remedies(stuck)]
    assert labels[:2] == ["Guess", "Fit by FOCEI"]
    # The same start where it may look around.
    assert per_kg(10.0, 0.1).fit(data, "saem", seed=1, explore=150, smooth=50).ofv < best.ofv + 2


@pytest.fixture(scope="module")
def maximum(theophylline: nw.Data) -> nw.Fit:
    return per_kg(1.0, 1.0).fit(nw.datasets.load("theophylline_per_kg"), "agq", nodes=7)


def test_at_the_maximum_nothing_falls(maximum: nw.Fit) -> None:
    assert not_arrived(maximum.problem, maximum.values) == ()


@pytest.mark.parametrize(("name", "coordinate"), [("CL", "log CL"), ("omega_V", "log chol eta_V"), ("additive", None)])
def test_what_is_two_standard_errors_off_is_named(maximum: nw.Fit, name: str, coordinate: str | None) -> None:
    space = maximum.problem.space
    moved = maximum.estimates[name] + 2.5 * maximum.se[name]
    off = not_arrived(maximum.problem, space.from_dict({name: moved}, maximum.values))
    assert off[0] == (coordinate or "log additive")


def test_a_variance_on_its_way_to_zero_has_arrived(maximum: nw.Fit) -> None:
    """Data without variability of V: however small the estimate is, −2 log L falls with it."""
    none = per_kg(1.0, 1.0)
    model = none.with_values(none.space.from_dict({"omega_V": 1e-6}))
    data = nw.datasets.load("theophylline_per_kg")
    table = data.records.drop(columns="MDV", errors="ignore")
    table.loc[data.observed, "DV"] = model.simulate(data, seed=3)["DV"].to_numpy()
    simulated = nw.Data.from_frame(table)
    fit = none.fit(simulated, "laplace")
    small = Values(fit.values.theta, fit.values.omega * np.diag([1.0, 1.0, 0.0]), fit.values.sigma)
    omega = np.array(small.omega)
    omega[2, 2] = (1e-3 * 0.2) ** 2
    assert not_arrived(none.problem(simulated), Values(small.theta, omega, small.sigma)) == ()
