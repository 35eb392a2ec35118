"""The thread around the engine, with an engine whose groups take as many steps as it is told."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from t2g_ray.graph import Graph
from t2g_ray.rollout.sampler import PromptRefused, SamplerStopped, SamplerThread
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.types import Completion, Group, Prompt, Record
from t2g_ray.weights.manifest import Manifest, WeightSyncError
from tests.unit.parts import engine_spec

RECORD = Record(text="Ann.", entity_types=("person",), relation_types=(), graph=Graph((), ()))
SAMPLING = Sampling(group_size=1, temperature=1.0, max_new_tokens=8)
SPEC = engine_spec(sampler=2)
WAIT_S = 10.0


class FakeEngine:
    """A prompt of token t takes t steps, each written under the version of its moment."""

    def __init__(self, spec: EngineSpec) -> None:
        self.version = -1
        self.num_generated_tokens = self.num_passes = 0
        self.events: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.stepping = threading.Event()
        self.failure: BaseException | None = None
        self.load_failure: Exception | None = None
        self._open: dict[str, tuple[Prompt, list[int]]] = {}

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    def add(self, prompt: Prompt, sampling: Sampling) -> None:
        if not prompt.token_ids[0]:
            raise ValueError("an empty prompt")
        self.events.append(f"add {prompt.index} under {self.version}")
        self._open[prompt.key] = (prompt, [])

    def step(self) -> list[Group]:
        self.events.append("step")
        self.stepping.set()
        assert self.gate.wait(WAIT_S)
        if self.failure is not None:
            raise self.failure
        self.events.append("stepped")
        return [group for group in map(self._write, list(self._open)) if group is not None]

    def _write(self, key: str) -> Group | None:
        prompt, versions = self._open[key]
        versions.append(self.version)
        self.num_generated_tokens += 1
        self.num_passes += 1
        if len(versions) < prompt.token_ids[0]:
            return None
        del self._open[key]
        size = len(versions)
        completion = Completion(
            token_ids=np.zeros(size, np.int32),
            logprobs=np.zeros(size, np.float32),
            versions=np.array(versions, np.int32),
            finish_reason="stop",
        )
        return Group(prompt=prompt, completions=(completion,), sampler=2, generate_s=0.0)

    def abort(self, keys: Iterable[str]) -> dict[str, list[int]]:
        found = [key for key in keys if key in self._open]
        self.events += [f"abort {key}" for key in found]
        return {key: [len(self._open.pop(key)[1])] for key in found}

    def load(self, manifest: Manifest, buckets: Any, *, verify: bool) -> None:
        if self.load_failure is not None:
            raise self.load_failure
        self.version = manifest.version
        self.events.append(f"load {manifest.version}")

    def close(self) -> None:
        self.events.append("close")


def prompt(index: int, num_steps: int) -> Prompt:
    return Prompt(index=index, token_ids=(num_steps,))


def manifest(version: int) -> Manifest:
    return Manifest(version=version, entries=(), num_buckets=0)


class Bench:
    """A sampler, its fake engine, and callers in threads of their own."""

    def __init__(self) -> None:
        self.sampler = SamplerThread(SPEC, start=FakeEngine)
        self.engine: FakeEngine = self.sampler.call(lambda engine: engine)
        self.pool = ThreadPoolExecutor(8)

    def generate(self, *prompts: Prompt, min_version: int = 0) -> Future[list[Group]]:
        return self.pool.submit(
            lambda: list(self.sampler.generate(prompts, SAMPLING, min_version=min_version))
        )

    def load(self, version: int) -> Future[float]:
        return self.pool.submit(self.sampler.load, manifest(version), [], verify=True)

    def pause(self) -> None:
        """Hold the engine inside its next step."""
        self.engine.gate.clear()
        self.engine.stepping.clear()

    def wait_for_step(self) -> None:
        assert self.engine.stepping.wait(WAIT_S)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.engine.gate.set()
    made.sampler.close()
    made.pool.shutdown(wait=True)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_groups_come_in_the_order_in_which_they_finish(bench: Bench) -> None:
    bench.load(0).result(WAIT_S)
    groups = bench.generate(prompt(0, 3), prompt(1, 1), prompt(2, 2)).result(WAIT_S)
    assert [group.prompt.index for group in groups] == [1, 2, 0]


def test_the_prompts_of_one_call_start_together(bench: Bench) -> None:
    bench.load(0).result(WAIT_S)
    bench.generate(prompt(0, 1), prompt(1, 1), prompt(2, 1)).result(WAIT_S)
    adds = [f"add {i} under 0" for i in range(3)]
    assert bench.engine.events == ["load 0", *adds, "step", "stepped"]


def test_a_prompt_is_held_back_until_its_version_is_there(bench: Bench) -> None:
    bench.load(3).result(WAIT_S)
    late = bench.generate(prompt(0, 1), min_version=4)
    ready = bench.generate(prompt(1, 1), min_version=3)
    assert [g.prompt.index for g in ready.result(WAIT_S)] == [1]
    assert not late.done()
    bench.load(4).result(WAIT_S)
    (group,) = late.result(WAIT_S)
    assert group.completions[0].versions.tolist() == [4]
    assert "add 0 under 4" in bench.engine.events


def test_new_weights_are_applied_between_two_tokens(bench: Bench) -> None:
    bench.load(0).result(WAIT_S)
    bench.pause()
    running = bench.generate(prompt(0, 3))
    bench.wait_for_step()
    load = bench.load(1)
    assert not load.done()
    bench.engine.gate.set()
    load.result(WAIT_S)
    (group,) = running.result(WAIT_S)
    versions = group.completions[0].versions.tolist()
    # The first token was being written when the call came; it keeps the version it began with.
    assert versions[0] == 0
    assert versions == sorted(versions)
    events = bench.engine.events
    assert events[events.index("load 1") - 1] == "stepped"


def test_an_engine_failure_reaches_every_waiting_caller(bench: Bench) -> None:
    bench.load(0).result(WAIT_S)
    bench.pause()
    running = bench.generate(prompt(0, 5))
    bench.wait_for_step()
    held = bench.generate(prompt(1, 1), min_version=9)
    loading = bench.load(1)
    asking = bench.pool.submit(bench.sampler.call, lambda engine: engine.version)
    wait_until(lambda: bench.sampler._inbox.qsize() == 3)
    bench.engine.failure = RuntimeError("the engine broke")
    bench.engine.gate.set()
    for future in (running, held, loading, asking):
        with pytest.raises(SamplerStopped, match="the engine broke"):
            future.result(WAIT_S)
    with pytest.raises(SamplerStopped, match="RuntimeError: the engine broke"):
        bench.load(2).result(WAIT_S)
    with pytest.raises(SamplerStopped, match="the engine broke"):
        bench.generate(prompt(2, 1)).result(WAIT_S)


def test_a_failed_start_is_the_failure_of_the_constructor() -> None:
    def refuse(spec: EngineSpec) -> FakeEngine:
        raise ValueError(f"no model {spec.model}")

    with pytest.raises(ValueError, match="no model none"):
        SamplerThread(SPEC, start=refuse)


def test_a_failed_call_is_its_callers_alone(bench: Bench) -> None:
    bench.load(0).result(WAIT_S)
    bench.engine.load_failure = WeightSyncError("tensor w")
    with pytest.raises(WeightSyncError, match="tensor w"):
        bench.load(1).result(WAIT_S)
    bench.engine.load_failure = None
    bench.load(1).result(WAIT_S)
    assert len(bench.generate(prompt(0, 1)).result(WAIT_S)) == 1


def test_a_version_that_failed_to_load_starts_nothing(bench: Bench) -> None:
    bench.load(0).result(WAIT_S)
    waiting = bench.generate(prompt(0, 1), min_version=1)
    bench.engine.load_failure = WeightSyncError("tensor w")
    with pytest.raises(WeightSyncError):
        bench.load(1).result(WAIT_S)
    assert not waiting.done()
    assert bench.engine.events == ["load 0"]


def test_a_failed_load_fails_the_groups_under_way_by_name_and_the_thread_goes_on(
    bench: Bench,
) -> None:
    bench.load(0).result(WAIT_S)
    bench.pause()
    running = bench.generate(prompt(0, 5), prompt(1, 5))
    bench.wait_for_step()
    held = bench.generate(prompt(2, 1), min_version=1)
    bench.engine.load_failure = WeightSyncError("tensor w")
    loading = bench.load(1)
    bench.engine.gate.set()
    with pytest.raises(WeightSyncError, match="tensor w"):
        loading.result(WAIT_S)
    with pytest.raises(WeightSyncError, match=r"rollout/2 .* found tensor w"):
        running.result(WAIT_S)
    assert not bench.engine.is_busy
    bench.engine.load_failure = None
    bench.load(1).result(WAIT_S)
    assert len(held.result(WAIT_S)) == 1


def test_a_prompt_that_the_engine_refuses_fails_its_own_call_and_no_other(bench: Bench) -> None:
    bench.load(0).result(WAIT_S)
    bench.pause()
    other = bench.generate(prompt(0, 3))
    bench.wait_for_step()
    refused = bench.generate(prompt(1, 2), prompt(2, 0), prompt(3, 1))
    wait_until(lambda: bench.sampler._inbox.qsize() == 1)
    bench.engine.gate.set()
    message = (
        r"rollout/2 must be able to write prompt train 2 \(1 tokens\).*ValueError: an empty prompt"
    )
    with pytest.raises(PromptRefused, match=message) as caught:
        refused.result(WAIT_S)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), PromptRefused)
    assert len(other.result(WAIT_S)) == 1
    # What else the call had asked for is not written for nobody.
    assert "abort train 1" in bench.engine.events
    assert "add 3 under 0" not in bench.engine.events
    assert len(bench.generate(prompt(1, 1)).result(WAIT_S)) == 1


def test_aborted_groups_are_left_out_of_their_call(bench: Bench) -> None:
    bench.load(0).result(WAIT_S)
    bench.pause()
    running = bench.generate(prompt(0, 1), prompt(1, 50), prompt(2, 2))
    bench.wait_for_step()
    held = bench.generate(prompt(3, 1), min_version=5)
    aborted = bench.pool.submit(bench.sampler.abort, ["train 1", "train 3", "train 8"])
    wait_until(lambda: bench.sampler._inbox.qsize() == 2)
    bench.engine.gate.set()
    # One step was over when the message was read; group 3 had not begun.
    assert aborted.result(WAIT_S) == {"train 1": [1], "train 3": []}
    assert [group.prompt.index for group in running.result(WAIT_S)] == [0, 2]
    assert held.result(WAIT_S) == []
    assert bench.sampler.abort(["train 0", "train 1"]) == {}


def test_close_ends_the_thread_and_releases_the_engine(bench: Bench) -> None:
    bench.sampler.close()
    assert not bench.sampler._thread.is_alive()
    assert bench.engine.events == ["close"]
    bench.sampler.close()
    assert bench.engine.events == ["close"]


def test_close_tells_those_who_wait(bench: Bench) -> None:
    held = bench.generate(prompt(0, 1), min_version=7)
    wait_until(lambda: len(bench.sampler._held) == 1)
    bench.sampler.close()
    with pytest.raises(SamplerStopped, match="it was closed"):
        held.result(WAIT_S)
    with pytest.raises(SamplerStopped, match="it was closed"):
        bench.sampler.call(lambda engine: engine.version)


def test_work_and_loads_leave_spans_with_version_and_tokens(bench: Bench) -> None:
    bench.load(6).result(WAIT_S)
    bench.generate(prompt(0, 3), prompt(1, 2)).result(WAIT_S)
    spans = bench.sampler.drain_spans()
    assert {span.actor for span in spans} == {"rollout/2"}
    assert [span.step for span in spans if span.name == "load"] == [6]
    generated = [span for span in spans if span.name == "generate"]
    assert {span.step for span in generated} == {6}
    assert sum(span.args["tokens"] for span in generated) == 5
    assert sum(span.args["passes"] for span in generated) == 5
    assert bench.sampler.drain_spans() == []


def test_a_span_under_way_is_cut_without_waiting_for_the_engine(bench: Bench) -> None:
    bench.load(0).result(WAIT_S)
    bench.pause()
    running = bench.generate(prompt(0, 2))
    bench.wait_for_step()
    first = [span for span in bench.sampler.drain_spans() if span.name == "generate"]
    second = bench.sampler.drain_spans()
    bench.engine.gate.set()
    running.result(WAIT_S)
    bench.sampler.close()
    parts = [*first, *second, *bench.sampler.drain_spans()]
    # The pieces follow each other without a gap, and each token is in one of them.
    assert [a.end_s for a in parts[:-1]] == [b.start_s for b in parts[1:]]
    assert (len(first), len(second)) == (1, 1)
    assert sum(span.args["tokens"] for span in parts) == 2
