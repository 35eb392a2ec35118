"""What the driver's library says -> the GPUs that this process may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from t2g_ray.run.device.gpus import NO_GPUS, Gpu, Gpus, visible_gpus

CARDS = [("NVIDIA L40S", 44.5), ("NVIDIA A10G", 22.5), ("NVIDIA H100", 79.6)]


class Driver(SimpleNamespace):
    """The functions of NVML that are used, with `cards` in place of devices."""

    is_open = False

    def __init__(self, cards: list[tuple[str, float]]) -> None:
        super().__init__(
            nvmlInit=lambda: setattr(self, "is_open", True),
            nvmlShutdown=lambda: setattr(self, "is_open", False),
            nvmlDeviceGetCount=lambda: len(cards),
            nvmlDeviceGetHandleByIndex=lambda number: cards[number],
            nvmlDeviceGetName=lambda card: card[0],
            nvmlDeviceGetMemoryInfo=lambda card: SimpleNamespace(total=int(card[1] * 2**30)),
            nvmlSystemGetDriverVersion=lambda: "580.65.06",
        )


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver(CARDS)
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return made


def test_names_memory_and_driver_are_those_of_the_devices(driver: Driver) -> None:
    assert visible_gpus() == Gpus("580.65.06", tuple(Gpu(*card) for card in CARDS))
    assert not driver.is_open


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        ("", []),
        ("-1", []),
        ("2", ["NVIDIA H100"]),
        ("1,0", ["NVIDIA A10G", "NVIDIA L40S"]),
        ("0,7,1", ["NVIDIA L40S"]),  # CUDA reads up to the first that is not there
        ("GPU-12ab", ["NVIDIA L40S"]),
        ("MIG-a,MIG-b,MIG-c,MIG-d", ["NVIDIA L40S", "NVIDIA A10G", *["NVIDIA H100"] * 2]),
    ],
)
def test_only_those_count_that_the_environment_leaves(
    allowed: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert [gpu.name for gpu in visible_gpus().devices] == names


def test_without_package_driver_or_device_there_are_none(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("Driver/library version mismatch")

    monkeypatch.setenv("PATH", str(tmp_path))
    driver.nvmlInit = fail
    assert visible_gpus() == NO_GPUS
    monkeypatch.setitem(sys.modules, "pynvml", Driver([]))
    assert visible_gpus() == NO_GPUS
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert visible_gpus() == NO_GPUS


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (
            "echo '570.1, 81559, NVIDIA H100'; echo '570.1, [N/A], NVIDIA GB10, a part'",
            Gpus("570.1", (Gpu("NVIDIA H100", 79.6), Gpu("NVIDIA GB10, a part", 0))),
        ),
        ("echo 'no driver' >&2; exit 9", NO_GPUS),
        ("echo 'No devices were found'", NO_GPUS),
        ("true", NO_GPUS),
    ],
)
def test_the_cpu_set_asks_nvidia_smi(
    script: str, found: Gpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake = tmp_path / "nvidia-smi"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert visible_gpus() == found


def test_equal_devices_are_listed_together() -> None:
    card = Gpu("NVIDIA L40S", 44.5)
    assert Gpus("1", (card, card, Gpu("A", 2))).listed == "2 x NVIDIA L40S, 44.5 GiB; 1 x A, 2 GiB"
