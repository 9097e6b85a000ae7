"""What is lit up in every panel, and how the panels of curves show the data."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import traitlets as tl

from nlmewidgets.core.arrays import Array
from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.diagnostics.look import BY_DOSE, look_groups, single_dose

__all__ = ["VIEW", "Selection", "View"]

VIEW = {"log_axis": bool, "per_dose": bool, "by": str, "ribbon": str, "ribbon_by": str}
"""Options of the panels of curves that links and workspaces keep, each with its kind."""


class Selection(tl.HasTraits):
    """Data, and the subjects lit up in every panel about them.

    Attributes
    ----------
    data : Data
    selected_ids : tuple
    lock : RLock
        Held by whoever draws or publishes: a click and a running fit may both be at it.
    """

    data: Data
    selected_ids = tl.Tuple()
    dvid = tl.Any()

    def __init__(self, *args: Any, **options: Any) -> None:
        self.lock = threading.RLock()
        super().__init__(*args, **options)

    @tl.validate("selected_ids")
    def _valid_selection(self, proposal: Any) -> tuple[Any, ...]:
        unknown = [i for i in proposal["value"] if i not in self.data.ids]
        if unknown:
            raise tl.TraitError(f"ID {unknown[0]!r} is not in the data.")
        return tuple(dict.fromkeys(proposal["value"]))

    def toggle(self, subject: Any) -> None:
        """Add a subject to the selection, or take it out."""
        kept = tuple(i for i in self.selected_ids if i != subject)
        self.selected_ids = kept if len(kept) < len(self.selected_ids) else (*kept, subject)

    def subject_choices(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Return what can be selected: nobody, each subject, and the present selection if it is of several."""
        choices: list[tuple[str, tuple[Any, ...]]] = [("none", ()), *((str(i), (i,)) for i in self.data.ids)]
        if len(self.selected_ids) > 1:
            choices.append((f"{len(self.selected_ids)} selected", self.selected_ids))
        return choices


class View(Selection):
    """How the panels of curves show the data; one choice for all of them.

    Attributes
    ----------
    dvid : label
        The output that the curves show, as the data name it.
    log_axis : bool
        Whether the observation axis is logarithmic.
    per_dose : bool
        Whether observations and curves are divided by the subject's dose; only where each subject has one.
    by : str
        What colours the observations: '', a covariate, or 'dose'.
    ribbon : str
        The parameter whose ribbon is drawn about the typical curve: '' for none, 'moved' for the one moved last.
    ribbon_by : str
        The change it shows, to first order: '10 %', '30 %', or '1 SE' of the last fit.
    """

    log_axis = tl.Bool(False)
    per_dose = tl.Bool(False)
    by = tl.Unicode("")
    ribbon = tl.Unicode("")
    ribbon_by = tl.Enum(("10 %", "30 %", "1 SE"), "30 %")

    @tl.validate("per_dose")
    def _valid_per_dose(self, proposal: Any) -> bool:
        if proposal["value"]:
            try:
                single_dose(self.data)
            except NlmeError as refusal:
                raise tl.TraitError(str(refusal)) from None
        return bool(proposal["value"])

    @tl.validate("by")
    def _valid_by(self, proposal: Any) -> str:
        known = [value for _, value in self.by_choices()]
        if proposal["value"] not in known:
            shown = ", ".join(repr(value) for value in known)
            raise tl.TraitError(f"Observations cannot be coloured by {proposal['value']!r}; choose one of {shown}.")
        return str(proposal["value"])

    def by_choices(self) -> list[tuple[str, str]]:
        """Return what observations can be coloured by: nothing, a covariate, the dose; each with its words."""
        choices = [("nothing", ""), *((str(c), str(c)) for c in self.data.covariates)]
        if self.data.dosed.any() and BY_DOSE not in self.data.covariates:
            choices.append(("dose group", BY_DOSE))
        return choices

    def keep_view(self) -> None:
        """Keep of the view what the data at hand allow."""
        for name, check, nothing in (("per_dose", self._valid_per_dose, False), ("by", self._valid_by, "")):
            try:
                check({"value": getattr(self, name)})
            except tl.TraitError:
                self.set_trait(name, nothing)

    @property
    def measured(self) -> Any:
        """Which observations are of the output shown, (obs,) bool."""
        return self.data.dvid == self.dvid

    @property
    def per(self) -> Array | None:
        """What each subject's values are divided by, (subjects,) float; None for nothing."""
        return single_dose(self.data) if self.per_dose else None

    @property
    def seen(self) -> Array:
        """The observations as they are shown, (obs,) float."""
        return self.data.dv if self.per is None else self.data.dv / self.per[self.data.subject]

    @property
    def groups(self) -> tuple[Any, list[str]]:
        """The number of each subject's group, (subjects,) int, and what the groups are called."""
        label, order = look_groups(self.data, self.by or None)
        used = [name for name in order if (label == name).any()]
        return np.array([used.index(name) for name in label]), [self._named(name) for name in used]

    def _named(self, group: str) -> str:
        dose = self.by == BY_DOSE and BY_DOSE not in self.data.covariates
        unit = self.data.unit("AMT" if dose else self.by)
        with_unit = f"{group} {unit}" if unit and any(c.isdigit() for c in group) else group
        return f"{self.by} {with_unit}" if self.by else "observed"

    def axis_words(self, name: str) -> str:
        """Return the label of the observation axis, for a quantity of that name."""
        name = f"{name} per dose" if self.per_dose else name
        return f"{name} ({self.unit_shown})" if self.unit_shown else name

    @property
    def unit_shown(self) -> str:
        """The unit of the observation axis, or ''."""
        unit, amount = self.data.output_unit(self.dvid), self.data.unit("AMT")
        return f"{unit} per {amount}" if self.per_dose and unit and amount else unit
