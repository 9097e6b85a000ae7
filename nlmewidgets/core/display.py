"""A model as equations."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter

from nlmewidgets.core import symbols as role
from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.model import Model
from nlmewidgets.core.observation import Observation
from nlmewidgets.core.system import Route

__all__ = ["equations"]


class _Latex(LatexPrinter):  # type: ignore[misc]
    """Roles as the field writes them: θ_CL, η_CL, κ_CL, σ_a; long names upright."""

    kappas: tuple[str, ...] = ()

    def _upright(self, name: str) -> str:
        name = re.sub(r"[\\^~]", " ", name)
        name = re.sub(r"([_%#&$ {}])", r"\\\1", name)
        return name if len(name) == 1 else rf"\mathrm{{{name}}}"

    def _print_Symbol(self, expr: sp.Symbol, style: str = "plain") -> str:
        return self._upright(expr.name)

    def _print__Indexed(self, expr: sp.Symbol) -> str:
        letter, name = expr.name.split("_", 1)
        return rf"{letter}_{{{self._upright(name)}}}"

    def _print_Reserved(self, expr: role.Reserved) -> str:
        return self._upright(expr.name)

    _print_Covariate = _print_State = _print_Reserved

    def _print_Level(self, expr: role.Level) -> str:
        return rf"[{self._upright(expr.column)} = {self._upright(expr.level)}]"

    def _print_Theta(self, expr: role.Theta) -> str:
        return rf"\theta_{{{self._upright(expr.name)}}}"

    def _print_Eta(self, expr: role.Eta) -> str:
        if expr.name in self.kappas:
            return rf"\kappa_{{{self._upright(expr.name.removeprefix('kappa_'))}}}"
        return rf"\eta_{{{self._upright(expr.name.removeprefix('eta_'))}}}"

    def _print_Sigma(self, expr: role.Sigma) -> str:
        return rf"\sigma_{{{self._upright(expr.name)}}}"


class _Indexed(sp.Symbol):  # type: ignore[misc]
    """f or y of one output."""


def _output(letter: str, name: str) -> sp.Symbol:
    return _Indexed(f"{letter}_{name}", real=True)


def equations(model: Model, *, derivatives: bool = False) -> str:
    r"""Return the model as a LaTeX ``aligned`` block.

    Parameters
    ----------
    model : Model
    derivatives : bool
        Add :math:`\partial f/\partial\varphi` for every parameter of the prediction.
    """
    printer = _Latex({"fold_short_frac": False, "mul_symbol": r"\, "})
    printer.kappas = model.space.within
    show = printer.doprint
    single = len(model.outputs) == 1
    rows = []
    for name, prediction in model.outputs.items():
        left = "f" if single else show(_output("f", name))
        rows.append(f"{left} &= {show(prediction)}")
        if prediction.has(role.dose):
            rows[-1] += r"\quad\text{summed over past doses, } t \text{ since each}"
    for state, rhs in model.odes.items():
        rows.append(rf"\frac{{d\,{show(state)}}}{{dt}} &= {show(rhs)}")
    for state, start in model.initial.items():
        rows.append(rf"{show(state)}(0) &= {show(start)}")
    for state, route in model.routes.items():
        for part, expr in route.parts().items():
            if expr != getattr(Route(), part):
                rows.append(rf"\text{{{part} of doses into {show(state)}}} &= {show(expr)}")
    for symbol, value in model.parameters.items():
        if isinstance(value, Distribution):
            effect = sp.sympify(value.effect)
            shown = "" if effect == 0 else show(effect)
            text = f" {shown}" if shown.startswith("-") else f" + {shown}" if shown else ""
            own = [n for n in (f"eta_{symbol.name}", f"kappa_{symbol.name}") if n in model.space.eta]
            eta = " + ".join(show(role.Eta(n, real=True)) for n in own)
            rows.append(value.latex(show(symbol), show(role.Theta(symbol.name, real=True)), text, eta))
        else:
            rows.append(f"{show(symbol)} &= {show(value)}")
    rows += _omega_rows(model, printer)
    for name, observation in model.observations.items():
        f, y = (role.f, sp.Symbol("y")) if single else (_output("f", name), _output("y", name))
        rows.append(_observation_row(observation.xreplace({role.f: f, role.dv: y}), f, y, show))
    for (one, two), _ in model.residual_correlation.items():
        y = rf"{show(_output('y', one))},\, {show(_output('y', two))}"
        rho = rf"\rho_{{{printer._upright(one)},{printer._upright(two)}}}"
        rows.append(rf"\mathrm{{corr}}\left({y} \mid \varphi\right) &= {rho}\quad\text{{at the same time}}")
    if derivatives:
        for name, prediction in model.outputs.items():
            left = "f" if single else show(_output("f", name))
            for symbol in sorted(prediction.free_symbols & set(model.parameters), key=lambda s: s.name):
                slope = sp.factor_terms(sp.diff(prediction, symbol))
                rows.append(rf"\frac{{\partial {left}}}{{\partial {show(symbol)}}} &= {show(slope)}")
    body = " \\\\\n".join(rows)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


_EACH = r"\quad\text{for each occasion}"


def _observation_row(own: Observation, f: sp.Symbol, y: sp.Symbol, show: Callable[[Any], str]) -> str:
    if own.sd is None:
        density = f if own.pointwise else sp.expand_mul(-own.minus2log / 2)
        return rf"\log p\left({show(y)}\right) &= {show(density)}"
    left, right = (y, f) if own.center is None else (own.center.xreplace({f: y}), own.center)
    return rf"{show(left)} &= {show(right)} + \varepsilon,\quad \varepsilon \sim N\left(0,\; {show(own.sd**2)}\right)"


def _omega_rows(model: Model, printer: _Latex) -> list[str]:
    rows = []
    for block in model.space.blocks:
        names = [printer.doprint(role.Eta(model.space.eta[k], real=True)) for k in block]
        if len(block) == 1:
            each = block[0] >= len(model.space.between)
            short = names[0].removeprefix(r"\kappa_" if each else r"\eta_")
            sd = rf"\pi_{short}" if each else rf"\omega_{short}"
            rows.append(rf"{names[0]} &\sim N\left(0,\; {sd}^2\right)" + _EACH * each)
        else:
            vector = ",\\, ".join(names)
            each = block[0] >= len(model.space.between)
            omega = r"\Pi" if each else r"\Omega"
            text = rf"\left({vector}\right) &\sim N\left(0,\; {omega}\right),\quad {omega} \text{{ full}}"
            rows.append(text + _EACH * each)
    return rows
