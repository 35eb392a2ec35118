"""However a configuration is made, it has a device, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from t2g_ray.config import (
    ConfigError,
    GrpoConfig,
    LearnerConfig,
    RolloutConfig,
    SftConfig,
    build_config,
    dump_config,
    load_config,
)
from t2g_ray.config.device import settle, table
from t2g_ray.data.generate.config import GenerateConfig
from t2g_ray.run.device.gpus import NO_GPUS


def grpo(**tree: Any) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": "x", **tree})


@pytest.fixture(params=["cpu", "cuda"])
def installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(settle, "installed_device", lambda: request.param)
    monkeypatch.setattr(table, "visible_gpus", lambda: NO_GPUS)
    return str(request.param)


def test_auto_is_what_the_installed_set_is_for_unless_gpus_say_it(installed: str) -> None:
    assert grpo().device == build_config(SftConfig, {"run_dir": "x"}).device == installed
    assert grpo(device="auto").device == installed
    assert grpo(learner={"gpus": 1}).device == grpo(rollout={"gpus": 0.5}).device == "cuda"
    assert grpo(learner={"gpus": 0}).device == grpo(rollout={"gpus": 0.0}).device == "cpu"
    assert grpo(device="cpu").device == "cpu"
    assert grpo(device="cuda").device == "cuda"


def test_what_is_written_stands_above_what_follows_from_the_device() -> None:
    derived = grpo(device="cuda")
    assert (derived.learner.dtype, derived.rollout.dtype) == ("bfloat16", "bfloat16")
    assert derived.learner.gradient_checkpointing
    written = grpo(
        device="cuda",
        learner={"dtype": "float32", "gradient_checkpointing": False, "ranks": 3},
        rollout={"max_sequences": 9},
    )
    assert (written.learner.dtype, written.learner.ranks) == ("float32", 3)
    assert not written.learner.gradient_checkpointing
    assert (written.rollout.max_sequences, written.rollout.dtype) == (9, "bfloat16")


def test_sections_count_as_written_only_where_they_were(installed: str) -> None:
    """A section in place of a mapping holds defaults as well, which nobody wrote."""
    sections = GrpoConfig(
        run_dir=Path("x"), learner=LearnerConfig(ranks=2), rollout=RolloutConfig(threads=3)
    )
    assert sections == grpo(learner={"ranks": 2}, rollout={"threads": 3})
    assert sections.learner.gpus == (1 if installed == "cuda" else 0)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "tree", [{}, {"device": "cuda"}, {"max_staleness": 1}, {"colocate": "time"}]
)
def test_a_dumped_configuration_is_read_as_the_same_one_on_any_set(
    tree: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = grpo(**tree)
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    for other in ("cpu", "cuda"):
        monkeypatch.setattr(settle, "installed_device", lambda other=other: other)
        assert load_config(GrpoConfig, path) == config


def test_a_stage_takes_what_it_has() -> None:
    sft = build_config(SftConfig, {"run_dir": "x", "device": "cuda"})
    assert (sft.learner.dtype, sft.learner.gpus) == ("bfloat16", 1)
    teacher = {"run_dir": "x", "device": "cuda", "teacher": {"model": "m"}}
    made = build_config(GenerateConfig, teacher)
    assert (made.teacher.gpus, made.reasoner.gpus) == (1, 0)
    far = {"model": "m", "base_url": "http://x/v1"}
    assert build_config(GenerateConfig, {**teacher, "teacher": far}).teacher.gpus == 0


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"device": "cuda", "rollout": {"gpus": 0}},
            r"rollout\.gpus must be above 0 with device=c",
        ),
        ({"learner": {"gpus": 0}, "rollout": {"gpus": 1}}, r"learner\.gpus must be above 0.*leave"),
        (
            {"device": "cpu", "learner": {"gpus": 2}},
            r"learner\.gpus must be 0 .* found 2; leave it",
        ),
        ({"device": "gpu"}, r"device: .*'auto', 'cpu' or 'cuda'"),
        ({"device": "cuda", "rollout": 3}, r"rollout: .*RolloutConfig"),
        ({"device": "cuda", "rollout": None}, r"rollout: .*RolloutConfig"),
        ({"device": "cuda", "rollout": {"gpus": "1"}}, r"rollout\.gpus: .*number"),
    ],
)
def test_a_contradiction_or_a_wrong_value_is_named(tree: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grpo(**tree)


def test_a_teacher_that_vllm_loads_needs_the_device_too() -> None:
    tree = {"run_dir": "x", "device": "cuda", "teacher": {"model": "m", "gpus": 0}}
    with pytest.raises(ConfigError, match=r"teacher\.gpus must be above 0"):
        build_config(GenerateConfig, tree)


def test_the_parity_gate_follows_precisions_and_kernels() -> None:
    fp32 = {"rollout": {"dtype": "float32"}, "learner": {"dtype": "float32"}}
    assert grpo(**fp32, device="cpu").parity_tolerance == 1e-5
    # TF32 has 11 bits where bf16 has 8.
    assert grpo(**fp32, device="cuda").parity_tolerance == 0.05 / 2 ** (11 - 8)
    assert grpo(device="cuda").parity_tolerance == 0.05
    assert grpo(device="cpu", learner={"dtype": "bfloat16"}).parity_tolerance == 0.05
    own = {"parity_tolerance": 1e-3}
    assert grpo(**fp32, device="cuda", algorithm=own).parity_tolerance == 1e-3
