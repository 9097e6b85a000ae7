"""Rulers: round ticks inside the domain, and a domain that does not jitter."""

from __future__ import annotations

import threading
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import nlmewidgets as nw
from nlmewidgets.panels.base import Panel, Ruler, _log_ticks, round_ticks
from nlmewidgets.panels.selection import Selection


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 8))
def test_ticks_are_round_inside_the_domain_and_neither_too_few_nor_too_many(low, width, count) -> None:
    # A domain far narrower than its distance from zero has no digits left for its ticks.
    assume(width > 1e-4 * abs(low))
    values, decimals = round_ticks(low, low + width, count)
    assert 1 <= len(values) <= count + 2
    rounding = 1e-9 * width
    assert (values >= low - rounding).all()
    assert (values <= low + width + rounding).all()
    if len(values) > 1:
        step = values[1] - values[0]
        mantissa = step / 10 ** np.floor(np.log10(step) + 1e-9)
        assert mantissa == pytest.approx(round(mantissa), rel=1e-4)
        assert round(step, decimals) == pytest.approx(step, rel=1e-6)


def test_log_ticks_are_one_two_five() -> None:
    assert _log_ticks(-1.0, 1.0) == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5, 10])


def test_a_sticky_domain_grows_at_once_and_shrinks_late() -> None:
    ruler = Ruler("DV (mg/L)", "left")
    ruler.span(0, 10)
    top = ruler.scale.max
    ruler.span(0, 9, sticky=True)
    assert ruler.scale.max == top
    ruler.span(0, 12, sticky=True)
    assert ruler.scale.max > top
    ruler.span(0, 3, sticky=True)
    assert ruler.scale.max < top


@pytest.mark.parametrize("domain", [(float("nan"), 1.0), (0.0, float("inf"))])
def test_a_domain_that_is_not_finite_is_ignored(domain) -> None:
    ruler = Ruler("", "bottom")
    ruler.span(0, 10)
    before = (ruler.scale.min, ruler.scale.max)
    ruler.span(*domain)
    assert (ruler.scale.min, ruler.scale.max) == before


def test_a_constant_gets_a_domain_around_it() -> None:
    ruler = Ruler("", "left")
    ruler.span(5.0, 5.0)
    assert ruler.scale.min < 5.0 < ruler.scale.max


class Slow(Panel):
    """A panel whose making takes a while."""

    parts: ClassVar = {"draw": ("selected_ids",)}

    def build(self) -> None:
        self.building.set()
        self.go_on.wait(10)
        self.mark = 0

    def draw(self) -> None:
        self.mark += 1


def test_a_panel_being_made_is_not_drawn_by_another_thread() -> None:
    """What a fit draws while a panel is first shown ended the fit with an AttributeError."""
    state, failed = Selection(), []
    state.data = nw.datasets.load("theophylline")
    panel = Slow(state)
    panel.building, panel.go_on = threading.Event(), threading.Event()

    def fit() -> None:
        try:
            state.selected_ids = (5,)
        except AttributeError as error:
            failed.append(error)

    shown, drawing = threading.Thread(target=panel.show), threading.Thread(target=fit)
    shown.start()
    assert panel.building.wait(10)
    drawing.start()
    drawing.join(0.1)
    panel.go_on.set()
    shown.join(10)
    drawing.join(10)
    assert not failed
    assert panel.mark == 2


def test_an_axis_over_decades_has_powers_of_ten_and_no_crowd() -> None:
    # A gradient that falls from 20 to 0.0002 on a small figure: two powers, not the one round number of a plain axis.
    for low, high, count in ((-3.75, 1.4, 3), (-2.1, 0.05, 3), (-5.0, 3.0, 4)):
        ticks = np.log10(_log_ticks(low, high, count))
        assert len(ticks) >= 2
        assert np.allclose(ticks, np.round(ticks))
        assert np.diff(ticks).min() > (high - low) / 8
    assert len(_log_ticks(0.1, 0.4, 4)) >= 2  # within a decade: 1.5, 2, 2.5
