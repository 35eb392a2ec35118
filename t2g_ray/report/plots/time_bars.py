"""The time of a plan -> bars below those of its memory: one for each side, its parts side by side.

Invariant: a bar is as long as its seconds, against the longest side.
"""

from __future__ import annotations

from markupsafe import Markup

from t2g_ray.planning.parts import Side, Speed, TimePart
from t2g_ray.report.plots.curves import COLOURS

SIDES: dict[Side, str] = {
    "rollout": "samplers",
    "reward": "graders",
    "learner": "learner",
    "sync": "all wait",
}
ROW, BAR, LEAST = 44.0, 22.0, 60.0
"""Heights, and the width from which on a part has its name in its bar."""
SHADES = (*COLOURS, "#56b4e9")


def draw_time(speed: Speed, *, top: float, left: float, width: float) -> tuple[Markup, float]:
    """The bars from `top` on, and where they end."""
    sides = {
        side: [part for part in speed.parts if part.side == side]
        for side in SIDES
        if any(part.side == side for part in speed.parts)
    }
    longest = max(sum(part.seconds for part in parts) for parts in sides.values())
    title = (
        f"time of a step: {speed.step_s:.3g} s, {speed.tokens_per_s:,.0f} tokens/s, "
        f"bottleneck: {SIDES[speed.bottleneck]}"
    )
    rows = Markup('<text x="{:.0f}" y="{:.1f}" font-weight="bold">{}</text>').format(
        left, top + 14, title
    )
    for number, (side, parts) in enumerate(sides.items()):
        rows += _row(SIDES[side], parts, top + 34 + number * ROW, left, width / longest)
    return rows, top + 34 + len(sides) * ROW


def _row(name: str, parts: list[TimePart], top: float, left: float, scale: float) -> Markup:
    total = sum(part.seconds for part in parts)
    row = Markup('<text x="{:.0f}" y="{:.1f}">{}: {:.3g} s</text>').format(
        left, top + 8, name, total
    )
    x = left
    for number, part in enumerate(parts):
        wide = part.seconds * scale
        row += Markup(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.0f}" fill="{}">'
            "<title>{}: {:.3g} s, bound by {}</title></rect>"
        ).format(
            *(x, top + 12, wide, BAR, SHADES[number % len(SHADES)]),
            *(part.name, part.seconds, part.bound),
        )
        if wide >= LEAST:
            row += Markup('<text class="note" x="{:.1f}" y="{:.1f}">{}</text>').format(
                x + 4, top + 27, part.name
            )
        x += wide
    return row
