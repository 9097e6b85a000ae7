"""Fixtures that more than one test file needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import nlmewidgets as nw


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of reference values and data beside the repository, or skip."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not (path / "reference").is_dir():
        pytest.skip("the folder shared/reference is not beside the repository")
    return path


@pytest.fixture(scope="session")
def theophylline() -> nw.Data:
    """Return theophylline, total dose in mg."""
    return nw.datasets.load("theophylline")


@pytest.fixture(scope="session")
def oral_model() -> Callable[..., nw.Model]:
    """Return a factory of the one-compartment oral model at usual starting values."""

    def make(residual: object = None, **changes: object) -> nw.Model:
        parts = {
            "ka": nw.LogNormal(1.5, sd=0.6),
            "CL": nw.LogNormal(2.8, sd=0.3),
            "V": nw.LogNormal(32.0, sd=0.2),
            "residual": nw.Additive(0.7) if residual is None else residual,
        }
        return nw.library.oral_1cpt(**(parts | changes))

    return make
