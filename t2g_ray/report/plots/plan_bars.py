"""A plan -> one SVG picture: a bar for each kind of place, its parts side by side; then its time.

Invariant: equal plans give equal pictures; parts are as long as their bytes, against what their own
place has, which a line marks, or against what it needs where that is more. What is hardly used is
left out.
"""

from __future__ import annotations

from markupsafe import Markup

from t2g_ray.planning.alike import Alike, alike
from t2g_ray.planning.memory.held import GIB
from t2g_ray.planning.parts import MemoryPlace
from t2g_ray.planning.plan import Plan
from t2g_ray.report.plots.time_bars import SHADES, draw_time

WIDTH, LEFT, RIGHT = 960.0, 20.0, 20.0
ROW, BAR, LEAST = 58.0, 24.0, 90.0
"""Heights, and the width from which on a part has its name in its bar."""
SHOWN = 0.01
"""Share of a place in use from which on it is drawn."""
COLOURS = (*SHADES, "#f0e442", "#7a5230", "#4b4b9f")
FREE, SIZE, TOO_SMALL = "#e4e4e4", "#222222", "#cc0000"
_STYLE = "text{font:12px sans-serif;fill:#222}.note{font-size:11px;fill:#333}"


def draw_plan(plan: Plan) -> str:
    """The picture as a file of its own."""
    groups = [group for group in alike(plan.memory.places) if _is_used(group.first)]
    names = list(dict.fromkeys(name for g in groups for name in g.sums if name != "kept free"))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    rows = Markup("").join(
        _row(group, 40 + number * ROW, colours) for number, group in enumerate(groups)
    )
    below = 40 + len(groups) * ROW
    legend, height = _legend(colours, below)
    if plan.speed is not None:
        time, height = draw_time(plan.speed, top=height + 10, left=LEFT, width=WIDTH - LEFT - RIGHT)
        legend += time
    title = f"{plan.model}: memory on {plan.cluster.source}"
    picture = Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {:.0f} {:.0f}" role="img" '
        'aria-label="{}"><style>{}</style><rect width="100%" height="100%" fill="#fff"/>'
        '<text x="{:.0f}" y="24" font-weight="bold">{}</text>{}{}</svg>\n'
    ).format(WIDTH, height, title, Markup(_STYLE), LEFT, title, rows, legend)
    return str(picture)


def _is_used(place: MemoryPlace) -> bool:
    return place.capacity is None or place.used >= SHOWN * place.capacity


def _row(group: Alike, top: float, colours: dict[str, str]) -> Markup:
    place = group.first
    scale = (WIDTH - LEFT - RIGHT) / max(place.used, place.capacity or 0)
    has = "" if place.capacity is None else f" of {place.capacity / GIB:.1f}"
    label = f"{group.title}: {place.used / GIB:.1f}{has} GiB"
    x, row = LEFT, Markup('<text x="{:.0f}" y="{:.1f}">{}</text>').format(LEFT, top + 8, label)
    for name, size in group.sums.items():
        width = size * scale
        row += Markup(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.0f}" fill="{}">'
            "<title>{}: {:.2f} GiB</title></rect>"
        ).format(x, top + 13, width, BAR, colours.get(name, FREE), name, size / GIB)
        if width >= LEAST:
            row += Markup('<text class="note" x="{:.1f}" y="{:.1f}">{}</text>').format(
                x + 4, top + 29, name.rpartition(": ")[2]
            )
        x += width
    if place.capacity is not None:
        at = LEFT + place.capacity * scale
        row += Markup(
            '<line stroke="{}" stroke-width="2" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
        ).format(SIZE if place.fits else TOO_SMALL, at, top + 10, at, top + 16 + BAR)
    return row


def _legend(colours: dict[str, str], top: float) -> tuple[Markup, float]:
    """Names of the parts in three columns, and the height of the whole picture."""
    column = (WIDTH - LEFT - RIGHT) / 3
    legend = Markup("")
    for number, (name, colour) in enumerate([*colours.items(), ("kept free", FREE)]):
        x, y = LEFT + number % 3 * column, top + number // 3 * 18
        legend += Markup(
            '<rect x="{:.0f}" y="{:.1f}" width="11" height="11" fill="{}"/>'
            '<text class="note" x="{:.0f}" y="{:.1f}">{}</text>'
        ).format(x, y, colour, x + 16, y + 10, name)
    return legend, top + (len(colours) // 3 + 1) * 18 + 14
