"""What a run reads -> digests that change with it, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.config import GrpoConfig, SftConfig, build_config
from t2g_ray.graph import Graph
from t2g_ray.model.policy import build_tiny_policy, save_policy
from t2g_ray.prompts.meaning import meaning_of
from t2g_ray.records.corpus import build_tokenizer, generate_records
from t2g_ray.run.resume.meaning import Meaning
from t2g_ray.types import Record

RECORDS = generate_records("train", 8, seed=0)
HELDOUT = generate_records("heldout", 4, seed=0)


def meaning(model: Path, **given: Any) -> Meaning:
    tree = given.pop("tree", {})
    config = build_config(GrpoConfig, {"run_dir": "run", **tree})
    inputs: dict[str, Any] = {
        "tokenizer": build_tokenizer(),
        "model": str(model),
        "train": RECORDS,
        "heldout": {"heldout": HELDOUT},
        **given,
    }
    return meaning_of(config, **inputs)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meaning") / "model"
    tokenizer = build_tokenizer()
    save_policy(build_tiny_policy(tokenizer, seed=0), tokenizer, folder)
    return folder


def changed(before: Meaning, after: Meaning) -> set[str]:
    """Names of contents and notes that differ."""
    pairs = ((before.contents, after.contents), (before.noted, after.noted))
    return {name for was, now in pairs for name in {*was, *now} if was.get(name) != now.get(name)}


def first(change: Callable[[Record], Record]) -> list[Record]:
    return [change(RECORDS[0]), *RECORDS[1:]]


def test_equal_inputs_have_equal_meanings_wherever_they_lie(model: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in model.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    (moved / "README.md").write_text("A note beside the weights.")
    assert changed(meaning(model), meaning(moved)) == set()


@pytest.mark.parametrize(
    "train",
    [
        RECORDS[:-1],
        RECORDS[::-1],
        first(lambda record: replace(record, graph=Graph((), ()))),
        first(lambda record: replace(record, extra={"thinking": "Hm."})),
        first(lambda record: replace(record, relation_types=(*record.relation_types[::-1], "x"))),
        [RECORDS[0], RECORDS[0], *RECORDS[2:]],
    ],
)
def test_any_change_of_the_records_changes_their_digest(model: Path, train: list[Record]) -> None:
    names = changed(meaning(model), meaning(model, train=train))
    assert "training records" in names
    assert names <= {"training records", "prompts"}


def test_held_out_records_have_a_digest_for_each_split(model: Path) -> None:
    other = {"heldout": HELDOUT[:-1], "heldout_names": HELDOUT}
    assert changed(meaning(model), meaning(model, heldout=other)) == {
        "heldout records",
        "heldout_names records",
    }


def test_a_word_more_changes_the_tokenizer(model: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["zyzzyva"])
    assert changed(meaning(model), meaning(model, tokenizer=tokenizer)) == {"tokenizer"}


def test_another_chat_template_changes_the_tokenizer(model: Path) -> None:
    tokenizer = build_tokenizer()
    template = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
    tokenizer.chat_template = template
    assert "tokenizer" in changed(meaning(model), meaning(model, tokenizer=tokenizer))


def test_how_a_tokenizer_was_called_last_changes_nothing(model: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer(["a", "a b"], padding=True, truncation=True, max_length=2)
    assert changed(meaning(model), meaning(model, tokenizer=tokenizer)) == set()


def test_other_weights_under_the_same_name_change_the_model(model: Path, tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    folder = tmp_path / "model"
    save_policy(build_tiny_policy(tokenizer, seed=0), tokenizer, folder)
    before = meaning(folder)
    save_policy(build_tiny_policy(tokenizer, seed=1), tokenizer, folder)
    assert changed(before, meaning(folder)) == {"starting model"}


def test_weights_of_the_reward_are_compared_whatever_names_them(model: Path) -> None:
    assert changed(meaning(model), meaning(model, tree={"reward": {"preset": "f1"}})) == {
        "weights of the reward"
    }


def test_another_prompt_style_changes_the_prompts(model: Path) -> None:
    other = meaning(model, tree={"prompt": {"style": "compact"}})
    assert changed(meaning(model), other) == {"prompts"}


def test_the_code_of_a_custom_reward_is_noted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    code = tmp_path / "own" / "reward.py"
    code.write_text("def score(): return 1.0\n")
    tree = {"reward": {"custom": [{"path": "own.reward:score"}]}}
    before = meaning(model, tree=tree)
    code.write_text("def score(): return 2.0\n")
    assert changed(before, meaning(model, tree=tree)) == {"code of own.reward:score"}


def test_both_stages_have_a_meaning(model: Path) -> None:
    config = build_config(SftConfig, {"run_dir": "run"})
    found = meaning_of(
        config, tokenizer=build_tokenizer(), model=str(model), train=RECORDS, heldout={}
    )
    assert (found.stage, meaning(model).stage) == ("SFT", "GRPO")
    assert found.settings["learner.lora.rank"] == 0
