"""One pair for many checks, and configurations that this hardware can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.selftest.running import CheckSkipped
from benchmarks.selftest.session import Session
from benchmarks.selftest.settings import Hardware


def session(tmp_path: Path, num_gpus: int = 0) -> Session:
    device: Any = "cuda" if num_gpus else "cpu"
    hardware = Hardware(device=device, num_gpus=num_gpus, gpu_gib=80.0)
    return Session(hardware, "demo", tmp_path, list)


def test_checks_share_a_pair_until_its_devices_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []

    class FakePair:
        def __init__(self, config: object) -> None:
            log.append("start")

        def close(self) -> None:
            log.append("end")

    monkeypatch.setattr(Session, "new_pair", lambda self, config: FakePair(config))
    here = session(tmp_path)
    assert here.pair() is here.pair()
    here.free_devices()
    here.free_devices()
    here.pair()
    assert log == ["start", "end", "start"]


def test_each_has_a_gpu_of_its_own_apart(tmp_path: Path) -> None:
    config = session(tmp_path, 2).apart(max_staleness=1)
    assert (config.learner.gpus, config.rollout.gpus, config.colocate) == (1, 1, "off")
    assert (config.sync.transport, config.max_staleness) == ("broadcast", 1)
    assert session(tmp_path, 1).alone().learner.gpus == 1
    assert session(tmp_path).alone().learner.gpus == 0


def test_an_engine_on_two_devices_needs_a_third_for_the_learner(tmp_path: Path) -> None:
    config = session(tmp_path, 3).spread()
    assert (config.rollout.tensor_parallel, config.rollout.gpus, config.learner.gpus) == (2, 2, 1)
    for num_gpus in (1, 2):
        with pytest.raises(CheckSkipped, match=f"needs 3 GPUs, found {num_gpus}: two for"):
            session(tmp_path, num_gpus).spread()
