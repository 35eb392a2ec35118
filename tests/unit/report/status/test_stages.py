"""The settings of a stage, and how many steps they come to."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from t2g_ray.config import GrpoConfig, SftConfig, dump_config
from t2g_ray.data.generate.config import GenerateConfig, TeacherConfig
from t2g_ray.report.status.stages import stage_of, steps_of
from t2g_ray.run.folder import RunDir


def test_every_stage_is_known_by_the_settings_that_it_writes(tmp_path: Path) -> None:
    teacher = TeacherConfig(model="teacher", base_url="http://localhost:1")
    for config, stage in (
        (GrpoConfig(run_dir=tmp_path), "GRPO"),
        (SftConfig(run_dir=tmp_path), "SFT"),
        (GenerateConfig(run_dir=tmp_path, teacher=teacher), "data generate"),
    ):
        assert stage_of(yaml.safe_load(dump_config(config))) == stage
    assert stage_of({"steps": 3, "prompts_per_step": 4}) is None


@pytest.mark.parametrize("step", [3, 10, 30])
def test_epochs_come_to_the_same_steps_at_every_step(step: int, tmp_path: Path) -> None:
    last = {"step": step, "epoch": step * 4 / 40}
    found = steps_of("SFT", RunDir(tmp_path), {"steps": None, "epochs": 3.0}, last)
    assert found.num_steps == 30
    assert steps_of("SFT", RunDir(tmp_path), {"epochs": 3.0}, {}).num_steps is None
