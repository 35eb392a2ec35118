"""The commands that ask a model or grade its answers, without one."""

import json
from pathlib import Path

import pytest

from t2g_ray.records.jsonl import write_records
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
