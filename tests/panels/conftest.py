"""An explorer without a browser: widgets are objects, clicking is a method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import nlmewidgets as nw
from nlmewidgets.panels.state import State


@pytest.fixture
def model() -> nw.Model:
    return nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Additive(0.7),
        name="Theophylline",
    )


@pytest.fixture
def data() -> nw.Data:
    return nw.datasets.load("theophylline")


@pytest.fixture
def explore() -> Iterator[Callable[..., Any]]:
    """Make explorers that are stopped and closed at the end of the test."""
    made: list[Any] = []

    def make(model: nw.Model, data: nw.Data, **options: Any) -> Any:
        made.append(nw.explore(model, data, **options))
        return made[-1]

    yield make
    for explorer in made:
        explorer.stop()
        explorer.wait(10)
        explorer.close()


@pytest.fixture
def alone(model: nw.Model, data: nw.Data) -> Callable[..., Any]:
    """Show a panel over a state of its own: an explorer would build all others too."""

    def show(kind: Callable[[State], Any], of: nw.Model = model, over: nw.Data = data, method: str = "focei") -> Any:
        state = State()
        state.method = method
        state.setup(of, over)
        panel = kind(state)
        panel.show()
        panel.wait(60)
        return panel

    return show
