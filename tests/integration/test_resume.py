"""Runs that go on from a checkpoint on real Ray, vLLM and DeepSpeed: damaged, adapters, stale."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.grpo import run_grpo
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import read_metrics
from t2g_ray.run.resume.meaning import ResumeError
from tests.integration.parts import grpo_config

STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One Ray for all runs of this file."""
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def stopped(run: RunDir, folder: Path) -> RunDir:
    """A copy of a whole run as a kill after its last step leaves it."""
    copy = RunDir(folder)
    shutil.copytree(run.path, copy.path)
    shutil.rmtree(copy.model)
    copy.report_json.unlink()
    return copy


def damage(run: RunDir, step: int) -> None:
    """Turn one bit of the learner's state."""
    (path,) = (run.checkpoint(step) / "learner" / "state").glob("*model_states.pt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_an_asynchronous_run_goes_on_past_damaged_checkpoints_and_loses_no_prompt(
    wavering_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree: dict[str, Any] = {"max_staleness": 1, "checkpoint": {"every": 1, "keep": 4}}
    run = run_grpo(grpo_config(tmp_path / "whole", wavering_model, steps=STEPS, **tree))
    half = stopped(run, tmp_path / "half")
    damage(half, 3)
    damage(half, 4)
    run_grpo(grpo_config(half.path, wavering_model, steps=STEPS, resume="auto", **tree))
    told = capsys.readouterr().err
    assert "resumed at step 2 from" in told
    for step in (3, 4):
        assert f"left out: step_00000{step} is not whole: learner/state/" in told
    assert [line["step"] for line in read_metrics(half.metrics)] == [1, 2, 3, 4]
    positions = [p for line in read_json_lines(half.ledger) for p in line["positions"]]
    assert len(positions) == len(set(positions)) >= STEPS * 3
    first, last = list(read_json_lines(run.ledger))[:2], list(read_json_lines(half.ledger))[:2]
    assert first == last
    assert max(line["staleness/max"] or 0 for line in read_metrics(half.metrics)) <= 1
    evaluated = [(line["split"], line["step"]) for line in read_json_lines(half.evals)]
    assert len(evaluated) == len(set(evaluated)) == 4
    assert (half.model / "model.safetensors").is_file()
    assert half.report_json.is_file()


def test_adapters_go_on_bit_for_bit_and_others_are_refused_before_a_start(
    wavering_model: Path, tmp_path: Path
) -> None:
    def tree(**lora: Any) -> dict[str, Any]:
        adapters = {"rank": 4, "targets": ["q_proj"], **lora}
        return {
            "steps": STEPS,
            "data": {"heldout": "none"},
            "learner": {"token_budget": 512, "optimizer": {"lr": 1e-3}, "lora": adapters},
        }

    run = run_grpo(grpo_config(tmp_path / "whole", wavering_model, **tree()))
    half = stopped(run, tmp_path / "half")
    shutil.rmtree(half.checkpoint(STEPS))
    for changed in ({"targets": ["v_proj"]}, {"alpha": 64}, {"rank": 8}, {"rank": 0}):
        config = grpo_config(half.path, wavering_model, resume="auto", **tree(**changed))
        (key,) = changed
        with pytest.raises(ResumeError, match=rf"learner\.lora\.{key}: was"):
            run_grpo(config)
    run_grpo(grpo_config(half.path, wavering_model, resume="auto", **tree()))
    weights = "model.safetensors"
    assert (half.model / weights).read_bytes() == (run.model / weights).read_bytes()
