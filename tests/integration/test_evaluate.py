"""`t2g eval` and `t2g extract` as people run them, on an untrained policy."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from t2g_ray.cli.main import app
from t2g_ray.config import PromptConfig
from t2g_ray.graph import Graph
from t2g_ray.model.policy import build_tiny_policy, save_policy
from t2g_ray.prompts.settings import write_prompt_settings
from t2g_ray.records.corpus import build_tokenizer

MAX_NEW_TOKENS = 96


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "model"
    tokenizer = build_tokenizer()
    save_policy(build_tiny_policy(tokenizer, seed=0), tokenizer, folder)
    write_prompt_settings(folder, PromptConfig(style="compact"), MAX_NEW_TOKENS)
    return folder


def t2g(*arguments: object) -> Result:
    """The command without a process of its own, which would load vLLM once more."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_constrained_answers_of_an_untrained_policy_are_all_graphs(
    model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "eval.json"
    result = t2g(
        *("eval", "--model", model, "--data", "embedded", "--max-records", 8),
        *("--constrained", "--json", out, "--per-record", tmp_path / "records.jsonl"),
    )
    assert result.exit_code == 0, result.stderr
    figures = json.loads(out.read_text())
    assert figures["json_valid_rate"] == 1.0
    assert figures["parse"] == {"ok": 8}
    assert figures["records"] == 8
    # The folder says how the policy wants to be asked.
    assert (figures["style"], figures["max_new_tokens"]) == ("compact", MAX_NEW_TOKENS)
    assert 0 < figures["completion_length/mean"] <= MAX_NEW_TOKENS
    assert figures["prompts_too_long"] == 0
    assert "8 records" in result.stdout
    lines = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(8))
    found, _, missed = map(sum, zip(*(line["entities"] for line in lines), strict=True))
    assert figures["recall/entities"] == found / (found + missed)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy to which all tokens are alike: held to a grammar, it ends every list at once."""
    folder = tmp_path_factory.mktemp("silent") / "model"
    tokenizer = build_tokenizer()
    policy = build_tiny_policy(tokenizer, seed=0)
    torch.nn.init.zeros_(policy.model.embed_tokens.weight)
    save_policy(policy, tokenizer, folder)
    write_prompt_settings(folder, PromptConfig(style="compact"), MAX_NEW_TOKENS)
    return folder


def test_extract_prints_nothing_but_the_graph_on_standard_output(silent: Path) -> None:
    command = ["extract", "--model", str(silent), "--constrained"]
    types = ["--entity-types", "person,company", "--relation-types", "works for"]
    # In a process of its own: what libraries print at their start must not be there either.
    result = subprocess.run(
        [sys.executable, "-m", "t2g_ray.cli", *command, *types],
        input="Ada Quill works for Acme.",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert Graph.from_dict(json.loads(result.stdout)) == Graph((), ())


def test_an_answer_that_is_no_graph_is_shown_and_fails(model: Path) -> None:
    result = t2g("extract", "--model", model, "--entity-types", "person", "Ada works.")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no graph in the answer" in result.stderr
    assert "the answer was: " in result.stderr


def test_a_cut_answer_is_an_error_and_no_graph(model: Path) -> None:
    short = ("--constrained", "--max-new-tokens", 3, "Ada works.")
    result = t2g("extract", "--model", model, "--entity-types", "person", *short)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "--max-new-tokens=3, it was cut there (0 entities, 0 relations were" in result.stderr
