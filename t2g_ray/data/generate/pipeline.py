"""Texts -> graphs -> those worth keeping -> copies -> reasoning -> records.jsonl and its card.

    read -> [graph] -> select -> [paraphrase] -> augment -> [reasoning] -> records.jsonl
                                                                           rejects.jsonl, card

Only the stages in brackets ask a teacher, shard by shard; all others are pure and quick. What a
teacher said is kept in answers/, so it is not asked again for another selection or augmentation.

Invariant: what goes into a step is what comes out of it or is written to rejects.jsonl with the
reason; the same configuration and source give the same bytes, however often the run was stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from t2g_ray.config import dump_config
from t2g_ray.data.generate.config import GenerateConfig, SelectionConfig, TeacherConfig
from t2g_ray.data.generate.content.augment import (
    KEY,
    ORIGINAL,
    PlainAnswer,
    copies,
    marked,
    paraphrases,
    plain_answer,
)
from t2g_ray.data.generate.content.graphs import NoGraph, choose_graph, repair
from t2g_ray.data.generate.content.texts import SourceText, read_texts
from t2g_ray.data.generate.shards import Ask, run_stage
from t2g_ray.data.generate.stages import StageName, TeacherStage
from t2g_ray.data.generate.teachers.start import check_teacher
from t2g_ray.data.generate.teachers.teacher import TeacherOutcome
from t2g_ray.data.importers.row import Rejection
from t2g_ray.data.near_texts import TextIndex
from t2g_ray.data.select import HELD_OUT, SelectOptions, select_records
from t2g_ray.records.jsonl import THINKING_KEY, load_records, record_to_dict
from t2g_ray.records.outputs import check_folder
from t2g_ray.run.folder import LOCK, write_text
from t2g_ray.types import Record

LOW_AGREEMENT = "samples_disagree"


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedItem:
    """A row or record that was rejected; `value` is the item as it was then."""

    step: str
    place: str
    reason: str
    message: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCounts:
    """How many items went into one step and came out of it."""

    name: str
    num_in: int
    num_out: int


@dataclass(slots=True, kw_only=True)
class Tally:
    """What happened on the way, in order: what each step let through and rejected, and more."""

    steps: list[StepCounts] = field(default_factory=list)
    rejected: list[RejectedItem] = field(default_factory=list)
    agreements: list[float] = field(default_factory=list)
    num_repaired: int = 0
    copies_not_made: Counter[str] = field(default_factory=Counter)

    def reject(self, step: str, record: Record, reason: str, message: str) -> None:
        place = record.extra[KEY]["source"]
        value = record_to_dict(record)
        self.rejected.append(
            RejectedItem(step=step, place=place, reason=reason, message=message, value=value)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateFiles:
    """The files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def answers(self) -> Path:
        """A folder a stage, a file a shard; beside it STAGE.json says how many shards it has, and
        how many are answered."""
        return self.path / "answers"

    @property
    def records(self) -> Path:
        return self.path / "records.jsonl"

    @property
    def rejects(self) -> Path:
        """A line for each row, answer or record that was left out, with the reason."""
        return self.path / "rejects.jsonl"

    @property
    def card_json(self) -> Path:
        return self.path / "card.json"

    @property
    def card_page(self) -> Path:
        return self.path / "card.md"

    def prepare(self, config: GenerateConfig) -> None:
        """Make the folder ready. Raises ValueError for one that holds something else."""
        self.path.mkdir(parents=True, exist_ok=True)
        found = [entry.name for entry in self.path.iterdir() if entry.name != LOCK]
        if found and not self.answers.is_dir():
            raise ValueError(
                f"run_dir must be empty or hold a run of t2g data generate, found other files in "
                f"{self.path}; give another run_dir"
            )
        self.answers.mkdir(exist_ok=True)
        write_text(self.config, dump_config(config))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One run. `ask` answers shards, on a cluster or wherever the caller wants."""

    config: GenerateConfig
    ask: Ask
    tally: Tally = field(default_factory=Tally)

    def run(self) -> list[Record]:
        """The records, all of which are without faults.

        Raises ValueError for a bad source or teacher before anything is asked, and ShardsMissing
        when a teacher left some shards without answers.
        """
        config = self.config
        models = (config.teacher.model, config.reasoner.model)
        inputs = (config.source.name, *config.select.held_out, *models)
        check_folder("run_dir", config.run_dir, inputs)
        held_out = held_out_texts(config.select)
        texts, rejections = read_texts(config.source, seed=config.seed)
        check_teacher(config.teacher)
        if config.reasoner.model is not None:
            check_teacher(config.reasoner)
        GenerateFiles(path=config.run_dir).prepare(config)
        self._count_rows(texts, rejections)
        kept = self._select(self._graphs(texts), held_out)
        varied = [*kept, *self._copies(kept, held_out)]
        return varied if config.reasoner.model is None else self._reasoning(varied)

    def _count_rows(self, texts: Sequence[SourceText], rejections: Sequence[Rejection]) -> None:
        self._step("read", len(texts) + len(rejections), len(texts))
        for row in rejections:
            self.tally.rejected.append(
                RejectedItem(
                    step="read",
                    place=_short(row.place),
                    reason=row.reason,
                    message=row.message,
                    value=row.value,
                )
            )

    def _graphs(self, texts: Sequence[SourceText]) -> list[Record]:
        records = [
            marked(text.record, source=_short(text.place), variant=ORIGINAL) for text in texts
        ]
        outcomes = self._asked("graph", self.config.teacher, records, self.config.samples)
        found: list[Record] = []
        for record, answers in zip(records, outcomes, strict=True):
            chosen = choose_graph(answers)
            if isinstance(chosen, NoGraph):
                self.tally.reject("graph", record, chosen.reason, chosen.message)
                continue
            graded = replace(record, graph=chosen.graph)
            if chosen.agreement is not None:
                self.tally.agreements.append(chosen.agreement)
                graded = marked(graded, agreement=round(chosen.agreement, 4))
            found.append(graded)
        self._step("graph", len(records), len(found))
        return found

    def _select(self, records: Sequence[Record], held_out: Sequence[str]) -> list[Record]:
        options = self.config.select
        agreed: list[Record] = []
        for record in records:
            agreement = record.extra[KEY].get("agreement", 1.0)
            if agreement < options.min_agreement:
                message = f"agreement {agreement}, at least {options.min_agreement} is wanted"
                self.tally.reject("select", record, LOW_AGREEMENT, message)
                continue
            mended = repair(record) if options.faulty == "repair" else record
            self.tally.num_repaired += mended.graph != record.graph
            agreed.append(mended)
        selection = select_records(agreed, _options(self.config), held_out=held_out)
        for item in selection.rejected:
            self.tally.reject("select", item.record, item.reason, item.found)
        self._step("select", len(records), len(selection.kept))
        return selection.kept

    def _copies(self, kept: Sequence[Record], held_out: Sequence[str]) -> list[Record]:
        config = self.config
        made: list[Record] = []
        if config.augment.paraphrases:
            num_asked = config.augment.paraphrases
            outcomes = self._asked("paraphrase", config.teacher, kept, num_asked)
            for record, found in paraphrases(kept, outcomes):
                if isinstance(found, PlainAnswer):
                    self.tally.reject("paraphrase", record, found.reason, found.message)
                else:
                    made.append(found)
            self._step("paraphrase", len(kept) * num_asked, len(made))
        others, not_made = copies(kept, config.augment, seed=config.seed)
        self.tally.copies_not_made.update(not_made)
        return self._without_leaks([*made, *others], held_out)

    def _without_leaks(self, made: list[Record], held_out: Sequence[str]) -> list[Record]:
        """A copy with other words or names must not repeat a held-out text."""
        index = TextIndex([*held_out, *(record.text for record in made)])
        for i in range(len(held_out)):
            index.add(i)
        clean: list[Record] = []
        for number, record in enumerate(made):
            match = index.find(len(held_out) + number)
            if match is None:
                clean.append(record)
            else:
                self.tally.reject("augment", record, HELD_OUT, held_out[match.index])
        self._step("augment", len(made), len(clean))
        return clean

    def _reasoning(self, records: Sequence[Record]) -> list[Record]:
        outcomes = self._asked("reasoning", self.config.reasoner, records, 1)
        reasoned: list[Record] = []
        for record, answers in zip(records, outcomes, strict=True):
            answer = plain_answer(answers[0])
            if answer.reason:
                self.tally.reject("reasoning", record, answer.reason, answer.message)
                continue
            extra = {**record.extra, THINKING_KEY: answer.text}
            reasoned.append(replace(record, extra=extra))
        self._step("reasoning", len(records), len(reasoned))
        return reasoned

    def _asked(
        self, name: StageName, teacher: TeacherConfig, records: Sequence[Record], samples: int
    ) -> list[list[TeacherOutcome]]:
        style = teacher.style or teacher.own.style
        return run_stage(
            TeacherStage(name=name, samples=samples, seed=self.config.seed, style=style),
            teacher,
            records,
            folder=GenerateFiles(path=self.config.run_dir).answers / name,
            shard_size=self.config.shard_size,
            ask=self.ask,
        )

    def _step(self, name: str, num_in: int, num_out: int) -> None:
        self.tally.steps.append(StepCounts(name=name, num_in=num_in, num_out=num_out))


def held_out_texts(select: SelectionConfig) -> list[str]:
    """The texts that no record may repeat. Raises ValueError for a missing or bad file."""
    for name in select.held_out:
        if not Path(name).is_file():
            raise ValueError(
                f"select.held_out must name JSONL files of records, found no file at {name!r}"
            )
    return [record.text for name in select.held_out for record in load_records(name)]


def _options(config: GenerateConfig) -> SelectOptions:
    select = config.select
    return SelectOptions(
        min_chars=select.min_chars,
        max_chars=select.max_chars,
        min_entities=select.min_entities,
        min_relations=select.min_relations,
        remove_near=not select.near_duplicates,
        max_records=select.max_records,
        seed=config.seed,
    )


def _short(place: str) -> str:
    """Without the folder, so that the same source gives the same records wherever it lies."""
    return place.rpartition("/")[2]
