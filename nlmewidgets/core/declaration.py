"""What the user wrote → canonical expressions and a parameter space, or a sentence about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import sympy as sp
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.logic.boolalg import Boolean

from nlmewidgets.core import symbols as role
from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.errors import ModelError
from nlmewidgets.core.expression import FUNCTIONS, parse
from nlmewidgets.core.likelihood import Likelihood
from nlmewidgets.core.observation import Observation, normal
from nlmewidgets.core.parameters import Parameter, ParameterSpace
from nlmewidgets.core.system import Route, System
from nlmewidgets.core.tolerance import Tolerance

__all__ = ["Declaration", "check_blq"]

_NAMES = {"t": "nw.time", "time": "nw.time", "dose": "nw.dose", "f": "nw.f", "dv": "nw.dv"}
"""Names with a meaning of their own in expressions; no parameter may have them."""
_NOT_REAL = (sp.nan, sp.zoo, sp.oo, -sp.oo, sp.I)
_ARITHMETIC = (sp.Add, sp.Mul, sp.Pow, sp.Number, sp.NumberSymbol, sp.Symbol, Boolean, ExprCondPair, sp.Tuple)


def check_blq(blq: str, observations: Mapping[str, Observation]) -> None:
    """Refuse a treatment of censored observations that does not exist or does not apply."""
    if blq == "M1":
        raise ModelError(
            "blq='M1' leaves censored records out, which is a choice about data: use data.filter('CENS == 0')."
        )
    if blq not in ("M3", "M4"):
        raise ModelError(f"blq={blq!r} is no treatment of censored observations; there are 'M3' and 'M4'.")
    if blq == "M4":
        for name, own in observations.items():
            if own.score is None or own.transformed:
                raise ModelError(
                    f"blq='M4' conditions on y > 0, which the residual error of '{name}' does not allow; use blq='M3'."
                )


class Declaration:
    """Turns what the user wrote into canonical expressions and a parameter space.

    The numbers carried by theta(), eta() and sigma() go into the space; the expressions keep bare
    symbols, so that models which differ in numbers only share their compiled code.
    """

    def __init__(self, parameters: Mapping[Any, Any], odes: Mapping[Any, Any] | None = None) -> None:
        self.thetas: dict[str, Parameter] = {}
        self.etas: dict[str, tuple[float, bool, bool]] = {}
        self.sigmas: dict[str, Parameter] = {}
        self.likelihoods: dict[str, Likelihood] = {}
        self.names: dict[str, sp.Symbol] = {}
        self.states = self._states(odes)
        for key in parameters:
            symbol = sp.Symbol(key, real=True) if isinstance(key, str) else key
            if not isinstance(symbol, sp.Symbol) or isinstance(symbol, role._Role):
                raise ModelError(f"parameters= has the key {key!r}; a key is a plain SymPy symbol or a name.")
            if symbol.name in self.names:
                raise ModelError(f"parameters= declares '{symbol.name}' twice; keep one.")
            if symbol.name in self.states:
                raise ModelError(f"'{symbol.name}' is a state of odes= and a key of parameters=; rename one of them.")
            if symbol.name in _NAMES or not symbol.name:
                meaning = f"stands for {_NAMES[symbol.name]}" if symbol.name else "is empty"
                raise ModelError(f"parameters= has the name '{symbol.name}', which {meaning}; choose another name.")
            self.names[symbol.name] = symbol
        self.parameters: dict[sp.Symbol, Distribution | sp.Expr] = {}
        for symbol, value in zip(self.names.values(), parameters.values(), strict=True):
            self.parameters[symbol] = self._parameter(symbol, value)

    # ------------------------------------------------------------- expressions

    def _expression(self, value: Any, what: str, *extra: sp.Symbol) -> sp.Expr:
        if isinstance(value, str):
            reserved = {"t": role.time, "time": role.time, "dose": role.dose, "f": role.f}
            return parse(value, {**self.states, **self.names, **reserved, **{s.name: s for s in extra}})
        if isinstance(value, Distribution):
            raise ModelError(f"{what} is {value}; a distribution belongs in parameters=.")
        try:
            expr = sp.sympify(value, strict=True)
        except (sp.SympifyError, TypeError, ValueError):
            raise ModelError(f"{what} is {value!r}; give a SymPy expression, a number or a string.") from None
        if not isinstance(expr, sp.Expr) or expr.is_Matrix:
            raise ModelError(
                f"{what} is {expr}, which is not a numerical expression; give one number, not a {type(expr).__name__}."
            )
        if expr.has(*_NOT_REAL):
            raise ModelError(f"{what} is {expr}, which is not a finite real number; correct the expression.")
        for part in sp.preorder_traversal(expr):
            name = type(part).__name__
            if name not in FUNCTIONS and not isinstance(part, _ARITHMETIC):
                raise ModelError(
                    f"{what} contains the function '{name}', which is not available; there are {', '.join(FUNCTIONS)}."
                )
        return expr

    def _canonical(self, expr: sp.Expr, what: str, allowed: tuple[Any, ...]) -> sp.Expr:
        changes: dict[sp.Symbol, sp.Symbol] = {}
        for symbol in sorted(expr.free_symbols, key=lambda s: s.name):
            if isinstance(symbol, role.Theta):
                changes[symbol] = self._take_theta(symbol)
            elif isinstance(symbol, role.Eta):
                changes[symbol] = self._take_eta(symbol)
            elif isinstance(symbol, role.Sigma):
                raise ModelError(f"sigma '{symbol.name}' is used in {what}; a sigma belongs in residual=.")
            elif isinstance(symbol, role.Covariate):
                continue
            elif isinstance(symbol, role.Reserved):
                if symbol not in allowed:
                    remedy = (
                        "the residual sd is where it belongs"
                        if symbol == role.f
                        else "the datum itself belongs in a likelihood such as nw.LogLikelihood(expression)"
                        if symbol == role.dv
                        else "put what depends on it in prediction="
                    )
                    raise ModelError(f"'{symbol.name}' cannot be used in {what}; {remedy}.")
            elif symbol.name in self.names and not isinstance(symbol, role.State):
                changes[symbol] = self.names[symbol.name]
            elif symbol.name in self.states:
                if role.State not in allowed:
                    raise ModelError(
                        f"The state '{symbol.name}' cannot be used in {what}; use it in odes= and prediction=."
                    )
                changes[symbol] = self.states[symbol.name]
            elif isinstance(symbol, role.State):
                raise ModelError(f"The state '{symbol.name}' in {what} has no equation; add it to odes=.")
            else:
                raise ModelError(self._unknown(symbol, what))
        return expr.xreplace(changes)

    def _unknown(self, symbol: sp.Symbol, what: str) -> str:
        hint = (_NAMES | {"D": "nw.dose"}).get(symbol.name)
        remedy = f"did you mean {hint}?" if hint else "declare it in parameters=, or as nw.covariate() or nw.theta()."
        return f"'{symbol.name}' in {what} is not a parameter; {remedy}"

    def _take_theta(self, symbol: role.Theta) -> role.Theta:
        value, lower, upper, fixed = symbol.details
        self._keep(self.thetas, Parameter(symbol.name, value, lower, upper, fixed))
        return role.plain_theta(symbol.name, lower)

    def _take_eta(self, symbol: role.Eta) -> role.Eta:
        if self.etas.setdefault(symbol.name, symbol.details) != symbol.details:
            raise ModelError(f"eta '{symbol.name}' is declared twice with different numbers; keep one of them.")
        return role.plain_eta(symbol.name)

    def _keep(self, table: dict[str, Parameter], p: Parameter) -> None:
        if table.setdefault(p.name, p) != p:
            raise ModelError(f"'{p.name}' is declared twice with different numbers; keep one.")

    # ------------------------------------------------------------------- parts

    def _parameter(self, symbol: sp.Symbol, value: Any) -> Distribution | sp.Expr:
        name = symbol.name
        if not isinstance(value, Distribution):
            expr = _named(name, self._expression(value, f"the parameter '{name}'"))
            expr = self._canonical(expr, f"parameter '{name}'", ())
            if symbol in expr.free_symbols:
                raise ModelError(f"The parameter '{name}' is defined by itself; use theta() for its typical value.")
            return expr
        typical = role._finite("The parameter", name, value.typical)
        sd = role._finite("The sd of parameter", name, value.sd)
        if sd < 0:
            raise ModelError(f"The parameter '{name}' has sd={sd:g}; a standard deviation is positive (0: no eta).")
        iov = role._finite("The iov of parameter", name, value.iov)
        if iov < 0:
            raise ModelError(f"The parameter '{name}' has iov={iov:g}; a standard deviation is positive (0: no kappa).")
        value = replace(
            value,
            lower=role._bound("The parameter", name, value.lower),
            upper=role._bound("The parameter", name, value.upper),
        )
        if (wrong := value.refusal()) is not None:
            raise ModelError(f"The parameter '{name}' {wrong}; change the bounds or the distribution.")
        lower, upper = value.bounds
        role.check_bounds(f"The parameter '{name}'", typical, lower, upper)
        self._keep(self.thetas, Parameter(name, typical, lower, upper, value.fixed))
        effect = _named(name, self._expression(value.effect, f"the effect on '{name}'"))
        effect = self._canonical(effect, f"the effect on '{name}'", ())
        if effect.atoms(role.Eta) or effect.free_symbols & set(self.names.values()):
            raise ModelError(
                f"The effect on '{name}' may contain thetas and covariates only; write it in full instead."
            )
        if sd or iov:
            for shape in value.shapes:
                number = role._finite(f"The {shape.argument} of parameter", name, getattr(value, shape.argument))
                p = Parameter(f"{shape.prefix}_{name}", number, shape.lower, None, bool(getattr(value, shape.flag)))
                role.check_bounds(f"'{p.name}'", p.value, p.lower, p.upper)
                self._keep(self.thetas, p)
        if sd:
            start, held = value.eta_sd
            self._take_eta(role.Eta(f"eta_{name}", details=(start, bool(held), False), real=True))
        if iov:
            self._take_eta(role.Eta(f"kappa_{name}", details=(iov, bool(value.fixed_iov), True), real=True))
        return replace(value, typical=typical, sd=sd, iov=iov, effect=effect)

    def outputs(self, value: Any) -> dict[str, sp.Expr]:
        """Return the canonical prediction of each output; a prediction without a name is called y."""
        named = value if isinstance(value, Mapping) else {"y": value}
        if not named:
            raise ModelError("prediction= is an empty mapping; give each output's name its expression.")
        found = {}
        for name, item in named.items():
            if not isinstance(name, str) or not name.isidentifier() or name == "sd":
                raise ModelError(f"prediction= has the key {name!r}; an output's name is a word such as 'cp'.")
            what = "prediction=" if len(named) == 1 else f"the prediction of '{name}'"
            if isinstance(item, Likelihood):
                self.likelihoods[name] = own = item.mapped(partial(self._part, item, what))
                found[name] = own.prediction
                if found[name].has(role.dose) and own.observation().pointwise:
                    raise ModelError(
                        f"{what} is a log likelihood with dose, which cannot be summed over doses; use odes=, or a "
                        "likelihood of a prediction such as Poisson."
                    )
                continue
            allowed = (role.time, role.dose, *((role.State,) if self.states else ()))
            found[name] = self._canonical(self._expression(item, what), what, allowed)
            if self.states and found[name].has(role.dose):
                raise ModelError(f"{what} uses dose, but with odes= doses go into the states; use a state instead.")
        return found

    def _states(self, odes: Any) -> dict[str, role.State]:
        if odes is None:
            return {}
        if not isinstance(odes, Mapping) or not odes:
            raise ModelError("odes= is not a mapping of states to right-hand sides, e.g. {central: -k*central}.")
        found: dict[str, role.State] = {}
        for key in odes:
            name = key if isinstance(key, str) else getattr(key, "name", None)
            if name is None or isinstance(key, role._Role) and not isinstance(key, role.State):
                raise ModelError(f'odes= has the key {key!r}; a key is a state of nw.states("depot central").')
            if name in found:
                raise ModelError(f"odes= has the state '{name}' twice; keep one.")
            if name in _NAMES or not name.isidentifier():
                raise ModelError(
                    f"odes= has the state '{name}'; a state's name is one word, not one of {', '.join(_NAMES)}."
                )
            found[name] = role.State(name, real=True)
        return found

    def system(
        self,
        odes: Mapping[Any, Any] | None,
        initial: Mapping[Any, Any] | None,
        doses: Mapping[Any, Any] | None,
        tolerance: Tolerance | None = None,
    ) -> System | None:
        """Return the canonical system of odes=, initial= and doses=; None without odes=."""
        if tolerance is not None and not isinstance(tolerance, Tolerance):
            raise ModelError(f"tolerance={tolerance!r} is not a tolerance; give nw.Tolerance(rtol=, atol=).")
        if odes is None:
            for name, value in (("initial", initial), ("doses", doses), ("tolerance", tolerance)):
                if value:
                    raise ModelError(f"{name}= belongs to the states of odes=; give odes= too.")
            return None
        rhs = [
            self._canonical(self._expression(value, what), what, (role.time, role.State))
            for name, value in zip(self.states, odes.values(), strict=True)
            for what in (f"the equation of '{name}'",)
        ]
        start = {}
        for name, value in self._by_state(initial, "initial").items():
            what = f"the initial value of '{name}'"
            start[name] = self._canonical(self._expression(value, what), what, ())
        routes = {}
        for name, route in self._by_state(doses, "doses").items():
            if not isinstance(route, Route):
                raise ModelError(
                    f"doses= gives '{name}' {route!r}; give nw.Route(lag=, bioavailability=, rate=, duration=)."
                )
            parts = {}
            for part, value in route.parts().items():
                what = f"the {part} of doses into '{name}'"
                parts[part] = self._canonical(self._expression(value, what), what, ())
            routes[name] = Route(**parts)
        return System(
            tuple(self.states.values()),
            tuple(rhs),
            tuple(start.get(name, sp.S.Zero) for name in self.states),
            tuple(routes.get(name, Route()) for name in self.states),
            tolerance or Tolerance(),
        )

    def _by_state(self, value: Any, what: str) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise ModelError(f"{what}= is not a mapping with the states of odes= as keys.")
        out = {}
        for key, item in value.items():
            name = key if isinstance(key, str) else getattr(key, "name", repr(key))
            if name not in self.states:
                raise ModelError(f"{what}= names '{name}', which is no state; the states are {', '.join(self.states)}.")
            out[name] = item
        return out

    def observations(self, value: Any, outputs: Mapping[str, sp.Expr]) -> tuple[dict[str, Observation], dict[str, Any]]:
        """Return each output's canonical observation model, and the residual it was declared by."""
        every, outputs = outputs, {name: e for name, e in outputs.items() if name not in self.likelihoods}
        if not outputs and value is not None:
            raise ModelError(
                f"residual={value!r} is given, but every output has a likelihood of its own; leave it out."
            )
        if isinstance(value, Mapping) and set(value) == set(outputs) or not outputs:
            declared = {name: value[name] for name in outputs}
        elif len(outputs) == 1:
            declared = dict.fromkeys(outputs, value)
        else:
            wanted = ", ".join(f"{name!r}: …" for name in outputs)
            given = f"the keys {list(value)}" if isinstance(value, Mapping) else f"one model, {value!r}"
            raise ModelError(f"residual= has {given}; with several outputs give one to each: {{{wanted}}}.")
        several = len(every) > 1
        found = {name: self.residual(item, name if several else "") for name, item in declared.items()}
        found |= {name: own.observation() for name, own in self.likelihoods.items()}
        declared |= self.likelihoods
        return {name: found[name] for name in every}, {name: declared[name] for name in every}

    def _part(self, likelihood: Likelihood, what: str, part: str, value: Any) -> sp.Expr:
        """Return an argument of a likelihood in canonical symbols."""
        where = f"{part}= of {what}"
        expr = self._expression(value, where, role.dv)
        if part not in likelihood.population:
            allowed = (role.time, role.dose, role.dv, *((role.State,) if self.states else ()))
            return self._canonical(expr, where, allowed)
        changes: dict[sp.Symbol, sp.Symbol] = {}
        for symbol in sorted(expr.free_symbols, key=lambda s: s.name):
            changes[symbol] = self._take_sigma(symbol, where)
        return expr.xreplace(changes)

    def _take_sigma(self, symbol: sp.Symbol, what: str, name: str = "") -> sp.Symbol:
        """Return a symbol of a distribution without its numbers, which go into the space."""
        name = name or symbol.name
        if isinstance(symbol, role.Sigma):
            number, fixed = symbol.details
            self._keep(self.sigmas, Parameter(name, number, 0.0, None, fixed))
            return role.plain_sigma(name)
        if isinstance(symbol, role.Theta):
            if symbol.name in self.thetas:
                raise ModelError(f"theta '{symbol.name}' is used in the prediction and in residual=; use two.")
            number, lower, upper, fixed = symbol.details
            self._keep(self.sigmas, Parameter(name, number, lower, upper, fixed))
            return role.plain_sigma(name, lower)
        if symbol in (role.f, role.time, role.dv) or isinstance(symbol, role.Covariate):
            return symbol
        raise ModelError(f"'{symbol.name}' cannot be used in {what}; use nw.f, nw.sigma(), nw.time and covariates.")

    def residual(self, value: Any, output: str = "") -> Observation:
        """Return the canonical distribution of y in f, sigmas, time and covariates.

        The sigmas of a library model get the name of the output, if there is one, behind theirs.
        """
        own: set[str] = set()
        if isinstance(value, Mapping):
            if set(value) != {"sd"}:
                raise ModelError(
                    f'residual= has the keys {list(value)}; as a mapping it is {{"sd": expression in nw.f}}.'
                )
            expr = self._expression(value["sd"], "the residual sd")
            if expr.is_number and not expr > 0:
                raise ModelError(f"The residual sd is {expr}; a standard deviation is positive.")
            if expr.has(role.dv):
                raise ModelError("'dv' cannot be used in the residual sd; what depends on the datum is a likelihood.")
            found = normal(expr)
        elif hasattr(value, "observation") and not isinstance(value, type):
            found = value.observation()
            own = set(value.sigma_names.values()) if output else set()
        elif isinstance(value, type):
            name = value.__name__
            raise ModelError(f"residual={name} is a class; give it its standard deviations, e.g. {name}(0.5).")
        else:
            raise ModelError(
                f"residual={value!r} is not a residual error model; use Additive(sd), Proportional(sd), "
                'Combined(additive, proportional), Combined1(additive, proportional) or {"sd": expression}.'
            )
        changes: dict[sp.Symbol, sp.Symbol] = {}
        # Sigmas in the order of a library model's arguments, others by name.
        order = list(getattr(value, "sigma_names", {}).values())
        place = {name: k for k, name in enumerate(order)}
        for symbol in sorted(found.atoms(sp.Symbol), key=lambda s: (place.get(s.name, len(place)), s.name)):
            name = f"{symbol.name}_{output}" if symbol.name in own else symbol.name
            changes[symbol] = self._take_sigma(symbol, "the residual sd", name)
        return found.xreplace(changes)

    def space(self, correlation: Mapping[tuple[Any, Any], float] | str, same: Any = ()) -> ParameterSpace:
        """Return the parameter space."""
        etas = tuple(sorted(self.etas, key=lambda name: self.etas[name][2]))  # kappas last
        n_iov = sum(occasion for _, _, occasion in self.etas.values())
        sd = np.array([self.etas[name][0] for name in etas])
        omega = np.diag(sd**2)
        group = list(range(len(etas)))
        if correlation == "full":
            subject = etas[: len(etas) - n_iov]
            correlation = {(a, b): 0.0 for k, a in enumerate(subject) for b in subject[:k]}
        if not isinstance(correlation, Mapping):
            raise ModelError('correlation= is not a mapping of pairs to numbers, e.g. {(CL, V): 0.3}, nor "full".')
        seen: dict[frozenset[int], float] = {}
        for pair, value in correlation.items():
            if not (isinstance(pair, tuple) and len(pair) == 2):
                raise ModelError(f"correlation= has the key {pair}; a key is a pair of parameters, e.g. (CL, V).")
            i, j = (self._eta_index(x, etas) for x in pair)
            shown = f"correlation of {etas[i]} and {etas[j]}"
            if i == j:
                raise ModelError(f"The {shown} is one eta with itself; a key is a pair of different parameters.")
            value = role._finite("The", shown, value)
            if not -1 < value < 1:
                raise ModelError(f"The {shown} is {value:g}; a correlation is between -1 and 1.")
            if seen.setdefault(frozenset((i, j)), value) != value:
                raise ModelError(f"The {shown} is given twice with different numbers; keep one of them.")
            if max(i, j) >= len(etas) - n_iov > min(i, j):
                raise ModelError(f"The {shown} is between one effect per subject and one per occasion; they have none.")
            omega[i, j] = omega[j, i] = value * sd[i] * sd[j]
            group = [group[i] if g == group[j] else g for g in group]
        blocks = tuple(tuple(k for k, g in enumerate(group) if g == label) for label in dict.fromkeys(group))
        held = tuple(self.etas[name][1] for name in etas)
        flags = tuple(all(held[k] for k in block) for block in blocks)
        mixed = any(held[k] != flag for block, flag in zip(blocks, flags, strict=True) for k in block)
        return ParameterSpace(
            tuple(self.thetas.values()),
            tuple(self.sigmas.values()),
            etas,
            tuple(tuple(map(float, row)) for row in omega),
            blocks,
            flags,
            n_iov,
            held if mixed else (),
            self._same(same, etas, omega, blocks),
        )

    def _same(
        self, groups: Any, etas: tuple[str, ...], omega: np.ndarray, blocks: tuple[tuple[int, ...], ...]
    ) -> tuple[int, ...]:
        """Return the eta whose variance each eta has, from groups of parameters that share one."""
        owner = list(range(len(etas)))
        if not isinstance(groups, Sequence) or isinstance(groups, str):
            raise ModelError("same= is not a list of groups that share a variance, e.g. [(CL, V)].")
        for group in groups:
            if not isinstance(group, tuple) or len(group) < 2:
                raise ModelError(f"same= has the group {group!r}; a group is a tuple of parameters, e.g. (CL, V).")
            first, *others = (self._eta_index(x, etas, "same") for x in group)
            for k in others:
                if owner[k] != k or owner[first] != first or k == first:
                    raise ModelError(f"same= has {etas[k]} in two groups or twice; name each effect once.")
                if self.etas[etas[k]] != self.etas[etas[first]]:
                    raise ModelError(
                        f"same= says that {etas[first]} and {etas[k]} share a variance, but they start at different "
                        "standard deviations or differ in fixed or iov; give them the same."
                    )
                owner[k] = first
        if owner == list(range(len(etas))):
            return ()
        home = {k: block for block in blocks for k in block}
        for block in blocks:
            mine = tuple(owner[k] for k in block)
            whole = mine == block or set(mine) == set(home[mine[0]]) and not set(mine) & set(block)
            if not whole or not np.allclose(omega[np.ix_(block, block)], omega[np.ix_(mine, mine)], rtol=1e-12):
                names = ", ".join(etas[k] for k in block)
                raise ModelError(
                    f"same= and correlation= do not fit for {names}: a block is the same as another block as a whole, "
                    "effect by effect and with the same initial correlations."
                )
        return tuple(owner)

    def _eta_index(self, item: Any, etas: tuple[str, ...], argument: str = "correlation") -> int:
        name = item if isinstance(item, str) else getattr(item, "name", repr(item))
        for candidate in (name, f"eta_{name}", f"kappa_{name}"):
            if candidate in etas:
                return etas.index(candidate)
        have = ", ".join(etas) or "none"
        raise ModelError(f"{argument}= names '{name}', which has no random effect; give it an sd (there are {have}).")

    def _refuse_circles(self) -> None:
        below = {
            s: set() if isinstance(v, Distribution) else v.free_symbols & set(self.parameters)
            for s, v in self.parameters.items()
        }
        while below:
            free = [s for s, needs in below.items() if not needs & below.keys()]
            if not free:
                names = " and ".join(f"'{s.name}'" for s in below)
                raise ModelError(f"The parameters {names} are defined by each other; give one of them its own value.")
            for s in free:
                del below[s]

    def check_usage(self, outputs: tuple[sp.Expr, ...], system: System | None = None) -> None:
        """Refuse parameters that cannot influence any observation, and those defined in a circle."""
        self._refuse_circles()
        used = {s for e in outputs for s in e.free_symbols}
        if system is not None:
            seen = system.behind(outputs)
            for state, rhs, start, route in zip(system.states, system.rhs, system.initial, system.routes, strict=True):
                if state in seen:
                    used |= {s for e in (rhs, start, *route.parts().values()) for s in e.free_symbols}
        pending = list(used)
        while pending:
            value = self.parameters.get(pending.pop())
            if value is not None and not isinstance(value, Distribution):
                fresh = (value.free_symbols & set(self.parameters)) - used
                used |= fresh
                pending.extend(fresh)
        for symbol in self.parameters:
            if symbol not in used:
                raise ModelError(
                    f"The parameter '{symbol.name}' does not occur in the prediction; use it or remove it."
                )


def _named(parameter: str, expr: sp.Expr) -> sp.Expr:
    """Return an expression whose coefficients without names of their own have the parameter's."""
    found = expr.atoms(role.Coefficient)
    return expr.xreplace({c: role.theta(f"{parameter}_{c.name}", c.details[0]) for c in found})
