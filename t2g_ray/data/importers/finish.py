"""Drafts -> records: types renamed, repeats merged, every fault counted or rejected.

Drafts join entities; records join texts. A relation whose entity is dropped goes with it, although
another entity may have the same text, and what texts cannot tell apart is counted.

Invariant: in a finished record (text, type) of entities and (head, tail, type) of relations are
unique, ids count from 0, types are in the record's lists and, unless faults are kept, entity texts
occur in the text and relation ends are entities.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from t2g_ray.data.importers.layout import End, RecordDraft
from t2g_ray.data.importers.row import Rejection, Row, RowError, shown
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.records.jsonl import sample_subschema
from t2g_ray.types import Record

TypeNames = tuple[str, ...]
Named = tuple[str, str]
"""Text and type of an entity; the type is "" when it is dropped."""

MERGED_ENTITY = "repeated entity merged"
MERGED_RELATION = "repeated relation merged"
SELF_RELATION = "relation of an entity with itself left out"
DROPPED_ENTITY = "entity of a dropped type left out"
DROPPED_RELATION = "relation of a dropped type, or to such an entity, left out"
UNCLEAR_RELATION = "relation left out, whose end may be an entity of a dropped type"
ONE_TEXT_RELATION = "relation between two entities of one text left out"
SHARED_TEXT = "relation end that is the text of several entities"
WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_\s/-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """What is done to every draft.

    `types_map`: source name -> wanted name; "" drops the type. `plain_types` writes what is not
    in the map as lower-case words (Work_For -> work for). Types given here are the whole schema.
    """

    types_map: Mapping[str, str] = field(default_factory=dict)
    plain_types: bool = False
    entity_types: tuple[str, ...] | None = None
    relation_types: tuple[str, ...] | None = None
    keep_faulty: bool = False
    sub_schema_seed: int | None = None

    def type_name(self, name: str) -> str:
        """The wanted name of a type, "" when it is dropped."""
        if name in self.types_map:
            return self.types_map[name]
        if self.plain_types:
            return " ".join(word.lower() for word in WORD_ENDS.split(name) if word)
        return name

    def type_names(self, names: Sequence[str] | None) -> tuple[str, ...] | None:
        """A list of types under their wanted names, None when there is none."""
        if names is None:
            return None
        return tuple(dict.fromkeys(new for name in names if (new := self.type_name(name))))


def finish(
    drafts: Iterable[RecordDraft], options: ImportOptions, changes: Counter[str], *, is_free: bool
) -> tuple[list[Record], list[Rejection]]:
    """Records and rejections, each in the order of the drafts. `changes` is counted up.

    Types that neither options nor drafts give are those seen: in all records, or in each of its
    own where types are free.
    """
    built: list[tuple[RecordDraft, Graph]] = []
    rejections: list[Rejection] = []
    for draft in drafts:
        try:
            graph, made = _graph(draft, options)
        except RowError as error:
            value = {"text": draft.text, "entities": draft.entities, "relations": draft.relations}
            rejections.append(error.rejection(Row(place=draft.place, value=value)))
            continue
        changes.update(+made)
        built.append((draft, graph))
    seen = _seen_types(graph for _, graph in built)
    records = [
        _record(draft, graph, options, _seen_types([graph]) if is_free else seen)
        for draft, graph in built
    ]
    if options.sub_schema_seed is not None:
        records = [
            sample_subschema(record, np.random.default_rng((options.sub_schema_seed, index)))
            for index, record in enumerate(records)
        ]
    return records, rejections


def _graph(draft: RecordDraft, options: ImportOptions) -> tuple[Graph, Counter[str]]:
    """The graph, and what was changed on the way to it. Raises RowError."""
    _check_text(draft)
    changes = Counter(draft.notes)
    named = _named(draft, options)
    graph = Graph(_entities(named, changes), _relations(draft, named, options, changes))
    if not options.keep_faulty:
        _check_places(draft, graph)
        entity_types, relation_types = _given_types(draft, options)
        _check_types("entity", (e.type for e in graph.entities), entity_types)
        _check_types("relation", (r.type for r in graph.relations), relation_types)
    return graph, changes


def _given_types(
    draft: RecordDraft, options: ImportOptions
) -> tuple[TypeNames | None, TypeNames | None]:
    """Entity and relation types by the options, else by the source; None where neither has any."""
    entity_types, relation_types = options.entity_types, options.relation_types
    if entity_types is None:
        entity_types = options.type_names(draft.entity_types)
    if relation_types is None:
        relation_types = options.type_names(draft.relation_types)
    return entity_types, relation_types


def _record(
    draft: RecordDraft, graph: Graph, options: ImportOptions, seen: tuple[TypeNames, TypeNames]
) -> Record:
    entity_types, relation_types = _given_types(draft, options)
    return Record(
        text=draft.text,
        entity_types=seen[0] if entity_types is None else entity_types,
        relation_types=seen[1] if relation_types is None else relation_types,
        graph=graph,
        extra=draft.extra,
    )


def _named(draft: RecordDraft, options: ImportOptions) -> list[Named]:
    """Every entity of the draft under the wanted name of its type."""
    for text, name in draft.entities:
        if not text.strip() or not name.strip():
            raise RowError(
                "blank_entity", f"text and type must not be blank, found {shown((text, name))}"
            )
    return [(text, options.type_name(name)) for text, name in draft.entities]


def _entities(named: Sequence[Named], changes: Counter[str]) -> tuple[Entity, ...]:
    """Those that are kept, each once, with ids from 0."""
    kept = dict.fromkeys(entity for entity in named if entity[1])
    num_kept = sum(bool(type_) for _, type_ in named)
    changes[DROPPED_ENTITY] += len(named) - num_kept
    changes[MERGED_ENTITY] += num_kept - len(kept)
    return tuple(Entity(id_, text, type_) for id_, (text, type_) in enumerate(kept))


def _relations(
    draft: RecordDraft, named: Sequence[Named], options: ImportOptions, changes: Counter[str]
) -> tuple[Relation, ...]:
    """Relations in order; what is not kept is counted by the reason."""
    by_text: dict[str, set[Named]] = {}
    for entity in named:
        by_text.setdefault(entity[0], set()).add(entity)
    relations: dict[Relation, None] = {}
    for head, tail, name in draft.relations:
        relation = Relation(_text(head, named), _text(tail, named), options.type_name(name))
        if reason := _reason(head, tail, relation, named, by_text):
            changes[reason] += 1
        elif relation in relations:
            changes[MERGED_RELATION] += 1
        else:
            relations[relation] = None
            kept = [sum(bool(t) for _, t in by_text.get(end, ())) for end in _ends(relation)]
            changes[SHARED_TEXT] += sum(count > 1 for count in kept)
    return tuple(relations)


def _reason(
    head: End,
    tail: End,
    relation: Relation,
    named: Sequence[Named],
    by_text: Mapping[str, set[Named]],
) -> str | None:
    """Why a relation cannot be kept."""
    may_be = [{named[e]} if isinstance(e, int) else by_text.get(e, set()) for e in (head, tail)]
    is_dropped = [{not type_ for _, type_ in entities} for entities in may_be]
    if not relation.type or {True} in is_dropped:
        return DROPPED_RELATION
    if {True, False} in is_dropped:
        return UNCLEAR_RELATION
    if relation.head != relation.tail:
        return None
    is_one = head == tail and len(may_be[0]) <= 1
    return SELF_RELATION if is_one else ONE_TEXT_RELATION


def _text(end: End, named: Sequence[Named]) -> str:
    return named[end][0] if isinstance(end, int) else end


def _ends(relation: Relation) -> tuple[str, str]:
    return relation.head, relation.tail


def _check_text(draft: RecordDraft) -> None:
    if not draft.text.strip():
        raise RowError("empty_text", f"a text must not be blank, found {shown(draft.text)}")
    try:
        strings = [draft.text, draft.entities, draft.relations, dict(draft.extra)]
        json.dumps(strings, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise RowError(
            "not_writable", f"a row must be valid Unicode and plain JSON, found {error}"
        ) from None


def _check_places(draft: RecordDraft, graph: Graph) -> None:
    texts = {entity.text for entity in graph.entities}
    for relation in graph.relations:
        if unknown := [end for end in _ends(relation) if end not in texts]:
            raise RowError(
                "unknown_relation_end",
                f"an end of {relation.type!r} must be an entity, found {shown(unknown[0])}",
            )
    for entity in graph.entities:
        if entity.text in draft.absent or entity.text not in draft.text:
            whole = " as words of its own" if entity.text in draft.text else ""
            raise RowError(
                "entity_not_in_text",
                f"an entity must stand in the text{whole}, found {shown(entity.text)} and "
                f"{shown(draft.text)}",
            )


def _check_types(kind: str, found: Iterable[str], wanted: TypeNames | None) -> None:
    if wanted is None:
        return
    if outside := [type_ for type_ in found if type_ not in wanted]:
        raise RowError(
            f"{kind}_type_outside_schema",
            f"the type of {kind} must be one of {shown(wanted)}, found {outside[0]!r}; add it "
            f"to --{kind}-types or rename it with --types-map",
        )


def _seen_types(graphs: Iterable[Graph]) -> tuple[TypeNames, TypeNames]:
    """Entity and relation types, the commonest first."""
    entity_types: Counter[str] = Counter()
    relation_types: Counter[str] = Counter()
    for graph in graphs:
        entity_types.update(entity.type for entity in graph.entities)
        relation_types.update(relation.type for relation in graph.relations)
    counts = (entity_types, relation_types)
    first, second = (tuple(type_ for type_, _ in count.most_common()) for count in counts)
    return first, second
