"""A rollout actor whose process dies in the middle of its work: the run stops and says so."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import ray

from actors.cluster import start as cluster
from actors.grpo import run_grpo
from actors.workers.rollout import RolloutActor
from t2g_ray.cli.exits import FAILED, exit_code
from t2g_ray.grpo.stages import LoopError
from t2g_ray.rollout.spec import Sampling
from t2g_ray.types import Group, Prompt
from tests.integration.parts import grpo_config, make_policy, write_policy


class DyingRollout(RolloutActor):
    """Is killed from outside while it writes the groups of the second step."""

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, min_version: int
    ) -> Iterator[Group]:
        if min_version == 1:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
        yield from super().generate(prompts, sampling, min_version)


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    # The actor lives in a module that only the tests can import.
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_killed_rollout_actor_stops_the_run_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "RolloutActor", DyingRollout)
    config = grpo_config(
        tmp_path / "run",
        write_policy(tmp_path / "model", make_policy("tied")),
        data={"heldout": "none"},
        # Long enough to be killed in.
        sampling={"max_new_tokens": 120, "ignore_eos": True},
    )
    with pytest.raises(LoopError, match=r"rollout/0") as caught:
        run_grpo(config)
    assert exit_code(caught.value) == FAILED
    end = time.monotonic() + 10
    while ray.util.list_named_actors(all_namespaces=True) and time.monotonic() < end:
        time.sleep(0.1)
    assert ray.util.list_named_actors(all_namespaces=True) == []
