"""A model and a study to see it with, for every structure."""

from __future__ import annotations

from nlmewidgets.core.data import Data
from nlmewidgets.core.model import Model
from nlmewidgets.library.search import describe

__all__ = ["demo"]


def demo(name: str) -> tuple[Model, Data]:
    """Return a structure with values and data that suit each other, for ``nw.explore(*nw.library.demo(name))``.

    The data are a shipped set where one fits, else simulated from the model with a fixed seed.

    Parameters
    ----------
    name : str

    Raises
    ------
    ModelError
        If there is no structure of this name.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> model, data = nw.library.demo("oral_1cpt")
    >>> data
    Data: 12 subjects, 132 observations, 12 doses; covariates WT, DOSE
    """
    entry = describe(name)
    model = entry.function(**entry.demo.values)
    return model, entry.demo.data(model)
