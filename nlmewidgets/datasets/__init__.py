"""Small data sets with source and meaning of columns: published ones, and simulated ones of known truth."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import pandas as pd

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError
from nlmewidgets.datasets.card import Dataset
from nlmewidgets.datasets.published import ELSEWHERE, PUBLISHED
from nlmewidgets.datasets.simulated import SIMULATED

__all__ = ["DATASETS", "Dataset", "describe", "load", "names"]

DATASETS: dict[str, Dataset] = PUBLISHED | SIMULATED
"""Every shipped data set by its name."""


def names() -> tuple[str, ...]:
    """Return the names of the shipped data sets."""
    return tuple(DATASETS)


def describe(name: str) -> Dataset:
    """Return the card of a data set: what was measured, units and meaning of the columns, source, truth.

    Raises
    ------
    DataError
        If there is none of this name; where it is known to be elsewhere, the sentence says so.
    """
    if name in ELSEWHERE:
        raise DataError(f"The data set '{name}' is not shipped: {ELSEWHERE[name]}.")
    if name not in DATASETS:
        raise DataError(f"There is no data set '{name}'; there are {', '.join(DATASETS)}.")
    return DATASETS[name]


def load(name: str) -> Data:
    """Return a shipped data set.

    Raises
    ------
    DataError
        If there is none of this name.
    """
    entry = describe(name)
    with files(__package__).joinpath(entry.file).open(encoding="utf-8") as stream:
        table = pd.read_csv(stream, comment="#", na_values=["."], keep_default_na=False)
    data = Data.from_frame(entry.prepare(table), units=entry.units)
    return replace(data, origin={"kind": "dataset", "name": name})
