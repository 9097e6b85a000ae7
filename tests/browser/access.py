"""What a page must be for every person: checked by axe-core, and by what axe does not look at.

axe-core is no part of this repository (MPL-2.0, 570 kB): the test tool axe-playwright-python brings it.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def find_axe() -> Path:
    """Return the path of axe.min.js."""
    return Path(str(files("axe_playwright_python") / "axe.min.js"))


def violations(page, axe: Path, rules: tuple[str, ...] = ()) -> list[str]:
    """Return what axe-core finds wrong with our markup by WCAG 2 A and AA, or by some of its rules only."""
    if not page.evaluate("() => 'axe' in window"):
        # JupyterLab has an AMD loader, to which the script would give itself instead of to the page.
        text = axe.read_text("utf-8")
        page.evaluate("text => { (0, eval)('(function(){var define, module, exports;' + text + '\\n})()'); }", text)
    run = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": ["wcag2a", "wcag2aa"]}
    return page.evaluate(
        """async run => {
            const found = await axe.run('.nlme', {runOnly: run, resultTypes: ['violations']});
            return found.violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.html.slice(0, 160) + ' '
                + n.failureSummary.replace(/\\s+/g, ' ').slice(0, 200)));
        }""",
        run,
    )


def unnamed(page) -> list[str]:
    """Return figures without a name or a line of words, and tables without heads."""
    return page.evaluate(
        """() => {
            const out = [];
            for (const figure of document.querySelectorAll('.nlme .bqplot')) {
                if (!figure.getClientRects().length) continue;
                const name = figure.getAttribute('aria-label') || '';
                if (figure.getAttribute('role') !== 'img' || !name || name === 'Figure')
                    out.push('figure without a name');
                const words = document.getElementById(figure.getAttribute('aria-describedby'));
                if (!words || !words.textContent.trim()) out.push('no words: ' + name);
            }
            for (const table of document.querySelectorAll('.nlme table:not([role])'))
                if (table.getClientRects().length && !table.querySelector('th[scope]')) out.push('table without heads');
            return [...new Set(out)];
        }"""
    )


def collisions(page) -> list[str]:
    """Return texts that stand on each other, and texts cut by a box that cannot be scrolled."""
    return page.evaluate(
        """() => {
            const boxes = [], out = [];
            const range = document.createRange();
            for (const root of document.querySelectorAll('.nlme')) {
                if (root.parentElement.closest('.nlme')) continue;
                const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
                for (let node = walker.nextNode(); node; node = walker.nextNode()) {
                    const own = node.parentElement, text = node.textContent.trim();
                    if (!text || own.closest('style, script, option, title, .jp-OutputArea')) continue;
                    if (!own.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
                    range.selectNodeContents(node);
                    for (const rect of range.getClientRects()) {
                        let {left, right, top, bottom} = rect;
                        let cut = '', away = false;
                        for (let at = own; at && at !== root && !away; at = at.parentElement) {
                            if (at instanceof SVGElement && at.tagName !== 'svg') continue;
                            const style = getComputedStyle(at), frame = at.getBoundingClientRect();
                            if (style.overflowX === 'visible' && style.overflowY === 'visible') continue;
                            const hidden = style.overflowX === 'hidden' || style.overflowX === 'clip';
                            if (hidden && (right > frame.right + 2 || left < frame.left - 2)) cut = 'clipped: ';
                            left = Math.max(left, frame.left); right = Math.min(right, frame.right);
                            top = Math.max(top, frame.top); bottom = Math.min(bottom, frame.bottom);
                            away = right - left < 2 || bottom - top < 2;
                        }
                        if (cut) out.push(cut + text.slice(0, 50));
                        if (!away) boxes.push({node, text: text.slice(0, 40), left, right, top, bottom});
                    }
                }
            }
            boxes.sort((a, b) => a.top - b.top);
            for (let i = 0; i < boxes.length; i++)
                for (let j = i + 1; j < boxes.length && boxes[j].top < boxes[i].bottom - 3; j++) {
                    const [a, b] = [boxes[i], boxes[j]];
                    if (a.node === b.node) continue;
                    const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                    const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                    if (w > 3 && h > 4) out.push('overlap: ' + a.text + ' / ' + b.text);
                }
            return [...new Set(out)];
        }"""
    )
