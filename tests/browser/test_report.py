"""Reports as a reader sees them: nothing wider than the page, no error, no text on another."""

from __future__ import annotations

import pytest

import nlmewidgets as nw

OVERLAPS = """() => {
    const out = [];
    for (const svg of document.querySelectorAll('figure svg')) {
        const boxes = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())
            .map(t => [t.textContent, t.getBoundingClientRect()]);
        const frame = svg.getBoundingClientRect();
        for (let i = 0; i < boxes.length; i++) {
            const [s, a] = boxes[i];
            if (a.left < frame.left - 2 || a.right > frame.right + 2) out.push('clipped: ' + s);
            for (let j = 0; j < i; j++) {
                const [t, b] = boxes[j];
                const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (w > 3 && h > 4) out.push('overlap: ' + s + ' / ' + t);
            }
        }
    }
    return out;
}"""


@pytest.fixture(scope="module")
def fits() -> dict[str, nw.Fit]:
    data = nw.datasets.load("theophylline")
    start = {"ka": nw.LogNormal(1.5, sd=0.6), "CL": nw.LogNormal(2.8, sd=0.3), "V": nw.LogNormal(32.0, sd=0.2)}
    plain = nw.library.oral_1cpt(**start, residual=nw.Additive(0.7))
    mixed = nw.library.oral_1cpt(**start, residual=nw.Combined(0.5, 0.1))
    return {"additive": plain.fit(data), "combined": mixed.fit(data)}


@pytest.mark.parametrize("kind", ["report", "runs"])
def test_a_report_fits_its_page_and_prints(kind, fits, page, pictures, tmp_path) -> None:
    path = tmp_path / f"{kind}.html"
    if kind == "report":
        fits["additive"].report(path, pictures=["observed-predicted", "individuals", "eta-covariates", "vpc"])
    else:
        nw.compare(fits).report(path)
    page.console_errors.clear()
    page.goto(path.as_uri())
    size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert size[0] <= size[1]
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)"
    assert page.evaluate(wide) == []
    assert page.evaluate(OVERLAPS) == []
    assert page.console_errors == []
    page.screenshot(path=pictures / f"{kind}.png", full_page=True)
    assert page.pdf(format="A4").startswith(b"%PDF")
