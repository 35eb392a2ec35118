"""`t2g plan`: what is shown, and how it ends."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from transformers import Qwen2Config

from t2g_ray.run.device.gpus import Gpu, Gpus
from tests.unit.cli.parts import t2g


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


def test_plan_refuses_a_budget_whose_activations_do_not_fit_the_gpu(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Qwen2Config(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    ).save_pretrained(tmp_path / "model")
    cards = Gpus("580.1", (Gpu("large", 80.0), Gpu("small", 44.5)))
    monkeypatch.setattr("t2g_ray.run.device.gpus.visible_gpus", lambda: cards)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    here = ("device=cuda", f"model={tmp_path}/model")
    large = ("learner.token_budget=32768", "learner.zero_stage=2", "learner.ranks=2")
    kept = t2g("plan", config, *here, *large, "learner.gradient_checkpointing=false")
    assert kept.exit_code == 2
    assert "found 44; lower learner.token_budget" in kept.stderr
    assert ", of 44" in t2g("plan", config, *here, *large).stdout
    absent = t2g("plan", config, "device=cuda", "model=owner/absent").stdout
    assert "owner/absent is not on this machine" in absent
