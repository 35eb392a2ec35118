"""Learners that are shifted, engines elsewhere, chance that repeats: each is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.inputs.workload import completion_of
from benchmarks.selftest.checks import agreement
from benchmarks.selftest.running import CheckFailed
from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.types import Group, Prompt


class FakePair:
    """Answers as a pair does; `difference` is what the learner reports."""

    def __init__(
        self,
        *,
        difference: float = 1e-7,
        devices: tuple[str, str] = ("cpu", "cpu"),
        num_current: int = 100,
        draw: Callable[[int, int], int] = lambda sampler, call: sampler,
    ) -> None:
        self.config = SimpleNamespace(
            parity_tolerance=1e-5,
            learner=SimpleNamespace(dtype="float32"),
            rollout=SimpleNamespace(dtype="float32"),
        )
        self._differences = [1e-8, difference]
        self._devices, self._num_current, self._draw = devices, num_current, draw
        self._engine: Any = SimpleNamespace(spec=SimpleNamespace(sampler=0))
        self.num_published = self._num_written = 0

    def devices(self) -> tuple[str, str]:
        return self._devices

    def publish(self) -> None:
        self.num_published += 1

    def generate(self) -> list[Group]:
        return []

    def train(self, groups: Sequence[Group]) -> Any:
        found = self._differences[self.num_published - 1]
        return SimpleNamespace(current_difference=found, num_current=self._num_current)

    def first_prompts(self) -> list[Prompt]:
        return [Prompt(index=i, token_ids=(1,)) for i in range(3)]

    def ask(self, function: Callable[[GenerationEngine], Any]) -> Any:
        return function(self._engine)

    def write(self, prompts: Sequence[Prompt]) -> list[Group]:
        self._num_written += 1
        first = self._draw(self._engine.spec.sampler, self._num_written)
        return [
            Group(
                prompt=prompt,
                completions=(completion_of(np.arange(first, first + 12).tolist()),),
                sampler=0,
                generate_s=0.0,
            )
            for prompt in prompts
        ]


@pytest.fixture(autouse=True)
def plain_specs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        agreement, "replace", lambda spec, sampler: SimpleNamespace(sampler=sampler)
    )


def parity(**faults: Any) -> dict[str, float]:
    pair: Any = FakePair(**faults)
    return {figure.name: figure.value for figure in agreement.parity(pair, "cpu")}


def seeds(**faults: Any) -> dict[str, float]:
    pair: Any = FakePair(**faults)
    return {figure.name: figure.value for figure in agreement.seeds(pair)}


def test_two_sides_that_agree_pass_with_the_worse_of_both_rounds() -> None:
    assert parity() == {"logprob_difference": 1e-7, "tolerance": 1e-5, "tokens": 200}


@pytest.mark.parametrize("difference", [2e-5, float("nan")])
def test_a_learner_that_moves_away_after_its_first_step_fails(difference: float) -> None:
    with pytest.raises(CheckFailed, match=r"to 1e-05 nats \(mean\), found"):
        parity(difference=difference)


def test_tokens_of_no_known_version_fail() -> None:
    with pytest.raises(CheckFailed, match="must carry the version"):
        parity(num_current=0)


@pytest.mark.parametrize("devices", [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_side_on_another_device_than_asked_for_fails(devices: tuple[str, str]) -> None:
    with pytest.raises(CheckFailed, match="must compute on cpu, found"):
        parity(devices=devices)


def test_an_engine_that_repeats_itself_and_no_other_passes() -> None:
    assert seeds() == {"alike_again": 1.0, "alike_elsewhere": 0.0}


def test_chance_that_all_engines_share_fails() -> None:
    with pytest.raises(CheckFailed, match=r"share of 1\.00 and 1\.00 written alike"):
        seeds(draw=lambda sampler, call: 7)


def test_chance_that_nothing_repeats_fails() -> None:
    with pytest.raises(CheckFailed, match=r"share of 0\.00 and 0\.00 written alike"):
        seeds(draw=lambda sampler, call: call)
