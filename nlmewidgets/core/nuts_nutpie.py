"""The chains of `core.nuts` driven by nutpie, a compiled no-U-turn sampler, where that is installed.

nutpie runs each chain in a thread and asks for the density at one point a call.  Its threads only hand the point over
and wait; all points that wait are answered by one call of the density in the thread that drives, as in `core.nuts`.
So the density is evaluated by the batch, an interrupt arrives where it is expected, and no exception of the density is
ever raised inside nutpie, where it would end the process.

Every chain learns a step size and metric of its own; what is left in the shared `Adaptation` afterwards is the
geometric mean of their step sizes and the metric of all draws, to go on from.

References
----------
nutpie: https://pymc-devs.github.io/nutpie (Seyboldt and the PyMC developers).
"""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.nuts import Chain, Density, Draw

__all__ = ["available", "run"]

_LOOK = 0.25
"""Seconds between looks at what has been drawn."""

Answer = tuple[float, Array, float]


def available() -> bool:
    """Return whether nutpie is installed."""
    return importlib.util.find_spec("nutpie") is not None


class _Desk:
    """Where the threads of chains hand in points, and get the density at them."""

    def __init__(self, chains: list[Chain], whole: int) -> None:
        self.whole = whole
        self.points: SimpleQueue[tuple[Array, SimpleQueue[Answer]]] = SimpleQueue()
        self.own: dict[int, dict[str, Any]] = {}  # by thread; thread locals do not outlive a call from outside
        self.begins: SimpleQueue[tuple[int, Array]] = SimpleQueue()
        for begin in enumerate(chain.position for chain in chains):
            self.begins.put(begin)
        self.drawn: list[list[tuple[Array, float, Array]]] = [[] for _ in chains]
        self.told = [0] * len(chains)
        self.looked = [0] * len(chains)
        self.closed = False

    # Called in the threads of nutpie, one a chain: nothing here may raise.

    def start(self, seed: int) -> Array:
        """Return where the chain of this thread begins; near there where nutpie does not like the place."""
        own = self.own[threading.get_ident()]
        if "begin" not in own:
            own["number"], own["begin"] = self.begins.get()
            return np.array(own["begin"])
        return np.asarray(own["begin"] + 1e-3 * np.random.default_rng(seed).standard_normal(len(own["begin"])))

    def density(self) -> Callable[[Array], tuple[float, Array]]:
        """Return the function that a chain asks; a chain begins with this call."""
        own = self.own[threading.get_ident()] = {"answers": SimpleQueue(), "seen": {}}

        def ask(x: Array) -> tuple[float, Array]:
            if self.closed:
                return -np.inf, np.zeros_like(x)
            x = x.copy()
            self.points.put((x, own["answers"]))
            value, gradient, extra = own["answers"].get()
            own["seen"][x.tobytes()] = (extra, gradient)
            return value, gradient

        return ask

    def expand(self, *_: int) -> Callable[[Array], dict[str, Array]]:
        """Return the function that is told every draw of a chain, warm-up too; it says whose it is."""
        own = self.own[threading.get_ident()]

        def note(x: Array) -> dict[str, Array]:
            number, seen = own.get("number", 0), own["seen"]
            kept = seen.get(x.tobytes())
            if kept is not None:  # else nutpie only tries the function
                seen.clear()
                seen[x.tobytes()] = kept
                self.drawn[number].append((x.copy(), *kept))
                self.told[number] += 1
            return {"number": np.array(float(number))}

        return note

    # Called in the thread that drives.

    def answer(self, density: Density) -> int:
        """Wait for the points of all chains that still run, a moment at most, answer them by one call; their number."""
        running = sum(told < self.whole for told in self.told)
        waiting: list[tuple[Array, SimpleQueue[Answer]]] = []
        try:
            while len(waiting) < max(running, 1):
                waiting.append(self.points.get(timeout=0.002 if waiting else 0.1))
        except Empty:
            pass
        if waiting:
            value, gradient, extra = density(np.stack([point for point, _ in waiting]))
            for k, (_, answers) in enumerate(waiting):
                answers.put((float(value[k]), gradient[k], float(extra[k])))
        return len(waiting)

    def close(self) -> None:
        """Answer whatever waits, and all later, with an impossible point: the trajectories end at once."""
        self.closed = True
        while True:
            try:
                point, answers = self.points.get(timeout=0.01)
            except Empty:
                return
            answers.put((-np.inf, np.zeros_like(point), np.nan))


def run(density: Density, chains: list[Chain], seed: int) -> Iterator[None]:
    """Drive chains to their end, yielding after every evaluation of the density; draws are appended to `fresh`.

    Parameters
    ----------
    density : Density
        Must not raise.
    chains : list of Chain
        Not yet begun, at points where the density is a number.
    seed : int
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        import nutpie
        from nutpie.compiled_pyfunc import from_pyfunc

    shared = chains[0].adaptation
    desk = _Desk(chains, shared.warmup + chains[0].draws)
    model = from_pyfunc(
        len(chains[0].position),
        desk.density,
        desk.expand,
        [np.dtype("float64")],
        [()],
        ["number"],
        make_initial_point_fn=desk.start,
    )
    handle = nutpie.sample(
        model,
        draws=chains[0].draws,
        tune=shared.warmup,
        chains=len(chains),
        cores=len(chains),
        seed=seed,
        maxdepth=chains[0].max_depth,
        target_accept=shared.target,
        progress_bar=False,
        blocking=False,
        return_raw_trace=True,
    )
    for chain in chains:
        chain.variance = shared.variance
    looked = time.monotonic()
    trace = None
    try:
        while trace is None:
            if not desk.answer(density) or min(desk.told) >= desk.whole:
                with contextlib.suppress(TimeoutError):  # it still runs; what else it raises went wrong there
                    trace = handle.wait(timeout=0.1)
            elif time.monotonic() - looked > _LOOK:
                _collect(handle.inspect(), desk, chains)
                looked = time.monotonic()
            yield
        _collect(trace, desk, chains)
        shared.learn_metric()
        for chain in chains:
            chain.variance = shared.variance
        yield
    finally:
        desk.close()
        handle.cancel()


def _collect(trace: Any, desk: _Desk, chains: list[Chain]) -> None:
    """Move what has been drawn since the last look to the chains."""
    shared = chains[0].adaptation
    for numbers, batch in zip(*trace.get_arrow_trace(), strict=True):
        if not batch.num_rows:
            continue
        number = int(numbers.column("number").to_numpy()[0])
        chain, drawn, begin = chains[number], desk.drawn[number], desk.looked[number]
        count = min(batch.num_rows - begin, len(drawn))
        if count <= 0:
            continue
        columns = {name: batch.column(name).to_numpy()[begin : begin + count] for name in _STATISTICS}
        for k in range(count):
            position, extra, gradient = drawn[k]
            own = {name: column[k] for name, column in columns.items()}
            draw = Draw(
                position,
                float(own["logp"]),
                extra,
                bool(own["diverging"]),
                int(own["depth"]),
                int(own["n_steps"]),
                float(own["mean_tree_accept"]),
                float(own["step_size"]),
                float(own["energy"]),
            )
            chain.position, chain.extra, chain.step = position, extra, draw.step
            chain.leapfrogs += draw.leapfrogs
            if own["tuning"]:
                shared.fed += 1
            else:
                shared.note(position, gradient)
                chain.done += 1
                chain.fresh.append(draw)
        del drawn[:count]
        desk.looked[number] = begin + count
    shared.step = float(np.exp(np.mean([np.log(chain.step) for chain in chains if chain.step > 0] or [0.0])))


_STATISTICS = ("logp", "diverging", "depth", "n_steps", "mean_tree_accept", "step_size", "energy", "tuning")
