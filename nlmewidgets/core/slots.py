r"""The one normal form behind every declaration.

Each individual parameter is a function of *slots*, and each slot is linear in the random effects,

.. math:: s_i = m(\theta, z_i) + B\,\eta_i ,

so derivatives with respect to eta are derivatives with respect to slots times the constant B.  A
parameter that is a transform of a normal (log-normal, normal, logit-normal, or written in full as
θ·exp(η), θ·z + η, …) takes one slot; any other expression takes one slot for each theta and each eta
in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import sympy as sp

from nlmewidgets.core.symbols import Covariate, Eta, Theta

__all__ = ["PLACE", "SlotForm", "slot_form"]

PLACE = sp.Symbol("s", real=True)
"""Stands for the slot in a transform h⁻¹(s)."""


@dataclass(frozen=True)
class SlotForm:
    """Parameters in terms of slots.

    Attributes
    ----------
    symbols : tuple of Symbol
        The slots s_k; those with random effects come first.
    typical : tuple of Expr
        m_k(θ, z), in thetas and covariates.
    loadings : tuple of tuple of float
        B, one row per slot, one column per eta.
    parameters : dict of Symbol to Expr
        Each individual parameter, and each theta or eta used outside a parameter, in slots and covariates.
    """

    symbols: tuple[sp.Symbol, ...]
    typical: tuple[sp.Expr, ...]
    loadings: tuple[tuple[float, ...], ...]
    parameters: dict[sp.Symbol, sp.Expr]

    @property
    def n_random(self) -> int:
        """Number of leading slots that have random effects."""
        return sum(any(row) for row in self.loadings)


@lru_cache(maxsize=256)
def slot_form(
    declared: tuple[tuple[sp.Symbol, sp.Expr, sp.Expr | None], ...],
    etas: tuple[Eta, ...],
    extra: tuple[sp.Symbol, ...],
    varying: tuple[sp.Symbol, ...] = (),
) -> SlotForm:
    """Return the slot form of (parameter, expression, transform) triples.

    Parameters
    ----------
    declared : tuple of (Symbol, Expr, Expr or None)
        With a transform h⁻¹(`PLACE`), the expression is h(φ), linear in eta; without, it is φ itself.
    etas : tuple of Eta
        The random effects, in the order of Omega.
    extra : tuple of Theta or Eta
        Symbols used by the prediction itself, outside any parameter.
    varying : tuple of Symbol
        Covariates that change within a subject while a state carries on: the terms they enter leave the
        slot, so that every slot is the same in all blocks of a subject.
    """
    found: list[tuple[sp.Symbol, sp.Expr, tuple[float, ...]]] = []
    own: dict[sp.Symbol, sp.Symbol] = {}
    parameters: dict[sp.Symbol, sp.Expr] = {}
    derived: dict[sp.Symbol, sp.Expr] = {}
    names = {symbol for symbol, _, _ in declared}

    def slot(name: str, typical: sp.Expr, row: tuple[float, ...]) -> sp.Symbol:
        found.append((sp.Symbol(f"s_{name}", real=True), typical, row))
        return found[-1][0]

    def single(symbol: sp.Symbol) -> sp.Symbol:
        if symbol not in own:
            typical = sp.S.Zero if isinstance(symbol, Eta) else symbol
            own[symbol] = slot(f"[{symbol.name}]", typical, tuple(float(symbol == e) for e in etas))
        return own[symbol]

    def singles(expr: sp.Expr) -> dict[sp.Symbol, sp.Symbol]:
        return {x: single(x) for x in sorted(expr.atoms(Theta, Eta), key=lambda x: x.name)}

    def resolve(symbol: sp.Symbol) -> sp.Expr:
        if symbol not in parameters:
            expr = derived[symbol]
            known = {s: resolve(s) for s in sorted(expr.free_symbols & names, key=lambda s: s.name)}
            parameters[symbol] = expr.xreplace(known | singles(expr))
        return parameters[symbol]

    for symbol, expr, transform in declared:
        if expr.free_symbols & names:
            derived[symbol] = expr
            continue
        if not expr.free_symbols:
            parameters[symbol] = expr
            continue
        linear = _linear(expr, etas)
        if linear is None:
            factor, rest = _covariate_factor(expr)
            logarithm = _positive_log(rest)
            linear = None if logarithm is None else _linear(logarithm, etas)
            transform = factor * sp.exp(PLACE)
        if linear is None:
            parameters[symbol] = expr.xreplace(singles(expr))
        else:
            steady, moving = linear[0].as_independent(*varying, as_Add=True) if varying else (linear[0], sp.S.Zero)
            place = slot(symbol.name, steady, linear[1])
            if moving != 0:
                place = place + moving.xreplace(singles(moving))
            parameters[symbol] = place if transform is None else transform.xreplace({PLACE: place})
    for symbol in extra:
        parameters[symbol] = single(symbol)
    parameters = {symbol: resolve(symbol) for symbol, _, _ in declared} | parameters

    found.sort(key=lambda item: not any(item[2]))
    symbols, typical, loadings = zip(*found, strict=True) if found else ((), (), ())
    return SlotForm(symbols, typical, loadings, parameters)


def _linear(expr: sp.Expr, etas: tuple[Eta, ...]) -> tuple[sp.Expr, tuple[float, ...]] | None:
    """Return (expr at eta = 0, loadings) if expr is linear in every eta with constant loadings."""
    row = []
    for e in etas:
        slope = sp.diff(expr, e) if expr.has(e) else sp.S.Zero
        if not slope.is_number:
            return None
        row.append(float(slope))
    return expr.xreplace(dict.fromkeys(etas, sp.S.Zero)), tuple(row)


def _covariate_factor(expr: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """Return (c, expr/c) with c what depends on covariates only, of unknown sign: it stays outside logarithms."""
    factor, rest = expr.as_independent(*expr.atoms(Theta, Eta), as_Add=False)
    return (factor, rest) if factor.free_symbols and not factor.is_positive else (sp.S.One, expr)


def _positive_log(expr: sp.Expr) -> sp.Expr | None:
    """Return log(expr) expanded, if its part without random effects is sure to be positive."""
    positive = {z: sp.Dummy(z.name, positive=True) for z in expr.atoms(Covariate)}
    typical = expr.xreplace(dict.fromkeys(expr.atoms(Eta), sp.S.Zero) | positive)
    if not typical.is_positive:
        return None
    return sp.expand_log(sp.log(expr), force=True)
