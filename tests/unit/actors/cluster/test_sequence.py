"""An engine's share beside a learner rank, from a model's own configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from actors.cluster import sequence as module
from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle
from actors.cluster.sequence import begin_with_the_learner, make_room, sized
from t2g_ray.learner.turns.taking import DeviceMemory
from t2g_ray.rollout.sizing import GIB, NoRoom
from t2g_ray.rollout.spec import rollout_spec
from tests.integration.parts import grpo_config, make_policy, write_policy


def memory(*, free: int, peak: int = 0, held: int = 0, total: int = 80) -> DeviceMemory:
    return DeviceMemory(
        total=total * GIB,
        free=free * GIB,
        peak=peak * GIB,
        held=held * GIB,
        num_parameters=3 * GIB,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("model"), make_policy("tied"))


def share(model: Path, colocate: str, found: DeviceMemory | None) -> float:
    config = grpo_config(model, model, colocate=colocate)
    return sized(rollout_spec(config, str(model)), found).gpu_memory_utilization


def test_a_learner_that_is_away_leaves_what_is_free(model: Path) -> None:
    assert share(model, "time", memory(free=41, peak=70, held=2)) == 0.5


def test_a_learner_that_stays_keeps_what_its_step_will_take(model: Path) -> None:
    assert share(model, "share", memory(free=41, peak=10, held=10)) == 0.5
    assert share(model, "share", memory(free=61, peak=30, held=10)) == 0.5


def test_nothing_is_sized_on_cpus_and_on_devices_of_ones_own(model: Path) -> None:
    assert share(model, "time", memory(free=0, total=0)) == 0.85
    assert share(model, "off", None) == 0.85


def test_a_device_without_room_for_the_weights_is_refused(model: Path) -> None:
    # 3 Gi parameters in fp32.
    with pytest.raises(NoRoom, match=r"12\.00 GiB \+ 0\.00 GiB, found 11\.00 GiB of 80\.00 GiB"):
        share(model, "time", memory(free=12))


class Ranks:
    """Learner ranks and engines that note what they are asked for."""

    def __init__(self, *memories: DeviceMemory) -> None:
        self.memories, self.calls = memories, list[str]()

    def call_all(
        self, handles: Iterable[Handle[Any]], method: Callable[..., object], *arguments: object
    ) -> list[object]:
        self.calls.append(" ".join([method.__name__, *map(str, arguments)]))
        return (
            list(self.memories) if method.__name__ == "device_memory" else [None for _ in handles]
        )

    def results_of(self, calls: list[object], phase: str, deadline: object) -> list[object]:
        return calls


def with_ranks(monkeypatch: pytest.MonkeyPatch, *memories: DeviceMemory) -> Ranks:
    ranks = Ranks(*memories)
    monkeypatch.setattr(module, "call_all", ranks.call_all)
    monkeypatch.setattr(module, "results_of", ranks.results_of)
    return ranks


@pytest.mark.parametrize(
    ("colocate", "calls"),
    [
        ("time", ["rehearse 160 48", "leave", "device_memory"]),
        ("share", ["rehearse 160 48", "device_memory"]),
    ],
)
def test_ranks_rehearse_before_they_are_asked_what_they_leave(
    monkeypatch: pytest.MonkeyPatch, colocate: str, calls: list[str]
) -> None:
    config = grpo_config(Path("run"), Path("model"), colocate=colocate)
    ranks = with_ranks(monkeypatch, memory(free=40), memory(free=30))
    assert make_room(config, []).free == 30 * GIB
    assert ranks.calls == calls


def test_the_first_turn_is_the_learners_if_it_fits_beside_a_sleeping_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = grpo_config(Path("run"), Path("model"), colocate="time")
    ranks = with_ranks(monkeypatch, memory(free=70, held=4, peak=74))
    begin_with_the_learner(config, [], Fleet())
    assert ranks.calls == ["sleep", "device_memory", "come_back"]
    with_ranks(monkeypatch, memory(free=70, held=4, peak=75))
    with pytest.raises(NoRoom, match=r"while the engine sleeps, 75\.00 GiB, found 74\.00 GiB"):
        begin_with_the_learner(config, [], Fleet())
