"""What a made-up source truly says, and whether an import says the same, or says that it does not.

Every case is right, rejected with place and reason, or counted as dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from t2g_ray.data.importers.run import ImportResult
from t2g_ray.types import Record

KEPT, REJECTED, EITHER, ABSENT = "kept", "rejected", "either", "rejected unless dropped"
LOST_ENTITIES = ("entity of a dropped type left out", "repeated entity merged")
LOST_RELATIONS = (
    "repeated relation merged",
    "relation of an entity with itself left out",
    "relation of a dropped type, or to such an entity, left out",
    "relation left out, whose end may be an entity of a dropped type",
    "relation between two entities of one text left out",
)

Name = str | tuple[int, int]
"""The text of an entity, or its tokens (start, end)."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """One record as it should be. `aliases`: other names that an entity may get; `has_text_ends`:
    the source says ends by text or span alone, so that a dropped entity can be meant."""

    text: str | None = None
    tokens: tuple[str, ...] = ()
    entities: Sequence[tuple[Name, str]] = ()
    relations: Sequence[tuple[int, int, str]] = ()
    aliases: Mapping[int, Sequence[Name]] = field(default_factory=dict)
    fate: str = KEPT
    has_text_ends: bool = False

    def places(self, text: str) -> list[tuple[int, int]] | None:
        """Where the tokens stand in this text, None when it is not made of them."""
        pattern = " ?".join(f"({re.escape(token)})" for token in self.tokens if token)
        found = re.fullmatch(pattern, text)
        if found is None:
            return None
        spans = iter([found.span(i) for i in range(1, found.re.groups + 1)])
        return [next(spans) if token else (-1, -1) for token in self.tokens]

    def is_of(self, text: str) -> bool:
        if self.text is not None:
            return text == self.text
        if all("\u4e00" <= token <= "\u9fff" for token in self.tokens):
            return text == "".join(self.tokens)
        return self.places(text) is not None

    def names(self, index: int, text: str) -> set[str]:
        """What the entity may be called in a record of this text."""
        given = [self.entities[index][0], *self.aliases.get(index, ())]
        return {name if isinstance(name, str) else self._name(name, text) for name in given}

    def _name(self, span: tuple[int, int], text: str) -> str:
        places = [place for place in (self.places(text) or [])[slice(*span)] if place != (-1, -1)]
        found = text[places[0][0] : places[-1][1]] if places else ""
        return found.strip(" ") or found


@dataclass(frozen=True, kw_only=True)
class Case:
    """Files of a source, and the records in them."""

    layout: str
    files: Mapping[str, str]
    truths: Sequence[Truth]
    columns: str | None = None
    may_ask: bool = False


def check(case: Case, result: ImportResult, dropped: frozenset[str], is_sub: bool) -> None:
    """Assert that every truth is a right record or a rejection, and what is lost is counted."""
    left = list(result.records)
    kept: list[tuple[Truth, Record]] = []
    for truth in case.truths:
        record = next((r for r in left if truth.is_of(r.text)), None)
        if record is None:
            assert truth.fate != KEPT, (truth, result.records, result.rejections)
        else:
            assert truth.fate != REJECTED, (truth, record)
            assert truth.fate != ABSENT or dropped, (truth, record)
            left.remove(record)
            kept.append((truth, record))
    assert not left, "a record that no part of the source says"
    assert len(case.truths) - len(kept) <= len(result.rejections)
    for rejection in result.rejections:
        assert rejection.reason and rejection.message
        assert any(Path(name).stem.split(".")[0] in rejection.place for name in case.files)
    for truth, record in kept:
        check_graph(truth, record, dropped, is_sub)
    if not is_sub:
        check_counts(kept, result.changes)


def check_graph(truth: Truth, record: Record, dropped: frozenset[str], is_sub: bool) -> None:
    """Nothing that is not true, and everything that is true and can be said."""
    names = [truth.names(i, record.text) for i in range(len(truth.entities))]
    gone = [
        type_ in dropped or (is_sub and type_ not in record.entity_types)
        for _, type_ in truth.entities
    ]
    types = [type_ for _, type_ in truth.entities]
    found = {(e.text, e.type) for e in record.graph.entities}
    stay = [i for i in range(len(names)) if not gone[i]]
    assert all(any((n, types[i]) in found for n in names[i]) for i in stay), (truth, record)
    assert all(any(t in names[i] and types[i] == k for i in stay) for t, k in found), (
        truth,
        record,
    )
    triples = {(r.head, r.tail, r.type) for r in record.graph.relations}
    true = [
        (head, tail, type_)
        for head, tail, type_ in truth.relations
        if type_ not in dropped and (not is_sub or type_ in record.relation_types)
        and not gone[head] and not gone[tail]
    ]  # fmt: skip
    for triple in triples:
        assert any(
            triple[0] in names[head] and triple[1] in names[tail] and triple[2] == type_
            for head, tail, type_ in true
        ), (triple, truth, record)
        assert triple[0] != triple[1]
    for head, tail, type_ in true:
        is_said = any(
            r[0] in names[head] and r[1] in names[tail] and r[2] == type_ for r in triples
        )
        shared = [i for i in range(len(names)) if names[i] & (names[head] | names[tail])]
        is_unclear = truth.has_text_ends and any(gone[i] for i in shared)
        cannot = bool(names[head] & names[tail]) or is_unclear
        assert is_said or cannot, (truth, record)


def check_counts(kept: Sequence[tuple[Truth, Record]], changes: Mapping[str, int]) -> None:
    """What kept records have not is as much as was counted."""
    for kind, reasons in (("entities", LOST_ENTITIES), ("relations", LOST_RELATIONS)):
        num_lost = sum(
            len(getattr(truth, kind)) - len(getattr(record.graph, kind)) for truth, record in kept
        )
        assert num_lost == sum(changes.get(reason, 0) for reason in reasons), (kind, changes)
