"""Where compiled code is kept."""

from __future__ import annotations

import tempfile
from importlib import metadata
from pathlib import Path

from t2g_ray.run.device.caches import FOLDERS, keep_compiled


def test_compiled_code_outlives_a_job_in_a_folder_of_its_versions(tmp_path: Path) -> None:
    environment = {"T2G_CACHE_ROOT": str(tmp_path)}
    keep_compiled(environment)
    assert set(FOLDERS) <= environment.keys()
    (folder,) = tmp_path.iterdir()
    assert f"torch{metadata.version('torch')}" in folder.name
    assert {Path(environment[name]).parent for name in FOLDERS} == {folder}


def test_what_somebody_set_stays_and_what_torch_sets_by_itself_does_not(tmp_path: Path) -> None:
    environment = {
        "T2G_CACHE_ROOT": str(tmp_path),
        "VLLM_CACHE_ROOT": "/elsewhere",
        "TORCHINDUCTOR_CACHE_DIR": f"{tempfile.gettempdir()}/torchinductor_somebody",
    }
    keep_compiled(environment)
    assert environment["VLLM_CACHE_ROOT"] == "/elsewhere"
    assert environment["TORCHINDUCTOR_CACHE_DIR"].startswith(str(tmp_path))


def test_a_folder_that_cannot_be_made_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = {"T2G_CACHE_ROOT": str(tmp_path / "file")}
    keep_compiled(environment)
    assert environment == {"T2G_CACHE_ROOT": str(tmp_path / "file")}
