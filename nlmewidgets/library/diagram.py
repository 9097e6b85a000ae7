"""A picture of a system of compartments as SVG text: boxes, arrows, the dose."""

from __future__ import annotations

from collections import defaultdict
from html import escape

from nlmewidgets.core.model import Model
from nlmewidgets.library.flows import Arrow, arrows

__all__ = ["diagram"]

CHAR, BOX, ROW, SIDE = 6.9, 32.0, 52.0, 46.0
"""Width of a letter, height of a box, space between rows, shortest arrow between columns."""

Place = tuple[int, int]
Point = tuple[float, float]


def diagram(model: Model) -> str:
    """Return the compartments of a model as an SVG picture; an empty string for a closed form."""
    if not model.odes:
        return ""
    return _Drawing(model).svg()


def places(names: list[str], found: list[Arrow]) -> dict[str, Place]:
    """Return (column, row) of every state: flows run to the right, exchange partners stand above and below."""
    flows = {(a.source, a.target) for a in found if not a.influence and a.source and a.target}
    near: dict[str, set[str]] = defaultdict(set)
    for a, b in flows:
        near[str(a)].add(str(b))
        near[str(b)].add(str(a))
    partner = {
        s: next(iter(near[s]))
        for s in names
        if len(near[s]) == 1 and {(s, o) for o in near[s]} <= flows and {(o, s) for o in near[s]} <= flows
    }
    partner = {s: o for s, o in partner.items() if names.index(o) < names.index(s)}
    main = [s for s in names if s not in partner]
    column: dict[str, int] = {}
    for s in main:  # in the order of declaration: a flow backwards does not move anything
        before = [column[o] for o in main if o in column and (o, s) in flows]
        column[s] = 1 + max(before) if before else 0
    taken: dict[Place, str] = {}
    out: dict[str, Place] = {}
    base = 0
    for group in _connected(names, near):
        height = base
        # What is influenced from outside its group stands below what influences it.
        shift = max(
            (
                out[a.source][0] - column[a.target]
                for a in found
                if a.influence and a.source in out and a.target in group and a.target in column
            ),
            default=0,
        )
        for s in (s for s in main if s in group):
            column[s] += max(shift, 0)
            row = base
            while (column[s], row) in taken:
                row += 1
            out[s] = (column[s], row)
            taken[out[s]] = s
            height = max(height, row)
        above = False
        for s in (s for s in partner if s in group):
            x, y = out[partner[s]]
            side = y + 1 if (x, y + 1) not in taken else y - 1
            above |= side < base
            out[s] = (x, side)
            taken[out[s]] = s
            height = max(height, side)
        if above:  # a second partner stands above: the whole group moves down
            for s in group:
                taken.pop(out[s], None)
                out[s] = (out[s][0], out[s][1] + 1)
            taken |= {out[s]: s for s in group}
            height += 1
        base = height + 1
    return out


def _connected(names: list[str], near: dict[str, set[str]]) -> list[list[str]]:
    left, groups = list(names), []
    while left:
        group, pending = set(), [left[0]]
        while pending:
            s = pending.pop()
            group.add(s)
            pending += [o for o in near[s] if o not in group]
        groups.append([s for s in names if s in group])
        left = [s for s in left if s not in group]
    return groups


class _Drawing:
    """Places, sizes and marks of one picture."""

    def __init__(self, model: Model) -> None:
        self.names = [s.name for s in model.odes]
        self.found = arrows(model)
        self.place = places(self.names, self.found)
        self.at = {p: s for s, p in self.place.items()}
        self.marks: list[str] = []
        self.box = {s: max(56.0, CHAR * len(s) + 14) for s in self.names}
        self.dosed = self.names[0] if self._takes_doses(model) else None
        columns = 1 + max(x for x, _ in self.place.values())
        self.rows = 1 + max(y for _, y in self.place.values())
        wide = [max((self.box[s] for s, (x, _) in self.place.items() if x == c), default=56.0) for c in range(columns)]
        gap = [SIDE] * columns
        for a in self.found:
            if a.source and a.target and not a.influence:
                (x, y), (u, v) = self.place[a.source], self.place[a.target]
                if y == v and abs(x - u) == 1:
                    gap[min(x, u)] = max(gap[min(x, u)], CHAR * len(a.label) + 16)
        self.left = 12.0 + max(self._intake(s) for s in self.names)
        self.x = []
        edge = self.left
        for c in range(columns):
            self.x.append(edge + wide[c] / 2)
            edge += wide[c] + gap[c]
        lost = [a.source for a in self.found if a.source and a.target is None]
        self.up = {s for s in lost if self._blocked(s) and self._crowded(s)}
        self.top = 16.0 + 26.0 * bool(self.up)
        self.right = 0.0
        self.low = self.top + self.rows * BOX + (self.rows - 1) * ROW

    def _takes_doses(self, model: Model) -> bool:
        return bool(model.routes) or not any(s.name == self.names[0] for s in model.initial)

    def _blocked(self, s: str) -> bool:
        """Whether another state stands further right in the row."""
        return any(
            (c, self.place[s][1]) in self.at for c in range(self.place[s][0] + 1, 1 + max(x for x, _ in self.at))
        )

    def _crowded(self, s: str) -> bool:
        """Whether there is no room below, but above."""
        return self.place[s][1] == 0 and (self.place[s][0], 1) in self.at

    def _intake(self, s: str) -> float:
        """Return the room that arrows from outside need on the left of the first column."""
        if self.place[s][0] > 0:
            return 0.0
        made = [CHAR * len(a.label) + 14 for a in self.found if a.target == s and a.source is None]
        return max([50.0] * (s == self.dosed) + [max(46.0, w) for w in made], default=0.0)

    def _centre(self, s: str) -> tuple[float, float]:
        x, y = self.place[s]
        return self.x[x], self.top + y * (BOX + ROW) + BOX / 2

    def svg(self) -> str:
        """Return the picture."""
        pairs = {(a.source, a.target): a for a in self.found if not a.influence}
        for a in self.found:
            if a.influence:
                self._influence(a)
            elif a.target is None:
                self._leaves(a)
            elif a.source is None:
                self._enters(a)
            else:
                self._flow(a, (a.target, a.source) in pairs)
        if self.dosed:
            x, y = self._centre(self.dosed)
            edge = x - self.box[self.dosed] / 2
            self._line(edge - 46, y, edge - 2, y, wide=True)
            self._text(edge - 26, y - 6, "dose")
        for s in self.names:
            x, y = self._centre(s)
            w = self.box[s]
            self.marks.append(
                f'<rect class="box" x="{x - w / 2:.1f}" y="{y - BOX / 2:.1f}" width="{w:.1f}" height="{BOX}" rx="6"/>'
            )
            self._text(x, y + 4, s)
            self.right = max(self.right, x + w / 2)
        width, height = self.right + 12, self.low + 14
        words = "; ".join(
            f"{a.source or 'outside'} to {a.target or 'outside'}" + (f" ({a.label})" if a.label else "")
            for a in self.found
        )
        return (
            f'<svg class="diagram" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'width="{width:.0f}" height="{height:.0f}" role="img" aria-label="{escape(words)}">{STYLE}'
            f"{''.join(self.marks)}</svg>"
        )

    # ------------------------------------------------------------------- marks

    def _flow(self, a: Arrow, both: bool) -> None:
        assert a.source is not None
        assert a.target is not None
        (x, y), (u, v) = self._centre(a.source), self._centre(a.target)
        shift = 6.0 if both else 0.0
        across = self.place[a.target][0] - self.place[a.source][0]
        down = self.place[a.target][1] - self.place[a.source][1]
        if down == 0 and abs(across) == 1:
            sign = 1.0 if across > 0 else -1.0
            start, end = x + sign * self.box[a.source] / 2, u - sign * (self.box[a.target] / 2 + 2)
            y -= sign * shift
            self._line(start, y, end, y)
            self._text((start + end) / 2, y - 5 if sign > 0 else y + 13, a.label)
        elif across == 0 and abs(down) == 1:
            sign = 1.0 if down > 0 else -1.0
            x += sign * shift * 1.3
            self._line(x, y + sign * BOX / 2, x, v - sign * (BOX / 2 + 2))
            self._text(x + sign * 6, (y + v) / 2 + 4, a.label, "start" if sign > 0 else "end")
        else:
            self._slanted(a, "", 5.0 if both else 0.0)

    def _slanted(self, a: Arrow, kind: str, aside: float = 0.0) -> None:
        assert a.source is not None
        assert a.target is not None
        (x, y), (u, v) = self._centre(a.source), self._centre(a.target)
        if y == v:  # along a row, past others: under the boxes
            low = y + BOX / 2
            depth = low + 34
            u -= (1.0 if u > x else -1.0) * self.box[a.target] / 4  # beside what ends in the middle of the box
            self._curve((x, low), (x, depth), (u, depth), (u, low + 3), kind)
            self.marks.append(_head(u, low + 3, 0, -1))
            self._text((x + u) / 2, low + 38, a.label)
            self.low = max(self.low, depth + 8)
            return
        down = 1.0 if v > y else -1.0
        offset = 12.0 * (1 if u > x else -1 if u < x else 0.6 * down)
        start, end = (x + offset, y + down * BOX / 2), (u - offset if u != x else u + offset, v - down * (BOX / 2 + 3))
        if any(
            self._centre(s) != (x, y) and self._centre(s) != (u, v) and _crosses(start, end, self._area(s))
            for s in self.names
        ):
            # Another box is in the way: pass on the left of it.
            start, end = (x - self.box[a.source] / 2, y), (u - self.box[a.target] / 2 - 3, v)
            far = min(start[0], end[0]) - 30
            self._curve(start, (far, y), (far, v), end, kind)
            self.marks.append(_head(end[0], v, 1, 0))
            return
        start, end = (start[0] + down * aside, start[1]), (end[0] + down * aside, end[1])
        self._line(*start, *end, kind=kind)
        # The label of one of two arrows stands on its own side of them.
        side = -1.0 if aside and down < 0 else 1.0
        middle = (start[0] + end[0]) / 2 + 9 * side, (start[1] + end[1]) / 2 + 4 + (6 * side if aside else 0)
        self._text(*middle, a.label, "start" if side > 0 else "end")

    def _area(self, s: str) -> tuple[float, float, float, float]:
        x, y = self._centre(s)
        return x - self.box[s] / 2, y - BOX / 2, x + self.box[s] / 2, y + BOX / 2

    def _influence(self, a: Arrow) -> None:
        assert a.source is not None
        assert a.target is not None
        (x, y), (u, v) = self._centre(a.source), self._centre(a.target)
        if v == y and abs(self.place[a.source][0] - self.place[a.target][0]) == 1:
            sign = 1.0 if u > x else -1.0
            self._line(x + sign * self.box[a.source] / 2, y, u - sign * (self.box[a.target] / 2 + 2), v, kind="dash")
            return
        self._slanted(a, "dash")

    def _leaves(self, a: Arrow) -> None:
        assert a.source is not None
        x, y = self._centre(a.source)
        if not self._blocked(a.source):
            start = x + self.box[a.source] / 2
            end = start + max(34.0, CHAR * len(a.label) + 14)
            self._line(start, y, end, y)
            self._text((start + end) / 2, y - 6, a.label)
            self.right = max(self.right, end)
            return
        if a.source in self.up:
            self._line(x, y - BOX / 2, x, y - BOX / 2 - 26)
            self._text(x + 6, y - BOX / 2 - 16, a.label, "start")
            return
        x += self.box[a.source] / 4
        self._line(x, y + BOX / 2, x, y + BOX / 2 + 26)
        self._text(x + 6, y + BOX / 2 + 20, a.label, "start")
        self.low = max(self.low, y + BOX / 2 + 30)

    def _enters(self, a: Arrow) -> None:
        assert a.target is not None
        x, y = self._centre(a.target)
        column, row = self.place[a.target]
        if a.target != self.dosed and not any((c, row) in self.at for c in range(column)):
            edge = x - self.box[a.target] / 2
            length = max(42.0, CHAR * len(a.label) + 10)
            self._line(edge - length, y, edge - 2, y)
            self._text(edge - length / 2 - 2, y - 6, a.label)
            return
        x -= self.box[a.target] / 4
        self._line(x, y - BOX / 2 - 28, x, y - BOX / 2 - 2)
        self._text(x + 6, y - BOX / 2 - 16, a.label, "start")

    def _line(self, x: float, y: float, u: float, v: float, *, kind: str = "", wide: bool = False) -> None:
        length = max(((u - x) ** 2 + (v - y) ** 2) ** 0.5, 1e-9)
        name = kind or ("dose" if wide else "flow")
        self.marks.append(
            f'<path class="{name}" d="M{x:.1f},{y:.1f} L{u:.1f},{v:.1f}"/>'
            + _head(u, v, (u - x) / length, (v - y) / length)
        )

    def _curve(self, a: Point, b: Point, c: Point, d: Point, kind: str) -> None:
        (x, y), *rest = a, b, c, d
        through = " ".join(f"{u:.1f},{v:.1f}" for u, v in rest)
        self.marks.append(f'<path class="{kind}" d="M{x:.1f},{y:.1f} C{through}"/>')

    def _text(self, x: float, y: float, text: str, anchor: str = "middle") -> None:
        if text:
            self.marks.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')


STYLE = (
    "<style>.diagram text{font:11px sans-serif;fill:currentColor}"
    ".diagram .box{fill:none;stroke:currentColor;stroke-width:1.3}"
    ".diagram path{fill:none;stroke:currentColor;stroke-width:1.2}"
    ".diagram .dose{stroke-width:2.2}.diagram .dash{stroke-dasharray:4 3;opacity:.75}"
    ".diagram .head{fill:currentColor;stroke:none}</style>"
)


def _head(x: float, y: float, dx: float, dy: float) -> str:
    """Return an arrow head with its tip at (x, y)."""
    a, b = x - 7 * dx, y - 7 * dy
    return (
        f'<path class="head" d="M{x:.1f},{y:.1f} L{a - 3.5 * dy:.1f},{b + 3.5 * dx:.1f} '
        f'L{a + 3.5 * dy:.1f},{b - 3.5 * dx:.1f} Z"/>'
    )


def _crosses(start: tuple[float, float], end: tuple[float, float], area: tuple[float, float, float, float]) -> bool:
    """Whether a line runs through a box."""
    steps = [k / 40 for k in range(41)]
    points = [(start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1])) for t in steps]
    return any(area[0] < x < area[2] and area[1] < y < area[3] for x, y in points)
