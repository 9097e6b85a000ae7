"""R-hat and effective sample sizes: against ArviZ's, and against chains whose autocorrelation is known."""

from __future__ import annotations

import numpy as np
import pytest

from nlmewidgets.core.convergence import ess_bulk, ess_tail, rhat


def chains(phi: float, apart: float = 0.0, draws: int = 401, seed: int = 0) -> np.ndarray:
    """Return four autoregressive chains with unit marginal SD, the first one `apart` from the others."""
    noise = np.random.default_rng(seed).standard_normal((4, draws))
    x = noise.copy()
    for t in range(1, draws):
        x[:, t] = phi * x[:, t - 1] + np.sqrt(1 - phi**2) * noise[:, t]
    x[0] += apart
    return x


# arviz_stats 0.8.0, base.array_stats: rhat, ess (bulk), ess(method="tail", prob=(0.05, 0.95)) of `chains`.
ARVIZ = {
    (-0.5, 0.0): (1.0012158569635252, 4933.528898072246, 1441.1174795715112),
    (-0.5, 0.5): (1.0237474807950935, 129.47248405458225, 1224.7345242694878),
    (0.5, 0.0): (1.0047975310647008, 529.0591272603775, 1018.5051952276366),
    (0.5, 0.5): (1.0251018503822107, 422.55437501331113, 824.2715919144597),
    (0.95, 0.0): (1.0970650965808133, 34.5529959373598, 48.97712802536108),
    (0.95, 0.5): (1.0995548725128255, 34.30614671291805, 42.88933084240317),
}


@pytest.mark.parametrize(("phi", "apart"), ARVIZ)
def test_arviz_says_the_same(phi: float, apart: float) -> None:
    x = chains(phi, apart)
    assert (rhat(x), ess_bulk(x), ess_tail(x)) == pytest.approx(ARVIZ[phi, apart], rel=1e-9)


def test_arviz_as_installed_says_the_same() -> None:
    stats = pytest.importorskip("arviz_stats.base", reason="arviz-stats is not installed").array_stats
    for phi in (-0.4, 0.2, 0.9):
        x = np.exp(chains(phi, 0.2, seed=4))
        assert rhat(x) == pytest.approx(float(stats.rhat(x)), rel=1e-9)
        assert ess_bulk(x) == pytest.approx(float(stats.ess(x)), rel=1e-9)
        assert ess_tail(x) == pytest.approx(float(stats.ess(x, method="tail", prob=(0.05, 0.95))), rel=1e-9)


@pytest.mark.parametrize("phi", [-0.3, 0.0, 0.5, 0.9])
def test_autoregressive_chains_are_worth_what_theory_says(phi: float) -> None:
    x = chains(phi, draws=8000, seed=2)
    assert ess_bulk(x) == pytest.approx(x.size * (1 - phi) / (1 + phi), rel=0.15)
    assert rhat(x) < 1.01


def test_constants_have_no_measure() -> None:
    for measure in (rhat, ess_bulk, ess_tail):
        assert np.isnan(measure(np.ones((4, 100))))
        assert np.isnan(measure(np.random.default_rng(0).random((4, 5))))
