"""Colours and spacing that follow JupyterLab's light and dark themes."""

from __future__ import annotations

import ipywidgets as ipw

from nlmewidgets.panels.access import access

__all__ = ["BAND", "DATA", "FIT", "GROUPS", "MUTED", "SELECTED", "SERIES", "style"]

DATA = "var(--nlme-data)"
FIT = "var(--nlme-fit)"
BAND = "var(--nlme-fit)"
SELECTED = "var(--nlme-selected)"
TREND = "var(--nlme-trend)"
WARN = "var(--nlme-warn)"
MUTED = "var(--nlme-muted)"
SERIES = (FIT, SELECTED, TREND, WARN)
GROUPS = (
    (DATA, "circle"),
    (TREND, "square"),
    (WARN, "triangle-up"),
    ("var(--nlme-fourth)", "diamond"),
    (MUTED, "cross"),
)
"""Colour and shape of groups of observations; neither a curve's colour nor the selection's is among them."""

# Okabe & Ito's colour-blind-safe palette; the lighter members on dark ground.
_CSS = """
:root {
  --nlme-data: #4d4d4d; --nlme-fit: #0072b2; --nlme-selected: #d55e00; --nlme-trend: #007a5a;
  --nlme-warn: #b3476f; --nlme-muted: #8a8a8a; --nlme-worse: #b34700; --nlme-fourth: #7d6200;
}
body[data-jp-theme-light="false"] {
  --nlme-data: #c8c8c8; --nlme-fit: #56b4e9; --nlme-selected: #f0a02c; --nlme-trend: #35c79c;
  --nlme-warn: #e59ac0; --nlme-muted: #8f8f8f; --nlme-worse: #f0a02c; --nlme-fourth: #f0e442;
}
@media (prefers-contrast: more) {
  .nlme { --jp-ui-font-color1: #000; --jp-ui-font-color2: #000; --jp-ui-font-color3: #333; --jp-border-color2: #555;
          --jp-border-color3: #777; --nlme-data: #000; --nlme-fit: #004c80; --nlme-selected: #a63f00;
          --nlme-trend: #00543d; --nlme-warn: #8a1f4c; --nlme-muted: #4d4d4d; }
  body[data-jp-theme-light="false"] .nlme {
          --jp-ui-font-color1: #fff; --jp-ui-font-color2: #fff; --jp-ui-font-color3: #ddd; --jp-border-color2: #bbb;
          --jp-border-color3: #999; --nlme-data: #fff; --nlme-fit: #8fd0ff; --nlme-selected: #ffbf5e;
          --nlme-trend: #66ecc3; --nlme-warn: #ffb8da; --nlme-muted: #c4c4c4; }
  .nlme button, .nlme input, .nlme select, .nlme .noUi-handle { border: 1px solid currentColor; }
}
@media (forced-colors: active) {  /* marks keep colours that are told apart on the system's ground */
  .nlme { --nlme-data: CanvasText; --nlme-fit: #004c80; --nlme-selected: #a63f00; --nlme-trend: #00543d;
          --nlme-warn: #8a1f4c; --nlme-muted: #4d4d4d; --nlme-worse: #a63f00; --nlme-fourth: #5c4800;
          --jp-ui-font-color1: CanvasText; --jp-ui-font-color2: CanvasText; --jp-ui-font-color3: CanvasText;
          --jp-border-color2: GrayText; --jp-border-color3: GrayText; }
  .nlme .bqplot, .nlme .nlme-key span, .nlme .noUi-target, .nlme .noUi-target *, .nlme .progress-bar, .nlme .mod-active,
  .nlme .nlme-picture svg { forced-color-adjust: none; }
  .nlme .bqplot .axis .tick line { stroke-opacity: 0.35; }
  .nlme .nlme-key { color: CanvasText; }
  .nlme .noUi-target { background: CanvasText; border: 1px solid CanvasText; box-shadow: none; }
  .nlme .noUi-connect { background: Highlight; }
  .nlme .noUi-handle { background: ButtonFace; border: 2px solid ButtonText; box-shadow: none; }
  .nlme button { border: 1px solid ButtonText; }
  .nlme button.mod-active { background: Highlight; color: HighlightText; border-color: Highlight; }
  .nlme .lm-TabBar-tab.lm-mod-current { border-bottom: 3px solid Highlight; }
  .nlme .nlme-picture svg { background: #fff; }
}
@media (forced-colors: active) and (prefers-color-scheme: dark) {
  .nlme { --nlme-fit: #8fd0ff; --nlme-selected: #ffbf5e; --nlme-trend: #66ecc3; --nlme-warn: #ffb8da;
          --nlme-muted: #c4c4c4; --nlme-worse: #ffbf5e; --nlme-fourth: #f0e442; }
}
@media (prefers-reduced-motion: reduce) {
  .nlme *, .nlme *::before, .nlme *::after { transition: none !important; animation: none !important; }
}
.nlme { --bq-axislabel-fill: var(--jp-ui-font-color1, #222); --bq-mainheading-fill: var(--jp-ui-font-color1, #222);
        --bq-axis-tick-text-font: 11px sans-serif; font-family: var(--jp-ui-font-family, sans-serif);
        color: var(--jp-ui-font-color1, #222); }
.nlme .bqplot text.axislabel { font-size: 12px; fill: var(--jp-ui-font-color1, #222); }
.nlme .bqplot text.mainheading { font-size: 13px; font-weight: 600; fill: var(--jp-ui-font-color1, #222); }
.nlme .bqplot .axis text, .nlme .bqplot .legendtext { fill: var(--jp-ui-font-color1, #222) !important; }
.nlme .bqplot .axis path, .nlme .bqplot .axis line { stroke: var(--jp-ui-font-color3, #999); }
.nlme h3 { margin: 2px 0 4px; font-size: 14px; font-weight: 600; line-height: 1.3; }
.nlme h4 { margin: 8px 0 2px; font-size: 12px; font-weight: 600; color: var(--jp-ui-font-color2, #555);
           text-transform: none; line-height: 1.3; }
.nlme-cloud path.line[style*="nlme-data"] { stroke-linecap: round; will-change: transform; pointer-events: none; }
.nlme .nlme-figures { display: flex; }
.nlme-caption { font-size: 12px; line-height: 1.45; color: var(--jp-ui-font-color1, #222); max-width: 760px; }
.nlme-caption .soft { color: var(--jp-ui-font-color2, #555); }
.nlme-caption .widget-html-content, .nlme-caption.widget-html > .widget-html-content,
.nlme .nlme-legend .widget-html-content { line-height: 1.45; }
.nlme-legend { font-size: 12px; }
.nlme-key { display: inline-flex; align-items: center; vertical-align: middle; margin: 0 16px 0 4px;
           color: var(--jp-ui-font-color1, #222); }
.nlme-line, .nlme-dashed, .nlme-area, .nlme-dot, .nlme-circle, .nlme-frame,
.nlme-diamond, .nlme-square, .nlme-triangle-up { display: inline-block; margin-right: 6px; }
.nlme-line { width: 20px; border-top: 3px solid currentColor; }
.nlme-dashed { width: 20px; border-top: 2px dashed currentColor; }
.nlme-area { width: 20px; height: 10px; background: currentColor; opacity: 0.3; }
.nlme-dot, .nlme-circle { width: 8px; height: 8px; border-radius: 50%; background: currentColor; }
.nlme-square { width: 8px; height: 8px; background: currentColor; }
.nlme-triangle-up { border: 5px solid transparent; border-bottom: 8px solid currentColor; border-top: 0; }
.nlme-diamond { width: 8px; height: 8px; transform: rotate(45deg); background: currentColor; }
.nlme-frame { width: 7px; height: 7px; border: 2px solid currentColor; }
.nlme-cross::before { content: "✚"; margin-right: 6px; font-size: 11px; }
.nlme-number { font-size: 22px; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums; }
.nlme-delta { font-size: 14px; font-variant-numeric: tabular-nums; }
.nlme-better { color: var(--nlme-trend); }
.nlme-worse { color: var(--nlme-worse); }
.nlme-alert { border-left: 3px solid var(--nlme-selected); padding: 2px 8px; }
.nlme-empty { padding: 36px 12px; color: var(--jp-ui-font-color2, #555); font-size: 13px; text-align: center; }
.nlme-badge { border-radius: 3px; padding: 0 5px; font-size: 11px; border: 1px solid currentColor;
           white-space: nowrap; }
.nlme .widget-container { overflow: visible; }  /* a pixel too much is no reason to scroll: tables have boxes that do */
.nlme-scroll { overflow: auto; max-height: 460px; }
.nlme-table table { border-collapse: collapse; font-size: 12px; line-height: 1.35; font-variant-numeric: tabular-nums;
           color: var(--jp-ui-font-color1, #222); }
.nlme-table th, .nlme-table td { padding: 3px 9px; text-align: right; white-space: nowrap; border: 0;
           border-bottom: 1px solid var(--jp-border-color2, #ddd); background: transparent;
           color: var(--jp-ui-font-color1, #222); }
.nlme-table thead th { font-weight: 600; vertical-align: bottom; }
.nlme-table th.text, .nlme-table td.text { text-align: left; }
.nlme-table td.wide { white-space: normal; min-width: 220px; }
.nlme-table .unit { font-weight: 400; color: var(--jp-ui-font-color2, #555); }
.nlme-table tr.picked td { background: color-mix(in srgb, var(--nlme-selected) 22%, transparent); }
.nlme .nlme-code textarea { box-sizing: border-box; width: 100%;
           font-family: var(--jp-code-font-family, monospace); font-size: 12px; line-height: 1.4; }
.nlme .jupyter-widget-tab > .lm-TabBar .lm-TabBar-tab { flex: 0 0 auto; padding: 0 9px; }
.nlme-picture svg { max-width: 100%; height: auto; }
body[data-jp-theme-light="false"] .nlme-picture svg { filter: invert(0.88) hue-rotate(180deg); }
.nlme .nlme-picked { outline: 2px solid var(--nlme-selected); outline-offset: -2px; }
.nlme .widget-toggle-button, .nlme .widget-button, .nlme .widget-label:not(:empty),
.nlme .widget-checkbox { min-width: max-content; }
.nlme .nlme-arrow.nlme-arrow { background: transparent; box-shadow: none; border: 0; line-height: 1;
           color: var(--nlme-trend); opacity: 1; }
.nlme .nlme-arrow.nlme-arrow-0 { color: var(--nlme-muted); }
.nlme .nlme-arrow-1 { font-size: 13px; } .nlme .nlme-arrow-2 { font-size: 17px; font-weight: 600; }
.nlme .nlme-arrow-3 { font-size: 22px; font-weight: 700; }
.nlme .nlme-stale .nlme-arrow.nlme-arrow { opacity: 0.35; }
.nlme [class*="Collapse-header"], .nlme [class*="Collapse-header"] *, .nlme .lm-TabBar-tabLabel {
           color: var(--jp-ui-font-color1, #222) !important; }
.nlme-numbers { margin: 6px 0 0; }
.nlme-table caption { text-align: left; font-weight: 600; padding: 6px 0 2px; }
.nlme-table tbody th { font-weight: 400; }
.nlme button:focus-visible, .nlme .noUi-handle:focus-visible, .nlme input:focus-visible, .nlme select:focus-visible,
.nlme textarea:focus-visible, .nlme .nlme-scroll:focus-visible, .nlme a:focus-visible,
.nlme .lm-TabBar-tab:focus-visible, .nlme .lm-Collapse-header:focus-visible {
           outline: 2px solid var(--nlme-fit); outline-offset: 1px; }
.nlme .nlme-parameter .widget-label { min-width: 96px; width: 96px; text-align: left; white-space: normal; height: auto;
           overflow-wrap: anywhere;
           line-height: 1.1; align-self: center; }
.nlme-caption a { color: var(--jp-ui-font-color1, #222); text-decoration: underline; }
"""


def style() -> ipw.Box:
    """Return the style sheet, and the script that names what has no name, as a widget without extent."""
    sheet = ipw.HTML(f"<style>{_CSS}</style>")
    sheet.layout.display = "contents"
    return ipw.Box([sheet, access()], layout=ipw.Layout(display="contents"))
