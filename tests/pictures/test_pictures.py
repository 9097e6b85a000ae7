"""Every picture of the registry: drawn headless, labelled, nothing clipped or overlapping, or refused in a sentence."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.pictures import PICTURES
from nlmewidgets.pictures.base import running
from nlmewidgets.report.gallery import EXAMPLES, Shown

SHOWN = [(which, own) for which, (_, pictures) in EXAMPLES.items() for own in pictures]
REFUSED = [("Counts", Shown(name)) for name in ("residuals", "pcvpc", "individuals")]


@pytest.fixture(scope="module")
def fits() -> dict[str, nw.Fit]:
    return {name: make() for name, (make, _) in EXAMPLES.items()}


def texts(figure: object) -> list[tuple[str, object]]:
    """Return every text shown with its box, in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # every text has its place, no pixel is painted
    hidden = set()
    for ax in figure.axes:  # ticks outside the limits of their axis are made, but not drawn
        (x0, x1), (y0, y1) = sorted(ax.get_xlim()), sorted(ax.get_ylim())
        hidden |= {id(t) for t in ax.get_xticklabels() if not x0 <= t.get_position()[0] <= x1 or not ax.axison}
        hidden |= {id(t) for t in ax.get_yticklabels() if not y0 <= t.get_position()[1] <= y1 or not ax.axison}
    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and id(t) not in hidden]
    return [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in shown]


@pytest.mark.parametrize(("which", "own"), SHOWN + REFUSED, ids=str)
def test_a_picture_is_readable_or_says_why_not(which: str, own: Shown, fits: dict[str, nw.Fit]) -> None:
    fit, name = fits[which], own.name
    why = PICTURES[name].refusal(fit)
    assert bool(why) == ((which, own) in REFUSED)
    if why:
        assert re.match(r"^[A-Z].*\.$", why)
        with pytest.raises(nw.NlmeError, match=re.escape(why)):
            fit.draw(name)
        return
    drawing = fit.draw(name, **own.options)
    width, height = drawing.figure.bbox.width, drawing.figure.bbox.height
    found = texts(drawing.figure)
    for text, box in found:
        assert box.x0 > -1, f"clipped: {text}"
        assert box.y0 > -1, f"clipped: {text}"
        assert box.x1 < width + 1, f"clipped: {text}"
        assert box.y1 < height + 1, f"clipped: {text}"
    for (one, a), (other, b) in combinations(found, 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert not (wide > 2 and high > 2), f"'{one}' overlaps '{other}'"
    for ax in drawing.figure.axes:
        if ax.axison and name not in ("individuals", "convergence", "eta-pairs", "integrand"):
            assert ax.get_xlabel(), name
            assert ax.get_ylabel(), name
    root = ET.fromstring(drawing.svg)
    assert root.get("aria-label") == drawing.title


@pytest.mark.parametrize("picture", PICTURES.values(), ids=list(PICTURES))
def test_a_picture_says_how_to_read_it_and_when_it_misleads(picture: nw.pictures.Picture) -> None:
    for sentence in (picture.read, picture.misleads):
        assert re.match(r"^[A-Z0-9].*\.$", sentence)
    assert PICTURES[picture.name] is picture


def test_the_same_fit_makes_the_same_picture_and_files_of_several_kinds(fits: dict[str, nw.Fit], tmp_path) -> None:
    fit = fits["Theophylline"]
    assert fit.draw("vpc").svg == fit.draw("vpc").svg
    drawing = fit.draw("observed-predicted")
    for ending, start in {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}.items():
        assert drawing.save(tmp_path / f"a.{ending}").read_bytes().startswith(start)
    with pytest.raises(nw.NlmeError, match="no picture 'gof'; there are observed-predicted,"):
        fit.draw("gof")


def test_the_points_are_those_of_the_table(fits: dict[str, nw.Fit]) -> None:
    fit = fits["Theophylline"]
    table = fit.table()
    (points, *_), _ = fit.draw("observed-predicted").figure.axes[1].lines, None
    np.testing.assert_allclose(points.get_xdata(), table["IPRED"])
    np.testing.assert_allclose(points.get_ydata(), table["DV"])


def test_trends_of_predictions_that_take_two_values_are_finite():
    x = np.repeat([1.0, 2.0], 50)
    at, trend = running(x, np.where(x == 1.0, 3.0, 5.0))
    assert np.isfinite(trend).all()
    assert trend[0] == pytest.approx(3.0)
    assert trend[-1] == pytest.approx(5.0)
    assert at[0] == 1.0
