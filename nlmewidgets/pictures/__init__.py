"""Static pictures of a fit: one call each, made without a screen; and the report they go into.

>>> import nlmewidgets as nw
>>> list(nw.pictures.PICTURES)[:3]
['observed-predicted', 'residuals', 'individuals']
"""

from __future__ import annotations

from typing import Any

from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.verbs import VERBS
from nlmewidgets.fit import Fit
from nlmewidgets.pictures import checks, course, effects, goodness, predictive
from nlmewidgets.pictures.base import Drawing, Picture

__all__ = ["PICTURES", "Drawing", "Picture", "draw"]

PICTURES: dict[str, Picture] = {
    p.name: p
    for p in (
        *goodness.PICTURES,
        *predictive.PICTURES,
        *checks.PICTURES,
        *effects.PICTURES,
        *course.PICTURES,
    )
}
"""Every picture by its name, in the order of a report."""


def draw(fit: Fit, name: str, **options: Any) -> Drawing:
    """Return a picture of a fit, with the options it has (`Picture.options`).

    Raises
    ------
    NlmeError
        If there is no such picture or option, or it cannot be drawn of this fit.
    """
    if name not in PICTURES:
        raise NlmeError(f"There is no picture '{name}'; there are {', '.join(PICTURES)}.")
    return PICTURES[name](fit, **options)


VERBS["draw"] = draw
