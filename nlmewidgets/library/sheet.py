"""The contact sheet: every structure on one page, with its compartments and its curve."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from nlmewidgets.library.diagram import diagram
from nlmewidgets.library.structure import LIBRARY, Structure
from nlmewidgets.library.text import curve

__all__ = ["sheet"]


def sheet(entries: Iterable[Structure] | None = None) -> str:
    """Return the page as HTML: of the whole library, or of some of its structures."""
    families: dict[str, list[Structure]] = {}
    chosen = tuple(LIBRARY.values() if entries is None else entries)
    for entry in chosen:
        families.setdefault(entry.family, []).append(entry)
    body = "".join(
        f"<section><h2>{escape(family)}</h2><div class='cards'>{''.join(map(_card, members))}</div></section>\n"
        for family, members in families.items()
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'/><title>The library of structures</title>"
        f"<meta name='viewport' content='width=device-width'/><style>{STYLE}</style></head><body>"
        f"<h1>{len(chosen)} ready-made structures</h1><p>Compartments, and the typical curve over the demonstration "
        "data of <code>nw.library.demo(name)</code>. Dashed: an influence without a flow.</p>\n"
        f"{body}</body></html>\n"
    )


def _card(entry: Structure) -> str:
    names = ", ".join(a.name for a in entry.arguments)
    return (
        f"<article id='{entry.name}'><h3>{escape(entry.title)}</h3><p><code>{entry.name}</code><br/>{escape(names)}</p>"
        f"<div class='pictures'>{diagram(entry.model)}{curve(entry)}</div></article>\n"
    )


STYLE = """
:root{color-scheme:light dark}
body{font:14px/1.4 sans-serif;margin:24px;color:light-dark(#222,#ddd);background:light-dark(#fff,#16181c)}
h2{margin:28px 0 8px;font-size:18px}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(480px,1fr));gap:14px}
article{border:1px solid light-dark(#ccd,#445);border-radius:8px;padding:10px 14px;overflow:hidden}
h3{margin:0;font-size:14px}p{margin:2px 0 6px}article p{font-size:12px}
.pictures{display:flex;flex-wrap:wrap;gap:8px;align-items:center}
svg{max-width:100%;height:auto}
"""
