"""Where widgets cannot show: a saved notebook, converted to a page, has a picture and the values."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ET

import nbformat
import numpy as np
import pytest

import nlmewidgets as nw
from nlmewidgets.panels.still import still, words


def picture(text: str) -> ET.Element:
    (encoded,) = re.findall(r"data:image/svg\+xml;base64,([^'\"]+)['\"]", text)
    return ET.fromstring(base64.b64decode(encoded))


def test_the_bundle_has_the_widget_a_picture_and_words(explore, model, data) -> None:
    explorer = explore(model, data)
    explorer.params = {"ka": 1.25}
    bundle = explorer._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert bundle["text/plain"] == words(explorer)
    assert f"12 subjects, {data.n_obs} observations; OFV {explorer.ofv:.3f} (focei)" in bundle["text/plain"]
    assert "<td style='text-align:left'>ka</td><td>1.25</td></tr>" in bundle["text/html"]
    assert "<script" not in bundle["text/html"]
    explorer.start().wait()
    assert f"<td>{explorer.result.estimates['ka']:.5g}</td>" in still(explorer)
    assert f"last fit by focei: OFV {explorer.result.ofv:.3f}, converged" in words(explorer)


def test_the_picture_is_of_the_data_and_the_typical_curve(explore, model, data) -> None:
    explorer = explore(model, data)
    paths = [p.get("d") or "" for p in picture(still(explorer)).iter("{http://www.w3.org/2000/svg}path")]
    (dots,) = [p for p in paths if "h0" in p]
    places = np.array(re.findall(r"M([\d.]+) ([\d.]+)h0", dots), dtype=float)
    assert len(places) == data.n_obs
    line = np.array([pair.split() for pair in paths[-1].removeprefix("M").split("L")], dtype=float)
    curve = nw.diagnostics.typical_curve(explorer.panels["population"].grid, explorer.values)
    # Both are on the same axes, upside down: the dots tell the scale.
    slope, base = np.polyfit(data.dv, places[:, 1], 1)
    assert slope < 0
    np.testing.assert_allclose(line[:, 1], base + slope * curve, atol=0.11)


def test_values_that_cannot_be_computed_are_said_and_not_drawn(explore, model, data) -> None:
    explorer = explore(model, data)
    explorer.params = {"V": 1e-300, "CL": 1e300}
    assert "no objective yet" in words(explorer)
    assert "fill-opacity" not in ET.tostring(picture(still(explorer)), encoding="unicode")


def test_a_converted_notebook_shows_it(explore, model, data) -> None:
    nbconvert = pytest.importorskip("nbconvert")
    explorer = explore(model, data)
    shown = nbformat.v4.new_output("display_data", data=explorer._repr_mimebundle_())
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("explorer", outputs=[shown])])
    page, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    assert "observations (dots), typical curve" in page
    assert "run the cell in JupyterLab" in page
    image = page[page.rindex("<img", 0, page.index("observations (dots)")) :]
    assert picture(image[: image.index(">")]).tag.endswith("svg")
