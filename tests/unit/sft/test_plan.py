"""What a run of SFT will do, settled before any process starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from t2g_ray.config import SftConfig, build_config
from t2g_ray.run.checkpoint import write_checkpoint
from t2g_ray.run.folder import RunDir
from t2g_ray.sft.plan import num_steps, plan_sft


def config_of(run_dir: Path, **tree: Any) -> SftConfig:
    data = {"train_records": 8, **tree.pop("data", {})}
    return build_config(SftConfig, {"run_dir": str(run_dir), "data": data, **tree})


def test_steps_are_given_or_follow_from_epochs(tmp_path: Path) -> None:
    assert num_steps(config_of(tmp_path, steps=7), 100) == 7
    assert num_steps(config_of(tmp_path, epochs=2.5, batch_size=16), 100) == 16


def test_a_plan_enters_a_new_folder_with_its_configuration(tmp_path: Path) -> None:
    plan = plan_sft(config_of(tmp_path / "run"))
    assert (plan.is_new, plan.start, len(plan.records)) == (True, None, 8)
    assert RunDir(tmp_path / "run").config.exists()
    with pytest.raises(ValueError, match="run_dir must be empty for a new run"):
        plan_sft(config_of(tmp_path / "run"))


def test_a_resumed_plan_starts_at_the_newest_whole_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(tmp_path, resume="auto")
    plan = plan_sft(config)
    for step in (5, 10):
        state = {"time_s": 1.0, "order_key": plan.order_key}
        write_checkpoint(RunDir(tmp_path).checkpoint(step), lambda folder: None, state)
    (RunDir(tmp_path).checkpoint(10) / "COMPLETE").unlink()
    resumed = plan_sft(config)
    assert resumed.start is not None
    assert (resumed.is_new, resumed.start.step) == (False, 5)
    assert "step_000010 is not whole: COMPLETE is missing" in caplog.text
    assert not RunDir(tmp_path).checkpoint(10).exists()


def test_a_run_cannot_be_resumed_with_another_order_of_records(tmp_path: Path) -> None:
    plan = plan_sft(config_of(tmp_path, resume="auto"))
    state = {"time_s": 1.0, "order_key": plan.order_key}
    write_checkpoint(RunDir(tmp_path).checkpoint(5), lambda folder: None, state)
    for change in ({"batch_size": 4}, {"seed": 1}, {"data": {"train_records": 9}}):
        with pytest.raises(ValueError, match="must keep the order of its records"):
            plan_sft(config_of(tmp_path, resume="auto", **change))
