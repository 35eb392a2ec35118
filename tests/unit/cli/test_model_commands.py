"""The commands that ask a model or grade its answers, without one."""

import json
from pathlib import Path

import pytest

from t2g_ray.graph import Graph
from t2g_ray.records.jsonl import write_records
from t2g_ray.rollout.greedy import Generated
from t2g_ray.types import Record
from tests.unit.cli.parts import RECORD, plain, t2g


def test_score_prints_the_figures_and_writes_them(tmp_path: Path) -> None:
    gold, answers, out = tmp_path / "g.jsonl", tmp_path / "c.jsonl", tmp_path / "o.json"
    write_records(gold, [RECORD, RECORD])
    texts = [RECORD.graph.to_json(), "sorry"]
    answers.write_text("".join(json.dumps({"completion": text}) + "\n" for text in texts))
    files = ("--gold", gold, "--completions", answers, "--reward", "f1")
    result = t2g("score", *files, "--json", out, "--per-record", tmp_path / "r.jsonl")
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert figures["f1/entities"] == pytest.approx(2 / 3)
    assert figures["records"] == 2
    assert "0.6667" in result.stdout
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("option", ["--json", "--per-record"])
def test_no_score_or_evaluation_writes_over_what_it_reads(tmp_path: Path, option: str) -> None:
    gold, answers = tmp_path / "g.jsonl", tmp_path / "c.jsonl"
    write_records(gold, [RECORD])
    answers.write_text('{"completion": "a"}\n')
    link, hard = tmp_path / "link", tmp_path / "hard"
    link.symlink_to(gold)
    hard.hardlink_to(answers)
    model = tmp_path / "model"
    model.mkdir()
    commands = {
        ("score", "--gold", gold, "--completions", answers): (gold, answers, link, hard, tmp_path),
        ("eval", "--model", model, "--data", gold): (gold, link, model, model / "eval.json"),
    }
    for command, outs in commands.items():
        for out in outs:
            result = t2g(*command, option, out)
            assert result.exit_code == 2, (out, result.output)
            assert f"{option} must " in result.stderr
    assert answers.read_text() == '{"completion": "a"}\n'
    both = ("--json", tmp_path / "x", "--per-record", tmp_path / "x")
    assert "must be two files" in t2g("score", *next(iter(commands))[1:], *both).stderr


def test_score_refuses_files_of_unequal_length(tmp_path: Path) -> None:
    write_records(tmp_path / "g.jsonl", [RECORD, RECORD])
    (tmp_path / "c.jsonl").write_text('{"completion": "a"}\n')
    result = t2g("score", "--gold", tmp_path / "g.jsonl", "--completions", tmp_path / "c.jsonl")
    assert result.exit_code == 2
    assert "one completion for each of the 2 records" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--entity-types", " , ", "text"), "--entity-types must name at least one type"),
        (("--entity-types", '"a, b', "text"), "those with a comma in double quotes"),
        (("--entity-types", "person", " "), "text must be a string that is not blank"),
        (("--entity-types", "person", "text", "--constrained", "--thinking"), "no room"),
    ],
)
def test_extract_explains_wrong_input(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    result = t2g("extract", "--model", tmp_path, *arguments)
    assert result.exit_code == 2
    assert words in plain(result.stderr)


class FakeAnswers:
    """Stands in for the engine: notes the records, answers with a text."""

    def __init__(self, text: str, *, num_closed: int = 0) -> None:
        self.text, self.num_closed = text, num_closed
        self.records: list[Record] = []

    def __call__(self, model: str, records: list[Record], *_: object, **__: object) -> Generated:
        self.records += records
        return Generated(
            texts=(self.text,),
            lengths=(9,),
            num_too_long=0,
            num_cut=self.num_closed,
            num_closed=self.num_closed,
        )


def answering(monkeypatch: pytest.MonkeyPatch, text: str, num_closed: int = 0) -> FakeAnswers:
    fake = FakeAnswers(text, num_closed=num_closed)
    monkeypatch.setattr("t2g_ray.rollout.greedy.answer_records", fake)
    return fake


def test_extract_prints_a_whole_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answering(monkeypatch, RECORD.graph.to_json())
    result = t2g("extract", "--model", tmp_path, "--entity-types", "a", "--json", "text")
    assert (result.exit_code, result.stdout.strip()) == (0, RECORD.graph.to_json())


@pytest.mark.parametrize("graph", [Graph((), ()), RECORD.graph])
def test_extract_fails_on_a_cut_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, graph: Graph
) -> None:
    answering(monkeypatch, graph.to_json(), num_closed=1)
    base = ("extract", "--model", tmp_path, "--constrained", "--max-new-tokens", 9)
    result = t2g(*base, "--entity-types", "a", "text")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"--max-new-tokens=9, it was cut there ({len(graph.entities)} entities" in result.stderr


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("a,b", ("a", "b")),
        (" a b , c", ("a b", "c")),
        ('"city, state",b', ("city, state", "b")),
        ('b, "a,b,c"', ("b", "a,b,c")),
        ("a|b", ("a|b",)),
        ("it's,C#", ("it's", "C#")),
        ('"say ""hi""",b', ('say "hi"', "b")),
    ],
)
def test_extract_reads_types_with_commas_in_quotes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, read: tuple[str, ...]
) -> None:
    fake = answering(monkeypatch, Graph((), ()).to_json())
    base = ("extract", "--model", tmp_path, "--entity-types", given, "--relation-types", given)
    result = t2g(*base, "text")
    assert result.exit_code == 0, result.output
    assert (fake.records[0].entity_types, fake.records[0].relation_types) == (read, read)


def test_extract_takes_one_source_of_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\xff\xfe")
    base = ("extract", "--model", tmp_path, "--entity-types", "person")
    both = t2g(*base, "text", "--file", tmp_path / "text")
    assert (both.exit_code, "found both" in both.stderr) == (2, True)
    coded = t2g(*base, "--file", tmp_path / "text")
    assert (coded.exit_code, "must be UTF-8" in coded.stderr) == (2, True)
    empty = t2g(*base, input="")
    assert (empty.exit_code, "not blank" in empty.stderr) == (2, True)


def test_eval_refuses_data_and_models_that_are_not_there(tmp_path: Path) -> None:
    no_data = t2g("eval", "--model", tmp_path, "--data", tmp_path / "none.jsonl")
    assert no_data.exit_code == 2
    assert "--data must be a JSONL file, embedded or embedded:names" in plain(no_data.stderr)
    write_records(tmp_path / "g.jsonl", [RECORD])
    no_model = t2g("eval", "--model", tmp_path, "--data", tmp_path / "g.jsonl")
    assert no_model.exit_code == 2
    assert "must hold config.json" in no_model.stderr
