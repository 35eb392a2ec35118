"""Files of records -> what they hold, what is wrong with them, and what they share.

Invariant: nothing is changed and nothing stops at the first fault: lines that are no records are
counted with the rest.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from t2g_ray.data.checks import FAULTS, faults_of
from t2g_ray.data.importers.row import Rejection
from t2g_ray.data.importers.source import json_rows
from t2g_ray.data.near_texts import TextIndex
from t2g_ray.records.jsonl import record_from_dict
from t2g_ray.types import Record

MAX_SAMPLES = 5
SAMPLE_CHARS = 160
NUM_BINS = 10
NO_RECORD = "line_is_no_record"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Texts of `second` that are also in `first`; of one split with itself, repeats.

    `samples` are pairs of texts.
    """

    first: str
    second: str
    num_identical: int
    num_near: int
    samples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRecords:
    """Records under one name, with the lines that were none: (place, message)."""

    name: str
    records: list[Record]
    broken: list[tuple[str, str]] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Records, entities and relations, and records that have none."""
        graphs = [record.graph for record in self.records]
        return {
            "records": len(graphs),
            "entities": sum(len(graph.entities) for graph in graphs),
            "relations": sum(len(graph.relations) for graph in graphs),
            "records_without_entities": sum(not graph.entities for graph in graphs),
            "records_without_relations": sum(not graph.relations for graph in graphs),
        }

    def types(self) -> dict[str, dict[str, int]]:
        """Uses of every entity and relation type, the commonest first, those asked for and unused
        last."""
        entity_types = Counter(e.type for r in self.records for e in r.graph.entities)
        relation_types = Counter(x.type for r in self.records for x in r.graph.relations)
        for record in self.records:
            entity_types.update(dict.fromkeys(record.entity_types, 0))
            relation_types.update(dict.fromkeys(record.relation_types, 0))
        return {
            "entities": dict(entity_types.most_common()),
            "relations": dict(relation_types.most_common()),
        }

    def lengths(self) -> dict[str, Any]:
        """Characters of the texts: bounds, median, and a histogram of bins [from, to, texts]."""
        lengths = sorted(len(record.text) for record in self.records)
        if not lengths:
            return {"min": 0, "median": 0, "max": 0, "histogram": []}
        low, width = lengths[0], (lengths[-1] - lengths[0]) // NUM_BINS + 1
        bins = Counter((length - low) // width for length in lengths)
        return {
            "min": low,
            "median": statistics.median(lengths),
            "max": lengths[-1],
            "histogram": [
                [low + number * width, low + (number + 1) * width - 1, bins[number]]
                for number in range(max(bins) + 1)
            ],
        }

    def faults(self) -> dict[str, dict[str, Any]]:
        """Of every kind of fault: how often, in how many records, and the first samples."""
        found: dict[str, dict[str, Any]] = {
            kind: {"count": 0, "records": 0, "samples": []} for kind in (*FAULTS, NO_RECORD)
        }
        for record in self.records:
            faults = faults_of(record)
            for fault in faults:
                found[fault.kind]["count"] += 1
                if len(found[fault.kind]["samples"]) < MAX_SAMPLES:
                    sample = {"found": fault.found, "text": record.text[:SAMPLE_CHARS]}
                    found[fault.kind]["samples"].append(sample)
            for kind in {fault.kind for fault in faults}:
                found[kind]["records"] += 1
        broken = [{"found": message, "text": place} for place, message in self.broken[:MAX_SAMPLES]]
        found[NO_RECORD] = {"count": len(self.broken), "records": 0, "samples": broken}
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """All splits, repeats inside each, and leaks between every two."""

    splits: list[SplitRecords]
    repeats: list[Overlap]
    leaks: list[Overlap]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for --json."""
        repeats = {overlap.first: _overlap_dict(overlap) for overlap in self.repeats}
        splits = {
            split.name: {
                **split.counts(),
                "types": split.types(),
                "text_chars": split.lengths(),
                "faults": split.faults(),
                "repeats": repeats[split.name],
            }
            for split in self.splits
        }
        leaks = [
            {"first": leak.first, "second": leak.second, **_overlap_dict(leak)}
            for leak in self.leaks
        ]
        return {"splits": splits, "leaks": leaks}


def inspect_files(paths: Sequence[Path]) -> Inspection:
    """Read and compare. One file whose rows name several splits is cut into these.

    Raises ValueError for a file that is no JSON at all, and for two files of one name.
    """
    splits = [read_split(path) for path in paths]
    if len(splits) == 1:
        splits = _by_split_key(splits[0])
    names = [split.name for split in splits]
    if len(set(names)) < len(names):
        raise ValueError(f"every file must be given once, found {names}")
    return Inspection(
        splits=splits,
        repeats=[find_repeats(split) for split in splits],
        leaks=[find_leaks(first, second) for first, second in combinations(splits, 2)],
    )


def read_split(path: Path) -> SplitRecords:
    """The records of a file, and its lines that are none."""
    records: list[Record] = []
    broken: list[tuple[str, str]] = []
    for row in json_rows(path):
        if isinstance(row, Rejection):
            broken.append((row.place, row.message))
            continue
        try:
            records.append(record_from_dict(row.value))
        except ValueError as error:
            broken.append((row.place, str(error)))
    return SplitRecords(name=str(path), records=records, broken=broken)


def find_repeats(split: SplitRecords) -> Overlap:
    """Records whose text an earlier one of the split has."""
    return _overlap(split.name, split.name, [], [record.text for record in split.records])


def find_leaks(first: SplitRecords, second: SplitRecords) -> Overlap:
    """Texts of the smaller split that are in the larger one."""
    if len(first.records) < len(second.records):
        first, second = second, first
    known, texts = ([record.text for record in split.records] for split in (first, second))
    return _overlap(first.name, second.name, known, texts)


def _overlap(first: str, second: str, known: list[str], texts: list[str]) -> Overlap:
    both = [*known, *texts]
    index = TextIndex(both)
    for i in range(len(known)):
        index.add(i)
    counts, samples = Counter[bool](), list[tuple[str, str]]()
    for i in range(len(known), len(both)):
        match = index.find(i)
        if match is not None:
            counts[match.is_identical] += 1
            if len(samples) < MAX_SAMPLES:
                samples.append((both[match.index][:SAMPLE_CHARS], both[i][:SAMPLE_CHARS]))
        elif first == second:
            index.add(i)
    return Overlap(
        first=first,
        second=second,
        num_identical=counts[True],
        num_near=counts[False],
        samples=tuple(samples),
    )


def _by_split_key(split: SplitRecords) -> list[SplitRecords]:
    parts: dict[str, list[Record]] = {}
    for record in split.records:
        parts.setdefault(str(record.extra.get("split", "")), []).append(record)
    if len(parts) < 2:
        return [split]
    first, *others = (SplitRecords(name=name, records=records) for name, records in parts.items())
    return [SplitRecords(name=first.name, records=first.records, broken=split.broken), *others]


def _overlap_dict(overlap: Overlap) -> Mapping[str, Any]:
    return {
        "identical": overlap.num_identical,
        "near": overlap.num_near,
        "samples": [list(pair) for pair in overlap.samples],
    }
