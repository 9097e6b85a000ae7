"""Small real data sets, each with its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files

import pandas as pd

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import DataError

__all__ = ["DATASETS", "Dataset", "load", "names"]


@dataclass(frozen=True)
class Dataset:
    """A shipped data set.

    Attributes
    ----------
    file : str
        CSV in this folder.
    description, source : str
        What was measured, and where it was published.
    units : mapping
    prepare : callable
        From the file's table to records in NONMEM's layout.
    """

    file: str
    description: str
    source: str
    units: Mapping[str, str]
    prepare: Callable[[pd.DataFrame], pd.DataFrame]


def _theophylline(per_kg: bool) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def prepare(table: pd.DataFrame) -> pd.DataFrame:
        first = table.drop_duplicates("ID")
        amount = first["DOSE"] if per_kg else (first["DOSE"] * first["WT"]).round(6)
        doses = first.assign(TIME=0.0, AMT=amount, EVID=1, DV=float("nan"))
        observations = table.assign(AMT=0.0, EVID=0)
        both = pd.concat([doses, observations]).sort_values(["ID", "TIME", "EVID"], ascending=[True, True, False])
        return both[["ID", "TIME", "EVID", "AMT", "DV", "WT", "DOSE"]].reset_index(drop=True)

    return prepare


_THEOPHYLLINE = (
    "Boeckmann, Sheiner & Beal (1994), NONMEM Users Guide Part V; Davidian & Giltinan (1995), Nonlinear Models for "
    "Repeated Measurement Data, §5.5. As distributed with R (datasets::Theoph)."
)

DATASETS: dict[str, Dataset] = {
    "theophylline": Dataset(
        "theophylline.csv",
        "Serum theophylline after one oral dose, 12 subjects × 11 times; AMT is the total dose in mg.",
        _THEOPHYLLINE,
        {"TIME": "h", "DV": "mg/L", "AMT": "mg", "WT": "kg", "DOSE": "mg/kg"},
        _theophylline(per_kg=False),
    ),
    "theophylline_per_kg": Dataset(
        "theophylline.csv",
        "The same study with AMT in mg per kg of body weight: V and CL are then per kg.",
        _THEOPHYLLINE,
        {"TIME": "h", "DV": "mg/L", "AMT": "mg/kg", "WT": "kg", "DOSE": "mg/kg"},
        _theophylline(per_kg=True),
    ),
    "orange": Dataset(
        "orange.csv",
        "Trunk circumference of 5 orange trees at 7 ages.",
        "Draper & Smith (1981), Applied Regression Analysis, p. 524; Pinheiro & Bates (2000). As distributed with R "
        "(datasets::Orange).",
        {"TIME": "days", "DV": "mm"},
        lambda table: table,
    ),
}
"""Every shipped data set by its name."""


def names() -> tuple[str, ...]:
    """Return the names of the shipped data sets."""
    return tuple(DATASETS)


def load(name: str) -> Data:
    """Return a shipped data set.

    Raises
    ------
    DataError
        If there is none of this name.
    """
    if name not in DATASETS:
        raise DataError(f"There is no data set '{name}'; there are {', '.join(DATASETS)}.")
    entry = DATASETS[name]
    with files(__package__).joinpath(entry.file).open(encoding="utf-8") as stream:
        table = pd.read_csv(stream, comment="#")
    data = Data.from_frame(entry.prepare(table), units=entry.units)
    return replace(data, origin={"kind": "dataset", "name": name})
