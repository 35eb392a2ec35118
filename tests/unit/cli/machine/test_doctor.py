"""What the doctor says about machines good and bad."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from t2g_ray.cli.machine import doctor
from t2g_ray.cli.machine.doctor import (
    SEES_A_GPU,
    Check,
    driver_check,
    examine,
    gpu_check,
    import_checks,
    loopback_check,
    memory_check,
    port_check,
    python_check,
    shared_memory_check,
    verdict,
)
from t2g_ray.run.device.gpus import NO_GPUS, Gpu, Gpus


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


def test_shared_memory_is_measured_and_its_absence_noted(tmp_path: Path) -> None:
    assert shared_memory_check(str(tmp_path / "none")).status == "note"
    assert "GiB" in shared_memory_check(str(tmp_path)).found


CARDS = Gpus("580.65.06", (Gpu("NVIDIA H100", 79.6),) * 2)


def test_the_cuda_set_is_ready_only_with_a_gpu_and_a_driver_that_is_new_enough() -> None:
    assert gpu_check("cuda", CARDS) == Check("GPUs", "2 x NVIDIA H100, 79.6 GiB")
    none = gpu_check("cuda", NO_GPUS)
    assert none.status == "missing"
    assert "make setup DEVICE=cpu" in none.advice
    assert driver_check(CARDS) == Check("driver", "580.65.06")
    for old in (NO_GPUS, replace(CARDS, driver="570.124.06"), replace(CARDS, driver="unknown")):
        assert driver_check(old).status == "missing"
        assert "580 or newer" in driver_check(old).advice


def test_to_the_cpu_set_gpus_are_of_no_use_and_not_needed() -> None:
    assert gpu_check("cpu", NO_GPUS) == Check("GPUs", "none (everything runs on the CPU)")
    beside = gpu_check("cpu", CARDS)
    assert beside.status == "note"
    assert "make setup DEVICE=gpu" in beside.advice


def test_torch_must_see_the_gpu_too() -> None:
    """Asked in a process of its own: here torch sees none, and says why."""
    (check,) = import_checks(SEES_A_GPU)
    assert check.status == ("good" if torch.cuda.is_available() else "missing")
    assert check.status == "good" or check.advice == "see GPUs and driver"


def test_the_cuda_set_is_asked_for_more_than_the_cpu_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "IMPORTS", {})
    monkeypatch.setattr(doctor, "SEES_A_GPU", {"torch.cuda": "raise RuntimeError('no driver')"})
    monkeypatch.setattr(doctor, "visible_gpus", lambda: NO_GPUS)
    monkeypatch.setattr(doctor, "installed_device", lambda: "cuda")
    assert verdict(examine()) == "not ready: torch.cuda, GPUs, driver"
    monkeypatch.setattr(doctor, "installed_device", lambda: "cpu")
    assert verdict(examine()).startswith("ready")


def test_a_port_in_use_is_noted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port_check(port, "cluster").status == "note"
    assert port_check(port, "cluster") == Check(f"port {port} (Ray cluster)", "free")


def test_this_machine_can_talk_to_itself() -> None:
    assert loopback_check().status == "good"
