"""How long a key on a slider takes to move a curve in a real browser, and Stop to end a fit.

    python benchmarks/latency.py

Prints medians of one run: times in milliseconds from the key event to the first animation frame in
which the drawn path differs, beside that of a bare slider that moves one bqplot line (the echo:
what JupyterLab, the kernel and bqplot cost without us).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))

import lab  # noqa: E402

ECHO = """\
import bqplot, ipywidgets, numpy as np
x = np.linspace(0, 1, 81)
sx, sy = bqplot.LinearScale(), bqplot.LinearScale(min=0.0, max=1000.0)
line = bqplot.Lines(x=x, y=500 * x, scales={"x": sx, "y": sy})
slider = ipywidgets.IntSlider(500, 0, 1000)
slider.observe(lambda c: setattr(line, "y", c["new"] * x), "value")
axes = [bqplot.Axis(scale=sx), bqplot.Axis(scale=sy, side="left")]
box = ipywidgets.VBox([slider, bqplot.Figure(marks=[line], axes=axes, animation_duration=0)])
box.add_class("nlme")
box
"""

EXPLORE = """\
import nlmewidgets as nw
import pandas as pd
data = nw.datasets.load("theophylline")
copies = {copies}
if copies > 1:
    records = [data.records.assign(ID=data.records["ID"] + 100 * k) for k in range(copies)]
    data = nw.Data.from_frame(pd.concat(records, ignore_index=True), units=data.units)
model = nw.library.oral_1cpt(
    ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3), V=nw.LogNormal(32.0, sd=0.2),
    residual=nw.Combined(additive=0.3, proportional=0.1), name="Theophylline",
)
explorer = nw.explore(model, data)
explorer
"""

PRESS = """async (count) => {
    const handle = document.querySelectorAll('.nlme .noUi-handle')[0];
    handle.focus();
    const paths = () => [...document.querySelectorAll('.nlme .bqplot path.line')].map(p => p.getAttribute('d')).join();
    const times = [];
    for (let k = 0; k < count; k++) {
        const before = paths(), start = performance.now();
        const key = k % 20 < 10 ? 'ArrowRight' : 'ArrowLeft';
        handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
        while (paths() === before && performance.now() - start < 5000) await new Promise(requestAnimationFrame);
        times.push(performance.now() - start);
        await new Promise(r => setTimeout(r, 150));
    }
    return times;
}"""


def median_of_keys(notebook: lab.Notebook, count: int = 40) -> float:
    notebook.settle()
    notebook.page.evaluate(PRESS, 5)
    return statistics.median(notebook.page.evaluate(PRESS, count))


def main() -> None:
    path = lab.find_browser()
    if path is None:
        raise SystemExit("There is no Chromium or Google Chrome; install one (Debian: apt-get install chromium).")
    from playwright.sync_api import sync_playwright

    rows: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = lab.Server(Path(folder)).start()
        browser = playwright.chromium.launch(executable_path=path, args=lab.FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        try:
            notebook = lab.Notebook.open(page, server, [ECHO], "echo.ipynb")
            notebook.run()
            rows.append(("echo: a bare slider and one line", median_of_keys(notebook)))
            notebook.close()
            for copies, subjects in ((1, 12), (9, 108)):
                notebook = lab.Notebook.open(page, server, [EXPLORE.format(copies=copies)], f"{subjects}.ipynb")
                notebook.run()
                rows.append((f"{subjects} subjects: population curve and objective", median_of_keys(notebook)))
                notebook.execute("explorer.tabs.selected_index = 1")
                rows.append((f"{subjects} subjects: page of individual curves", median_of_keys(notebook)))
                notebook.execute("explorer.method_options = {'explore': 1_000_000}; explorer.method = 'saem'")
                notebook.execute("explorer.start(); explorer.tabs.selected_index = 0")
                rows.append((f"{subjects} subjects: population curve while SAEM runs", median_of_keys(notebook)))
                stop = page.locator(".nlme").first.get_by_role("button", name="Stop")
                began = time.perf_counter()
                stop.click()
                notebook.wait_for("document.querySelector('.nlme').innerText.includes('Stopped by the user')")
                rows.append((f"{subjects} subjects: Stop to usable Fit", 1e3 * (time.perf_counter() - began)))
                notebook.close()
        finally:
            browser.close()
            server.stop()
    print(f"{'median, one run':<52}{'ms':>8}")
    for name, value in rows:
        print(f"{name:<52}{value:>8.0f}")


if __name__ == "__main__":
    main()
