"""An engine that gives its device up, around a vLLM that keeps account of what it has there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from t2g_ray.rollout import engine as engine_module
from t2g_ray.rollout import in_turns
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.in_turns import EngineInTurns, EngineOutOfTurn, Wakefulness
from tests.unit.parts import engine_spec
from tests.unit.rollout.test_engine import SAMPLING, FakeVllm, finish, load, prompt, weights

SPEC = engine_spec()


class SleepingVllm(FakeVllm):
    """As `LLMEngine` is: asleep until all parts are awake; sleeping loses what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep: set[str] = set()
        self.moves: list[str] = []

    def sleep(self, level: int) -> None:
        self.moves.append(f"sleep {level}")
        self.asleep = {"weights", "kv_cache"}

    def wake_up(self, tags: list[str]) -> None:
        self.moves += [f"wake {tag}" for tag in tags]
        self.asleep -= set(tags)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> SleepingVllm:
    fake = SleepingVllm()
    monkeypatch.setattr(engine_module, "start_vllm", lambda spec: fake)
    monkeypatch.setattr(
        engine_module, "sampling_parameters", lambda sampling, seed: replace(sampling, seed=seed)
    )
    return fake


def hand_over(engine: EngineInTurns, version: int) -> None:
    engine.take_weights()
    load(engine, version, verify=True)
    engine.take_cache()


def test_an_engine_writes_sleeps_wakes_for_weights_loads_and_writes_again(
    vllm: SleepingVllm,
) -> None:
    engine = EngineInTurns(SPEC)
    engine.sleep()
    for version in range(2):
        hand_over(engine, version)
        assert not vllm.asleep
        engine.add(prompt(version), SAMPLING)
        (group,) = finish(engine)
        assert set(group.completions[0].versions.tolist()) == {version}
        engine.sleep()
    assert vllm.moves == ["sleep 2", *["wake weights", "wake kv_cache", "sleep 2"] * 2]


def test_weights_may_be_replaced_under_an_engine_that_is_awake(vllm: SleepingVllm) -> None:
    engine = EngineInTurns(SPEC)
    load(engine, 3)
    assert engine.version == 3
    assert engine.wakefulness is Wakefulness.AWAKE
    assert not vllm.moves


def test_an_engine_that_writes_does_not_sleep_and_keeps_its_groups(vllm: SleepingVllm) -> None:
    engine = EngineInTurns(SPEC)
    engine.add(prompt(4), SAMPLING)
    with pytest.raises(EngineOutOfTurn, match=r"before it sleeps, found 1 open: train 4"):
        engine.sleep()
    assert not vllm.moves
    assert len(finish(engine)) == 1
    engine.add(prompt(5), SAMPLING)
    engine.abort(["train 5"])
    engine.sleep()


def asleep(engine: EngineInTurns) -> None:
    engine.sleep()


def empty(engine: EngineInTurns) -> None:
    engine.sleep()
    engine.take_weights()


def loaded(engine: EngineInTurns) -> None:
    empty(engine)
    load(engine, 0)


def awake(engine: EngineInTurns) -> None:
    loaded(engine)
    engine.take_cache()


WORK: dict[str, Callable[[EngineInTurns], object]] = {
    "a group": lambda engine: engine.add(prompt(1), SAMPLING),
    "a pass": lambda engine: engine.step(),
    "a proof": lambda engine: engine.verify(weights(0)[0]),
    "a load": lambda engine: load(engine, 1),
    "a stream": lambda engine: engine.receive(1, verify=False),
    "sleep": lambda engine: engine.sleep(),
    "waking for weights": lambda engine: engine.take_weights(),
    "waking for the cache": lambda engine: engine.take_cache(),
}
STATES: dict[Callable[[EngineInTurns], None], set[str]] = {
    asleep: {"waking for weights"},
    empty: {"a load", "a stream"},
    loaded: {"a load", "a stream", "a proof", "waking for the cache"},
    awake: {"a group", "a pass", "a proof", "a load", "a stream", "sleep"},
}
"""What an engine may do in each state."""


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
@pytest.mark.parametrize("work", WORK)
def test_each_state_allows_its_own_work_and_refuses_the_rest(
    vllm: SleepingVllm, state: Callable[[EngineInTurns], None], work: str
) -> None:
    engine = EngineInTurns(SPEC)
    state(engine)
    was, moves = engine.wakefulness, list(vllm.moves)
    if work in STATES[state]:
        WORK[work](engine)
        return
    with pytest.raises(EngineOutOfTurn, match=r"needs an engine that is .*, found it "):
        WORK[work](engine)
    assert engine.wakefulness is was
    assert vllm.moves == moves
    assert not engine.is_busy


def test_a_load_that_fails_leaves_an_engine_that_cannot_wake(vllm: SleepingVllm) -> None:
    engine = EngineInTurns(SPEC)
    empty(engine)
    manifest, buckets = weights(0)
    with pytest.raises(Exception, match="must come in"):
        engine.load(manifest, buckets[:-1], verify=False)
    with pytest.raises(EngineOutOfTurn, match="found it awake for weights, which did not come"):
        engine.take_cache()


def test_an_engine_that_keeps_its_device_is_told_from_one_that_leaves_it(
    vllm: SleepingVllm,
) -> None:
    engine = EngineInTurns(SPEC)
    assert in_turns.of(engine) is engine
    with pytest.raises(TypeError, match=r"colocate=time\), found a GenerationEngine"):
        in_turns.of(GenerationEngine(SPEC))
