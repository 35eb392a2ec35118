"""Seed -> records of the embedded world: short texts, the wanted types, and the gold graph.

Invariants: the same arguments give the same records in every process; a text belongs to one split
for all seeds and levels; a request for more records starts with the same ones as a request for
fewer.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.records.corpus.names import ENTITY_TYPES, HELDOUT_NAMES, NAMES, RELATION_ENDS
from t2g_ray.records.corpus.templates import (
    COMPOUND,
    DENIALS,
    MENTIONS,
    PASSIVE,
    PLAIN,
    Level,
    Template,
    slot_type,
)
from t2g_ray.records.jsonl import THINKING_KEY
from t2g_ray.types import Record

_PLAIN_OF = {template.facts[0][2]: template for template in reversed(PLAIN)}
"""The first plain sentence for each relation type."""
_NO_FACTS = "No further details were given."

Split = Literal["train", "rl", "heldout", "heldout_names"]
SPLITS: tuple[Split, ...] = ("train", "rl", "heldout", "heldout_names")


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelSettings:
    """How long and how varied a text is: sentence counts are inclusive bounds."""

    facts: tuple[int, int]
    mentions: tuple[int, int]
    names_per_type: int
    stating: tuple[Template, ...]
    mentioning: tuple[Template, ...]


LEVELS: Mapping[Level, LevelSettings] = {
    "easy": LevelSettings(
        facts=(1, 3), mentions=(0, 1), names_per_type=2, stating=PLAIN, mentioning=MENTIONS
    ),
    "medium": LevelSettings(
        facts=(2, 3),
        mentions=(0, 2),
        names_per_type=2,
        stating=PLAIN + PASSIVE,
        mentioning=MENTIONS,
    ),
    "hard": LevelSettings(
        facts=(2, 4),
        mentions=(1, 3),
        names_per_type=3,
        stating=PLAIN + PASSIVE + COMPOUND,
        mentioning=MENTIONS + DENIALS,
    ),
}


def generate_records(
    split: Split,
    count: int,
    *,
    seed: int,
    level: Level = "medium",
    overlooked: float = 0.0,
    thinking: bool = False,
) -> list[Record]:
    """`count` records with different texts, which depend on neither of the last two arguments.

    `overlooked` is the share of passively stated relations that the graphs lack, as a hurried
    annotator's do. With `thinking` each record also holds a reasoning that leads to its graph.
    Raises ValueError for an unknown split or level.
    """
    if split not in SPLITS or level not in LEVELS or count < 0 or not 0 <= overlooked <= 1:
        raise ValueError(
            f"split must be one of {SPLITS}, level one of {tuple(LEVELS)}, count >= 0 and "
            f"overlooked in 0..1, found {split!r}, {level!r}, {count} and {overlooked}; correct "
            "the request"
        )
    rng = random.Random(f"t2g {split} {level} {seed}")
    names = HELDOUT_NAMES if split == "heldout_names" else NAMES
    records: dict[str, Record] = {}
    while len(records) < count:
        record = _draw_record(rng, names, level, overlooked)
        if split_of(record.text) == split:
            records.setdefault(record.text, _with_thinking(record) if thinking else record)
    return list(records.values())


def _with_thinking(record: Record) -> Record:
    """The facts of the graph once more, as plain sentences in the order of the graph."""
    sentences = []
    for fact in record.graph.relations:
        template = _PLAIN_OF[fact.type]
        ((head, tail, _),) = template.facts
        sentences.append(template.text.format_map({head: fact.head, tail: fact.tail}))
    reasoning = " ".join(sentences) or _NO_FACTS
    return replace(record, extra={THINKING_KEY: reasoning})


def split_of(text: str) -> Split:
    """The one split that may hold `text`, from a digest that is the same everywhere."""
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return SPLITS[int.from_bytes(digest) % len(SPLITS)]


def _draw_record(
    rng: random.Random, names: Mapping[str, Sequence[str]], level: Level, overlooked: float
) -> Record:
    settings = LEVELS[level]
    templates = rng.sample(settings.stating, rng.randint(*settings.facts))
    templates += rng.sample(settings.mentioning, rng.randint(*settings.mentions))
    rng.shuffle(templates)
    cast = {type_: rng.sample(names[type_], settings.names_per_type) for type_ in ENTITY_TYPES}
    sentences: list[str] = []
    types_by_name: dict[str, str] = {}
    facts: dict[Relation, bool] = {}  # in order of the text; whether it is stated plainly anywhere
    for template in templates:
        filling = _fill(rng, template, cast)
        sentences.append(template.text.format_map(filling))
        types_by_name.update((filling[slot], slot_type(slot)) for slot in template.slots)
        for head, tail, type_ in template.facts:
            fact = Relation(filling[head], filling[tail], type_)
            facts[fact] = facts.get(fact, False) or template not in PASSIVE
    entity_types, relation_types = _draw_wanted(rng)
    text = " ".join(sentences)
    # Numbers of its own, so that the texts are the same whatever is overlooked.
    eye = random.Random(text)
    noticed = tuple(f for f, is_plain in facts.items() if eye.random() >= overlooked or is_plain)
    return Record(
        text=text,
        entity_types=entity_types,
        relation_types=relation_types,
        graph=_gold(types_by_name, noticed, entity_types, relation_types),
    )


def _fill(
    rng: random.Random, template: Template, cast: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    """A name for every slot; two slots of one sentence never share a name."""
    shuffled = {type_: rng.sample(names, len(names)) for type_, names in cast.items()}
    return {slot: shuffled[slot_type(slot)].pop() for slot in template.slots}


def _draw_wanted(rng: random.Random) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Wanted entity and relation types, in random order.

    Relation types whose ends are both wanted are likely; the others are rare, and teach that
    a relation needs both of its ends.
    """
    num_types = rng.choices((1, 2, 3, 4), weights=(1, 2, 3, 6))[0]
    entity_types = tuple(rng.sample(ENTITY_TYPES, num_types))
    relation_types = [
        type_
        for type_, ends in RELATION_ENDS.items()
        if rng.random() < (0.85 if set(ends) <= set(entity_types) else 0.15)
    ]
    rng.shuffle(relation_types)
    return entity_types, tuple(relation_types)


def _gold(
    types_by_name: Mapping[str, str],
    facts: Sequence[Relation],
    entity_types: Sequence[str],
    relation_types: Sequence[str],
) -> Graph:
    """The wanted part: entities in order of first mention, relations in order of statement."""
    wanted = [name for name, type_ in types_by_name.items() if type_ in entity_types]
    return Graph(
        entities=tuple(
            Entity(index, name, types_by_name[name]) for index, name in enumerate(wanted)
        ),
        relations=tuple(
            fact
            for fact in facts
            if fact.type in relation_types and fact.head in wanted and fact.tail in wanted
        ),
    )
