"""Which steps of a sweep count, what is asked of its run, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

import actors.grpo
from actors.cluster.devices import PlacementError
from benchmarks.sweep.running import (
    NO_LEARNING,
    Collector,
    NoRoom,
    SweepOver,
    check_numbers,
    measured,
    run,
)
from t2g_ray.config import ConfigError, GrpoConfig, build_config
from t2g_ray.run.folder import RunDir
from t2g_ray.run.metrics import MetricsSink
from t2g_ray.run.scale_request import Answer, read_request, write_answer
from tests.unit.benchmarks.sweep.parts import line


def config(folder: Path, **tree: object) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": str(folder), "max_staleness": 2, **tree})


def test_steps_after_the_warm_up_of_each_number_count_and_the_next_one_is_asked_for(
    tmp_path: Path,
) -> None:
    take = Collector(run=RunDir(tmp_path), numbers=[1, 3], warm_up=2, steps=2)
    for step in range(1, 5):
        take.write(line(1, step=step))
    assert read_request(RunDir(tmp_path).scale_request) == 3
    for step in range(5, 9):  # the run starts two more meanwhile
        take.write(line(1, step=step))
    for step in range(9, 12):
        take.write(line(3, step=step))
    with pytest.raises(SweepOver):
        take.write(line(3, step=12))
    steps = {number: [one["step"] for one in lines] for number, lines in take.lines.items()}
    assert steps == {1: [3, 4], 3: [11, 12]}


def test_a_number_that_the_cluster_has_no_room_for_ends_the_sweep(tmp_path: Path) -> None:
    take = Collector(run=RunDir(tmp_path), numbers=[1, 8], warm_up=0, steps=1)
    take.write(line(1))
    write_answer(RunDir(tmp_path).rollouts_json, Answer(rollouts=1, failure="no device is free"))
    with pytest.raises(NoRoom, match="8 rollout actors did not start: no device is free"):
        take.write(line(1))
    assert list(take.lines) == [1]


@pytest.mark.parametrize("numbers", [[], [0, 1], [2, 1], [1, 1]])
def test_numbers_that_do_not_rise_are_refused(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must rise from 1 or more, found \["):
        check_numbers(numbers)


def test_a_run_is_measured_as_configured_but_learns_nothing_and_stops_for_nothing(
    tmp_path: Path,
) -> None:
    given = config(tmp_path, prompts_per_step=5, rollout={"max_sequences": 7}, steps=3)
    found = measured(given, tmp_path / "x", rollouts=4, seed=6)
    assert (found.prompts_per_step, found.rollout.max_sequences) == (5, 7)
    assert (found.rollout.actors, found.seed, found.max_staleness) == (4, 6, 2)
    assert found.learner.optimizer.lr == found.learner.optimizer.muon_lr == NO_LEARNING
    assert (found.eval.every, found.checkpoint.every, found.data.heldout) == (0, 0, "none")
    assert found.steps > 10_000


class MadeUpRuns:
    """Stands for `run_grpo`: two actors write twice as fast, four as fast as two."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.most = 100
        """Actors that the cluster has room for."""

    def __call__(self, config: GrpoConfig, *, sinks: Sequence[MetricsSink]) -> None:
        number = config.rollout.actors
        self.started.append(number)
        if number > self.most:
            raise PlacementError("no device is free")
        folder = RunDir(config.run_dir)
        folder.path.mkdir(parents=True)
        for step in range(1, 1000):
            for sink in sinks:
                sink.write(line(number, wall_s={1: 4.0, 2: 2.0, 4: 2.0}[number], step=step))
            asked = read_request(folder.scale_request)
            number = asked if isinstance(asked, int) and asked <= self.most else number
            failure = "" if asked in (None, number) else "no device is free"
            write_answer(folder.rollouts_json, Answer(rollouts=number, failure=failure))
        raise AssertionError("the sweep must end its run")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> MadeUpRuns:
    fake = MadeUpRuns()
    monkeypatch.setattr(actors.grpo, "run_grpo", fake)
    return fake


def test_numbers_are_measured_inside_one_run_up_and_down_in_turns(
    runs: MadeUpRuns, tmp_path: Path
) -> None:
    rows = {row.metric: row for row in run(config(tmp_path), [1, 2, 4], runs=2, steps=2)}
    assert runs.started == [1, 4]
    assert rows["tokens_per_s/2"].values == (500.0, 500.0)
    assert rows["tokens_per_s_per_device/2"].median == 500.0 / 3
    assert rows["efficiency/4"].median == 0.5
    assert rows["pays_up_to"].median == 2


def test_engines_that_share_devices_get_a_run_each(runs: MadeUpRuns, tmp_path: Path) -> None:
    shared = config(tmp_path, colocate="share", learner={"ranks": 4})
    run(shared, [1, 2], runs=1, steps=1)
    assert runs.started == [1, 2]


def test_runs_after_one_that_found_no_room_leave_that_number_out(
    runs: MadeUpRuns, tmp_path: Path
) -> None:
    runs.most = 2
    rows = {row.metric: row for row in run(config(tmp_path), [1, 2, 4], runs=2, steps=2)}
    assert runs.started == [1, 2]
    assert rows["tokens_per_s/2"].values == (500.0, 500.0)
    assert "tokens_per_s/4" not in rows


def test_a_number_that_the_configuration_refuses_is_refused_before_any_run(
    runs: MadeUpRuns, tmp_path: Path
) -> None:
    shares = {"rollout": {"gpus": 0.5}, "learner": {"gpus": 0.5, "ranks": 1}}
    with pytest.raises(ConfigError, match="puts each engine beside a learner rank"):
        run(config(tmp_path, device="cuda", colocate="share", **shares), [1, 2], runs=1, steps=1)
    assert runs.started == []


def test_a_folder_with_a_run_is_refused_and_left_alone(runs: MadeUpRuns, tmp_path: Path) -> None:
    RunDir(tmp_path).config.write_text(json.dumps({}))
    with pytest.raises(ValueError, match="found a run in"):
        run(config(tmp_path), [1], runs=1, steps=1)
    assert runs.started == []
