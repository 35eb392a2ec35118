"""One configuration for all checks: it loads for each kind of hardware, and models are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.selftest.settings import (
    REWARD,
    Hardware,
    find_hardware,
    learning_rate,
    merged,
    model_folder,
    selftest_config,
)

CPU = Hardware(device="cpu")
GPU = Hardware(device="cuda", num_gpus=1, gpu_gib=80.0, gpu_name="NVIDIA H100")


def test_a_cpu_has_every_sync_verified_and_the_tight_gate(tmp_path: Path) -> None:
    config = selftest_config("demo", CPU, tmp_path)
    assert config.sync.verify_every == 1
    assert config.parity_tolerance == 1e-5
    assert config.rollout.gpus == config.learner.gpus == 0
    assert config.reward.custom[0].path == REWARD


def test_a_gpu_is_shared_by_both_in_bfloat16(tmp_path: Path) -> None:
    config = selftest_config("demo", GPU, tmp_path, max_staleness=1)
    assert (config.rollout.gpus, config.learner.gpus, config.colocate) == (0.5, 0.5, "share")
    assert (config.rollout.dtype, config.learner.dtype) == ("bfloat16", "bfloat16")
    assert (config.sync.transport, config.sync.verify_every) == ("ipc", 1)
    assert config.learner.gradient_checkpointing
    assert config.max_staleness == 1


def test_changes_go_into_sections_and_leave_the_rest() -> None:
    tree = {"a": {"x": 1, "y": 2}, "b": 3}
    assert merged(tree, {"a": {"y": 4}, "c": {"z": 5}}) == {
        "a": {"x": 1, "y": 4},
        "b": 3,
        "c": {"z": 5},
    }
    assert tree == {"a": {"x": 1, "y": 2}, "b": 3}


def test_a_model_is_a_folder_or_the_name_of_a_shape(tmp_path: Path) -> None:
    made = model_folder("demo", CPU, tmp_path)
    assert Path(made, "model.safetensors").is_file()
    assert model_folder(made, CPU, tmp_path) == made
    assert learning_rate(made) == pytest.approx(1e-3)
    with pytest.raises(ValueError, match=r"or one of demo, .*found 'qwen9'"):
        model_folder("qwen9", CPU, tmp_path)


def test_the_default_model_fits_the_device() -> None:
    assert CPU.default_model == "demo"
    assert GPU.default_model == "qwen2.5-0.5b"
    assert Hardware(device="cuda", num_gpus=1, gpu_gib=12.0).default_model == "demo"


def test_this_machine_has_some_hardware() -> None:
    found = find_hardware()
    assert (found.device == "cuda") == bool(found.num_gpus)
