"""Boxes and arrows as SVG: a layered drawing, from top to bottom.

The steps are those of Sugiyama, Tagawa & Toda (1981), Methods for visual understanding of
hierarchical system structures: give each box a layer, order the boxes of a layer so that
few arrows cross, place them near what they are connected with, and draw. An arrow that
passes layers bends around their boxes through invisible ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np

#: sizes in pixels
CHARACTER, BOLD, LINE, PADDING = 6.5, 7.6, 16, 9
GAP_X, GAP_Y, BEND_WIDTH, LANE = 18, 52, 12, 9

#: a picture is made narrower down to this share of its width; then it has to be scrolled
SHRINK = 0.66

#: how often boxes are ordered by what is above and below them
SWEEPS = 8

#: a colour for each style of a box; text and lines take that of the page around
COLOURS = {
    "plain": "#8a8f98",
    "input": "#2f9e77",
    "state": "#c9821f",
    "sum": "#8a8f98",
    "node": "#3f78c2",
    "probe": "#a3509e",
    "python": "#c94f4f",
    "hand": "#8a8f98",
}


@dataclass(frozen=True)
class Box:
    """A rectangle with lines of text.

    Parameters
    ----------
    key : hashable
        What arrows refer to.
    lines : tuple of str
        The first one is printed in bold.
    style : str
        One of `COLOURS`.
    tip : str
        What is shown when the mouse rests on it.
    """

    key: object
    lines: tuple[str, ...]
    style: str = "plain"
    tip: str = ""

    @property
    def width(self) -> float:
        """The width of the box in pixels, for a font of 12 pixels."""
        longest = max((len(line) for line in self.lines[1:]), default=0)
        return max(CHARACTER * longest, BOLD * len(self.lines[0])) + 2 * PADDING

    @property
    def height(self) -> float:
        """The height of the box in pixels."""
        return LINE * len(self.lines) + 2 * PADDING - 4


@dataclass(frozen=True)
class Arrow:
    """From a box to another one.

    Parameters
    ----------
    source, target : hashable
        Keys of boxes.
    label : str
    back : bool
        Leads to the next time step: drawn dashed, and without influence on where boxes
        are. Arrows that lead upwards run along the right side.
    """

    source: object
    target: object
    label: str = ""
    back: bool = False


@dataclass(frozen=True)
class Drawing:
    """A title, boxes and arrows; ``svg()`` is the picture.

    In notebooks it shows itself.
    """

    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]

    def svg(self) -> str:
        """The picture as one ``<svg>`` element, which needs nothing from elsewhere."""
        return _Painter(self).svg()

    def numbered(self) -> tuple[list[tuple[Arrow, int, int]], np.ndarray]:
        """Arrows with the positions of their boxes, and the layer of each box."""
        number = {box.key: i for i, box in enumerate(self.boxes)}
        arrows = [
            (arrow, number[arrow.source], number[arrow.target]) for arrow in self.arrows
        ]
        edges = [(a, b) for arrow, a, b in arrows if a != b and not arrow.back]
        return arrows, layers(len(self.boxes), edges)

    def condensed(self, limit: int) -> Drawing:
        """A drawing with at most about ``limit`` boxes.

        If there are more, those of one layer that have the same style and begin with the
        same line become one, which says how many they are.
        """
        if len(self.boxes) <= limit:
            return self
        arrows, layer = self.numbered()
        groups: dict = {}
        for box, n in zip(self.boxes, layer.tolist()):
            groups.setdefault((n, box.style, box.lines[0]), []).append(box)
        home = {box.key: key for key, members in groups.items() for box in members}
        boxes = [
            Box(key, (f"{len(m)} × {key[2]}",), key[1])
            if len(m) > 1
            else Box(key, m[0].lines, key[1], m[0].tip)
            for key, m in groups.items()
        ]
        pairs = {(home[a.source], home[a.target], a.back): None for a in self.arrows}
        kept = [Arrow(a, b, "", back) for a, b, back in pairs]
        return Drawing(self.title, tuple(boxes), tuple(kept))

    def _repr_svg_(self) -> str:
        return self.svg()


def layers(count: int, edges: list[tuple[int, int]]) -> np.ndarray:
    """The layer of each box: one below the lowest that leads to it.

    Edges that close a cycle are left out.
    """
    successors: list[list[int]] = [[] for _ in range(count)]
    waiting = np.zeros(count, int)
    for a, b in edges:
        successors[a].append(b)
        waiting[b] += 1
    layer, left = np.zeros(count, int), set(range(count))
    ready = [i for i in range(count) if not waiting[i]]
    while left:
        if not ready:  # a cycle: go on with the box that waits for the fewest
            ready = [min(left, key=lambda i: (waiting[i], i))]
        i = ready.pop()
        if i not in left:
            continue
        left.discard(i)
        for j in successors[i]:
            waiting[j] -= 1
            if j in left:
                layer[j] = max(layer[j], layer[i] + 1)
                if not waiting[j]:
                    ready.append(j)
    targets = {b for _, b in edges}
    for i in range(count):  # sources come down to just above their first reader
        if successors[i] and i not in targets:
            layer[i] = max(min(layer[j] for j in successors[i]) - 1, 0)
    return layer


def spread(wanted: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Centres next to each other in this order, as near as possible to those wanted.

    Least squares under the condition that no two boxes overlap: isotonic regression by
    pooling adjacent violators (Ayer et al. 1955).
    """
    offset = np.concatenate([[0], np.cumsum((width[1:] + width[:-1]) / 2 + GAP_X)])
    pools: list[tuple[float, int]] = []
    for value in (wanted - offset).tolist():
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, m), (b, n) = pools[-2:]
            pools[-2:] = [((a * m + b * n) / (m + n), m + n)]
    flat = np.concatenate([np.full(n, value) for value, n in pools])
    return flat + offset


def _path(layers: list[int], widths: list[float], arrow, a: int, b: int):
    """What an arrow goes through: two boxes, and a bend, a new one, in each layer."""
    points = [a]
    for between in range(layers[a] + 1, layers[b]):
        points.append(len(layers))
        layers.append(between)
        widths.append(BEND_WIDTH)
    return (arrow, [*points, b])


class _Painter:
    """Places what a `Drawing` consists of, step by step, and writes it down."""

    def __init__(self, drawing: Drawing):
        self.drawing = drawing
        self.boxes = drawing.boxes
        arrows, layer = drawing.numbered()
        self.ahead = [(arrow, a, b) for arrow, a, b in arrows if layer[a] < layer[b]]
        self.behind = [(arrow, a, b) for arrow, a, b in arrows if layer[a] >= layer[b]]
        layers, widths = layer.tolist(), [box.width for box in self.boxes]
        self.paths = [_path(layers, widths, *item) for item in self.ahead]
        self.layer = np.array(layers, int)
        self.width = np.array(widths, float)
        self.x = np.zeros(len(self.layer))
        self._place()

    def _place(self) -> None:
        """Where each box is."""
        pairs = [p for _, points in self.paths for p in zip(points, points[1:])]
        self.above: dict = {i: [] for i in range(len(self.layer))}
        self.below: dict = {i: [] for i in range(len(self.layer))}
        for a, b in pairs:
            if self.layer[a] < self.layer[b]:
                self.above[b].append(a)
                self.below[a].append(b)
        depth = int(self.layer.max(initial=-1)) + 1
        self.rows = [np.flatnonzero(self.layer == n).tolist() for n in range(depth)]
        for row in self.rows:
            self.x[row] = spread(np.zeros(len(row)), self.width[row])
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            near = self.above if down else self.below
            for n in range(depth) if down else range(depth - 1, -1, -1):
                self._settle(n, near, order=sweep < SWEEPS - 2)
        self.x -= min((self.x - self.width / 2).tolist(), default=0) - GAP_X
        height = [box.height for box in self.boxes]
        tall = [
            max((height[i] for i in row if i < len(height)), default=0)
            for row in self.rows
        ]
        margin = 26 if self.behind else 8
        self.top = np.cumsum([margin, *(t + GAP_Y for t in tall)])
        self.tall = tall

    def _settle(self, n, near, order) -> None:
        row = self.rows[n]
        wanted = [float(np.mean(self.x[near[i]])) if near[i] else self.x[i] for i in row]
        if order:
            by = sorted(range(len(row)), key=lambda k: (wanted[k], k))
            row, wanted = [row[k] for k in by], [wanted[k] for k in by]
            self.rows[n] = row
        self.x[row] = spread(np.array(wanted), self.width[row])

    # writing -----------------------------------------------------------------------

    def svg(self) -> str:
        """The picture as an ``<svg>`` element: arrows first, boxes on top of them."""
        self.right = max((self.x + self.width / 2).tolist(), default=0) + GAP_X
        lanes = [self._back(k, *item) for k, item in enumerate(self.behind)]
        text = max((len(arrow.label) for arrow, _, _ in self.behind), default=0)
        width = self.right + LANE * len(self.behind) + CHARACTER * text
        depth = [self.top[n] + tall for n, tall in enumerate(self.tall)]
        height = max(depth, default=24) + (24 if self.behind else 8)
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} '
            f'{height:.0f}" width="{width:.0f}" style="max-width: '
            f'max(100%, {SHRINK * width:.0f}px); height: auto" '
            'role="img" font-family="sans-serif" font-size="12">',
            f"<title>{escape(self.drawing.title)}</title>",
            *lanes,
            *(self._arrow(arrow, points) for arrow, points in self.paths),
            *(self._box(i, box) for i, box in enumerate(self.boxes)),
            "</svg>",
        ]
        return "\n".join(parts)

    def _ends(self, i) -> tuple[float, float, float]:
        """Middle, top and bottom of a box or a bend: (x, y, y)."""
        y = float(self.top[self.layer[i]])
        if i < len(self.boxes):
            return float(self.x[i]), y, y + self.boxes[i].height
        return float(self.x[i]), y, y + self.tall[self.layer[i]]

    def _arrow(self, arrow, points) -> str:
        x, _, y = self._ends(points[0])
        path, at = [f"M{x:.0f},{y:.0f}"], (x, y)
        for i in points[1:]:
            x1, y1, bottom = self._ends(i)
            at, middle = ((x + x1) / 2 + 4, (y + y1) / 2 + 4), (y + y1) / 2
            path.append(f"C{x:.0f},{middle:.0f} {x1:.0f},{middle:.0f} {x1:.0f},{y1:.0f}")
            if i >= len(self.boxes):
                path.append(f"L{x1:.0f},{bottom:.0f}")
                y1 = bottom
            x, y = x1, y1
        return self._line(" ".join(path), arrow, at) + _head(x, y)

    def _back(self, lane, arrow, a, b) -> str:
        """A line from the bottom of a box, along the right side, to the top of one.

        It runs between the rows, where no boxes are.
        """
        x, _, bottom = self._ends(a)
        x1, top, _ = self._ends(b)
        x += min(16.0, float(self.width[a]) / 4)
        x1 += min(16.0, float(self.width[b]) / 4)
        side = self.right + LANE * (lane + 0.5)
        low = (
            float(self.top[self.layer[a]]) + self.tall[self.layer[a]] + 8 + 3 * (lane % 4)
        )
        high = top - 12 - 3 * (lane % 4)
        line = (
            f"M{x:.0f},{bottom:.0f} V{low:.0f} H{side:.0f} V{high:.0f} H{x1:.0f} "
            f"V{top:.0f}"
        )
        at = (side + 3, (low + high) / 2)
        return self._line(line, arrow, at) + _head(x1, top)

    @staticmethod
    def _line(path, arrow, at) -> str:
        dashed = ' stroke-dasharray="5 4"' if arrow.back else ""
        line = (
            f'<path d="{path}" fill="none" stroke="currentColor" stroke-opacity="0.5"'
            f"{dashed}/>"
        )
        if not arrow.label:
            return line
        return (
            f'{line}<text x="{at[0]:.0f}" y="{at[1]:.0f}" font-size="10" '
            f'fill="currentColor" fill-opacity="0.75">{escape(arrow.label)}</text>'
        )

    def _box(self, i, box) -> str:
        x, y, _ = self._ends(i)
        colour = COLOURS[box.style]
        rows = []
        for k, text in enumerate(box.lines):
            weight = ' font-weight="bold"' if k == 0 else ' fill-opacity="0.85"'
            rows.append(
                f'<text x="{x:.0f}" y="{y + PADDING + LINE * k + 9:.0f}" '
                f'text-anchor="middle" fill="currentColor"{weight}>{escape(text)}</text>'
            )
        tip = f"<title>{escape(box.tip)}</title>" if box.tip else ""
        dash = ' stroke-dasharray="3 3"' if box.style == "hand" else ""
        return (
            f'<g>{tip}<rect x="{x - box.width / 2:.0f}" y="{y:.0f}" '
            f'width="{box.width:.0f}" height="{box.height:.0f}" rx="5" fill="{colour}" '
            f'fill-opacity="0.18" stroke="{colour}"{dash}/>{"".join(rows)}</g>'
        )


def _head(x: float, y: float) -> str:
    """The tip of an arrow that points down."""
    return (
        f'<path d="M{x:.0f},{y:.0f} l-4,-7 h8 z" fill="currentColor" fill-opacity="0.6"/>'
    )
