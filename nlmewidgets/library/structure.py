"""A ready-made structure: a function that returns a Model, and everything a reader wants to know about it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sympy as sp

from nlmewidgets.core.display import equations
from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.expression import parse
from nlmewidgets.core.model import Model
from nlmewidgets.library.designs import Demo
from nlmewidgets.library.vocabulary import Argument, argument

__all__ = ["COMMON", "LIBRARY", "Maker", "Parts", "Structure", "default_text", "structure", "structure_of"]

COMMON = ("residual", "correlation", "name", "tolerance")
"""What every structure takes besides its parameters, as `nlmewidgets.Model` does."""


Maker = Callable[[Callable[..., "Parts"]], Callable[..., Model]]
"""Makes a structure of its declaration."""


class Parts(NamedTuple):
    """What a structure declares, as the arguments of `nlmewidgets.Model`."""

    prediction: Any
    odes: Mapping[Any, Any] | None = None
    initial: Mapping[Any, Any] | None = None
    doses: Mapping[Any, Any] | None = None


@dataclass(frozen=True, repr=False)
class Structure:
    """A ready-made structure.

    Attributes
    ----------
    name, title, family : str
    arguments : tuple of Argument
        Its parameters: name, meaning, unit, default distribution.
    residual : residual error model or mapping of output to them
        The default one.
    function : callable
        ``nw.library.<name>``.
    demo : Demo
        A study to see it with.
    keywords : tuple of str
        Further words it is found by.
    note : str
        What to know before use.
    options : mapping of str to int
        Whole numbers that shape the structure, with their defaults.
    starts : mapping of str to str
        Starting values of parameters as expressions of non-compartmental quantities: ``CL`` (CL/F),
        ``Vz`` (Vz/F), ``amount``, ``C0``, ``Cmax``, ``tmax``, ``lambda_z``, ``MRT``.
    """

    name: str
    title: str
    family: str
    arguments: tuple[Argument, ...]
    residual: Any
    function: Callable[..., Model]
    demo: Demo
    keywords: tuple[str, ...] = ()
    note: str = ""
    options: Mapping[str, int] = field(default_factory=dict)
    starts: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> Model:
        """The structure at its default values."""
        return self.function()

    @property
    def equations(self) -> str:
        """Its equations in LaTeX."""
        return equations(self.model)

    def starting_values(self, nca: Mapping[str, float]) -> dict[str, float]:
        """Return starting values from a subject's or the median non-compartmental analysis.

        Parameters
        ----------
        nca : mapping of str to float
            By the names of the columns of `nlmewidgets.diagnostics.nca`.

        Returns
        -------
        dict
            The parameters whose quantities are there, positive and finite.
        """
        alias = {"CL/F": "CL", "Vz/F": "Vz"}
        known = {sp.Symbol(alias.get(k, k)): sp.Float(v) for k, v in nca.items() if alias.get(k, k) in _NCA and v == v}
        symbols = {name: sp.Symbol(name) for name in _NCA}
        found = {}
        for name, text in self.starts.items():
            value = parse(text, symbols).xreplace(known)
            if value.is_number and value.is_finite and value.is_positive:
                found[name] = float(value)
        return found

    def __repr__(self) -> str:
        from nlmewidgets.library.text import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from nlmewidgets.library.text import as_html

        return as_html(self)


_NCA = ("CL", "Vz", "amount", "C0", "Cmax", "tmax", "lambda_z", "MRT")

LIBRARY: dict[str, Structure] = {}
"""Every ready-made structure by its name."""


def structure(
    title: str,
    family: str,
    *,
    residual: Any,
    demo: Demo,
    keywords: str = "",
    note: str = "",
    starts: Mapping[str, str] | None = None,
    means: Mapping[str, tuple[str, str]] | None = None,
) -> Maker:
    """Make a structure of a function of symbols, and put it into `LIBRARY`.

    The decorated function's positional parameters are the structure's: their defaults are the default
    typical values (or distributions), their names stand in the vocabulary.  It is called with symbols
    and returns `Parts`.  Its keyword-only parameters are whole numbers that shape the structure.

    Parameters
    ----------
    title, family, residual, demo, note, starts
        As in `Structure`.
    keywords : str
        Separated by spaces.
    means : mapping of str to (meaning, unit), optional
        Where a parameter means something else than in the vocabulary.
    """

    def make(declare: Callable[..., Parts]) -> Callable[..., Model]:
        name = declare.__name__
        own = inspect.signature(declare).parameters.values()
        arguments = tuple(
            argument(p.name, p.default, *(means or {}).get(p.name, (None, None)))
            for p in own
            if p.kind is not p.KEYWORD_ONLY
        )
        options = {p.name: int(p.default) for p in own if p.kind is p.KEYWORD_ONLY}

        def function(**given: Any) -> Model:
            entry = LIBRARY[name]
            return _build(entry, declare, given)

        function.__name__ = function.__qualname__ = name
        function.__module__ = declare.__module__
        shown = {a.name: a.default.typical for a in arguments} | options | dict.fromkeys(COMMON)
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=v) for k, v in shown.items()],
            return_annotation=Model,
        )
        entry = Structure(
            name, title, family, arguments, residual, function, demo, tuple(keywords.split()), note, options,
            {k: v for k, v in (starts or {}).items() if k in shown},
        )  # fmt: skip
        function.__doc__ = _docstring(entry, declare.__doc__)
        if name in LIBRARY:
            raise ValueError(f"There are two structures called '{name}'.")
        LIBRARY[name] = entry
        return function

    return make


def _build(entry: Structure, declare: Callable[..., Parts], given: Mapping[str, Any]) -> Model:
    names = [a.name for a in entry.arguments]
    known = {*names, *entry.options, *COMMON}
    unknown = [k for k in given if k not in known]
    if unknown:
        more = f"; options {', '.join(entry.options)}" if entry.options else ""
        raise ModelError(
            f"{entry.name}() has no parameter '{unknown[0]}'; it has {', '.join(names)}{more}; and {', '.join(COMMON)}."
        )
    symbols = {a.name: a.symbol for a in entry.arguments}
    options = {}
    for k, default in entry.options.items():
        value = given.get(k)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 20):
            raise ModelError(f"{entry.name}() has {k}={value!r}; give a whole number from 1 to 20.")
        options[k] = default if value is None else value
    parts = declare(**symbols, **options)
    residual = given.get("residual")
    return Model(
        parts.prediction,
        {a.symbol: a.value(given.get(a.name)) for a in entry.arguments},
        residual=entry.residual if residual is None else residual,
        correlation=given.get("correlation"),
        name=given.get("name") or entry.title,
        odes=parts.odes,
        initial=parts.initial,
        doses=parts.doses,
        tolerance=given.get("tolerance"),
    )


def default_text(value: Distribution) -> str:
    """Return a default as it is written: ``LogNormal(1.5, sd=0.3)``."""
    parts = [f"{value.typical:g}"]
    if value.sd:
        parts.append(f"sd={value.sd:g}")
    if value.fixed:
        parts.append("fixed=True")
    return f"{type(value).__name__}({', '.join(parts)})"


def _docstring(entry: Structure, text: str | None) -> str:
    rows = [f"{entry.title}.", ""]
    if text:
        rows += [inspect.cleandoc(text), ""]
    if entry.note:
        rows += [entry.note, ""]
    rows += ["Parameters", "----------"]
    for a in entry.arguments:
        rows += [
            f"{a.name} : distribution, number or expression",
            f"    {a.meaning[0].upper()}{a.meaning[1:]}, {a.unit}.",
        ]
        rows += [f"    Default ``{default_text(a.default)}``; a number is its typical value."]
    for option, value in entry.options.items():
        rows += [f"{option} : int", f"    Default {value}."]
    rows += [
        ", ".join(COMMON),
        "    As for `nlmewidgets.Model`.",
        f"    Default residual ``{entry.residual}``.",
    ]
    return "\n".join(rows)


def structure_of(model: Model) -> Structure | None:
    """Return the structure a model was made of, judged by its equations; None if by none of the library."""
    names = {s.name for s in model.parameters}
    for entry in LIBRARY.values():
        if {a.name for a in entry.arguments} == names:
            other = entry.model
            if other.outputs == model.outputs and other.system == model.system:
                return entry
    return None
