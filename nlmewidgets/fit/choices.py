"""What a user can choose for a fit: every method with its options, their defaults and what they mean."""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, dataclass, fields

from nlmewidgets.methods import METHODS, Method

__all__ = ["Choice", "Option", "choices"]


@dataclass(frozen=True)
class Option:
    """An option of a method.

    Attributes
    ----------
    name, text : str
        Its name, and its meaning as the method's documentation has it.
    default : int, float, bool or str
    """

    name: str
    default: int | float | bool | str
    text: str

    def read(self, text: str) -> int | float | bool | str:
        """Return a value from what was typed.

        Raises
        ------
        ValueError
            If it is no number, and not the word the option knows.
        """
        typed = text.strip()
        if isinstance(self.default, bool):
            if typed.lower() not in ("true", "false"):
                raise ValueError(f"{self.name} is true or false, not '{typed}'.")
            return typed.lower() == "true"
        if isinstance(self.default, str) and re.fullmatch("[A-Za-z_-]+", typed):
            return typed
        try:
            return float(typed) if isinstance(self.default, float) else int(typed)
        except ValueError:
            kind = "a number" if isinstance(self.default, float) else "a whole number"
            word = f" or '{self.default}'" if isinstance(self.default, str) else ""
            raise ValueError(f"{self.name} is {kind}{word}, not '{typed}'.") from None


@dataclass(frozen=True)
class Choice:
    """A method.

    Attributes
    ----------
    name, title, summary : str
    options : tuple of Option
    """

    name: str
    title: str
    summary: str
    options: tuple[Option, ...]


def choices() -> dict[str, Choice]:
    """Return every method by its name."""
    return {name: Choice(name, cls.title, cls.summary, _options(cls)) for name, cls in METHODS.items()}


def _options(cls: type[Method]) -> tuple[Option, ...]:
    texts = _documented(cls)
    return tuple(
        Option(f.name, f.default, texts.get(f.name, ""))
        for f in fields(cls)
        if f.default is not MISSING and isinstance(f.default, int | float | str)
    )


def _documented(cls: type) -> dict[str, str]:
    """Return the text of every parameter in the numpydoc docstrings of a class and its bases."""
    out: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        lines = inspect.cleandoc(base.__dict__.get("__doc__") or "").split("\n")
        name = ""
        for line in lines:
            found = re.match(r"^(\w+) : ", line)
            if found:
                name = found.group(1)
                out[name] = ""
            elif name and line.startswith("    "):
                out[name] = f"{out[name]} {line.strip()}".strip()
            elif not line.strip() or not line.startswith(" "):
                name = ""
    return out
