"""What a sweep leaves in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.app import SharedOptions
from benchmarks.inputs.policy import DEMO_SFT
from benchmarks.result import read_result
from benchmarks.sweep.files import write_sweep
from tests.unit.benchmarks.sweep.parts import swept

DEMO_GRPO = DEMO_SFT.with_name("demo_grpo.yaml")


def test_the_result_and_the_page_lie_in_the_run_folder_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    given = SharedOptions(
        config=DEMO_GRPO, model=None, overrides=[f"run_dir={folder}", "model=embedded"]
    )
    write_sweep(swept(), given)
    assert read_result(folder / "sweep.json") == swept()
    assert "Rollout actors pay up to 2" in (folder / "sweep.html").read_text()
    assert f"page: {folder}/sweep.html" in capsys.readouterr().out
