"""Policies that several files share, and no Ray left behind by any file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.integration.parts import make_policy, make_wavering_policy, write_policy


@pytest.fixture(scope="module", autouse=True)
def no_ray_left_behind() -> Iterator[None]:
    """Every file starts and ends without a cluster, whichever way its tests started one."""
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tied_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an untrained policy of the embedded kind."""
    return write_policy(tmp_path_factory.mktemp("tied") / "model", make_policy("tied"))


@pytest.fixture(scope="session")
def wavering_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a policy whose rewards differ inside a group."""
    return write_policy(tmp_path_factory.mktemp("wavering") / "model", make_wavering_policy())


@pytest.fixture(scope="session")
def wavering_moe_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with experts."""
    folder = tmp_path_factory.mktemp("wavering-moe") / "model"
    return write_policy(folder, make_wavering_policy("moe"))
