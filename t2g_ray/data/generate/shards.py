"""Records -> numbered shards -> outcomes on disk, each shard written once and found again.

A file is named by the number of its shard and by a digest of all that its answers depend on: the
stage, the teacher's settings and the records. It appears whole or not at all. Answers that cost
money stand in a second file beside it, line by line, until the shard is whole.

Invariants: a shard that is on disk is never asked for again, nor is an answer of the second file;
outcomes come back in the order of the records, so what is made of them does not depend on stops,
actors or the order of arrival.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from t2g_ray.data.generate.config import TeacherConfig
from t2g_ray.data.generate.stages import TeacherRequest, TeacherStage
from t2g_ray.data.generate.teachers.teacher import (
    Keep,
    Teacher,
    TeacherOutcome,
    answer_all,
    keep_nothing,
)
from t2g_ray.records.jsonl import record_from_dict, record_to_dict
from t2g_ray.run.folder import write_json, write_text
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.progress import StageProgress, announced_wait
from t2g_ray.types import Record

DIGEST_CHARS = 16
MAX_FAILURES_IN_A_ROW = 3
"""This many shards failing in a row show that the teacher is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Records `first`, `first` + 1 ... of a stage, and where their answers go."""

    number: int
    first: int
    records: tuple[Record, ...]
    path: str = ""
    """File of the outcomes on the machine of the driver, from its root."""
    answered: tuple[TeacherOutcome, ...] = ()
    """Answers from an earlier run."""

    def with_answers(self, answers: Iterable[TeacherOutcome]) -> Shard:
        """The same shard when these answers came as well."""
        return replace(self, answered=(*self.answered, *answers))

    @property
    def identity(self) -> str:
        """What the answers depend on."""
        records = [record_to_dict(record) for record in self.records]
        value = {"number": self.number, "first": self.first, "records": records}
        return json.dumps(value, ensure_ascii=False)

    def to_json(self) -> str:
        """One line."""
        answered = [asdict(outcome) for outcome in self.answered]
        value = {**json.loads(self.identity), "path": self.path, "answered": answered}
        return json.dumps(value)

    @classmethod
    def from_json(cls, line: str) -> Shard:
        value = json.loads(line)
        records = tuple(record_from_dict(record) for record in value.pop("records"))
        answered = tuple(TeacherOutcome(**outcome) for outcome in value.pop("answered"))
        return cls(records=records, answered=answered, **value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """The outcomes of one shard; with an error those that came before it."""

    number: int
    outcomes: tuple[TeacherOutcome, ...] = ()
    error: str = ""

    @property
    def answers(self) -> list[TeacherOutcome]:
        """The outcomes that are answers."""
        return [outcome for outcome in self.outcomes if not outcome.reason]

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> ShardResult:
        value = json.loads(line)
        outcomes = tuple(TeacherOutcome(**outcome) for outcome in value.pop("outcomes"))
        return cls(outcomes=outcomes, **value)


Ask = Callable[[TeacherStage, TeacherConfig, Sequence[Shard]], Iterator[ShardResult]]
"""Answers shards somewhere, and yields each result when it has come."""


class ShardsMissing(RuntimeError):
    """Some shards have no answers, and those of the others are kept."""


def answer_shard(
    stage: TeacherStage, teacher: Teacher, shard: Shard, keep: Keep = keep_nothing
) -> ShardResult:
    """What one teacher makes of one shard, as one batch in the order of the records."""
    requests = [
        request
        for number, record in enumerate(shard.records, start=shard.first)
        for request in stage.requests(number, record)
    ]
    found = {_key(outcome): outcome for outcome in shard.answered}

    def keep_and_note(outcome: TeacherOutcome) -> None:
        keep(outcome)
        found[_key(outcome)] = outcome

    # Boundary: what goes wrong with one shard is its result, and the others go on.
    error = ""
    try:
        missing = [request for request in requests if _key(request) not in found]
        for outcome in answer_all(teacher, missing, keep_and_note) if missing else ():
            found[_key(outcome)] = outcome
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    outcomes = tuple(found[_key(request)] for request in requests if _key(request) in found)
    return ShardResult(number=shard.number, outcomes=outcomes, error=error)


def _key(item: TeacherRequest | TeacherOutcome) -> tuple[int, int]:
    return item.number, item.sample


def run_stage(
    stage: TeacherStage,
    teacher: TeacherConfig,
    records: Sequence[Record],
    *,
    folder: Path,
    shard_size: int,
    ask: Ask,
) -> list[list[TeacherOutcome]]:
    """The outcomes of each record, in order; only shards that are not on disk are asked for.

    Raises ShardsMissing when some shards failed, after all others were answered and written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = [
        Shard(number=number, first=first, records=tuple(records[first : first + shard_size]))
        for number, first in enumerate(range(0, len(records), shard_size))
    ]
    paths = {shard.number: folder / _file_name(stage, teacher, shard) for shard in shards}
    missing = [
        replace(shard, path=str(paths[shard.number].resolve()), answered=_kept(paths[shard.number]))
        for shard in shards
        if not paths[shard.number].exists()
    ]
    if missing:
        _ask_for(stage, teacher, missing, paths, ask, num_shards=len(shards))
    outcomes: list[list[TeacherOutcome]] = [[] for _ in records]
    for shard in shards:
        for line in read_json_lines(paths[shard.number]):
            outcome = TeacherOutcome(**line)
            outcomes[outcome.number].append(outcome)
    return outcomes


def _ask_for(
    stage: TeacherStage,
    teacher: TeacherConfig,
    missing: Sequence[Shard],
    paths: Mapping[int, Path],
    ask: Ask,
    *,
    num_shards: int,
) -> None:
    waited_for = {shard.number for shard in missing}
    progress_file = next(iter(paths.values())).parent.with_suffix(".json")
    failures: dict[int, str] = {}
    num_in_a_row = 0
    results = iter(ask(stage, teacher, missing))
    with StageProgress(f"{stage.name} (shards)", num_shards) as progress:

        def tell() -> None:
            num_answered = num_shards - len(waited_for)
            progress.update(num_answered)
            write_json(progress_file, {"shards": num_shards, "answered": num_answered})

        tell()
        while num_in_a_row < MAX_FAILURES_IN_A_ROW:
            with announced_wait(lambda: f"{len(waited_for)} shards of the stage {stage.name}"):
                result = next(results, None)
            if result is None:
                break
            if result.error:
                if result.answers:
                    _write(_second_file(paths[result.number]), result.answers)
                failures[result.number] = result.error
                num_in_a_row += 1
                continue
            num_in_a_row = 0
            _write(paths[result.number], result.outcomes)
            _second_file(paths[result.number]).unlink(missing_ok=True)
            waited_for.remove(result.number)
            tell()
    if waited_for:
        number, message = next(iter(failures.items()), (min(waited_for), "no result came"))
        raise ShardsMissing(
            f"all {num_shards} shards of the stage {stage.name} must be answered, found "
            f"{len(waited_for)} without answers; shard {number}: {message}. The others are kept: "
            "the same command goes on from them"
        )


def keep_answer(path: Path, outcome: TeacherOutcome) -> None:
    """Write one answer beside the file of its shard; it is on disk when this returns."""
    with _second_file(path).open("a", encoding="utf-8") as file:
        file.write(_line(outcome))
        file.flush()
        os.fsync(file.fileno())


def _kept(path: Path) -> tuple[TeacherOutcome, ...]:
    second = _second_file(path)
    kept = tuple(TeacherOutcome(**line) for line in read_json_lines(second))
    if second.exists():
        _write(second, kept)  # a line that a killed process left half written would spoil the next
    return kept


def _second_file(path: Path) -> Path:
    return path.with_suffix(".kept")


def _write(path: Path, outcomes: Sequence[TeacherOutcome]) -> None:
    write_text(path, "".join(map(_line, outcomes)))


def _line(outcome: TeacherOutcome) -> str:
    return json.dumps(asdict(outcome)) + "\n"


def _file_name(stage: TeacherStage, teacher: TeacherConfig, shard: Shard) -> str:
    identity: dict[str, Any] = {"stage": asdict(stage), "teacher": teacher.answering}
    key = json.dumps(identity, sort_keys=True) + shard.identity
    digest = hashlib.sha256(key.encode()).hexdigest()[:DIGEST_CHARS]
    return f"{shard.number:06d}-{digest}.jsonl"
