"""A structure written out: plain text for a terminal, HTML for a notebook."""

from __future__ import annotations

from html import escape

from nlmewidgets.core.expression import TextPrinter
from nlmewidgets.core.model import Model
from nlmewidgets.library.curve import curves
from nlmewidgets.library.demo import demo
from nlmewidgets.library.diagram import diagram
from nlmewidgets.library.structure import Structure, default_text

__all__ = ["as_html", "as_text", "formulas", "picture"]


def formulas(model: Model) -> list[str]:
    """Return the equations of a model's structure as plain text."""
    show = TextPrinter().doprint
    rows = [f"d {s.name}/dt = {show(e)}" for s, e in model.odes.items()]
    rows += [f"{s.name}(0) = {show(e)}" for s, e in model.initial.items()]
    for s, route in model.routes.items():
        rows += [f"{part} of doses into {s.name} = {show(e)}" for part, e in route.parts().items() if e not in (0, 1)]
    single = len(model.outputs) == 1
    rows += [f"{'f' if single else name} = {show(e)}" for name, e in model.outputs.items()]
    return rows


def as_text(entry: Structure) -> str:
    """Return title, equations and parameters as plain text."""
    widest = max(len(a.name) for a in entry.arguments)
    units = max(len(a.unit) for a in entry.arguments)
    rows = [f"{entry.title}  (nw.library.{entry.name})", *(f"  {r}" for r in formulas(entry.model)), ""]
    rows += [
        f"  {a.name:<{widest}}  {a.unit:<{units}}  {a.meaning}; default {default_text(a.default)}"
        for a in entry.arguments
    ]
    rows += [f"  residual: {entry.residual}", f"  demo: {entry.demo.describe()}"]
    rows += [f"  {entry.note}"] if entry.note else []
    return "\n".join(rows)


def picture(entry: Structure) -> str:
    """Return the compartments as SVG; the typical curve of the demonstration for a closed form."""
    return diagram(entry.model) or curve(entry)


def curve(entry: Structure) -> str:
    """Return the typical curves over the demonstration as SVG."""
    return curves(*demo(entry.name))


def as_html(entry: Structure) -> str:
    """Return picture, equations and parameters as HTML."""
    rows = "".join(
        f"<tr><td><code>{a.name}</code></td><td style='text-align:left'>{escape(a.meaning)}</td>"
        f"<td>{escape(a.unit)}</td><td><code>{default_text(a.default)}</code></td></tr>"
        for a in entry.arguments
    )
    note = f"<p>{escape(entry.note)}</p>" if entry.note else ""
    return (
        f"<h4>{escape(entry.title)}</h4>{picture(entry)}\n$$\n{entry.equations}\n$$\n"
        f"<table><thead><tr><th>parameter</th><th>meaning</th><th>unit</th><th>default</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        f"<p>Residual <code>{escape(str(entry.residual))}</code>. Demonstration: {escape(entry.demo.describe())}: "
        f"<code>nw.explore(*nw.library.demo({entry.name!r}))</code>.</p>{note}"
    )
