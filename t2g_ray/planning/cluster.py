"""Words for machines -> the machines of a cluster, with their GPUs.

Example: "1 x 4 x L40S for learner, 6 x 1 x L40S for rollout, 1 x none with 8 cpus and 32 GiB", or
by the names of instances, "1 x g6e.12xlarge for learner and rollout, 4 x g6e.2xlarge for rollout".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from t2g_ray.planning.cards import CARDS, Card

ROLES = ("learner", "rollout", "reward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One node. Example: Machine(name="g6e.2xlarge", cards=(CARDS["L40S"],), cpus=8)."""

    name: str
    cards: tuple[Card, ...] = ()
    cpus: float | None = None
    """None: not known, and enough."""
    host_gib: float | None = None
    """Its memory; None: not known."""
    roles: tuple[str, ...] = ()
    """Kept for actors of these roles, which then run on no other machines."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """All machines of a run."""

    machines: tuple[Machine, ...]
    source: str
    """Who named them, for messages. Example: "--nodes"."""


def _instance(name: str, cards: int, card: str, cpus: int, host_gib: int) -> Machine:
    return Machine(
        name=name, cards=(CARDS[card],) * cards if card else (), cpus=cpus, host_gib=host_gib
    )


INSTANCES = {
    machine.name: machine
    for machine in (
        _instance("m7i.2xlarge", 0, "", 8, 32),
        _instance("m7i.4xlarge", 0, "", 16, 64),
        _instance("g6.xlarge", 1, "L4", 4, 16),
        _instance("g6.2xlarge", 1, "L4", 8, 32),
        _instance("g6.4xlarge", 1, "L4", 16, 64),
        _instance("g6.12xlarge", 4, "L4", 48, 192),
        _instance("g6e.xlarge", 1, "L40S", 4, 32),
        _instance("g6e.2xlarge", 1, "L40S", 8, 64),
        _instance("g6e.4xlarge", 1, "L40S", 16, 128),
        _instance("g6e.12xlarge", 4, "L40S", 48, 384),
        _instance("g6e.24xlarge", 4, "L40S", 96, 768),
        _instance("g6e.48xlarge", 8, "L40S", 192, 1536),
        _instance("p4d.24xlarge", 8, "A100-40", 96, 1152),
        _instance("p4de.24xlarge", 8, "A100-80", 96, 1152),
        _instance("p5.48xlarge", 8, "H100", 192, 2048),
        _instance("p5en.48xlarge", 8, "H200", 192, 2048),
    )
}
"""Machines that clouds let by name (AWS, as its pages list them)."""

_GROUP = re.compile(
    r"(?P<count>\d+) x (?:(?P<gpus>\d+) x )?(?P<what>[\w.-]+)"
    r"(?: with (?P<cpus>\d+) cpus(?: and (?P<host>\d+) gib)?)?"
    r"(?: for (?P<roles>\w+(?: and \w+)*))?",
    re.IGNORECASE,
)
_NAMELESS = re.compile(r"(\d+)gib", re.IGNORECASE)
_FORM = (
    "machines are written as COUNT x GPUS x CARD, or COUNT x INSTANCE, with commas between them, "
    'as in "1 x 4 x L40S with 48 cpus and 384 GiB for learner, 6 x g6e.2xlarge for rollout"'
)
MAX_MACHINES = 10_000


def read_nodes(text: str, source: str) -> Cluster:
    """The machines that `text` names. Raises ValueError where it names none, or unknown ones."""
    groups = [" ".join(group.split()) for group in text.split(",") if group.strip()]
    machines = tuple(machine for group in groups for machine in _group(group, source))
    if not machines:
        raise ValueError(f"{source} must name machines, found {text!r}; {_FORM}")
    return Cluster(machines, source)


def _group(text: str, source: str) -> Iterator[Machine]:
    found = _GROUP.fullmatch(text)
    if found is None:
        raise ValueError(f"{source}: {_FORM}, found {text!r}; write it like that")
    count = int(found["count"])
    roles = tuple(found["roles"].lower().split(" and ")) if found["roles"] else ()
    if not 0 < count <= MAX_MACHINES:
        raise ValueError(
            f"{source}: 1 to {MAX_MACHINES} machines of a kind, found {text!r}; correct the number"
        )
    if unknown := [role for role in roles if role not in ROLES]:
        raise ValueError(
            f"{source}: machines are kept for some of {', '.join(ROLES)}, found {unknown[0]!r} in "
            f"{text!r}; name some of them, as in `for learner and rollout`, or leave `for` out"
        )
    machine = _machine(found["what"], found["gpus"], source)
    if found["cpus"]:
        machine = replace(machine, cpus=int(found["cpus"]))
    if found["host"]:
        machine = replace(machine, host_gib=int(found["host"]))
    return iter([replace(machine, roles=roles)] * count)


def _machine(what: str, gpus: str | None, source: str) -> Machine:
    if gpus is None and what.lower() == "none":
        return Machine(name="no GPU")
    if gpus is None and what.lower() in INSTANCES:
        return INSTANCES[what.lower()]
    if gpus is None:
        raise ValueError(
            f"{source}: an instance is one of {', '.join(INSTANCES)}, found {what!r}; write its "
            'GPUs instead, as in "1 x 4 x L40S", or "1 x none with 8 cpus and 32 GiB"'
        )
    cards = (card_of(what, source),) * int(gpus)
    return Machine(name=f"{gpus} x {what}", cards=cards)


def card_of(name: str, source: str) -> Card:
    """A card by its name, or by its memory, as 80GiB. Raises ValueError for an unknown one."""
    known = {card.lower(): card for card in CARDS}
    if name.lower() in known:
        return CARDS[known[name.lower()]]
    if nameless := _NAMELESS.fullmatch(name):
        return Card(name=name, memory_gib=int(nameless[1]))
    raise ValueError(
        f"{source}: a card is one of {', '.join(CARDS)}, found {name!r}; choose one, or write what "
        "its driver lets processes have, as 44GiB"
    )
