"""What the doctor says about machines good and bad."""

import os
import socket
from pathlib import Path

import pytest

from t2g_ray.cli.doctor import (
    Check,
    gpu_check,
    import_checks,
    loopback_check,
    memory_check,
    memory_gib,
    port_check,
    python_check,
    shared_memory_check,
    verdict,
)


def test_the_verdict_names_what_is_missing() -> None:
    good, note = Check("a", "1"), Check("b", "0", "note", "do this")
    missing = Check("vllm", "no module", "missing", "run make setup")
    assert verdict([good]) == "ready"
    assert verdict([good, note]) == "ready, with 1 note"
    assert verdict([note, note]) == "ready, with 2 notes"
    assert verdict([good, note, missing]) == "not ready: vllm"


def test_packages_are_really_imported() -> None:
    found = import_checks(
        {
            "pydantic": "import pydantic",
            "absent": "import a_package_that_nobody_has",
            "broken": "raise RuntimeError('its library is broken')",
        }
    )
    assert [check.status for check in found] == ["good", "missing", "missing"]
    assert found[0].found.count(".") >= 1  # a version
    assert "a_package_that_nobody_has" in found[1].found
    assert "its library is broken" in found[2].found
    assert found[1].advice


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 10, 14), "missing"), ((3, 11, 0), "good"), ((3, 14, 1), "good")],
)
def test_python_must_be_new_enough(version: tuple[int, int, int], status: str) -> None:
    assert python_check(version).status == status


def test_little_memory_is_noted() -> None:
    assert memory_check(16.0).status == "good"
    assert memory_check(2.0).status == "note"
    assert 0 < memory_gib() < 2**14


def test_shared_memory_is_measured_and_its_absence_noted(tmp_path: Path) -> None:
    assert shared_memory_check(str(tmp_path / "none")).status == "note"
    assert "GiB" in shared_memory_check(str(tmp_path)).found


def test_the_listed_gpus_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'NVIDIA H100, 81559 MiB'\necho 'NVIDIA H100, 81559 MiB'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    check = gpu_check("2.13.0")
    assert check == Check("GPUs", "NVIDIA H100, 81559 MiB; NVIDIA H100, 81559 MiB")
    assert gpu_check("2.13.0+cpu").status == "note"


def test_a_driver_that_fails_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    check = gpu_check("2.13.0")
    assert (check.status, check.found) == ("note", "no driver")


def test_without_a_driver_everything_runs_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_check("2.13.0+cpu") == Check("GPUs", "none (everything runs on the CPU)")


def test_a_port_in_use_is_noted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port_check(port, "cluster").status == "note"
    assert port_check(port, "cluster") == Check(f"port {port} (Ray cluster)", "free")


def test_this_machine_can_talk_to_itself() -> None:
    assert loopback_check().status == "good"
