"""`t2g data generate` from texts to files, by teachers that are made up here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.config import ConfigError, build_config
from t2g_ray.data.checks import faults_of
from t2g_ray.data.generate import pipeline
from t2g_ray.data.generate.config import GenerateConfig, TeacherConfig
from t2g_ray.data.generate.pipeline import GenerateFiles, Pipeline
from t2g_ray.data.generate.shards import Shard, ShardResult, ShardsMissing, answer_shard
from t2g_ray.data.generate.stages import TeacherRequest, TeacherStage
from t2g_ray.data.generate.teachers.teacher import Keep, TeacherOutcome, TeacherUnavailable
from t2g_ray.data.generate.write import write_generated
from t2g_ray.records.corpus import generate_records
from t2g_ray.records.jsonl import load_records, write_records
from t2g_ray.run.resume.lock import held

GOLD = {record.text: record for record in generate_records("train", 12, seed=0)}


class PerfectTeacher:
    """Knows the gold graphs of the embedded world, and says something about every other request."""

    def __init__(self) -> None:
        self.requests: list[TeacherRequest] = []

    def answer(self, requests: Sequence[TeacherRequest], keep: Keep) -> list[TeacherOutcome]:
        self.requests += requests
        return [outcome(request, self.text_for(request)) for request in requests]

    def text_for(self, request: TeacherRequest) -> str:
        content = request.messages[-1]["content"]
        if request.json_schema is not None:
            return GOLD[content.partition("Text:\n")[2]].graph.to_json()
        if content.startswith("Rewrite"):
            return f"It is said: {content.partition('Text:')[2].strip()}"
        return "<think>hm</think>The first name is a person."


def outcome(request: TeacherRequest, text: str) -> TeacherOutcome:
    return TeacherOutcome(number=request.number, sample=request.sample, text=text)


Ask = Callable[[TeacherStage, TeacherConfig, Sequence[Shard]], Iterator[ShardResult]]


def asking(teacher: Any, *, stop_after: int | None = None) -> Ask:
    """Answers shards from the last to the first; a stop is what a killed driver sees: nothing."""

    def ask(
        stage: TeacherStage, _: TeacherConfig, shards: Sequence[Shard]
    ) -> Iterator[ShardResult]:
        for shard in list(reversed(shards))[:stop_after]:
            asked = Shard.from_json(shard.to_json())
            yield ShardResult.from_json(answer_shard(stage, teacher, asked).to_json())

    return ask


def config(run_dir: Path, **tree: Any) -> GenerateConfig:
    settings: dict[str, Any] = {
        "run_dir": str(run_dir),
        "source": {"limit": 12},
        "teacher": {"model": "teacher"},
        "shard_size": 4,
    }
    return build_config(GenerateConfig, {**settings, **tree})


@pytest.fixture(autouse=True)
def no_real_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "check_teacher", lambda _: None)


def generate(settings: GenerateConfig, ask: Ask) -> dict[str, Any]:
    run = Pipeline(config=settings, ask=ask)
    return write_generated(settings, run.run(), run.tally)


def rejects(settings: GenerateConfig) -> list[dict[str, Any]]:
    lines = (settings.run_dir / "rejects.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def outputs(settings: GenerateConfig) -> dict[str, bytes]:
    names = ("records.jsonl", "rejects.jsonl", "card.json", "card.md")
    return {name: (settings.run_dir / name).read_bytes() for name in names}


ALL_PARTS: dict[str, Any] = {
    "samples": 2,
    "teacher": {"model": "teacher", "temperature": 0.7},
    "reasoner": {"model": "reasoner"},
    "augment": {"sub_schemas": 1, "paraphrases": 1, "name_swaps": 1},
}


def test_a_perfect_teacher_gives_the_gold_records_and_says_where_they_come_from(
    tmp_path: Path,
) -> None:
    settings = config(tmp_path / "run")
    card = generate(settings, asking(PerfectTeacher()))
    records = load_records(tmp_path / "run" / "records.jsonl")
    assert [(r.text, r.graph) for r in records] == [(r.text, r.graph) for r in GOLD.values()]
    assert records[4].extra == {"generated": {"source": "embedded:5", "variant": "original"}}
    assert [(s["step"], s["in"], s["out"]) for s in card["steps"]] == [
        ("read", 12, 12),
        ("graph", 12, 12),
        ("select", 12, 12),
        ("augment", 0, 0),
    ]
    assert rejects(settings) == []


def test_every_kind_of_copy_is_made_without_faults_and_with_reasoning(tmp_path: Path) -> None:
    settings = config(tmp_path / "run", **ALL_PARTS)
    card = generate(settings, asking(PerfectTeacher()))
    records = load_records(tmp_path / "run" / "records.jsonl")
    assert set(card["variants"]) == {"original", "sub_schema", "paraphrase", "name_swap"}
    assert card["variants"]["original"] == card["variants"]["paraphrase"] == 12
    assert [fault for record in records for fault in faults_of(record)] == []
    assert {record.extra["thinking"] for record in records} == {"The first name is a person."}
    assert card["agreement"]["mean"] == 1.0
    assert "name_swap" in (tmp_path / "run" / "card.md").read_text()


def test_a_run_that_was_stopped_ends_with_the_bytes_of_one_that_was_not(tmp_path: Path) -> None:
    straight, stopped = config(tmp_path / "a", **ALL_PARTS), config(tmp_path / "b", **ALL_PARTS)
    generate(straight, asking(PerfectTeacher()))
    for num_shards in (1, 1, 1, 2):
        with pytest.raises(ShardsMissing, match="the same command goes on"):
            generate(stopped, asking(PerfectTeacher(), stop_after=num_shards))
    again = PerfectTeacher()
    generate(stopped, asking(again))
    assert outputs(straight) == outputs(stopped)
    numbers = {request.number for request in again.requests if request.json_schema}
    assert numbers == set(), "shards that are on disk are not asked for again"


def test_another_selection_asks_the_teacher_nothing_again(tmp_path: Path) -> None:
    generate(config(tmp_path / "run"), asking(PerfectTeacher()))
    teacher = PerfectTeacher()
    card = generate(config(tmp_path / "run", select={"max_records": 5}), asking(teacher))
    assert teacher.requests == []
    assert card["records"]["records"] == 5
    assert card["steps"][2]["rejected"]["not_drawn"]["count"] == 7


def test_other_settings_of_the_teacher_ask_again_and_overwrite_nothing(tmp_path: Path) -> None:
    generate(config(tmp_path / "run"), asking(PerfectTeacher()))
    before = {path: path.read_bytes() for path in (tmp_path / "run/answers/graph").iterdir()}
    teacher = PerfectTeacher()
    generate(config(tmp_path / "run", teacher={"model": "other"}), asking(teacher))
    generate(config(tmp_path / "run", source={"limit": 11}), asking(teacher))
    assert len(before) == 3
    # 12 texts of the other model, and the last shard of 11 texts.
    assert len(teacher.requests) == 12 + 3
    assert all(path.read_bytes() == content for path, content in before.items())


def test_where_answers_are_computed_does_not_change_which_shards_are_found(tmp_path: Path) -> None:
    generate(config(tmp_path / "run"), asking(PerfectTeacher()))
    teacher = PerfectTeacher()
    more = {"model": "teacher", "actors": 4, "threads": 2, "parallel_requests": 3}
    generate(config(tmp_path / "run", teacher=more), asking(teacher))
    assert teacher.requests == []


class OddTeacher(PerfectTeacher):
    """Breaks on one text, however it is asked."""

    bad = list(GOLD)[5]

    def text_for(self, request: TeacherRequest) -> str:
        if self.bad in request.messages[-1]["content"]:
            raise KeyError("no such token")
        return super().text_for(request)


def test_a_request_that_breaks_its_batch_loses_no_other(tmp_path: Path) -> None:
    settings = config(tmp_path / "run")
    card = generate(settings, asking(OddTeacher()))
    assert card["records"]["records"] == 11
    (reject,) = rejects(settings)
    assert (reject["step"], reject["place"]) == ("graph", "embedded:6")
    assert (reject["reason"], reject["message"]) == ("teacher_failed", "KeyError: 'no such token'")
    assert reject["value"]["text"] == OddTeacher.bad


class AbsentTeacher:
    def __init__(self) -> None:
        self.num_calls = 0

    def answer(self, requests: Sequence[TeacherRequest], keep: Keep) -> list[TeacherOutcome]:
        self.num_calls += 1
        raise TeacherUnavailable("connection refused")


def test_a_teacher_that_is_gone_stops_the_run_early_and_rejects_nothing(tmp_path: Path) -> None:
    settings = config(tmp_path / "run", shard_size=1)
    teacher = AbsentTeacher()
    with pytest.raises(ShardsMissing, match=r"12 without answers; shard 11: .*connection refused"):
        generate(settings, asking(teacher))
    assert teacher.num_calls == 3
    assert list((tmp_path / "run/answers/graph").iterdir()) == []
    assert generate(settings, asking(PerfectTeacher()))["records"]["records"] == 12


def test_a_run_is_apart_from_its_texts(tmp_path: Path) -> None:
    texts = tmp_path / "texts" / "a.txt"
    texts.parent.mkdir()
    texts.write_text("Ann left.\n")
    for run_dir, name in ((texts.parent / "run", texts.parent), (texts.parent, texts)):
        source = {"name": str(name), "entity_types": ["person"]}
        with pytest.raises(ValueError, match="run_dir must "):
            generate(config(run_dir, source=source), asking(PerfectTeacher()))
    assert [*texts.parent.iterdir()] == [texts]


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="run_dir must be empty or hold a run"):
        generate(config(tmp_path), asking(PerfectTeacher()))


def test_samples_that_disagree_and_held_out_texts_are_left_out(tmp_path: Path) -> None:
    class WaveringTeacher(PerfectTeacher):
        def text_for(self, request: TeacherRequest) -> str:
            is_odd = request.json_schema is not None and request.number == 2
            if is_odd and request.sample == 1:
                return '{"entities":[],"relations":[]}'
            return super().text_for(request)

    records = list(GOLD.values())
    write_records(tmp_path / "heldout.jsonl", records[7:9])
    settings = config(
        tmp_path / "run",
        samples=2,
        teacher={"model": "teacher", "temperature": 0.5},
        select={"min_agreement": 0.5, "held_out": [str(tmp_path / "heldout.jsonl")]},
    )
    generate(settings, asking(WaveringTeacher()))
    assert [(r["place"], r["reason"]) for r in rejects(settings)] == [
        ("embedded:3", "samples_disagree"),
        ("embedded:8", "in_held_out_data"),
        ("embedded:9", "in_held_out_data"),
    ]


def test_a_missing_held_out_file_is_an_error_before_the_teacher_is_asked(tmp_path: Path) -> None:
    teacher = PerfectTeacher()
    with pytest.raises(ValueError, match=r"found no file at 'gone\.jsonl'"):
        generate(config(tmp_path / "run", select={"held_out": ["gone.jsonl"]}), asking(teacher))
    assert teacher.requests == []


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"teacher": {}}, "teacher.model must name a model"),
        ({"samples": 3}, "3 samples of a text need teacher.temperature above 0"),
        ({"select": {"min_agreement": 0.5}}, "needs samples=2 or more"),
        ({"source": {"entity_types": ["a", "a"]}}, "must be different names"),
        ({"source": {"entity_types": ["a "]}}, "without blanks around them"),
        ({"source": {"relation_types": ["a"]}}, "relation_types need entity_types"),
        ({"source": {"nam": "x"}}, "did you mean source.name"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    tmp_path: Path, tree: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **tree)


def test_a_run_starts_in_a_folder_that_its_process_holds(tmp_path: Path) -> None:
    with held(tmp_path / "run"):
        GenerateFiles(path=tmp_path / "run").prepare(config(tmp_path / "run"))
