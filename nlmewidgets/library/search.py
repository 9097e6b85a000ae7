"""Finding a structure by a few words, whatever the reader calls things."""

from __future__ import annotations

import re

import pandas as pd

from nlmewidgets.core.errors import ModelError
from nlmewidgets.library.structure import LIBRARY, Structure

__all__ = ["describe", "search"]

_PHRASES = {
    r"\b(first|1st)[ -]order\b": "firstorder",
    r"\b(zero|0)(th)?[ -]order\b": "zeroorder",
    r"\b(one|1|mono|single)[ -]?(c(om)?p(artmen)?ts?|cmpt|cmt)(al)?\b": "size1",
    r"\b(two|2|bi)[ -]?(c(om)?p(artmen)?ts?|cmpt|cmt)(al)?\b": "size2",
    r"\b(three|3|tri)[ -]?(c(om)?p(artmen)?ts?|cmpt|cmt)(al)?\b": "size3",
    r"\b(one|mono|single|two|bi|three|tri)compartment(al)?\b": r"\1 compartment",
    r"\bmichaelis([ –-]+menten)?\b": "mm",
    r"\b(target[ -]mediated)\b": "tmdd",
    r"\bindirect[ -]response\b": "idr",
    r"\bquasi[ -]?steady[ -]?state\b": "qss",
    r"\bbi[ -]?exponential\b": "biexponential",
    r"\bdose[ -](and[ -])?response\b": "doseresponse",
    r"\b(no|without)[ -]lag\b": "",
}
_SYNONYMS = {
    "iv": "intravenous", "injection": "intravenous", "po": "oral", "extravascular": "oral", "sc": "oral",
    "subcutaneous": "oral", "absorption": "", "tumor": "tumour", "inf": "infusion", "tlag": "lag", "lagtime": "lag",
    "pharmacodynamic": "pd", "pharmacodynamics": "pd", "pharmacokinetic": "pk", "pharmacokinetics": "pk",
    "nonlinear": "mm", "saturable": "mm", "saturation": "mm", "inhibition": "inhibitory", "imax": "inhibitory",
    "stimulated": "stimulation", "inhibited": "inhibitory", "hill": "sigmoid", "link": "biophase",
    "model": "", "models": "", "the": "", "a": "", "of": "", "with": "", "and": "", "elimination": "", "in": "",
    "neural": "neuron", "neurons": "neuron", "neuroscience": "neuron", "i": "1", "ii": "2", "iii": "3",
    "turn": "turnover", "curves": "curve", "micro": "k", "constants": "constant", "doses": "dose", "weibul": "weibull",
    "first": "firstorder", "zero": "zeroorder", "generalized": "richards", "generalised": "richards",
    "compartments": "compartment", "cpt": "compartment", "cmt": "compartment", "1cpt": "size1", "2cpt": "size2",
    "3cpt": "size3", "lagged": "lag", "delayed": "delay", "antibodies": "antibody", "exponentials": "exponential",
}  # fmt: skip


def _words(text: str) -> list[str]:
    """Return the words of a text in one vocabulary."""
    text = text.lower().replace("_", " ").replace("–", "-").replace("/", " ")
    for pattern, word in _PHRASES.items():
        text = re.sub(pattern, word, text)
    found = (_SYNONYMS.get(w, w) for w in re.findall(r"[a-z0-9]+", text))
    return [w for w in found if w]


def _score(entry: Structure, wanted: list[str]) -> float:
    """Return how well a structure matches: 3 for a word of the title or name, 1 elsewhere, less for part of a word."""
    title = set(_words(entry.title)) | set(_words(entry.name))
    rest = set(_words(" ".join((*entry.keywords, entry.family)))) | {a.name.lower() for a in entry.arguments}
    total = 0.0
    for word in wanted:
        if word in title:
            total += 3.0
        elif word in rest:
            total += 2.0
        elif len(word) > 2 and any(w.startswith(word) for w in title | rest):
            total += 1.0
        else:
            total -= 1.0
    return total


def search(text: str = "") -> pd.DataFrame:
    """Return the structures that match a few words, best first; all of them without words.

    Parameters
    ----------
    text : str
        For example ``"oral 2 compartments"``, ``"iv infusion MM"``, ``"indirect response"``.

    Returns
    -------
    DataFrame
        Index: name, as in ``nw.library.<name>``; columns title, family, parameters.

    Raises
    ------
    ModelError
        If none matches.

    Examples
    --------
    >>> import nlmewidgets as nw
    >>> nw.library.search("oral 2 compartments").index[0]
    'oral_2cpt'
    """
    wanted = _words(text)
    scores = {name: _score(entry, wanted) for name, entry in LIBRARY.items()}
    exact = "_".join(text.lower().split())
    if exact in LIBRARY:
        scores[exact] += 100.0
    # Of equals, the first of the library: it goes from the plain to the special.
    ranked = sorted(LIBRARY.values(), key=lambda e: -scores[e.name]) if wanted else list(LIBRARY.values())
    if wanted:
        best = scores[ranked[0].name]
        ranked = [e for e in ranked if scores[e.name] > 0 and scores[e.name] >= best - 3.0]
    if not ranked:
        families = ", ".join(dict.fromkeys(e.family for e in LIBRARY.values()))
        raise ModelError(f"No structure matches {text!r}; there are the families {families}.")
    rows = [(e.name, e.title, e.family, ", ".join(a.name for a in e.arguments)) for e in ranked]
    return pd.DataFrame(rows, columns=["name", "title", "family", "parameters"]).set_index("name")


def describe(name: str) -> Structure:
    """Return a structure: its picture, equations, parameters with meaning and unit, defaults.

    Raises
    ------
    ModelError
        If there is none of this name.
    """
    entry = LIBRARY.get(_ALIASES.get(name, name))
    if entry is None:
        try:
            near = ", ".join(search(name).index[:3])
        except ModelError:
            near = ", ".join(list(LIBRARY)[:3])
        raise ModelError(f"There is no structure '{name}' in the library; search() finds them (perhaps {near}).")
    return entry


_ALIASES = {"iv_bolus_1cpt": "iv_1cpt"}
"""Other names of structures."""
