"""One self-contained page: its frame, its style for screen and paper, tables and equations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nlmewidgets.core.display import equations
from nlmewidgets.core.errors import NlmeError
from nlmewidgets.core.model import Model

__all__ = ["equation_lines", "facts", "mathematics", "number", "page", "section", "table", "write"]

_STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:#222;background:#fff;
  margin:0 auto;max-width:1000px;padding:24px 28px 60px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px}
h2{font-size:19px;margin:34px 0 8px;padding-top:10px;border-top:1px solid #ddd}
h3{font-size:15px;margin:20px 0 4px}
p{margin:4px 0 10px;max-width:75ch}
.soft{color:#555}
.alert{border-left:4px solid #d55e00;background:#fdf3ec;padding:6px 12px;margin:10px 0;max-width:80ch}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums;margin:6px 0 12px}
th,td{padding:3px 8px;text-align:right;border-bottom:1px solid #e3e3e3;vertical-align:top}
thead th{border-bottom:1.5px solid #888;vertical-align:bottom}
th.text,td.text{text-align:left}
td.wide{max-width:46ch;white-space:normal}
table.facts th{text-align:left;font-weight:500;color:#555}
table.facts td{text-align:left;max-width:70ch;overflow-wrap:anywhere}
table.math td{border:0;padding:4px 3px;vertical-align:baseline}
table.math td:first-child{text-align:right}
table.math td:last-child{text-align:left}
math{font-size:1.08em}
pre{background:#f6f6f6;border:1px solid #e3e3e3;border-radius:4px;padding:10px;font-size:12px;
  overflow-x:auto;white-space:pre-wrap}
figure{margin:10px 0 18px}
figure svg{max-width:100%;height:auto}
.beside{display:grid;grid-template-columns:repeat(auto-fit,minmax(400px,1fr));gap:8px 16px}
.beside>div{min-width:0}
figcaption{font-size:13px;max-width:80ch}
nav{font-size:13px;margin:12px 0}
nav a{margin-right:14px;color:#0072b2;text-decoration:none}
@media print{
  body{max-width:none;padding:0;font-size:11pt}
  nav{display:none}
  h2,h3{break-after:avoid}
  figure,table{break-inside:avoid}
  .scroll{overflow:visible}
  @page{margin:16mm}
}
"""


def page(title: str, sections: Sequence[tuple[str, str, str]], lead: str = "") -> str:
    """Return the page of (anchor, heading, body) sections that have a body; nothing in it is fetched from elsewhere."""
    kept = [s for s in sections if s[2]]
    links = "".join(f"<a href='#{anchor}'>{escape(heading)}</a>" for anchor, heading, _ in kept)
    body = "".join(section(*s) for s in kept)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'/>"
        f"<meta name='viewport' content='width=device-width'/><title>{escape(title)}</title>"
        f"<style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{lead}<nav aria-label='Sections'>{links}</nav>{body}</body></html>\n"
    )


def write(path: str | Path, text: str) -> Path:
    """Write a page and return its path.

    Raises
    ------
    NlmeError
        If the file cannot be written.
    """
    target = Path(path)
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise NlmeError(
            f"'{target}' cannot be written ({error.strerror}); give a file in an existing folder."
        ) from None
    return target


def section(anchor: str, heading: str, body: str) -> str:
    """Return a section."""
    return f"<section id='{anchor}'><h2>{escape(heading)}</h2>{body}</section>\n"


def number(value: Any, digits: int = 4) -> str:
    """Return a number with significant digits, text as it is, and a dash for what is missing."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else ""
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return "–"
        return f"{value:.{digits}g}".replace("-", "−")
    return escape(str(value))


def table(frame: pd.DataFrame, *, index: bool = True, digits: int = 4) -> str:
    """Return a table; columns of text are set to the left."""
    words = {c: not (pd.api.types.is_numeric_dtype(frame[c]) or frame[c].dtype == bool) for c in frame}
    head = ("<th class='text'></th>" if index else "") + "".join(
        f"<th{' class=text' * words[c]}>{escape(str(c))}</th>" for c in frame
    )
    rows, wide = [], " class='text wide'"
    for key, row in zip(frame.index, frame.itertuples(index=False), strict=True):
        cells = f"<th class='text'>{escape(str(key))}</th>" if index else ""
        cells += "".join(f"<td{words[c] * wide}>{number(v, digits)}</td>" for c, v in zip(frame, row, strict=True))
        rows.append(f"<tr>{cells}</tr>")
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def facts(rows: Mapping[str, Any] | Sequence[tuple[str, Any]]) -> str:
    """Return a table of names and values."""
    pairs = rows.items() if isinstance(rows, Mapping) else rows
    body = "".join(f"<tr><th>{escape(str(k))}</th><td>{escape(str(v))}</td></tr>" for k, v in pairs)
    return f"<table class='facts'><tbody>{body}</tbody></table>"


def equation_lines(model: Model) -> list[str]:
    """Return the model's equations, in LaTeX, one by one."""
    body = equations(model).removeprefix("\\begin{aligned}\n").removesuffix("\n\\end{aligned}")
    return re.split(r"\s*\\\\\n", body)


_NESTED = re.compile(r"\\text\{([^{}]*)\\mathrm\{([^{}]*)\}([^{}]*)\}")
"""A name within words, which is upright already."""


def mathematics(model: Model, only: Sequence[str] | None = None) -> str:
    """Return the model's equations, or some of them, as MathML, which browsers draw by themselves."""
    from latex2mathml.converter import convert

    rows = []
    for line in equation_lines(model) if only is None else only:
        line = _NESTED.sub(r"\\text{\1\2\3}", line)
        left, _, right = (
            line.replace(r"\mathrm{", r"\text{").replace(r"\_", "_").replace(r"\log ", r"\log\, ").partition("&")
        )
        cells = (convert(part.strip()).replace("<math ", '<math displaystyle="true" ', 1) for part in (left, right))
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    if not rows:
        return ""
    return f"<div class='scroll'><table class='math' role='presentation'><tbody>{''.join(rows)}</tbody></table></div>"
