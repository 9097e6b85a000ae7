"""The state of an explorer as JSON-ready values, and back: what a link and a workspace have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from traitlets import TraitError

from nlmewidgets.core.data import Data
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model
from nlmewidgets.fit.choices import choices
from nlmewidgets.fit.link import data_from_source, decode, encode, source_of
from nlmewidgets.fit.scale import refusal
from nlmewidgets.fit.store import model_from_dict, model_to_dict
from nlmewidgets.panels.selection import VIEW

__all__ = ["SETTINGS", "checked", "from_link", "restore", "state_of", "to_link"]

SETTINGS = (
    "params",
    "fixed",
    "refit",
    "method",
    "options",
    "selected_ids",
    "excluded",
    "excluded_records",
    "dvid",
    *VIEW,
    "pinned",
    "panel",
)
"""The traits of an explorer that the user sets: what a link holds, and a workspace beside the fits."""


def state_of(explorer: Any) -> dict[str, Any]:
    """Return what the user has set: sliders, fixed flags, method and options, selection, pin, panel."""
    return {
        "params": dict(explorer.params),
        "fixed": list(explorer.fixed),
        "refit": list(explorer.refit),
        "method": explorer.method,
        "options": {name: dict(options) for name, options in explorer.options.items() if options},
        "seed": explorer.seed,
        "selected_ids": list(explorer.selected_ids),
        "excluded": list(explorer.excluded),
        "excluded_records": list(explorer.excluded_records),
        "dvid": explorer.dvid,
        **{name: getattr(explorer, name) for name in VIEW},
        "pinned": explorer.pinned,
        "panel": explorer.panel,
    }


def checked(state: Any, model: Model) -> dict[str, Any]:
    """Return a state that came from outside, each part of which is of its kind and known here.

    Raises
    ------
    NlmeError
        Naming the part that is not.
    """
    if not isinstance(state, Mapping):
        raise NlmeError("The state is damaged: it is no table of settings.")
    methods = choices()

    def part(name: str, default: Any, good: Callable[[Any], bool]) -> Any:
        value = state.get(name, default)
        if not good(value):
            raise NlmeError(f"The state is damaged at '{name}'; make it again.")
        return value

    def known_options(value: Any) -> bool:
        if not isinstance(value, Mapping):
            return False
        for method, options in value.items():
            if method not in methods or not isinstance(options, Mapping):
                return False
            if not set(options) <= {o.name for o in methods[method].options}:
                return False
            if not all(isinstance(v, bool | int | float | str) for v in options.values()):
                return False
        return True

    def some_names(value: Any) -> bool:
        return isinstance(value, list) and all(n in model.names for n in value)

    def within(name: str, value: Any) -> bool:
        return _number(value) and not refusal(model.space, name, value)

    params = part(
        "params",
        {},
        lambda v: isinstance(v, Mapping) and all(n in model.names and within(n, x) for n, x in v.items()),
    )
    model.space.from_dict(params)  # refuses with a sentence what is no covariance matrix
    return {
        "params": dict(params),
        "fixed": tuple(part("fixed", [], some_names)),
        "refit": tuple(part("refit", [], some_names)),
        "method": part("method", "focei", lambda v: isinstance(v, str) and v in methods),
        "options": {k: dict(v) for k, v in part("options", {}, known_options).items()},
        "seed": part("seed", 1, lambda v: v is None or (isinstance(v, int) and v >= 0)),
        "selected_ids": part("selected_ids", [], lambda v: isinstance(v, list)),
        "excluded": part("excluded", [], lambda v: isinstance(v, list)),
        "excluded_records": part("excluded_records", [], lambda v: isinstance(v, list) and all(map(_index, v))),
        "dvid": state.get("dvid"),
        **{name: part(name, kind(), partial(_of_kind, kind)) for name, kind in VIEW.items()},
        "pinned": part("pinned", None, lambda v: v is None or _number(v)),
        "panel": part("panel", "population", lambda v: isinstance(v, str)),
    }


def _index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _of_kind(kind: type, value: Any) -> bool:
    return isinstance(value, kind)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def restore(explorer: Any, state: Mapping[str, Any], *, sliders: bool = True) -> None:
    """Set an explorer to a state of `checked`; without `sliders` the values and flags stay the declaration's."""
    explorer.seed = state["seed"]
    explorer.options = explorer.options | {k: dict(v) for k, v in state["options"].items()}
    explorer.method = state["method"]
    explorer.selected_ids = tuple(i for i in state["selected_ids"] if i in explorer.data.ids)
    data = explorer.data
    explorer.excluded = tuple(i for i in state["excluded"] if i in data.ids)
    explorer.excluded_records = tuple(k for k in state["excluded_records"] if k < len(data) and data.observed[k])
    if state["dvid"] in explorer.dvids:
        explorer.dvid = state["dvid"]
    for name in VIEW:
        with suppress(TraitError):  # of other data
            setattr(explorer, name, state[name])
    if sliders:
        explorer.params = state["params"]
        explorer.fixed = state["fixed"]
        with explorer.consequence():  # what was refitted is restored, not refitted again
            explorer.refit = tuple(name for name in state["refit"] if name not in explorer.fixed)
    if state["pinned"] is not None and sliders:
        explorer.keep_pin(state["pinned"])
    if state["panel"] in explorer.panels:
        explorer.panel = state["panel"]


# ---------------------------------------------------------------------------- link


def to_link(explorer: Any) -> str:
    """Return the explorer's state as a short string, see `Explorer.link`."""
    document = {"model": model_to_dict(explorer.model), "state": state_of(explorer), "data": source_of(explorer.data)}
    return encode(document)


def from_link(link: str, data: Data | None, make: Callable[..., Any], **options: Any) -> Any:
    """Return the explorer of a link.

    Raises
    ------
    NlmeError
        If the link is damaged, or its data are not here.
    """
    document = decode(link)
    try:
        model = model_from_dict(document["model"])
    except NlmeError:
        raise
    except Exception as error:  # whatever a made-up document trips over
        raise NlmeError(f"The model in the link is damaged ({type(error).__name__}); make the link again.") from None
    state = checked(document.get("state"), model)
    note = ""
    if data is None:
        try:
            data, note = data_from_source(document.get("data"))
        except NlmeError:
            raise
        except Exception as error:
            raise NlmeError(f"The data of the link are damaged ({type(error).__name__}); give them.") from None
    explorer = make(model, data, method=state["method"], seed=state["seed"], **options)
    restore(explorer, state)
    if note:
        explorer.message = note
    return explorer
