"""Commands with stand-ins for the clusters that they would start."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.cli.parts import Launch, finished_grpo, finished_sft


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "grpo.yaml"
    path.write_text(f"run_dir: {tmp_path}/run\nsteps: 3\n")
    return path


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> dict[str, Launch]:
    """Stands for actors.grpo and actors.sft: what is set here runs in place of the cluster."""
    runs: dict[str, Launch] = {"grpo": finished_grpo, "sft": finished_sft}
    launch, sft = ModuleType("actors.grpo"), ModuleType("actors.sft")
    launch.run_grpo = lambda config: runs["grpo"](config)  # type: ignore[attr-defined]
    sft.run_sft = lambda config: runs["sft"](config)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "actors.grpo", launch)
    monkeypatch.setitem(sys.modules, "actors.sft", sft)
    return runs
