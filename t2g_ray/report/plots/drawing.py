"""Two compared graphs -> two SVG drawings that share one layout.

Invariant: a text stands at the same place in both drawings, so a gap is something missed and an
extra box something wrong. The drawing is deterministic: equal graphs give equal SVG.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import networkx as nx
from markupsafe import Markup

from t2g_ray.graph.counts import ItemKey
from t2g_ray.report.graph_diff import MARKS, ItemStatus, MarkedGraph

WIDTH = 540.0
NODE_HEIGHT = 38.0
MAX_NODES = 30
MAX_LABEL_CHARS = 24
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled rectangle around (x, y); width and height in pixels."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box, gap_x: float = 0.0, gap_y: float = 0.0) -> bool:
        return (
            abs(self.x - other.x) < (self.width + other.width) / 2 + gap_x
            and abs(self.y - other.y) < (self.height + other.height) / 2 + gap_y
        )

    def border_towards(self, target: Point, gap: float = 0.0) -> Point:
        """Where the line from the centre to `target` leaves the box widened by `gap`."""
        dx, dy = target[0] - self.x, target[1] - self.y
        half_width, half_height = self.width / 2 + gap, self.height / 2 + gap
        scale = max(abs(dx) / half_width, abs(dy) / half_height, 1.0)
        return self.x + dx / scale, self.y + dy / scale


def draw_both(gold: MarkedGraph, predicted: MarkedGraph) -> tuple[Markup, Markup]:
    """SVG of the gold and of the predicted graph; at most MAX_NODES texts are drawn."""
    texts = list(dict.fromkeys(gold.texts() + predicted.texts()))[:MAX_NODES]
    edges = [(head, tail) for head, tail, _ in [*gold.relations, *predicted.relations]]
    types = {text: _types_label(text, gold, predicted) for text in texts}
    boxes, height = _layout(types, edges)
    return _svg(gold, boxes, height, "gold graph"), _svg(predicted, boxes, height, "predicted")


def _types_label(text: str, gold: MarkedGraph, predicted: MarkedGraph) -> str:
    """The longer of the two sides' labels: it decides the width of the box."""
    return max((_own_types(side, text)[0] for side in (gold, predicted)), key=len)


def _own_types(side: MarkedGraph, text: str) -> tuple[str, ItemStatus | None]:
    """Types with their marks and the worst status; None when the text is no entity here."""
    found = [(type_, status) for (own, type_), status in side.entities.items() if own == text]
    if not found:
        return "not an entity", None
    statuses = {status for _, status in found}
    label = ", ".join(f"{MARKS[status]} {_short(type_)}" for type_, status in found)
    return label, next(kind for kind in ("wrong", "missed", "match") if kind in statuses)


def _short(text: str) -> str:
    return text if len(text) <= MAX_LABEL_CHARS else text[: MAX_LABEL_CHARS - 1] + "\u2026"


def _layout(
    types: Mapping[str, str], edges: Iterable[tuple[str, str]]
) -> tuple[dict[str, Box], float]:
    """Boxes for all texts and the height of the drawing, in pixels."""
    height = min(680.0, 70.0 + 54.0 * len(types))
    graph = nx.Graph()
    graph.add_nodes_from(types)
    graph.add_edges_from((a, b) for a, b in edges if a in types and b in types and a != b)
    near = dict(nx.all_pairs_shortest_path_length(graph))
    # Parts that are not connected still need a finite distance, else they drift out of sight.
    far = {a: {b: near[a].get(b, 2.5) for b in types} for a in types}
    # The layout starts on a circle from its right end: the scale turns reading order to the right.
    places = nx.kamada_kawai_layout(graph, dist=far, scale=-1) if types else {}
    boxes = {}
    for text, type_label in types.items():
        width = min(200.0, max(len(_short(text)) * 7.2, len(type_label) * 5.8) + 20.0)
        x, y = places[text]
        boxes[text] = _inside(
            Box(WIDTH / 2 * (1 + float(x)), height / 2 * (1 + float(y)), width, NODE_HEIGHT),
            height,
        )
    return _separated(boxes, height), height


def _inside(box: Box, height: float) -> Box:
    x = min(max(box.x, box.width / 2 + 6), WIDTH - box.width / 2 - 6)
    y = min(max(box.y, box.height / 2 + 6), height - box.height / 2 - 6)
    return Box(x, y, box.width, box.height)


def _separated(boxes: dict[str, Box], height: float) -> dict[str, Box]:
    """Push overlapping boxes apart, mostly upwards and downwards since boxes are wide."""
    for _ in range(80):
        is_moved = False
        for a in boxes:
            for b in boxes:
                if a < b and boxes[a].overlaps(boxes[b], gap_x=92.0, gap_y=30.0):
                    is_moved = True
                    upper, lower = (a, b) if boxes[a].y <= boxes[b].y else (b, a)
                    for text, sign in ((upper, -1), (lower, 1)):
                        box = boxes[text]
                        away = math.copysign(2.0, box.x - boxes[a if text == b else b].x)
                        moved = Box(box.x + away, box.y + 4.0 * sign, box.width, box.height)
                        boxes[text] = _inside(moved, height)
        if not is_moved:
            break
    return boxes


def _svg(side: MarkedGraph, boxes: Mapping[str, Box], height: float, title: str) -> Markup:
    own = {text: boxes[text] for text in side.texts() if text in boxes}
    taken = list(own.values())
    edges = Markup("").join(_edges(side, own, taken))
    nodes = Markup("").join(_node(side, text, box) for text, box in own.items())
    if not own:
        nodes = Markup('<text class="empty" x="{:.0f}" y="{:.0f}">empty graph</text>').format(
            WIDTH / 2, height / 2
        )
    return Markup(
        '<svg class="graph" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}{}</svg>'
    ).format(WIDTH, height, title, edges, nodes)


def _node(side: MarkedGraph, text: str, box: Box) -> Markup:
    label, status = _own_types(side, text)
    return Markup(
        '<g class="node {}"><title>{}: {}</title>'
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="8"/>'
        '<text class="name" x="{:.1f}" y="{:.1f}">{}</text>'
        '<text class="type" x="{:.1f}" y="{:.1f}">{}</text></g>'
    ).format(
        *(status or "stray", text, label, box.x - box.width / 2, box.y - box.height / 2),
        *(box.width, box.height, box.x, box.y - 3, _short(text), box.x, box.y + 12, label),
    )


def _edges(side: MarkedGraph, boxes: Mapping[str, Box], taken: list[Box]) -> Iterable[Markup]:
    """Arrows with labels; the arrows between two boxes fan out. `taken` gains the labels."""
    bundles: dict[tuple[str, ...], list[ItemKey]] = {}
    for key in side.relations:
        if key[0] in boxes and key[1] in boxes:
            bundles.setdefault(tuple(sorted(key[:2])), []).append(key)
    for bundle in bundles.values():
        for index, key in enumerate(bundle):
            bend = 44.0 * (index - (len(bundle) - 1) / 2)
            sign = 1.0 if key[0] <= key[1] else -1.0  # both directions bend to their own side
            yield _edge(key, side.relations[key], boxes, bend * sign, taken)


def _edge(
    key: ItemKey, status: ItemStatus, boxes: Mapping[str, Box], bend: float, taken: list[Box]
) -> Markup:
    head, tail = boxes[key[0]], boxes[key[1]]
    if head == tail:
        up = -1.0 if head.y > 60.0 else 1.0  # the loop stays inside the drawing
        start = (head.x - 22, head.y + up * head.height / 2)
        end = (head.x + 22, head.y + up * (head.height / 2 + 5))
        middle = (head.x, head.y + up * (head.height * 1.7 + abs(bend)))
    else:
        length = math.dist((head.x, head.y), (tail.x, tail.y)) or 1.0
        across = ((head.y - tail.y) / length, (tail.x - head.x) / length)
        middle = (
            (head.x + tail.x) / 2 + across[0] * bend,
            (head.y + tail.y) / 2 + across[1] * bend,
        )
        start, end = head.border_towards(middle), tail.border_towards(middle, gap=5.0)
    label = f"{MARKS[status]} {_short(key[2])}"
    place = _free_place(start, middle, end, len(label) * 6.0, taken)
    taken.append(place)
    return Markup(
        '<g class="edge {}"><title>{} \u2192 {}: {}</title>'
        '<path d="M{:.1f},{:.1f} Q{:.1f},{:.1f} {:.1f},{:.1f}" marker-end="url(#tip-{})"/>'
        '<text x="{:.1f}" y="{:.1f}">{}</text></g>'
    ).format(*(status, *key), *start, *middle, *end, status, place.x, place.y + 4, label)


def _free_place(start: Point, middle: Point, end: Point, width: float, taken: list[Box]) -> Box:
    """The label's box on the curve, where it covers least: its middle when that is free."""
    places = []
    for t in (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74):
        a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
        x = a * start[0] + b * middle[0] + c * end[0]
        y = a * start[1] + b * middle[1] + c * end[1]
        x = min(max(x, width / 2), WIDTH - width / 2)
        places.append(Box(x, y, width, 14.0))
    return min(places, key=lambda place: sum(place.overlaps(box) for box in taken))
