"""What `t2g plan` says about the device."""

from __future__ import annotations

from typing import Any

import pytest

from t2g_ray.config import GrpoConfig, SftConfig
from t2g_ray.config.device import settle
from t2g_ray.config.device.told import device_lines


def told(**tree: Any) -> list[str]:
    return device_lines(GrpoConfig, {"run_dir": "x", **tree})


def test_the_device_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "installed_device", lambda: "cpu")
    assert told() == ["device cpu, which the installed packages are for"]
    assert told(device="cpu") == ["device cpu, as set"]
    assert told(rollout={"gpus": 0}) == ["device cpu, since gpus is set to 0"]
    assert told(learner={"gpus": 1})[0] == "device cuda, since GPUs are asked for"


def test_what_was_derived_is_told_apart_from_what_was_set() -> None:
    lines = told(device="cuda", rollout={"dtype": "float32", "gpus": 1, "max_sequences": 512})
    assert len(lines) == 3
    assert "learner.gradient_checkpointing=true" in lines[1]
    assert "sync.transport=broadcast" in lines[1]
    assert "rollout" not in lines[1].replace("rollout.pass_tokens", "")
    assert lines[2] == "set, where cuda would give another value: rollout.dtype=float32 (bfloat16)"


def test_a_stage_is_told_what_it_has() -> None:
    (_, derived) = device_lines(SftConfig, {"run_dir": "x", "device": "cuda"})
    assert "learner.dtype=bfloat16" in derived
    assert "rollout" not in derived and "sync" not in derived
    assert told(device="gpu") == []
