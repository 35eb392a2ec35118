"""Records that several tests of data build alike."""

from __future__ import annotations

from typing import Any

from t2g_ray.data.inspect import SplitRecords
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.types import Record


def record(
    text: str,
    *entities: tuple[str, str],
    relations: tuple[tuple[str, str, str], ...] = (),
    **extra: Any,
) -> Record:
    return Record(
        text=text,
        entity_types=("person", "city"),
        relation_types=("lives in",),
        graph=Graph(
            tuple(Entity(id_, name, type_) for id_, (name, type_) in enumerate(entities)),
            tuple(Relation(*relation) for relation in relations),
        ),
        extra=extra,
    )


def split(name: str, *texts: str) -> SplitRecords:
    return SplitRecords(name=name, records=[record(text) for text in texts])


def plain_record(text: str, *names: str, relation: str = "", type_: str = "person") -> Record:
    """Entities of one type, and a relation from the first to the last."""
    return Record(
        text=text,
        entity_types=("person",),
        relation_types=("knows", "likes"),
        graph=Graph(
            tuple(Entity(id_, name, type_) for id_, name in enumerate(names)),
            (Relation(names[0], names[-1], relation),) if relation else (),
        ),
    )


def people(count: int, relation: str, size: int) -> list[Record]:
    """Records of one length, in words that no other record has."""
    made = []
    for number in range(count):
        words = " ".join(f"{relation}{size:02}x{number:02}y{place:02}" for place in range(size))
        made.append(plain_record(f"Ann Bo {words}", "Ann", "Bo", relation=relation))
    return made
