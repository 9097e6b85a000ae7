"""The mathematics: data, model, tape, problem, optimiser, sampler."""

import sys

if sys.platform == "emscripten":
    from nlmewidgets.core.webassembly import restore_refusals

    restore_refusals()
