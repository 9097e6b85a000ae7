"""The environment under a reader's own settings: forced colours, larger fonts, a zoomed page, no motion."""

from __future__ import annotations

import pytest

from tests.browser.lab import theophylline
from tests.browser.pages import clipped, unreadable

PANELS = ("population", "individuals", "converge", "diagnostics")

LARGER = """() => {
    const sizes = {0: 14, 1: 18, 2: 22, 3: 26};
    for (const [k, v] of Object.entries(sizes))
        document.documentElement.style.setProperty(`--jp-ui-font-size${k}`, `${v}px`);
    document.documentElement.style.setProperty('--jp-widgets-font-size', '18px');
}"""

SEEN = """() => {
    const look = e => { const s = getComputedStyle(e); return s.backgroundColor + ' ' + s.color; };
    const steps = [...document.querySelectorAll('.nlme .nlme-steps button')];
    const track = getComputedStyle(document.querySelector('.nlme .noUi-target'));
    const line = [...document.querySelectorAll('.nlme .bqplot path.line')].filter(p => p.getClientRects().length);
    return {
        steps: steps.map(look), chosen: steps.findIndex(e => e.classList.contains('mod-active')),
        track: track.backgroundColor, page: getComputedStyle(document.documentElement).backgroundColor,
        lines: line.map(p => getComputedStyle(p).stroke),
    };
}"""


@pytest.fixture
def settings(page):
    yield page
    page.emulate_media(forced_colors="none", color_scheme="light", reduced_motion="no-preference")
    page.set_viewport_size({"width": 1280, "height": 1500})
    page.evaluate("() => document.documentElement.removeAttribute('style')")


def test_forced_colours_larger_fonts_and_zoom_leave_everything_to_be_seen(open_notebook, settings, pictures) -> None:
    notebook = open_notebook(theophylline("nw.Combined(additive=0.3, proportional=0.1)"))
    notebook.execute("explorer.selected_ids = (5,); explorer.start().wait(60)")

    def each(name: str, *checks) -> None:
        for panel in PANELS:
            notebook.execute(f"explorer.panel = {panel!r}")
            notebook.settle()
            notebook.page.locator(".nlme").first.screenshot(path=pictures / f"{name}-{panel}.png")
            for check in checks:
                assert check(settings) == [], (name, panel, check.__name__)

    for scheme in ("light", "dark"):
        settings.emulate_media(forced_colors="active", color_scheme=scheme)
        each(f"forced-{scheme}", unreadable, clipped)
        notebook.execute("explorer.panel = 'population'")
        notebook.settle()
        seen = settings.evaluate(SEEN)
        others = {look for k, look in enumerate(seen["steps"]) if k != seen["chosen"]}
        assert seen["steps"][seen["chosen"]] not in others  # the step one is in can be told
        assert seen["track"] != seen["page"]
        assert len(set(seen["lines"])) >= 2  # the selected subject's curve is not the typical one's
    settings.emulate_media(forced_colors="none", color_scheme="light", reduced_motion="reduce")
    moving = (
        "[...document.querySelectorAll('.nlme *')].filter(e => parseFloat(getComputedStyle(e).transitionDuration) > 0)"
    )
    assert settings.evaluate(f"{moving}.length") == 0
    settings.set_viewport_size({"width": 853, "height": 1500})  # 1280 at 150 %
    each("zoomed", clipped)
    settings.set_viewport_size({"width": 1280, "height": 1500})
    settings.evaluate(LARGER)
    each("larger", clipped)


def test_a_click_into_a_cloud_of_points_selects_a_subject(open_notebook) -> None:
    cell = theophylline("nw.Additive(0.7)")
    many = (
        "import pandas as pd\nrecords = data.records\n"
        "data = nw.Data.from_frame(pd.concat([records.assign(ID=records['ID'] + 100 * k) for k in range(8)]))\n"
    )
    notebook = open_notebook(cell.replace("explorer = ", many + "explorer = "))
    notebook.settle()
    place = notebook.page.evaluate(
        """() => {
            const path = document.querySelector('.nlme .nlme-cloud path.line');
            const at = path.getPointAtLength(0).matrixTransform(path.getScreenCTM());
            return [at.x, at.y, getComputedStyle(path).strokeLinecap];
        }"""
    )
    assert place[2] == "round"
    notebook.page.mouse.click(place[0], place[1])
    notebook.wait_for("document.querySelector('.nlme').innerText.includes('Selected: ')")
    assert len(eval(notebook.execute("print(explorer.selected_ids)"))) == 1
