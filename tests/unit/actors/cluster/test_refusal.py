"""A run that cannot compute on its device is refused before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from actors.cluster import refusal
from actors.cluster.devices import Node
from actors.cluster.refusal import check_device, engines_use_gpus
from actors.generate import run_generate
from actors.grpo import run_grpo
from actors.serve import ServeSettings, start_server
from actors.sft import run_sft
from t2g_ray.config import GrpoConfig, SftConfig, build_config
from t2g_ray.data.generate.config import GenerateConfig
from t2g_ray.run.device import check
from t2g_ray.run.device.check import DeviceError

GPU_NODE = {"CPU": 8.0, "GPU": 2.0}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be started")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", start)


def have(
    monkeypatch: pytest.MonkeyPatch, *, installed: str, visible: int = 0, nodes: Any = None
) -> None:
    """`nodes`: of a cluster that this process belongs to."""
    monkeypatch.setattr(check, "installed_device", lambda: installed)
    monkeypatch.setattr(refusal, "installed_device", lambda: installed)
    monkeypatch.setattr("actors.serve.installed_device", lambda: installed)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    if nodes is not None:
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        monkeypatch.setattr(refusal, "cluster_nodes", lambda: [Node("n", one) for one in nodes])


def test_here_the_set_and_a_visible_gpu_count(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, installed="cpu", visible=1)
    check_device("cpu")
    with pytest.raises(DeviceError, match="GPUs need the CUDA set"):
        check_device("cuda")
    have(monkeypatch, installed="cuda", visible=1)
    check_device("cuda")
    with pytest.raises(DeviceError, match="needs the CPU set"):
        check_device("cpu")
    have(monkeypatch, installed="cuda")
    with pytest.raises(DeviceError, match="found none on this machine"):
        check_device("cuda")


def test_on_a_cluster_the_nodes_count_and_not_the_set_of_the_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(monkeypatch, installed="cpu", nodes=[{"CPU": 8.0}, GPU_NODE])
    check_device("cuda")
    check_device("cpu")
    have(monkeypatch, installed="cuda", visible=1, nodes=[{"CPU": 8.0}])
    with pytest.raises(DeviceError, match="found none on any node of the cluster"):
        check_device("cuda")


def test_a_server_leaves_the_gpus_of_a_machine_with_the_cpu_set_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    have(monkeypatch, installed="cpu")
    assert not engines_use_gpus([GPU_NODE])
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert engines_use_gpus([GPU_NODE, {"CPU": 8.0}])
    have(monkeypatch, installed="cuda")
    assert not engines_use_gpus([{"CPU": 8.0}])


def test_every_command_that_starts_engines_or_ranks_refuses_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before it looks for the model, which is not there, and it leaves no folder."""
    have(monkeypatch, installed="cuda")
    tree: dict[str, Any] = {"run_dir": str(tmp_path / "run"), "device": "cuda"}
    with pytest.raises(DeviceError, match="needs an NVIDIA GPU"):
        run_grpo(build_config(GrpoConfig, {**tree, "model": "nowhere"}))
    with pytest.raises(DeviceError, match="needs an NVIDIA GPU"):
        run_sft(build_config(SftConfig, {**tree, "model": "nowhere"}))
    with pytest.raises(DeviceError, match="needs an NVIDIA GPU"):
        run_generate(build_config(GenerateConfig, {**tree, "teacher": {"model": "nowhere"}}))
    with pytest.raises(DeviceError, match="needs an NVIDIA GPU"):
        start_server(
            ServeSettings(
                model="nowhere",
                host="127.0.0.1",
                port=1,
                replicas=1,
                max_ongoing=1,
                max_new_tokens=None,
            )
        )
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_behind_an_endpoint_needs_no_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, installed="cuda")
    far = {"model": "m", "base_url": "http://127.0.0.1:9/v1"}
    tree = {"run_dir": str(tmp_path / "run"), "device": "cuda", "teacher": far}
    with pytest.raises(ValueError) as caught:
        run_generate(build_config(GenerateConfig, {**tree, "source": {"name": "nowhere.txt"}}))
    assert not isinstance(caught.value, DeviceError)
