"""Studies to see a structure with: shipped data, or data simulated from the structure at its defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from nlmewidgets.core.data import Data
from nlmewidgets.core.model import Model

__all__ = ["SEED", "Demo", "Design", "Shipped", "every"]

SEED = 20240301
"""Of every simulated demonstration."""


class Demo(Protocol):
    """A study for a structure."""

    @property
    def values(self) -> Mapping[str, Any]:
        """Arguments of the structure that suit the study, where its defaults do not."""

    def data(self, model: Model) -> Data:
        """Return the data."""

    def describe(self) -> str:
        """Say in one sentence what they are."""


@dataclass(frozen=True)
class Shipped:
    """A data set of `nlmewidgets.datasets`, and typical values near it."""

    dataset: str
    values: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Data], Data] | None = None

    def data(self, model: Model) -> Data:
        """Return the data set."""
        from nlmewidgets import datasets

        data = datasets.load(self.dataset)
        return data if self.prepare is None else self.prepare(data)

    def describe(self) -> str:
        """Say which data set it is."""
        return f"the shipped data set '{self.dataset}'"


@dataclass(frozen=True)
class Design:
    """A study to simulate: the same doses and times for every subject, amounts by turns.

    Attributes
    ----------
    times : tuple of float
        Of the observations, of every output.
    amounts : tuple of float
        Dose of the first, second, … subject, and from the start again; empty: no dose.
    at : tuple of float
        Times of the doses.
    infusion : float
        Duration of each dose; 0: at once.  −2: modelled (RATE = −2).
    subjects : int
    units : mapping
        Of TIME, AMT and DV, or of an output.
    """

    times: tuple[float, ...]
    amounts: tuple[float, ...] = ()
    at: tuple[float, ...] = (0.0,)
    infusion: float = 0.0
    subjects: int = 12
    units: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def frame(self, outputs: tuple[str, ...]) -> pd.DataFrame:
        """Return the records, with DV = 0 where something is measured."""
        several = len(outputs) > 1
        rows: list[dict[str, Any]] = []
        for i in range(self.subjects):
            own: list[dict[str, Any]] = []
            if self.amounts:
                amount = self.amounts[i % len(self.amounts)]
                rate = -2.0 if self.infusion == -2 else amount / self.infusion if self.infusion else 0.0
                own += [{"TIME": t, "EVID": 1, "AMT": amount, "RATE": rate, "DVID": outputs[0]} for t in self.at]
            own += [
                {"TIME": t, "EVID": 0, "AMT": 0.0, "RATE": 0.0, "DVID": o, "DV": 0.0}
                for t in self.times
                for o in outputs
            ]
            own.sort(key=lambda r: (r["TIME"], -r["EVID"]))
            rows += [{"ID": i + 1, **r} for r in own]
        table = pd.DataFrame(rows)
        drop = [] if several else ["DVID"]
        drop += [] if self.amounts else ["EVID", "AMT"]
        drop += [] if self.infusion else ["RATE"]
        return table.drop(columns=drop)

    def data(self, model: Model) -> Data:
        """Return the study as the model simulates it, with four significant digits."""
        table = self.frame(tuple(model.outputs))
        plan = Data.from_frame(table, units=self.units)
        drawn = model.simulate(plan, seed=SEED)["DV"].to_numpy(dtype=float)
        records = plan.records.copy()
        records.loc[plan.observed, "DV"] = [float(f"{y:.4g}") for y in drawn]
        return replace(plan, records=records)

    def describe(self) -> str:
        """Say what is simulated."""
        return f"{self.subjects} simulated subjects (seed {SEED}; the truth is the model itself)"


def every(start: float, stop: float, step: float) -> tuple[float, ...]:
    """Return times from start to stop, both included."""
    return tuple(float(f"{t:.6g}") for t in np.arange(start, stop + step / 2, step))
