"""How long a key on a slider takes to move a curve in a real browser, and what else a person waits for.

    python benchmarks/latency.py [paint | sliders | large | ode | memory] ...

Without a name, everything (about five minutes).  Medians of one run, in milliseconds from the key event to the first
animation frame in which the drawn path differs; the first line is the echo, a bare slider that moves one bqplot line:
what JupyterLab, the kernel and bqplot cost without us.  The last line is the browser's heap after its garbage is
collected, before and after 2,000 keys.  LAB_PYTHON chooses the environment, as in the browser tests.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
data = nw.datasets.load("theophylline")
model = nw.library.oral_1cpt(
    ka=nw.LogNormal(1.5, sd=0.6), CL=nw.LogNormal(2.8, sd=0.3), V=nw.LogNormal(32.0, sd=0.2),
    residual=nw.Combined(additive=0.3, proportional=0.1), name="Theophylline",
)
"""

COPIES = """
import pandas as pd
records = [data.records.assign(ID=data.records["ID"] + 100 * k) for k in range(-(-{subjects} // 12))]
data = nw.Data.from_frame(pd.concat(records, ignore_index=True), units=data.units)
data = data.subset(data.ids[:{subjects}])
"""

TURNOVER = """\
import nlmewidgets as nw
import sympy as sp
data = nw.datasets.load("pkpd_turnover")
depot, central, response = nw.states("depot central response")
ka, CL, V, R0, kout, IC50 = sp.symbols("ka CL V R0 kout IC50", positive=True)
cp = central / V
model = nw.Model(
    {"cp": cp, "pca": response},
    {
        ka: nw.LogNormal(1.0, sd=0.6), CL: nw.LogNormal(0.13, sd=0.3), V: nw.LogNormal(8.0, sd=0.2),
        R0: nw.LogNormal(96.0, sd=0.1), kout: nw.LogNormal(0.05, sd=0.2), IC50: nw.LogNormal(1.2, sd=0.4),
    },
    odes={
        depot: -ka * depot,
        central: ka * depot - CL / V * central,
        response: kout * (R0 * (1 - cp / (IC50 + cp)) - response),
    },
    initial={response: R0},
    residual={"cp": nw.Combined(additive=0.1, proportional=0.1), "pca": nw.Additive(4.0)},
)
"""

SHOW = "explorer = nw.explore(model, data)\nexplorer\n"

PRESS = """async ([count, pause]) => {
    const field = document.querySelector('.nlme .nlme-parameter');
    const handle = (field ? field.parentElement : document.querySelector('.nlme')).querySelector('.noUi-handle');
    handle.focus();
    const lines = [...document.querySelectorAll('.nlme .bqplot path.line')].filter(p => p.getClientRects().length);
    const paths = () => lines.map(p => p.getAttribute('d')).join();
    const times = [];
    for (let k = 0; k < count; k++) {
        const before = paths(), start = performance.now();
        const key = k % 20 < 10 ? 'ArrowRight' : 'ArrowLeft';
        handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
        while (paths() === before && performance.now() - start < 5000) await new Promise(requestAnimationFrame);
        times.push(performance.now() - start);
        await new Promise(r => setTimeout(r, pause));
    }
    return times;
}"""
"""Only lines in sight are compared: serialising those of hidden tabs would be measured as well."""

STOP = """async () => {
    const root = document.querySelector('.nlme'), start = performance.now();
    [...root.querySelectorAll('button')].find(b => b.textContent.trim() === 'Stop').click();
    while (!root.textContent.includes('Stopped by the user') && performance.now() - start < 20000)
        await new Promise(requestAnimationFrame);
    return performance.now() - start;
}"""
"""In the page: a click by the driver waits for the page to be still, which it is not while a fit runs."""

PAINTED = """async () => {
    const start = performance.now();
    const done = window.jupyterapp.commands.execute('notebook:run-all-cells');
    const drawn = () => [...document.querySelectorAll('.nlme .bqplot path.line')].some(
        p => p.getClientRects().length && (p.getAttribute('d') || '').length > 20);
    while (!drawn() && performance.now() - start < 60000) await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
    const time = performance.now() - start;
    await done;
    return time;
}"""


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes
    ----------
    what : str
    value : float
    aim : float or None
    over_echo : bool
        Whether the aim is for what the line takes beyond the echo.
    unit : str
    """

    what: str
    value: float
    aim: float | None = None
    over_echo: bool = False
    unit: str = "ms"


@dataclass
class Lab:
    """A browser on a JupyterLab, and the lines measured in it."""

    page: Any
    server: lab.Server
    lines: list[Line]
    count: int = 0

    @contextmanager
    def open(self, *cells: str, run: bool = True) -> Iterator[lab.Notebook]:
        """Open a notebook with a kernel of its own."""
        self.count += 1
        notebook = lab.Notebook.open(self.page, self.server, list(cells), f"{self.count}.ipynb")
        notebook.hide_side()
        try:
            if run:
                notebook.run()
                notebook.settle()
            yield notebook
            if notebook.errors:
                raise RuntimeError("\n".join(notebook.errors))
        finally:
            notebook.close()

    def keys(self, notebook: lab.Notebook, what: str, aim: float | None = None, *, over_echo: bool = False) -> None:
        """Measure keys on the first slider."""
        notebook.settle()
        self.page.evaluate(PRESS, [5, 150])
        value = statistics.median(self.page.evaluate(PRESS, [40, 150]))
        self.lines.append(Line(what, value, aim, over_echo))
        print(f"  {what}: {value:.0f} ms", flush=True)


def show(notebook: lab.Notebook, panel: str) -> None:
    """Bring a panel of the explorer to the front; nothing is waited for, since a fit may be running."""
    notebook.execute(f"if explorer.has_trait('panel'): explorer.panel = {panel!r}\nelse: explorer.panel = {panel!r}")
    notebook.page.wait_for_timeout(1000)


VERSIONS = """\
from importlib.metadata import version
print(*(f"{name} {version(name)}" for name in ("ipykernel", "jupyterlab", "ipywidgets", "bqplot")), sep=", ")
"""


def echo(lab_: Lab) -> None:
    with lab_.open(ECHO) as notebook:
        print("  " + notebook.execute(VERSIONS).strip())
        lab_.keys(notebook, "echo: a bare slider and one line")


def paint(lab_: Lab) -> None:
    times = []
    for _ in range(3):
        with lab_.open(EXPLORE + SHOW, run=False) as notebook:
            notebook.page.wait_for_timeout(2000)  # the kernel is up and idle, nothing of ours is imported
            times.append(notebook.page.evaluate(PAINTED))
    lab_.lines.append(Line("first paint of explore, fresh kernel, imports and all", statistics.median(times), 3000.0))


def sliders(lab_: Lab) -> None:
    for subjects, aim in ((12, 50.0), (300, 120.0)):
        many = COPIES.format(subjects=subjects) if subjects > 12 else ""
        with lab_.open(EXPLORE + many + SHOW) as notebook:
            lab_.keys(notebook, f"{subjects} subjects: population curve", aim, over_echo=subjects == 12)
            show(notebook, "individuals")
            lab_.keys(notebook, f"{subjects} subjects: page of individual curves")
            notebook.execute("explorer.method = 'saem'; explorer.method_options = {'explore': 1_000_000}")
            notebook.execute("explorer.start()")
            show(notebook, "population")
            lab_.keys(notebook, f"{subjects} subjects: population curve while SAEM runs", 100.0)
            if notebook.execute("print(explorer.running)").strip() != "True":
                raise RuntimeError(
                    "The fit ended before it was measured: " + notebook.execute("print(explorer.message)")
                )
            stopped = notebook.page.evaluate(STOP)
            lab_.lines.append(Line(f"{subjects} subjects: Stop to usable Fit", stopped, 1000.0))


def large(lab_: Lab) -> None:
    with lab_.open(EXPLORE + COPIES.format(subjects=500) + SHOW) as notebook:
        lab_.keys(notebook, "500 subjects: population curve", 250.0)
        show(notebook, "individuals")
        lab_.keys(notebook, "500 subjects: page of individual curves", 250.0)


def ode(lab_: Lab) -> None:
    with lab_.open(TURNOVER + SHOW) as notebook:
        lab_.keys(notebook, "PK/PD by ODE, 32 subjects: population curve", 250.0)
        show(notebook, "individuals")
        lab_.keys(notebook, "PK/PD by ODE, 32 subjects: page of individual curves")


def memory(lab_: Lab) -> None:
    session = lab_.page.context.new_cdp_session(lab_.page)
    session.send("Performance.enable")
    session.send("HeapProfiler.enable")

    def heap() -> tuple[float, float]:
        for _ in range(3):
            session.send("HeapProfiler.collectGarbage")
        found = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
        return found["JSHeapUsedSize"] / 1e6, found["Nodes"]

    with lab_.open(EXPLORE + SHOW) as notebook:
        lab_.page.evaluate(PRESS, [200, 0])
        notebook.settle()
        before, nodes = heap()
        for _ in range(20):
            lab_.page.evaluate(PRESS, [100, 0])
        notebook.settle()
        after, later = heap()
    what = f"browser heap, change over 2,000 keys ({before:.0f} to {after:.0f} MB; {nodes:.0f} to {later:.0f} nodes)"
    lab_.lines.append(Line(what, abs(after - before), 20.0, unit="MB"))


PARTS: dict[str, Callable[[Lab], None]] = {
    "paint": paint,
    "sliders": sliders,
    "large": large,
    "ode": ode,
    "memory": memory,
}


def table(lines: list[Line]) -> str:
    """Return the lines with their aims; the first is the echo."""
    width = max(len(line.what) for line in lines)
    base = lines[0].value
    rows = [f"{'median, one run':<{width}}{'measured':>10}{'- echo':>8}{'aim':>14}"]
    for line in lines:
        beyond = f"{line.value - base:.0f}" if line.unit == "ms" and line is not lines[0] else ""
        aim, met = "", ""
        if line.aim is not None:
            aim = f"< {line.aim:.0f}" + (" + echo" if line.over_echo else "")
            met = "" if line.value - base * line.over_echo < line.aim else "  missed"
        rows.append(f"{line.what:<{width}}{line.value:>7.0f} {line.unit}{beyond:>8}{aim:>14}{met}")
    return "\n".join(rows)


def main() -> None:
    unknown = [name for name in sys.argv[1:] if name not in PARTS]
    if unknown:
        raise SystemExit(f"There is no part '{unknown[0]}'; there are {', '.join(PARTS)}.")
    path = lab.find_browser()
    if path is None:
        raise SystemExit("There is no Chromium or Google Chrome; install one (Debian: apt-get install chromium).")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an import is measured as users have it
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = lab.Server(Path(folder)).start()
        browser = playwright.chromium.launch(executable_path=path, args=[*lab.FLAGS, "--enable-precise-memory-info"])
        bench = Lab(browser.new_page(viewport={"width": 1280, "height": 1000}), server, [])
        try:
            for part in (echo, *(PARTS[name] for name in sys.argv[1:] or PARTS)):
                print(f"-- {part.__name__}", flush=True)
                part(bench)
        finally:
            browser.close()
            server.stop()
    print(table(bench.lines))


if __name__ == "__main__":
    main()
