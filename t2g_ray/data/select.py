"""Records -> those worth training on, and the reason why each of the others is not.

Filters come first, in the order of REASONS; then, if more are left than wanted, a draw that is
balanced over types and lengths.

Invariants: read = kept + rejected; kept records are unchanged and in the order of the file; the
same records, options and seed select the same.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t2g_ray.data.checks import FAULTS, faults_of
from t2g_ray.data.inspect import MAX_SAMPLES, SAMPLE_CHARS, SplitRecords
from t2g_ray.data.near_texts import SimilarText, TextIndex
from t2g_ray.records.jsonl import record_to_dict
from t2g_ray.records.outputs import write_lines
from t2g_ray.types import Record

TOO_SHORT, TOO_LONG = "text_too_short", "text_too_long"
TOO_FEW_ENTITIES, TOO_FEW_RELATIONS = "too_few_entities", "too_few_relations"
HELD_OUT, DUPLICATE, NEAR_DUPLICATE = "in_held_out_data", "duplicate", "near_duplicate"
NOT_DRAWN = "not_drawn"
REASONS = (
    *FAULTS,
    *(TOO_SHORT, TOO_LONG, TOO_FEW_ENTITIES, TOO_FEW_RELATIONS),
    *(HELD_OUT, DUPLICATE, NEAR_DUPLICATE, NOT_DRAWN),
)
NOTHING = ("", "")
NUM_LENGTH_CLASSES = 4

Stratum = tuple[str, str, int]
"""Kind and name of the rarest type, class of length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectOptions:
    """Bounds are inclusive; lengths count characters. `max_records` None keeps all that pass."""

    min_chars: int = 1
    max_chars: int | None = None
    min_entities: int = 0
    min_relations: int = 0
    remove_near: bool = True
    max_records: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRecord:
    """A record left out: its place in the input (from 1), why, and what was found."""

    number: int
    reason: str
    found: str
    record: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What was kept and what was not, each in the order of the input."""

    options: SelectOptions
    kept: list[Record]
    rejected: list[RejectedRecord]

    def card(self) -> dict[str, Any]:
        """Settings, counts before and after, and rejections by reason with samples."""
        before = SplitRecords(
            name="", records=[*self.kept, *(item.record for item in self.rejected)]
        )
        after = SplitRecords(name="", records=self.kept)
        reasons: dict[str, dict[str, Any]] = {}
        for reason in REASONS:
            items = [item for item in self.rejected if item.reason == reason]
            if items:
                reasons[reason] = {"count": len(items), "samples": _samples(items)}
        return {
            "read": len(before.records),
            "kept": len(self.kept),
            "rejected": reasons,
            "options": asdict(self.options),
            **{
                name: {**split.counts(), "types": split.types(), "text_chars": split.lengths()}
                for name, split in (("before", before), ("after", after))
            },
        }


def select_records(
    records: Sequence[Record], options: SelectOptions, *, held_out: Sequence[str] = ()
) -> Selection:
    """Filter and draw. Nothing that is identical or near to a `held_out` text is kept."""
    texts = [*held_out, *(record.text for record in records)]
    index = TextIndex(texts)
    for i in range(len(held_out)):
        index.add(i)
    passed: list[int] = []
    rejected: list[RejectedRecord] = []
    for number, record in enumerate(records):
        i = len(held_out) + number
        found = _fault(record, options)
        if found is None and (match := index.find(i)) is not None:
            found = _repeat(match, texts[match.index], len(held_out), options)
        if found is None:
            passed.append(number)
            index.add(i)
        else:
            rejected.append(_rejected(number, *found, record))
    drawn = set(_draw([records[number] for number in passed], options))
    kept = [number for i, number in enumerate(passed) if i in drawn]
    for number in sorted(set(passed) - set(kept)):
        found = NOT_DRAWN, f"{options.max_records} records are wanted"
        rejected.append(_rejected(number, *found, records[number]))
    return Selection(
        options=options,
        kept=[records[number] for number in kept],
        rejected=sorted(rejected, key=lambda item: item.number),
    )


def _fault(record: Record, options: SelectOptions) -> tuple[str, str] | None:
    """The first reason against a record by itself, and what was found."""
    faults = {fault.kind: fault.found for fault in reversed(faults_of(record))}
    for kind in FAULTS:
        if kind in faults:
            return kind, faults[kind]
    graph, num_chars = record.graph, len(record.text)
    bounds: list[tuple[str, bool, int]] = [
        (TOO_SHORT, num_chars < options.min_chars, num_chars),
        (TOO_LONG, options.max_chars is not None and num_chars > options.max_chars, num_chars),
        (TOO_FEW_ENTITIES, len(graph.entities) < options.min_entities, len(graph.entities)),
        (TOO_FEW_RELATIONS, len(graph.relations) < options.min_relations, len(graph.relations)),
    ]
    return next(((reason, str(found)) for reason, is_out, found in bounds if is_out), None)


def _repeat(
    match: SimilarText, text: str, num_held_out: int, options: SelectOptions
) -> tuple[str, str] | None:
    """The reason against the record, if the similar text is one."""
    found = f"{match.ratio:.1f} % alike: {text[:SAMPLE_CHARS]}"
    if match.index < num_held_out:
        return HELD_OUT, found
    if match.is_identical:
        return DUPLICATE, found
    return (NEAR_DUPLICATE, found) if options.remove_near else None


def _draw(records: list[Record], options: SelectOptions) -> list[int]:
    """Indices of `max_records` records: strata take turns, each in an order by the seed."""
    if options.max_records is None or options.max_records >= len(records):
        return list(range(len(records)))
    stratum_of = _strata(records)
    strata: dict[Stratum, list[int]] = {}
    for i in np.random.default_rng(options.seed).permutation(len(records)).tolist():
        strata.setdefault(stratum_of(records[i]), []).append(i)
    turns = [
        (turn, stratum, i) for stratum, indices in strata.items() for turn, i in enumerate(indices)
    ]
    return [i for _, _, i in sorted(turns)[: options.max_records]]


def _strata(records: list[Record]) -> Callable[[Record], Stratum]:
    """A record belongs to its rarest relation type, else its rarest entity type, and its length."""
    num_uses = Counter(pair for record in records for pair in _types(record))
    lengths = sorted(len(record.text) for record in records)
    quarter = range(1, NUM_LENGTH_CLASSES)
    bounds = [lengths[len(lengths) * part // NUM_LENGTH_CLASSES] for part in quarter]

    def stratum(record: Record) -> Stratum:
        pairs = _types(record)
        kind, type_ = min(pairs, key=lambda pair: (num_uses[pair], pair), default=NOTHING)
        return kind, type_, bisect_right(bounds, len(record.text))

    return stratum


def _types(record: Record) -> set[tuple[str, str]]:
    relations = {("relation", relation.type) for relation in record.graph.relations}
    return relations or {("entity", entity.type) for entity in record.graph.entities}


def _rejected(number: int, reason: str, found: str, record: Record) -> RejectedRecord:
    return RejectedRecord(number=number + 1, reason=reason, found=found, record=record)


def _samples(items: Sequence[RejectedRecord]) -> list[dict[str, Any]]:
    return [
        {"record": item.number, "found": item.found, "text": item.record.text[:SAMPLE_CHARS]}
        for item in items[:MAX_SAMPLES]
    ]


def write_rejected(path: Path, rejected: Sequence[RejectedRecord]) -> None:
    """One JSON object a line: number, reason, found, and the record."""
    lines = (
        {"number": item.number, "reason": item.reason, "found": item.found}
        | {"record": record_to_dict(item.record)}
        for item in rejected
    )
    write_lines(path, map(json.dumps, lines))
