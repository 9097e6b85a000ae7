"""The gallery: every diagnostic once, of shipped data, with how to read it and when it misleads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pandas as pd

from nlmewidgets.fit import Fit
from nlmewidgets.pictures import PICTURES
from nlmewidgets.report import examples
from nlmewidgets.report.page import page, table
from nlmewidgets.report.tables import TABLES, Table

__all__ = ["EXAMPLES", "Shown", "gallery"]


@dataclass(frozen=True)
class Shown:
    """A picture of the gallery.

    Attributes
    ----------
    name : str
    options : mapping
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *self.options])

    @property
    def code(self) -> str:
        """The call that makes it."""
        options = "".join(f", {k}={v!r}" for k, v in self.options.items())
        return f"fit.draw({self.name!r}{options})"


def _shown(*names: str) -> tuple[Shown, ...]:
    return tuple(map(Shown, names))


EXAMPLES: Mapping[str, tuple[Callable[[], Fit], tuple[Shown, ...]]] = {
    "Theophylline": (examples.theophylline, _shown(*(n for n in PICTURES if n != "quantile-residuals"))),
    "Phenobarbital, sparse": (
        examples.phenobarbital,
        (
            *_shown("eta-distribution", "eta-covariates", "shrinkage", "pcvpc", "influence"),
            *(Shown(name, {"samples": True}) for name in ("eta-distribution", "eta-pairs", "eta-covariates")),
        ),
    ),
    "Counts": (examples.counts, _shown("vpc", "npde", "quantile-residuals", "eta-distribution")),
    "Classes": (examples.classes, _shown("vpc", "quantile-residuals")),
    "Events": (examples.events, _shown("vpc")),
}
"""Name → (a fit, the pictures shown of it)."""


def gallery(
    shown: Mapping[str, tuple[Callable[[], Fit], Sequence[Shown]]] = EXAMPLES, tables: Iterable[Table] = TABLES
) -> str:
    """Return the page as HTML."""
    sections = []
    for title, (make, pictures) in shown.items():
        fit = make()
        body = ""
        for own in pictures:
            drawing = PICTURES[own.name](fit, **own.options)
            body += _figure(drawing.title, own.code, drawing.svg, drawing.read, drawing.misleads)
        sections.append((title.split(",")[0].lower(), title, body))
    fit, body = examples.theophylline(), ""
    for each in tables:
        body += _figure(each.title, each.code, _table(each.make(fit)), each.read, each.misleads)
    sections.append(("tables", "Tables", body))
    lead = "<p>What <code>fit.draw(name)</code> makes and the tables behind: how to read each, when it misleads.</p>"
    return page("Gallery of diagnostics", sections, lead)


def _figure(title: str, code: str, body: str, read: str, misleads: str) -> str:
    return (
        f"<figure><h3>{escape(title)}</h3><p><code>{escape(code)}</code></p>{body}<figcaption><b>Reading.</b> "
        f"{escape(read)} <b>Beware.</b> {escape(misleads)}</figcaption></figure>"
    )


def _table(frame: pd.DataFrame) -> str:
    few = frame.head(5)
    more = f"<p class='soft'>… {len(frame) - 5} rows more</p>" if len(frame) > 5 else ""
    return table(few, index=not isinstance(frame.index, pd.RangeIndex)) + more
