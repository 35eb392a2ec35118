"""Records that were kept -> the same records, and copies that vary types, names or words.

Invariant: a copy depends only on its record, the number of both and the seed, and has no fault that
`checks` knows. A copy that says the same as an earlier one is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from t2g_ray.data.checks import NOT_IN_TEXT, faults_of
from t2g_ray.data.generate.config import AugmentConfig
from t2g_ray.data.generate.content.names import name_pool, swap_names
from t2g_ray.data.generate.teachers.teacher import TeacherOutcome
from t2g_ray.data.near_texts import plain_text
from t2g_ray.graph.parsing import THINK_CLOSE, THINK_OPEN
from t2g_ray.records.jsonl import sample_subschema
from t2g_ray.types import Record

KEY = "generated"
"""Key of a record that says how it came about."""
ORIGINAL, SUB_SCHEMA, PARAPHRASE, NAME_SWAP = "original", "sub_schema", "paraphrase", "name_swap"
CUT, EMPTY, SAME_TEXT, LOST_NAME = (
    "answer_cut",
    "answer_empty",
    "paraphrase_is_the_text",
    "paraphrase_lost_a_name",
)
_KINDS = (SUB_SCHEMA, NAME_SWAP)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainAnswer:
    """The plain text of an answer, or the reason why it cannot be used."""

    text: str = ""
    reason: str = ""
    message: str = ""


def marked(record: Record, **values: Any) -> Record:
    """The record with more said about how it came about."""
    own = {**record.extra.get(KEY, {}), **values}
    return replace(record, extra={**record.extra, KEY: own})


def copies(
    records: Sequence[Record], config: AugmentConfig, *, seed: int
) -> tuple[list[Record], Counter[str]]:
    """Sub-schemas and name swaps of each record, and how many could not be made, by kind."""
    pool = name_pool(records)
    makers: dict[str, tuple[int, Callable[[Record, np.random.Generator], Record | None]]] = {
        SUB_SCHEMA: (config.sub_schemas, sample_subschema),
        NAME_SWAP: (config.name_swaps, lambda record, rng: swap_names(record, pool, rng)),
    }
    made: list[Record] = []
    not_made: Counter[str] = Counter()
    for number, record in enumerate(records):
        seen = {_identity(record)}
        for kind, (num_copies, make) in makers.items():
            for copy in range(num_copies):
                rng = np.random.default_rng((seed, _KINDS.index(kind), number, copy))
                new = make(record, rng)
                if new is None or _identity(new) in seen or faults_of(new):
                    not_made[kind] += 1
                    continue
                seen.add(_identity(new))
                made.append(marked(new, variant=kind))
    return made, not_made


def _identity(record: Record) -> tuple[Any, ...]:
    return record.text, record.entity_types, record.relation_types


def paraphrases(
    records: Sequence[Record], outcomes: Sequence[Sequence[TeacherOutcome]]
) -> Iterator[tuple[Record, Record | PlainAnswer]]:
    """Each record with each of its paraphrases, or with the reason why one cannot be used."""
    for record, answers in zip(records, outcomes, strict=True):
        seen = {plain_text(record.text)}
        for outcome in answers:
            answer = plain_answer(outcome)
            if answer.reason:
                yield record, answer
                continue
            new = replace(record, text=answer.text)
            lost = [fault.found for fault in faults_of(new) if fault.kind == NOT_IN_TEXT]
            if plain_text(new.text) in seen:
                yield record, PlainAnswer(reason=SAME_TEXT, message=new.text)
            elif lost:
                yield record, PlainAnswer(reason=LOST_NAME, message=f"{lost[0]} in {new.text}")
            else:
                seen.add(plain_text(new.text))
                yield record, marked(new, variant=PARAPHRASE)


def plain_answer(outcome: TeacherOutcome) -> PlainAnswer:
    """What a teacher says after its reasoning, else the reasoning; no tags are left."""
    if outcome.reason:
        return PlainAnswer(reason=outcome.reason, message=outcome.message)
    if outcome.is_cut:
        return PlainAnswer(reason=CUT, message="the answer reached its length limit; raise it")
    thought, _, said = outcome.text.rpartition(THINK_CLOSE)
    text = said if said.strip() else thought
    text = text.replace(THINK_OPEN, "").replace(THINK_CLOSE, "").strip()
    if not text:
        return PlainAnswer(reason=EMPTY, message="the answer holds no text")
    return PlainAnswer(text=text)
