"""Which checks there are, in which order, and what each of them is given."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.selftest import plan
from benchmarks.selftest.checks import arrival
from benchmarks.selftest.running import CheckFailed, CheckSkipped
from benchmarks.selftest.session import Session
from benchmarks.selftest.settings import Hardware


def session(tmp_path: Path, num_gpus: int = 0, findings: Any = ()) -> Session:
    device: Any = "cuda" if num_gpus else "cpu"
    hardware = Hardware(device=device, num_gpus=num_gpus, gpu_gib=80.0)
    return Session(hardware, "demo", tmp_path, lambda: findings)


def finding(status: str) -> Any:
    return SimpleNamespace(name="vllm", found="no module", status=status, advice="run make setup")


def test_the_important_checks_come_first_and_each_says_what_to_do(tmp_path: Path) -> None:
    checks = plan.checks_of(session(tmp_path))
    assert [check.name for check in checks][:3] == ["environment", "parity", "sync_store"]
    assert len({check.name for check in checks}) == len(checks)
    assert all(check.shows and check.advice and check.expected_s > 0 for check in checks)
    # The whole of it is meant for ten minutes, on two cores.
    assert sum(check.expected_s for check in checks) < 600


def test_checks_are_chosen_by_name_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    chosen = plan.checks_of(session(tmp_path), ["memory", "parity"])
    assert [check.name for check in chosen] == ["parity", "memory"]
    with pytest.raises(ValueError, match=r"must be among environment, .*found sync_carrier"):
        plan.checks_of(session(tmp_path), ["sync_carrier"])


def test_something_missing_fails_the_environment_and_a_note_does_not(tmp_path: Path) -> None:
    figures = plan.environment(session(tmp_path, findings=[finding("good"), finding("note")]))
    assert {figure.name: figure.value for figure in figures}["notes"] == 1
    with pytest.raises(CheckFailed, match=r"vllm: no module \(run make setup\)"):
        plan.environment(session(tmp_path, findings=[finding("good"), finding("missing")]))


def test_one_gpu_cannot_broadcast(tmp_path: Path) -> None:
    with pytest.raises(CheckSkipped, match="needs 2 GPUs, found 1: NCCL"):
        plan.broadcast(session(tmp_path, 1))


def test_the_pair_of_a_broadcast_ends_whatever_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    monkeypatch.setattr(
        Session, "new_pair", lambda *_: SimpleNamespace(close=lambda: log.append("end"))
    )

    def fail(pair: object, name: str) -> None:
        log.append(name)
        raise CheckFailed("silent")

    monkeypatch.setattr(arrival, "transport", fail)
    for num_gpus in (0, 2):
        with pytest.raises(CheckFailed, match="silent"):
            plan.broadcast(session(tmp_path, num_gpus))
    assert log == ["broadcast", "end"] * 2
