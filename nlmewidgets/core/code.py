"""A model and its data as Python source that runs in a fresh kernel."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
import sympy as sp

from nlmewidgets.core import symbols as role
from nlmewidgets.core.columns import DATES
from nlmewidgets.core.data import Data
from nlmewidgets.core.distributions import Distribution
from nlmewidgets.core.errors import DataError
from nlmewidgets.core.exclusions import exclusion_code
from nlmewidgets.core.expression import TextPrinter
from nlmewidgets.core.likelihood import Likelihood
from nlmewidgets.core.model import Model
from nlmewidgets.core.records import RECORD_COLUMNS
from nlmewidgets.core.system import Route
from nlmewidgets.core.tolerance import Tolerance

__all__ = ["data_code", "model_code"]

_MOST_INLINE_ROWS = 5_000


class _Printer(TextPrinter):
    """SymPy expressions as code, with a given identifier for every symbol."""

    def __init__(self, names: Mapping[sp.Symbol, str]) -> None:
        super().__init__({"order": "none"})
        self.names = names

    def _print_Symbol(self, expr: sp.Symbol) -> str:
        return self.names[expr]

    _print_Theta = _print_Eta = _print_Sigma = _print_Covariate = _print_Level = _print_Reserved = _print_Symbol

    def _print_Rational(self, expr: sp.Rational) -> str:
        return f"sp.Rational({expr.p}, {expr.q})"

    def _print_Function(self, expr: sp.Function) -> str:
        name = type(expr).__name__
        home = "nw" if type(expr).__module__.startswith("nlmewidgets") else "sp"
        return f"{home}.{name}({', '.join(self._print(a) for a in expr.args)})"

    _print_Max = _print_Min = _print_Piecewise = _print_exp = _print_Function

    def _print_ExprCondPair(self, expr: Any) -> str:
        return f"({self._print(expr.args[0])}, {self._print(expr.args[1])})"

    def _print_Relational(self, expr: Any) -> str:
        return f"sp.{type(expr).__name__}({self._print(expr.lhs)}, {self._print(expr.rhs)})"

    def _print_BooleanTrue(self, expr: Any) -> str:
        return "True"

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        if expr.exp is sp.S.Half:
            return f"sp.sqrt({self._print(expr.base)})"
        if expr.exp == -sp.S.Half:
            return f"1/sp.sqrt({self._print(expr.base)})"
        return str(super()._print_Pow(expr, rational))

    def _print_Exp1(self, expr: Any) -> str:
        return "sp.E"

    def _print_Pi(self, expr: Any) -> str:
        return "sp.pi"


def _identifier(name: str, taken: set[str]) -> str:
    base = re.sub(r"\W", "_", name) or "x"
    if base[0].isdigit() or keyword.iskeyword(base):
        base = f"_{base}"
    out, k = base, 2
    while out in taken:
        out, k = f"{base}_{k}", k + 1
    taken.add(out)
    return out


def model_code(model: Model, variable: str = "model") -> str:
    """Return source that declares `model` with its present values; ``sp`` and ``nw`` are imported names."""
    names, lines = _declarations(model, {"sp", "nw", "data", variable})
    printer = _Printer(names)
    arguments = {name: write(model, printer) for name, write in _ARGUMENTS.items()}
    body = [f"    {name}={text}," for name, text in arguments.items() if text]
    return "\n".join([*lines, f"{variable} = nw.Model(", *body, ")" + _flags(model)])


def _declarations(model: Model, taken: set[str]) -> tuple[dict[sp.Symbol, str], list[str]]:
    """Return the identifier of every symbol of a model, and the lines that make them."""
    plain, states = list(model.parameters), model.system.states if model.system else ()
    names = {symbol: _identifier(symbol.name, taken) for symbol in (*plain, *states)}
    lines: list[str] = []
    for sign in ("positive", "real"):
        group = [s for s in plain if bool(s.is_positive) == (sign == "positive")]
        simple = [s for s in group if s.name.isidentifier()]
        if len(simple) > 1:
            left, right = ", ".join(names[s] for s in simple), " ".join(s.name for s in simple)
            lines.append(f'{left} = sp.symbols("{right}", {sign}=True)')
        lone = [s for s in group if s not in simple or len(simple) == 1]
        lines += [f"{names[s]} = sp.Symbol({s.name!r}, {sign}=True)" for s in lone]
    if states:
        left, right = ", ".join(names[s] for s in states), " ".join(s.name for s in states)
        lines.append(f'{left} = nw.states("{right}")')
    found = {s for e in _expressions(model) for s in sp.sympify(e).free_symbols}
    for symbol in sorted(found - names.keys(), key=lambda s: s.name):
        names[symbol] = _identifier(symbol.name, taken)
        lines.append(f"{names[symbol]} = {_source(symbol, model)}")
    return names, lines


def _expressions(model: Model) -> list[Any]:
    """Return every expression that the code of a model writes out."""
    out: list[Any] = [v.effect if isinstance(v, Distribution) else v for v in model.parameters.values()]
    out += model.system.expressions() if model.system else ()
    for name, residual in model.residuals.items():
        if isinstance(residual, Likelihood):
            for part in residual.arguments().values():
                out += part if isinstance(part, tuple) else [] if part is None else [part]
        else:
            out.append(model.outputs[name])
            out += [] if hasattr(residual, "to_code") else [model.observations[name].sd]
    return out


def _source(symbol: sp.Symbol, model: Model) -> str:
    """Return the call that makes a symbol other than a parameter or a state."""
    space = model.space
    if isinstance(symbol, role.Reserved):
        return {"t": "nw.time", "dose": "nw.dose", "f": "nw.f", "dv": "nw.dv"}[symbol.name]
    if isinstance(symbol, role.Level):
        return f"nw.level{symbol.details!r}"
    if isinstance(symbol, role.Covariate):
        return f"nw.covariate({symbol.name!r})"
    if isinstance(symbol, role.Eta):
        sd = space.omega_names[space.eta.index(symbol.name)]
        held = ", fixed=True" if space.is_fixed(sd) else ""
        held += ", occasion=True" if symbol.name in space.within else ""
        return f"nw.eta({symbol.name!r}, sd={space.to_dict(space.initial)[sd]!r}{held})"
    p = next(p for p in (*space.theta, *space.sigma) if p.name == symbol.name)
    held = ", fixed=True" if p.fixed else ""
    if isinstance(symbol, role.Sigma) and (p.lower, p.upper) == (0.0, None):
        return f"nw.sigma({symbol.name!r}, {p.value!r}{held})"
    limits = "".join(f", {k}={v!r}" for k, v in (("lower", p.lower), ("upper", p.upper)) if v is not None)
    return f"nw.theta({symbol.name!r}, {p.value!r}{limits}{held})"


def _prediction(model: Model, printer: _Printer) -> str:
    parts = {}
    for name, expression in model.outputs.items():
        residual = model.residuals[name]
        own = isinstance(residual, Likelihood)
        parts[name] = residual.to_code(printer.doprint) if own else printer.doprint(expression)
    return _by_output(parts)


def _odes(model: Model, printer: _Printer) -> str:
    return _lines([f"{printer.names[s]}: {printer.doprint(e)}" for s, e in model.odes.items()] if model.system else [])


def _initial(model: Model, printer: _Printer) -> str:
    return _braces([f"{printer.names[s]}: {printer.doprint(e)}" for s, e in model.initial.items()])


def _doses(model: Model, printer: _Printer) -> str:
    blank, rows = Route(), []
    for state, route in model.routes.items():
        parts = [(part, expr) for part, expr in route.parts().items() if expr != getattr(blank, part)]
        arguments = ", ".join(f"{part}={printer.doprint(expr)}" for part, expr in parts)
        rows.append(f"{printer.names[state]}: nw.Route({arguments})")
    return _lines(rows)


def _tolerance(model: Model, _: _Printer) -> str:
    usual = model.system is None or model.system.tolerance == Tolerance()
    return "" if usual else f"nw.{model.system.tolerance!r}"  # type: ignore[union-attr]


def _parameters(model: Model, printer: _Printer) -> str:
    return _lines([f"{printer.names[s]}: {_parameter(s, v, model, printer)}" for s, v in model.parameters.items()])


def _short(model: Model) -> list[str]:
    """Return the random effects as correlation= and same= name them."""
    return [*(name.removeprefix("eta_") for name in model.space.between), *model.space.within]


def _correlation(model: Model, _: _Printer) -> str:
    space, short, owner = model.space, _short(model), model.space.omega_map.owner
    numbers = space.to_dict(space.initial)
    named = {(i, j): numbers[c] for c, i, j in space.correlations}
    pairs = [(i, j) for b in space.blocks for i in b for j in b if j < i]
    rho = [named[max(owner[i], owner[j]), min(owner[i], owner[j])] for i, j in pairs]
    return _braces([f"({short[j]!r}, {short[i]!r}): {c!r}" for (i, j), c in zip(pairs, rho, strict=True)])


def _same(model: Model, _: _Printer) -> str:
    owner, short = model.space.omega_map.owner, _short(model)
    groups = [tuple(short[k] for k in range(len(owner)) if owner[k] == first) for first in dict.fromkeys(owner)]
    shared = ", ".join(str(group) for group in groups if len(group) > 1)
    return f"[{shared}]" if shared else ""


def _residual(model: Model, printer: _Printer) -> str:
    numbers, fixed = model.space.to_dict(model.space.initial), {p.name: p.fixed for p in model.space.sigma}
    shown = {}
    for name, residual in model.residuals.items():
        if isinstance(residual, Likelihood):
            continue
        if hasattr(residual, "to_code"):
            own = {s: f"{s}_{name}" if len(model.outputs) > 1 else s for s in residual.sigma_names.values()}
            here = {s: numbers[full] for s, full in own.items()}
            shown[name] = residual.to_code(here, {s: fixed[full] for s, full in own.items()})
        else:
            shown[name] = f'{{"sd": {printer.doprint(model.observations[name].sd)}}}'
    return _by_output(shown) if shown else ""


def _residual_correlation(model: Model, _: _Printer) -> str:
    numbers = model.space.to_dict(model.space.initial)
    return _braces([f"{pair!r}: {numbers[rho]!r}" for pair, rho in model.residual_correlation.items()])


def _blq(model: Model, _: _Printer) -> str:
    return "" if model.blq == "M3" else repr(model.blq)


def _priors(model: Model, _: _Printer) -> str:
    return _braces([f"{key!r}: nw.priors.{prior!r}" for key, prior in model.priors.items()])


def _name(model: Model, _: _Printer) -> str:
    return repr(model.name) if model.name else ""


_ARGUMENTS: dict[str, Callable[[Model, _Printer], str]] = {
    "prediction": _prediction,
    "odes": _odes,
    "initial": _initial,
    "doses": _doses,
    "tolerance": _tolerance,
    "parameters": _parameters,
    "correlation": _correlation,
    "same": _same,
    "residual": _residual,
    "residual_correlation": _residual_correlation,
    "blq": _blq,
    "priors": _priors,
    "name": _name,
}
"""How each argument of `nlmewidgets.Model` is written; '' leaves it out."""


def _braces(items: list[str]) -> str:
    """Return a mapping on one line, '' if it is empty."""
    return "{" + ", ".join(items) + "}" if items else ""


def _lines(items: list[str]) -> str:
    """Return a mapping with an item on each line, '' if it is empty."""
    return "{\n" + "".join(f"        {item},\n" for item in items) + "    }" if items else ""


def _flags(model: Model) -> str:
    """Return .fix(...) or .free(...) of the correlations whose flag is not what their declaration implies."""
    space, out = model.space, ""
    held = space.omega_map.sd_fixed
    for block, fixed in zip(space.blocks, space.omega_fixed, strict=True):
        names = [name for name, i, _ in space.correlations if i in block]
        if names and fixed != all(held[k] for k in block):
            out += f".{'fix' if fixed else 'free'}({names[0]!r})"
    rho = [name for name in model.residual_correlation.values() if space.is_fixed(name)]
    if rho:
        out += f".fix({', '.join(map(repr, rho))})"
    return out


def _by_output(parts: Mapping[str, str]) -> str:
    """Return the only part, or a mapping of output to part."""
    if list(parts) == ["y"]:
        return parts["y"]
    return "{" + ", ".join(f"{name!r}: {part}" for name, part in parts.items()) + "}"


def _parameter(symbol: sp.Symbol, value: Distribution | sp.Expr, model: Model, printer: _Printer) -> str:
    if not isinstance(value, Distribution):
        return str(printer.doprint(value))
    space = model.space
    p = next(p for p in space.theta if p.name == symbol.name)
    args = [repr(p.value)]
    for eta, word in ((f"eta_{symbol.name}", "sd"), (f"kappa_{symbol.name}", "iov")):
        if eta in space.eta and not (word == "sd" and value.eta_sd != (value.sd, value.fixed_sd)):
            name = space.omega_names[space.eta.index(eta)]
            args.append(f"{word}={space.to_dict(space.initial)[name]!r}")
            if space.is_fixed(name):
                args.append(f"fixed_{word}=True")
    if value.effect != 0:
        args.append(f"effect={printer.doprint(value.effect)}")
    if p.fixed:
        args.append("fixed=True")
    blank = type(value)(1.0)
    for shape in value.shapes:
        own = next((p for p in space.theta if p.name == f"{shape.prefix}_{symbol.name}"), None)
        if own is not None:
            args.append(f"{shape.argument}={own.value!r}")
            args += [f"{shape.flag}={own.fixed!r}"] if own.fixed != getattr(blank, shape.flag) else []
    args += [f"{k}={getattr(value, k)!r}" for k in ("lower", "upper") if getattr(value, k) != getattr(blank, k)]
    return f"nw.{type(value).__name__}({', '.join(args)})"


def data_code(data: Data, variable: str = "data") -> str:
    """Return source that loads `data` again, and leaves the same records out.

    Raises
    ------
    DataError
        If it came from a DataFrame that is too large to write out.
    """
    return "\n".join([_loading_code(data, variable), *exclusion_code(data, variable)])


def _loading_code(data: Data, variable: str) -> str:
    origin = data.origin
    kind = origin.get("kind")
    options = "".join(f", {k}={v!r}" for k, v in origin.get("options", {}).items())
    if kind == "dataset":
        return f"{variable} = nw.datasets.load({origin['name']!r}{options})"
    if kind == "csv":
        return f"{variable} = nw.Data.read_csv({origin['path']!r}{options})"
    records = data.complete
    if len(records) > _MOST_INLINE_ROWS:
        raise DataError(
            f"These data came from a DataFrame of {len(records)} rows, too many to write into code; save them with "
            "to_csv() and load them with Data.read_csv()."
        )
    text = records.to_csv(index=False, na_rep=".", float_format=_digits, lineterminator="\n")
    text = text.replace("\\", r"\\").replace('"""', r"\"\"\"")
    words = [c for c in records if c != "DV" and not pd.api.types.is_numeric_dtype(records[c])]
    types = f", dtype={dict.fromkeys(words, 'str')!r}" if words else ""
    # Where a covariate is called like an item in another case, say which of the two is the item.
    alike = {c.upper() for c in data.covariates if c not in RECORD_COLUMNS}
    named = "".join(f", {i.lower()}={i!r}" for i in RECORD_COLUMNS if i in alike)
    named += ", date=None" if alike & set(DATES) else ""
    named += ", dv=None" if records["DV"].isna().all() else ""  # for predictions only
    units = f", units={dict(data.units)!r}" if data.units else ""
    options = f"covariates={list(data.covariates)!r}{named}{units}"
    return (
        "import io\nimport pandas as pd\n\n"
        f'{variable} = nw.Data.from_frame(pd.read_csv(io.StringIO("""\\\n{text}"""), na_values=["."], '
        f"keep_default_na=False{types}), {options})"
    )


def _digits(value: float) -> str:
    return repr(float(value))
