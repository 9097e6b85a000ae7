"""What flows from where to where, read from differential equations."""

from __future__ import annotations

from typing import NamedTuple

import sympy as sp

from nlmewidgets.core.expression import TextPrinter
from nlmewidgets.core.model import Model
from nlmewidgets.core.symbols import State

__all__ = ["Arrow", "arrows"]


class Arrow(NamedTuple):
    """A flow, or an influence, from one state to another; None: from or to outside."""

    source: str | None
    target: str | None
    label: str
    influence: bool = False


def arrows(model: Model) -> list[Arrow]:
    """Return the flows and influences of a model's differential equations.

    A term that is taken from one state and given to another, up to a factor without states, is a flow
    between them; what is given without being taken is production, what is taken without being given
    leaves the system.  A state that another one's flow depends on influences it.
    """
    terms = {s: sp.Add.make_args(rhs) for s, rhs in model.odes.items()}
    order = [s.name for s in model.parameters]
    found: list[Arrow] = []
    matched: set[tuple[State, sp.Expr]] = set()
    reacted: set[tuple[State, sp.Expr]] = set()
    for s, own in terms.items():
        lost: list[sp.Expr] = []
        for term in own:
            if not _negative(term):
                continue
            partners = [(o, t) for o, theirs in terms.items() if o != s for t in theirs if _same(term, t)]
            matched |= set(partners)
            reacted |= {(s, term)} if partners else set()
            found += [Arrow(s.name, o.name, _label(-term, s, order)) for o, _ in partners]
            lost += [] if partners else [-term]
        if lost:
            found.append(Arrow(s.name, None, _joined(lost, s, order)))
    for s, own in terms.items():
        made = [t for t in own if not _negative(t) and t != 0 and (s, t) not in matched]
        grown = [t for t in made if s in t.free_symbols or _without(t)]
        if grown:
            plain = [t.as_independent(State, as_Add=False)[0] for t in grown]
            found.append(Arrow(None, s.name, _names(order, *plain) or _joined(grown, s, order)))
        found += [
            Arrow(o.name, s.name, _label(t, o, order), True) for t in made if t not in grown for o in _others(t, s)
        ]
        linked = {(a.source, a.target) for a in found}
        for t in own:
            for o in _others(t, s):
                # They meet in one reaction, whose arrows say so.
                shared = (s, t) in reacted and any((o, u) in reacted and not (t / u).atoms(State) for u in terms[o])
                if (o.name, s.name) not in linked and not shared and (t not in made or t in grown):
                    found.append(Arrow(o.name, s.name, "", True))
                    linked.add((o.name, s.name))
    return list(dict.fromkeys(found))


def _negative(term: sp.Expr) -> bool:
    return bool(term.as_coeff_Mul()[0] < 0)


def _same(lost: sp.Expr, given: sp.Expr) -> bool:
    """Whether a term given is a term lost, up to sign and a factor without states such as a volume."""
    if _negative(given) or (lost / given).atoms(State):
        return False
    return lost.free_symbols <= given.free_symbols


def _without(term: sp.Expr) -> bool:
    """Whether something is left of a term when all states are 0."""
    rest = term.xreplace(dict.fromkeys(term.atoms(State), sp.S.Zero))
    return bool(rest != 0 and not rest.has(sp.nan, sp.zoo))


def _others(term: sp.Expr, own: State) -> list[State]:
    return sorted(term.atoms(State) - {own}, key=lambda s: s.name)


def _names(order: list[str], *terms: sp.Expr) -> str:
    used = {s.name for t in terms for s in t.free_symbols}
    names = [name for name in order if name in used]
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _label(term: sp.Expr, state: State, order: list[str]) -> str:
    """Return a rate constant where it is short, else the names of its parameters."""
    rate = term / state
    if not rate.atoms(State):
        text = str(TextPrinter().doprint(rate)).replace("*", "·").replace("-1·", "−").replace("-", "−")
        if len(text) <= 8:
            return text
    return _names(order, term)


def _joined(terms: list[sp.Expr], state: State, order: list[str]) -> str:
    return _label(terms[0], state, order) if len(terms) == 1 else _names(order, *terms)
