"""Run under Pyodide: import, two fits, an explorer in the event loop; prints what it found as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any


def told(fit: Any) -> dict[str, Any]:
    return {"status": fit.status, "ofv": float(fit.ofv), "elapsed": fit.elapsed, **fit.estimates.to_dict()}


async def main() -> None:
    clock = time.monotonic()
    import nlmewidgets as nw

    found: dict[str, Any] = {"platform": sys.platform, "import_seconds": time.monotonic() - clock}
    data = nw.datasets.load("theophylline")
    model = nw.library.oral_1cpt(
        ka=nw.LogNormal(1.5, sd=0.6),
        CL=nw.LogNormal(2.8, sd=0.3),
        V=nw.LogNormal(32.0, sd=0.2),
        residual=nw.Combined(additive=0.3, proportional=0.1),
    )
    found["focei"] = told(model.fit(data, "focei", progress=False))
    found["saem"] = told(await nw.fit_async(model, data, "saem", seed=1))
    explorer = nw.explore(model, data, workspace="/tmp/study.json")
    explorer.params = {"ka": 1.4}
    found["at_sliders"] = explorer.ofv
    explorer.start()
    while explorer.running:
        await asyncio.sleep(0)
    found["explorer"] = told(explorer.result)
    explorer.close()
    with open("/tmp/study.json", encoding="utf-8") as file:
        found["workspace"] = len(json.load(file)["fits"])
    print("FOUND " + json.dumps(found))
