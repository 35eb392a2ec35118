"""Files of profiled steps, and what they hold."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from t2g_ray.config import ConfigError, GrpoConfig, SftConfig, build_config
from t2g_ray.learner.timing.profile import StepProfiler
from t2g_ray.run.timing.profiled import Profiled

CPU = torch.device("cpu")


def trained(profiler: StepProfiler, steps: int) -> list[float]:
    """A tiny model, trained; its losses."""
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 8)
    optimiser = torch.optim.AdamW(model.parameters())
    losses = []
    for step in range(1, steps + 1):
        with profiler.step(step):
            loss = model(torch.ones(4, 8)).square().sum()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
    return losses


def test_the_steps_of_the_range_are_in_one_chrome_trace_and_change_no_number(
    tmp_path: Path,
) -> None:
    wanted = Profiled(folder=tmp_path / "profile", first=2, last=3, has_memory=True)
    with_it = trained(StepProfiler(wanted, "learner-0", CPU), 5)
    assert with_it == trained(StepProfiler(None, "learner-0", CPU), 5)
    (path,) = wanted.folder.iterdir()
    assert path.name == "learner-0.json.gz"
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    names = {event.get("name") for event in events}
    assert {"step 2", "step 3"} <= names
    assert not {"step 1", "step 4"} & names
    assert any("mm" in str(name) for name in names)
    assert "[memory]" in names


def test_a_run_that_resumes_inside_the_range_records_the_rest(tmp_path: Path) -> None:
    profiler = StepProfiler(
        Profiled(folder=tmp_path, first=1, last=3, has_memory=False), "learner-0", CPU
    )
    with profiler.step(3):
        torch.ones(3).sum()
    assert (tmp_path / "learner-0.json.gz").is_file()


def settings(tmp_path: Path, **more: Any) -> dict[str, Any]:
    return {"run_dir": str(tmp_path / "run"), "steps": 4, **more}


def test_a_configuration_says_which_steps(tmp_path: Path) -> None:
    config = build_config(GrpoConfig, settings(tmp_path, profile={"steps": [2, 3]}))
    assert config.profiled == Profiled(
        folder=tmp_path / "run/profile", first=2, last=3, has_memory=False
    )
    assert build_config(SftConfig, settings(tmp_path)).profiled is None


@pytest.mark.parametrize("kind", [GrpoConfig, SftConfig])
@pytest.mark.parametrize(
    ("profile", "told"),
    [
        ({"steps": [3, 2]}, "the first and the last step"),
        ({"steps": [0, 2]}, "counted from 1"),
        ({"steps": [3]}, "the first and the last step"),
        ({"steps": [3, 5]}, "must lie within the 4 steps of the run"),
        ({"steps": [1, 2], "ranks": [1]}, r"profile\.ranks must be numbers below 1"),
        ({"steps": [1, 2], "ranks": [-1]}, "numbers from 0"),
        ({"steps": [1, 2], "engines": [4]}, r"profile\.engines must be numbers below"),
    ],
)
def test_steps_and_actors_that_a_run_has_not_are_refused(
    kind: type[GrpoConfig], profile: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=told):
        build_config(kind, settings(tmp_path, profile=profile))
