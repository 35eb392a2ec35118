"""Which device every actor of a run sees, on clusters whose GPUs are numbers alone.

Light actors stand in the places of the real ones; all else is the code that starts a run. The
groups of devices are those of `actors.cluster.reservation`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster as Machines
from ray.util.placement_group import placement_group_table

from actors.cluster import start as module
from actors.cluster.devices import PlacementError
from actors.cluster.handles import Handle, get_all
from actors.cluster.start import Cluster, start_cluster, start_newcomer
from t2g_ray.config import GrpoConfig, build_config, load_config
from t2g_ray.grpo.stages import LoopError
from tests.integration.light_actors import Broken, Light

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_GPUS = 8


@pytest.fixture(scope="module")
def eight() -> Iterator[None]:
    """One machine of eight devices."""
    ray.init("local", num_cpus=16, num_gpus=NUM_GPUS, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LearnerActor", Light)
    monkeypatch.setattr(module, "RolloutActor", Light)
    monkeypatch.setattr(module, "reward_actor_class", lambda: ray.remote(Light))


def model_of(folder: Path) -> str:
    (folder / "config.json").write_text("{}")  # which is all that a model has here
    return str(folder)


def grpo(folder: Path, **tree: Any) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": str(folder), "model": model_of(folder), **tree})


@contextmanager
def running(config: GrpoConfig) -> Iterator[Cluster]:
    cluster = start_cluster(config, config.model, "none")
    try:
        yield cluster
    finally:
        cluster.close()


def handles_of(cluster: Cluster) -> list[Handle[Any]]:
    return [*cluster.learners, *cluster.fleet, *cluster.rewards]


def seen(cluster: Cluster) -> dict[str, str]:
    """Actor -> CUDA_VISIBLE_DEVICES, which must be what Ray has given to it."""
    handles = handles_of(cluster)
    found = get_all([handle.call(Light.sees) for handle in handles])
    assert all(variable == ",".join(ids) for variable, ids in found)
    return {handle.name: found[i][0] for i, handle in enumerate(handles)}


def open_groups() -> int:
    return sum(group["state"] != "REMOVED" for group in placement_group_table().values())


def wait_until(is_so: Callable[[], bool], timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end, (placement_group_table(), ray.available_resources())
        time.sleep(0.1)


def is_all_free() -> bool:
    return ray.available_resources().get("GPU", 0) == NUM_GPUS and not open_groups()


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("name", "learners", "rollouts"),
    [
        ("gpu_1x", ["0"], ["0"]),
        ("cluster_8x", ["0", "1", "2", "3"], ["4", "5", "6", "7"]),
        ("pairs", ["0", "1", "2", "3"], ["0", "1", "2", "3"]),
        ("engines on two devices", ["0"], ["1,2", "3,4"]),
    ],
)
def test_every_actor_sees_the_devices_of_the_plan_and_no_others(
    tmp_path: Path, name: str, learners: list[str], rollouts: list[str]
) -> None:
    if (REPOSITORY / "configs" / f"{name}.yaml").is_file():
        overrides = [f"run_dir={tmp_path}", f"model={model_of(tmp_path)}", "reward.actors=1"]
        config = load_config(GrpoConfig, REPOSITORY / "configs" / f"{name}.yaml", overrides)
    elif name == "pairs":
        config = grpo(
            tmp_path,
            colocate="share",
            learner={"ranks": 4, "gpus": 0.5},
            rollout={"actors": 4, "gpus": 0.5},
        )
    else:
        config = grpo(tmp_path, learner={"gpus": 1}, rollout={"actors": 2, "gpus": 2})
    wait_until(is_all_free)
    with running(config) as cluster:
        expected = {f"learner/{i}": device for i, device in enumerate(learners)}
        expected |= {f"rollout/{i}": device for i, device in enumerate(rollouts)}
        expected["reward/0"] = ""
        assert seen(cluster) == expected
        address = ray.util.get_node_ip_address()
        assert cluster.devices() == {
            actor: f"GPU {device} of node {address}" for actor, device in expected.items() if device
        }
    wait_until(is_all_free)


@pytest.mark.usefixtures("eight")
def test_an_actor_without_a_gpu_sees_none_on_a_machine_that_has_some(tmp_path: Path) -> None:
    with running(grpo(tmp_path)) as cluster:
        assert seen(cluster) == {"learner/0": "", "rollout/0": "", "reward/0": ""}
        assert cluster.devices() == {}


@pytest.mark.usefixtures("eight")
def test_three_shares_of_which_two_fit_on_no_device_are_refused_with_a_table(
    tmp_path: Path,
) -> None:
    wait_until(is_all_free)
    config = grpo(tmp_path, colocate="off", learner={"gpus": 1}, rollout={"actors": 3, "gpus": 0.6})
    other = ray.remote(Light).options(num_cpus=0, num_gpus=NUM_GPUS - 3).remote()
    ray.get(other.node.remote())
    began = time.monotonic()
    with pytest.raises(PlacementError) as caught:
        # The learner rank takes one of the three devices that are left.
        start_cluster(config, config.model, "none")
    assert time.monotonic() - began < 10
    assert "rollout/2 with 0.6 GPUs found none (2.8 GPUs asked for, 3 free" in str(caught.value)
    assert "5 more  another program" in str(caught.value)
    ray.kill(other)
    assert not open_groups()


@pytest.mark.usefixtures("eight")
def test_what_the_whole_cluster_cannot_hold_is_refused_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(PlacementError, match="rollout/7 with 1 GPUs found none"):
        start_cluster(grpo(tmp_path, rollout={"actors": 8, "gpus": 1}), "none", "none")
    assert time.monotonic() - began < 2


@pytest.mark.usefixtures("eight")
def test_a_newcomer_has_a_device_of_its_own_and_gives_it_back(tmp_path: Path) -> None:
    wait_until(is_all_free)
    config = grpo(tmp_path, learner={"ranks": 2, "gpus": 1}, rollout={"actors": 5, "gpus": 1})
    with running(config) as cluster:
        last = start_newcomer(cluster, config, "none", 5)
        assert get_all([last.call(Light.sees)]) == [("7", ["7"])]  # type: ignore[arg-type]
        with pytest.raises(PlacementError) as caught:
            start_newcomer(cluster, config, "none", 6)
        assert "rollout/6 with 1 GPUs found none (1 GPUs asked for, 0 free" in str(caught.value)
        last.kill()
        wait_until(lambda: ray.available_resources().get("GPU", 0) == 1)
        # The actor that leaves keeps its device for the next one of its number.
        cluster.fleet.remove_last().kill()
        again = None
        while again is None:
            try:
                again = start_newcomer(cluster, config, "none", 4)
            except ValueError:
                time.sleep(0.1)  # until the name is free
        cluster.fleet.add(again)
        assert seen(cluster)["rollout/4"] == "6"
    wait_until(is_all_free)


@pytest.mark.usefixtures("eight")
def test_an_actor_that_fails_at_its_start_is_named_with_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LearnerActor", Broken)
    wait_until(is_all_free)
    config = grpo(tmp_path, learner={"ranks": 2, "gpus": 1})
    with pytest.raises(LoopError, match=r"(?s)learner/1 \(GPU 1 of node .*no CUDA-capable device"):
        start_cluster(config, config.model, "none")
    wait_until(is_all_free)


DYING_DRIVER = """
import os, signal, ray
ray.init(address={address!r}, log_to_driver=False)
from actors.cluster.placement import place_now
from actors.cluster.devices import Demand
from actors.cluster.reservation import reserve
from t2g_ray.config import Deadline
reserve(place_now([Demand("learner", 0, 1, 1)]), Deadline("start_s", 30))
print("held", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("eight")
def test_a_driver_that_is_killed_leaves_no_group() -> None:
    wait_until(is_all_free)
    program = DYING_DRIVER.format(address=ray.get_runtime_context().gcs_address)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout == "held\n", done.stderr
    wait_until(is_all_free)


def test_actors_run_on_the_nodes_that_the_plan_names(tmp_path: Path) -> None:
    ray.shutdown()
    machines = Machines()
    try:
        machines.add_node(num_cpus=4, num_gpus=0)
        own = {"learners": {"learner": 1}, "rollouts": {"rollout": 1}}
        ids = {
            name: machines.add_node(num_cpus=4, num_gpus=2, resources=marks).node_id
            for name, marks in own.items()
        }
        ray.init(machines.address, log_to_driver=False)
        config = grpo(tmp_path, learner={"ranks": 2, "gpus": 1}, rollout={"actors": 2, "gpus": 1})
        with running(config) as cluster:
            nodes = cluster.placement()
            assert {nodes["learner/0"], nodes["learner/1"]} == {ids["learners"]}
            assert {nodes["rollout/0"], nodes["rollout/1"]} == {ids["rollouts"]}
            assert sorted(seen(cluster)[f"rollout/{i}"] for i in range(2)) == ["0", "1"]
    finally:
        ray.shutdown()
        machines.shutdown()
