"""A plan -> its tables on the terminal, and what to do where it does not fit."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from t2g_ray.planning.alike import alike
from t2g_ray.planning.memory.held import GIB, MIB
from t2g_ray.planning.parts import MemoryPlace
from t2g_ray.planning.plan import Plan


def print_plan(plan: Plan) -> None:
    """Every kind of place with its parts, at its fullest moment."""
    table = Table("where", "part", "size", title=f"memory on {plan.cluster.source}")
    table.columns[2].justify = "right"
    for group in alike(plan.memory.places):
        title = group.title
        for name, size in group.sums.items():
            table.add_row(escape(title), escape(name), shown(size))
            title = ""
        table.add_row("", _total(group.first), shown(group.first.used), end_section=True)
    Console().print(table)
    if plan.memory.room is not None:
        print(room_line(plan))


def shown(num_bytes: int) -> str:
    """Example: "2.88 GiB", and below a hundredth of that "3.1 MiB"."""
    if num_bytes < GIB // 100:
        return f"{num_bytes / MIB:.1f} MiB"
    return f"{num_bytes / GIB:.2f} GiB"


def room_line(plan: Plan) -> str:
    """How many sequences an engine has room for."""
    room = plan.memory.room
    assert room is not None
    return (
        f"an engine's KV cache of {room.num_bytes / GIB:.1f} GiB holds {room.sequences} sequences "
        f"of {room.sequence_tokens} tokens; it writes {room.max_sequences} at a time at most"
    )


def _total(place: MemoryPlace) -> str:
    if place.capacity is None:
        return "in use, of a size that is not known"
    mark = "[green]in use[/]" if place.fits else "[red]needed[/]"
    return f"{mark}, of {shown(place.capacity)}"


def refusal(plan: Plan) -> str:
    """What is missing where, and the smallest change with which all would fit."""
    short = plan.memory.short
    assert short is not None
    needed = (
        f"what a run holds must fit: {short.name} needs {shown(short.used)}, found "
        f"{shown(short.capacity or 0)}"
    )
    if plan.change is None:
        return (
            f"{needed}; none of the changes that were tried is enough: lower prompt.max_tokens or "
            "sampling.max_new_tokens, take a smaller model, or larger machines"
        )
    place = next((p for p in plan.change.places if p.name == short.name), None)
    then = "" if place is None else f" (it needs {shown(place.used)} then)"
    return f"{needed}; the smallest change with which all fits: {plan.change.written}{then}"
