"""Processes that die in the middle of a run: it ends by their names, and resumed runs end whole."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.cluster import start as cluster
from actors.grpo import run_grpo
from actors.workers.learner import LearnerActor
from actors.workers.reward import QUESTIONS, GoldRecords, RewardActor
from actors.workers.rollout import RolloutActor
from t2g_ray.cli.exits import FAILED, exit_code
from t2g_ray.grpo.stages import LoopError
from t2g_ray.rollout.spec import Sampling
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import read_metrics
from t2g_ray.types import Group, Prompt, TrainReport
from tests.integration.parts import grpo_config, make_wavering_policy, write_policy

STEPS = 5


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingRollout(RolloutActor):
    """Dies after the first group of the second step."""

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, min_version: int
    ) -> Iterator[Group]:
        for group in super().generate(prompts, sampling, min_version):
            yield group
            if min_version == 1:
                die()


class DyingReward(RewardActor):
    """Dies over the groups of the third step."""

    def score(self, gold: GoldRecords, *groups: Group) -> Any:
        if int(groups[0].completions[0].versions[0]) == 2:
            die()
        return super().score(gold, *groups)


class DyingLearner(LearnerActor):
    """The second rank dies in the fourth step, in which the first waits for it."""

    def step(self, handles: Any, advantages: Any, divisor: float) -> TrainReport:
        if self._rank == 1 and self._learner.step_count == 3:
            die()
        return super().step(handles, advantages, divisor)


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    # The actors live in a module that only the tests can import.
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_run_that_loses_an_actor_of_each_role_names_it_and_is_whole_after_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "run")
    config = grpo_config(
        run.path,
        write_policy(tmp_path / "model", make_wavering_policy()),
        steps=STEPS,
        data={"heldout": "none"},
        learner={"ranks": 2, "token_budget": 256},
        checkpoint={"every": 1},
        resume="auto",
    )
    reward: Any = ray.remote
    deaths = [
        ("RolloutActor", DyingRollout, "rollout/0"),
        (
            "reward_actor_class",
            lambda: reward(concurrency_groups={QUESTIONS: 1})(DyingReward),
            "reward/0",
        ),
        ("LearnerActor", DyingLearner, "learner/1"),
    ]
    for version, (name, stand_in, dead) in enumerate(deaths, start=1):
        with monkeypatch.context() as patch:
            patch.setattr(cluster, name, stand_in)
            with pytest.raises(LoopError, match=f"found a failure in {dead}[:;]") as caught:
                run_grpo(config)
        assert f"the run stood at version {version}" in caught.value.__notes__
        assert exit_code(caught.value) == FAILED
        assert not run.report_json.exists()
        end = time.monotonic() + 10
        while ray.util.list_named_actors(all_namespaces=True) and time.monotonic() < end:
            time.sleep(0.1)
        assert ray.util.list_named_actors(all_namespaces=True) == []
    run_grpo(config)
    assert [line["step"] for line in read_metrics(run.metrics)] == list(range(1, STEPS + 1))
    positions = [p for line in read_json_lines(run.ledger) for p in line["positions"]]
    assert sorted(positions) == list(range(STEPS * config.prompts_per_step))
