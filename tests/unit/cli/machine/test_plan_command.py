"""`t2g plan`: what is shown, and how it ends."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from transformers import Qwen2Config

from tests.unit.cli.parts import t2g

ROOT = Path(__file__).resolve().parents[4]
CONFIGS = ROOT / "configs"
SHIPPED = sorted(p.stem for p in CONFIGS.glob("*.yaml") if "\nlearner:" in p.read_text("utf-8"))


def test_plan_starts_nothing_and_shows_the_sizes(config: Path) -> None:
    result = t2g("plan", config, "prompts_per_step=4", "group_size=8")
    assert result.exit_code == 0, result.output
    assert "32" in result.stdout
    assert not (config.parent / "run").exists()


def test_plan_refuses_at_once_what_does_not_fit_here(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    started_s = time.monotonic()
    result = t2g("plan", config, "rollout.gpus=1000")
    assert time.monotonic() - started_s < 10
    assert result.exit_code == 2
    assert "rollout/0: 1 CPU, 1000 GPU" in result.stdout
    assert "1001 GPUs asked for" in result.stderr


def test_plan_knows_both_stages_and_explains_the_one_that_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "stage.yaml"
    path.write_text(f"run_dir: {tmp_path}/run\nepochs: 2\nbatch_size: 4\n")
    assert "2 learner ranks" in t2g("plan", path, "learner.ranks=2").stdout
    wrong = t2g("plan", path, "epoch=3")
    assert wrong.exit_code == 2
    assert "unknown key epoch: did you mean epochs?" in wrong.stderr


def test_plan_tells_what_follows_from_the_device(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    shown = t2g("plan", config, "learner.gpus=1", "rollout.dtype=float32").stdout
    assert "device cuda, since GPUs are asked for" in shown
    assert "derived for cuda: learner.dtype=bfloat16" in shown
    assert "rollout.dtype=float32 (bfloat16)" in shown


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_configuration_fits_the_machines_that_it_names(name: str) -> None:
    # The policy that the second stage of the demo starts from is no model before the first one.
    like = ("--sizes-of", "embedded") if name == "demo_grpo" else ()
    result = t2g("plan", CONFIGS / f"{name}.yaml", *like)
    assert result.exit_code == 0, result.stderr
    assert "in use, of" in result.stdout


def test_the_shipped_budget_would_not_fit_if_all_activations_were_kept() -> None:
    kept = t2g("plan", CONFIGS / "cluster_8x.yaml", "learner.gradient_checkpointing=false")
    assert kept.exit_code == 2
    assert "the smallest change with which all fits: learner." in kept.stderr


def test_what_does_not_fit_is_refused_with_the_smallest_change(
    config: Path, tmp_path: Path
) -> None:
    Qwen2Config(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ).save_pretrained(tmp_path / "model")
    here = ("device=cuda", f"model={tmp_path}/model", "--nodes", "1 x 4 x 44GiB")
    large = ("learner.token_budget=32768", "learner.zero_stage=2", "learner.ranks=2")
    kept = t2g("plan", config, *here, *large, "learner.gradient_checkpointing=false")
    assert kept.exit_code == 2
    assert "learner.gradient_checkpointing=true" in kept.stderr
    assert "of 44.00 GiB" in t2g("plan", config, *here, *large).stdout


def test_a_model_that_is_not_here_has_no_plan_unless_another_is_like_it(config: Path) -> None:
    absent = t2g("plan", config, "device=cpu", "model=owner/absent").stdout
    assert "owner/absent is not on this machine" in absent
    assert "--sizes-of MODEL" in absent
    like = t2g("plan", config, "device=cpu", "model=owner/absent", "--sizes-of", "embedded").stdout
    assert "learner: weights" in like


def test_a_plan_goes_into_files(config: Path, tmp_path: Path) -> None:
    written, drawn = tmp_path / "new" / "plan.json", tmp_path / "plan.svg"
    result = t2g("plan", config, "device=cpu", "--json", written, "--picture", drawn)
    assert result.exit_code == 0, result.stderr
    places = json.loads(written.read_text(encoding="utf-8"))["places"]
    assert {part["holder"] for part in places[0]["parts"]} >= {"Ray", "run", "learner/0"}
    assert drawn.read_text(encoding="utf-8").startswith("<svg")
    folder = t2g("plan", config, "device=cpu", "--picture", tmp_path)
    assert folder.exit_code == 2
    assert "--picture must be a file" in folder.stderr
    absent = t2g("plan", config, "model=owner/absent", "--json", written)
    assert absent.exit_code == 2
    assert "a plan needs the sizes of the model" in absent.stderr
    assert t2g("plan", config, "--sizes-of", "owner/absent").exit_code == 2


def test_machines_that_are_none_are_refused_by_what_named_them(config: Path) -> None:
    assert "--nodes: an instance is one of" in t2g("plan", config, "--nodes", "1 x big").stderr
    assert "cluster: an instance is one of" in t2g("plan", config, "cluster=1 x big").stderr
