"""What a page must be: readable in its theme, nothing clipped or overlapping."""

from __future__ import annotations


def unreadable(page) -> list[str]:
    """Return texts whose contrast with the page is below 3 : 1 (WCAG's limit for large text and graphics)."""
    return page.evaluate(
        """() => {
            const rgb = c => (c.match(/[\\d.]+/g) || []).map(Number);
            const luminance = c => {
                const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
                const [r, g, b] = rgb(c).map(v => linear(v / 255));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const ground = el => {
                for (let e = el; e; e = e.parentElement) {
                    const c = getComputedStyle(e).backgroundColor;
                    if (rgb(c).length === 3 || rgb(c)[3] > 0.5) return c;
                }
                return 'rgb(255, 255, 255)';
            };
            const out = [];
            const shown = '.nlme text, .nlme .nlme-caption *, .nlme h3, .nlme h4, .nlme label';
            for (const el of document.querySelectorAll(shown)) {
                if (!el.getClientRects().length || !el.textContent.trim() || el.closest(':disabled')) continue;
                // Pictures are turned dark as a whole, by a filter that computed colours know nothing of.
                if (el.closest('.nlme-picture')) continue;
                const style = getComputedStyle(el);
                const ink = el instanceof SVGElement ? style.fill : style.color;
                if (rgb(ink).length < 3) continue;
                const [a, b] = [luminance(ink), luminance(ground(el))].sort((x, y) => y - x);
                const what = el.textContent.trim().slice(0, 40);
                if ((a + 0.05) / (b + 0.05) < 3) out.push(what + ' ' + ink + ' on ' + ground(el));
            }
            return out;
        }"""
    )


def clipped(page) -> list[str]:
    """Return texts that do not fit into their boxes, and axis labels that overlap each other in a figure."""
    return page.evaluate(
        """() => {
            const out = [];
            const boxed = '.nlme .widget-label, .nlme .lm-TabBar-tabLabel, .nlme button, .nlme h3, .nlme h4, '
                + '.nlme .nlme-caption';
            for (const el of document.querySelectorAll(boxed)) {
                // A label without width is for those who hear the page.
                if (!el.getClientRects().length || !el.clientWidth) continue;
                if (el.scrollWidth > el.clientWidth + 1) out.push('clipped: ' + el.textContent.trim().slice(0, 50));
            }
            for (const figure of document.querySelectorAll('.nlme .bqplot')) {
                if (!figure.getClientRects().length) continue;
                const boxes = [...figure.querySelectorAll('.axis .tick text, text.axislabel, text.mainheading')]
                    .filter(t => t.textContent.trim()).map(t => [t.textContent, t.getBoundingClientRect()]);
                for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
                    const [s, a] = boxes[i], [t, b] = boxes[j];
                    const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                    const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                    if (w > 2 && h > 3) out.push('overlap: ' + s + ' / ' + t);
                }
            }
            return out;
        }"""
    )
