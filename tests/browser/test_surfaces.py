"""The panels about the objective, its integral, its variance and a design, as a person sees them, in both themes."""

from __future__ import annotations

import pytest

from tests.browser import lab, pages

SETUP = lab.theophylline("nw.Additive(0.7)")

THEMES = pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])


def shoot(notebook, pictures, name: str, theme: str) -> None:
    """Take a picture of the explorer, which must be readable."""
    notebook.settle()
    short = "dark" if "Dark" in theme else "light"
    notebook.page.locator(".nlme").first.screenshot(path=pictures / f"{name}-{short}.png")
    assert pages.unreadable(notebook.page) == []
    assert pages.clipped(notebook.page) == []


@THEMES
def test_a_surface_with_the_way_of_the_fit_and_a_click(open_notebook, pictures, theme) -> None:
    notebook = open_notebook(SETUP)
    page = notebook.page
    notebook.theme(theme)
    notebook.execute("explorer.start().wait(); explorer.panel = 'surface'")
    notebook.execute("panel = explorer.panels['surface']; panel.second.value = 'V'; panel.start(); panel.wait()")
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('33 × 33 points')", 20_000)
    shoot(notebook, pictures, "surface", theme)
    before = notebook.execute("print(explorer.params['ka'], explorer.params['V'])")
    box = page.locator(".nlme .bqplot:visible image").last.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"])
    notebook.settle()
    after = notebook.execute("print(explorer.params['ka'], explorer.params['V'])")
    was, now = ([float(v) for v in text.split()] for text in (before, after))
    axes = notebook.execute("print(*[a[k] for a in panel.surface.axes for k in (0, -1)])")
    low, high, bottom, top = (float(v) for v in axes.split())
    assert was != now
    assert now[0] == pytest.approx(low * (high / low) ** 0.25, rel=0.02)
    assert now[1] == pytest.approx(bottom * (top / bottom) ** 0.75, rel=0.02)


@THEMES
def test_a_design_whose_samples_are_dragged(open_notebook, pictures, theme) -> None:
    notebook = open_notebook(SETUP)
    page = notebook.page
    notebook.theme(theme)
    notebook.execute("explorer.panel = 'design'; panel = explorer.panels['design']; panel.wait()")
    notebook.execute("panel.pin_design(); panel.text_times.value = '1, 4, 8, 16'; panel.wait()")
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('D-efficiency')", 20_000)
    shoot(notebook, pictures, "design", theme)
    point = page.locator(".nlme .bqplot:visible .object_grp").last
    box = point.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y, steps=4)
    page.mouse.up()
    notebook.settle()
    notebook.execute("panel.wait()")
    dragged = [float(t) for t in notebook.execute("print(*panel.plan.times)").split()]
    assert dragged[:3] == [1.0, 4.0, 8.0]
    assert 8.0 < dragged[3] < 16.0
    image = page.locator(".nlme .bqplot:visible image").last.bounding_box()
    page.mouse.click(image["x"] + 0.9 * image["width"], image["y"] + 0.3 * image["height"])
    notebook.settle()
    assert int(notebook.execute("print(len(panel.plan.times))")) == 5


@THEMES
@pytest.mark.parametrize("etas", [1, 2])
def test_an_integral_with_its_approximations(open_notebook, pictures, theme, etas) -> None:
    notebook = open_notebook(SETUP)
    notebook.theme(theme)
    notebook.execute("explorer.panel = 'integral'; panel = explorer.panels['integral']; explorer.selected_ids = (10,)")
    notebook.execute("panel.boxes['fo'].value = True; panel.wait()")
    if etas == 1:
        notebook.execute("panel.second.value = ''; panel.points.value = 'draws'; panel.wait()")
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('by quadrature')", 20_000)
    shoot(notebook, pictures, f"integral-{etas}", theme)


@THEMES
def test_the_variance_over_time(open_notebook, pictures, theme) -> None:
    notebook = open_notebook(SETUP)
    notebook.theme(theme)
    notebook.execute("explorer.panel = 'variance'; explorer.panels['variance'].wait()")
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('between subjects (')", 20_000)
    shoot(notebook, pictures, "variance", theme)


@THEMES
def test_runs_with_their_lineage_side_by_side(open_notebook, pictures, theme) -> None:
    notebook = open_notebook(SETUP)
    notebook.theme(theme)
    notebook.execute("explorer.start().wait(); explorer.take_estimates(); explorer.excluded = (9,)")
    notebook.execute("explorer.start().wait(); explorer.excluded = ()")
    notebook.execute("explorer.params = {'omega_V': 0.25}; explorer.fixed = ('omega_V',)")
    notebook.execute("explorer.start().wait(); explorer.panel = 'runs'; panel = explorer.panels['runs']; panel.wait()")
    notebook.execute("panel.first.value = '1 focei'; panel.wait()")
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('Furthest apart')", 30_000)
    shoot(notebook, pictures, "lineage", theme)
