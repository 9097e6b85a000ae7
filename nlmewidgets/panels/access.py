"""Names for those who hear the page, and states for those who use no mouse.

Widgets of Python cannot set a role or a name of what they draw: sliders, figures and icons come without any.  A script
that follows the page gives them one, made of what is written beside them.
"""

from __future__ import annotations

import ipywidgets as ipw

__all__ = ["access"]

_SCRIPT = r"""
(() => {
  if (window.nlmewidgetsNames) return;
  window.nlmewidgetsNames = true;
  // Of the player of a run; a fit has a Stop of its own.
  const ICONS = {'fa-play': 'Play the run back', 'fa-pause': 'Pause', 'fa-stop': 'Back to the beginning',
                 'fa-retweet': 'Repeat'};
  let count = 0;
  const text = node => node ? node.textContent.trim().replace(/\s+/g, ' ') : '';
  const set = (node, name, to) => { if (to && node.getAttribute(name) !== to) node.setAttribute(name, to); };
  const lines = node => node.matches('.nlme-caption') ? [node] : [...node.querySelectorAll('.nlme-caption')];
  const seen = node => node.getClientRects().length && text(node) && !node.matches('.nlme-head');
  // The line of words of a figure: the nearest of those after it in its panel.
  const wordsOf = figure => {
    for (let at = figure; at && !at.matches('.nlme, .widget-tab-contents'); at = at.parentElement)
      for (let other = at.nextElementSibling; other; other = other.nextElementSibling) {
        const found = lines(other).find(seen);
        if (found) return found;
      }
    return null;
  };
  const figure = node => {
    const labels = [...node.querySelectorAll('text.axislabel')].map(text).filter(t => t);
    const own = node.querySelector(".mainheading"), beside = node.parentElement.querySelector(":scope > .nlme-head");
    const head = text(own) || text(beside);
    const axes = labels.length > 1 ? labels[1] + ' against ' + labels[0] : labels.join();
    set(node, 'role', 'img');
    set(node, 'aria-label', [axes, head].filter(t => t).join('; ').slice(0, 160) || 'Figure');
    const words = wordsOf(node);
    if (words) {
      if (!words.id) words.id = 'nlme-words-' + (count += 1);
      set(node, 'aria-describedby', words.id);
    }
  };
  const slider = node => {
    const row = node.closest('.nlme-row'), own = node.closest('.widget-slider');
    const field = row && row.querySelector('.nlme-parameter input');
    const name = text(row && row.querySelector('.widget-label')) || text(own && own.querySelector('.widget-label'));
    let head = row;
    while (head && !head.querySelector('h4')) head = head.previousElementSibling;
    set(node, 'aria-label', [text(head && head.querySelector('h4')), name || 'Slider'].filter(t => t).join(': '));
    if (field) set(node, 'aria-valuetext', field.value);
  };
  const button = node => {
    const icon = [...node.querySelectorAll('i')].flatMap(i => [...i.classList]).find(c => c in ICONS);
    if (text(node).length < 2) set(node, 'aria-label', node.title || ICONS[icon]);
    if (node.matches('.widget-toggle-button, .widget-toggle-buttons button'))
      set(node, 'aria-pressed', String(node.classList.contains('mod-active')));
  };
  const all = () => {
    for (const root of document.querySelectorAll('.nlme')) {
      root.querySelectorAll('.bqplot').forEach(figure);
      root.querySelectorAll('.noUi-handle').forEach(slider);
      root.querySelectorAll('button').forEach(button);
    }
  };
  let waiting = null;
  const soon = () => { if (waiting === null) waiting = setTimeout(() => { waiting = null; all(); }, 250); };
  new MutationObserver(soon).observe(document.body, {
    childList: true, subtree: true, attributes: true, attributeFilter: ['title', 'class', 'aria-valuenow'],
  });
  soon();
})();
"""


def access() -> ipw.Output:
    """Return the script as a widget without extent."""
    shown = {"output_type": "display_data", "data": {"application/javascript": _SCRIPT}, "metadata": {}}
    widget = ipw.Output(outputs=(shown,))
    widget.layout.display = "none"
    return widget
