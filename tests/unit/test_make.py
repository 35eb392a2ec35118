"""`make` on machines with a GPU and without: what runs on which set, and how it is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def commands_of(target: str, device: str, machine: Path | None = None) -> list[str]:
    """What `make` would run, with every environment to be made anew."""
    path = f"{machine}:{os.environ['PATH']}" if machine else os.environ["PATH"]
    chosen = [f"DEVICE={device}"] if device else []
    result = subprocess.run(
        ["make", "-n", "-B", target, *chosen, f"PYTHON={sys.executable}"],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "MAKEFLAGS": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.replace("\\\n", " ").splitlines()


def environments(commands: list[str]) -> set[str]:
    """Those that are made."""
    return {match[1] for line in commands if (match := re.search(r" -m venv (\S+)$", line))}


def programs(commands: list[str]) -> list[str]:
    """What runs once the environments are there."""
    wanted = re.compile(r"(\.venv\S*/bin/(?:t2g|pytest)\b.*)")
    return [match[1] for line in commands if (match := wanted.search(line))]


@pytest.mark.parametrize(("device", "folder"), [("cpu", ".venv"), ("gpu", ".venv-gpu")])
def test_each_set_has_an_environment_of_its_own(device: str, folder: str) -> None:
    commands = commands_of("setup", device)
    assert environments(commands) == {folder}
    installing = [line for line in commands if " -m pip install" in line]
    assert installing
    places = {word for line in installing for word in line.split() if word.startswith(".venv")}
    assert places <= {f"{folder}/bin/python", ".venv/reference"}
    assert any(f"-r requirements/{device}.txt" in line for line in installing)
    assert programs(commands_of("demo", device)) == [f"{folder}/bin/t2g demo"]


def test_the_suites_run_on_the_cpu_set_and_those_of_gpus_on_theirs() -> None:
    without, beside = commands_of("test", "cpu"), commands_of("test", "gpu")
    assert environments(without) == {".venv"}
    assert environments(beside) == {".venv", ".venv-gpu"}
    on_cpu, on_gpu = programs(beside)
    assert on_cpu.startswith(".venv/bin/pytest -n 2")
    assert on_gpu == ".venv-gpu/bin/pytest tests/gpu"
    assert environments(commands_of("check", "gpu")) == {".venv"}


def test_the_machine_decides_where_nobody_does(tmp_path: Path) -> None:
    fake = tmp_path / "nvidia-smi"
    fake.write_text('#!/bin/sh\n[ "$1" = -L ] && echo "GPU 0: one"\n')
    fake.chmod(0o755)
    assert environments(commands_of("setup", "", tmp_path)) == {".venv-gpu"}
    fake.write_text("#!/bin/sh\nexit 9\n")
    assert environments(commands_of("setup", "", tmp_path)) == {".venv"}


SEES_A_GPU = """
import sys
import types
from importlib.machinery import PathFinder


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "torch":
            return None
        spec = PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(torch):
            load(torch)
            torch.cuda.is_available = torch.cuda.is_bf16_supported = lambda: True
            torch.cuda.device_count = lambda: 1
            torch.cuda.get_device_properties = lambda *_: types.SimpleNamespace(major=9, minor=0)

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder)
"""
"""As sitecustomize.py: torch says that it sees a GPU."""


def build_deepspeed(tmp_path: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Its wheel, where torch sees a GPU and no nvcc can be found."""
    (tmp_path / "sitecustomize.py").write_text(SEES_A_GPU)
    pinned = re.search(r"^deepspeed==.*$", (ROOT / "requirements/common.txt").read_text(), re.M)
    assert pinned
    without_nvcc = {"PATH": "/usr/bin:/bin", "CUDA_HOME": str(tmp_path / "none")}
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
    command += ["--no-binary", "deepspeed"]
    return subprocess.run(
        [sys.executable, *command, "-w", str(tmp_path / "wheels"), pinned[0]],
        env={**os.environ, "PYTHONPATH": str(tmp_path), **without_nvcc, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.long  # downloads and builds a package
@pytest.mark.timeout(600)
def test_deepspeed_is_built_where_torch_sees_a_gpu_and_there_is_no_nvcc(tmp_path: Path) -> None:
    (line,) = (line for line in commands_of("setup", "gpu") if "-r requirements/gpu.txt" in line)
    ours = dict(word.split("=") for word in line.partition(" .venv-gpu")[0].split())
    failed = build_deepspeed(tmp_path, {})
    assert failed.returncode != 0
    assert "MissingCUDAException" in failed.stdout + failed.stderr
    built = build_deepspeed(tmp_path, ours)
    assert built.returncode == 0, built.stderr
    assert list((tmp_path / "wheels").glob("deepspeed-*.whl"))
