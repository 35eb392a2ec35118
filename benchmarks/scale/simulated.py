"""Actors around engines that sleep: everything about them is the product's but the tokens.

A process of Ray holds one rollout actor, or many: `Host` runs each of its actors on the sampler
thread that it would have alone, and `Addressed` is the handle of one of them, so that streams,
calls and references in the driver are as many as with a process for each.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Concatenate, cast

from actors.cluster.handles import Actor, Handle, Parameters, Ref, Result, Stream
from actors.workers.learner import BucketRef
from actors.workers.reward import GoldRecords
from actors.workers.rollout import RolloutActor
from benchmarks.inputs.workload import completion_of, ungraded
from t2g_ray.config.rewards import preset
from t2g_ray.rewards.group import summarise
from t2g_ray.rollout.sampler import SamplerThread
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.run.trace import Span
from t2g_ray.types import Group, GroupSummary, Prompt, ScoredGroup
from t2g_ray.weights.manifest import Manifest

NUM_TOKENS = 100
"""Tokens of a simulated completion."""


class SleepingEngine:
    """What SamplerThread needs of an engine: one group every `group_s` seconds, no work."""

    def __init__(self, number: int, group_s: float) -> None:
        self.version, self.num_generated_tokens, self.num_passes = 0, 0, 0
        self._number, self._group_s = number, group_s
        self._open: deque[tuple[Prompt, Sampling]] = deque()
        self._ready_s = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether any group is unfinished."""
        return bool(self._open)

    def add(self, prompt: Prompt, sampling: Sampling) -> None:
        """Queue a group; an idle engine starts on it now."""
        if not self._open:
            self._ready_s = time.perf_counter() + self._group_s
        self._open.append((prompt, sampling))

    def abort(self, keys: Iterable[str]) -> dict[str, list[int]]:
        """Forget these groups; none has a token before it is whole."""
        wanted = frozenset(keys)
        aborted = [prompt.key for prompt, _ in self._open if prompt.key in wanted]
        self._open = deque(one for one in self._open if one[0].key not in wanted)
        return {key: [] for key in aborted}

    def step(self) -> list[Group]:
        """Sleep until the first group is due; groups are due at a fixed pace, late or not."""
        time.sleep(max(0.0, self._ready_s - time.perf_counter()))
        self._ready_s += self._group_s
        prompt, sampling = self._open.popleft()
        completion = completion_of(range(NUM_TOKENS))
        self.num_generated_tokens += sampling.group_size * NUM_TOKENS
        self.num_passes = self.num_generated_tokens
        return [
            Group(
                prompt=prompt,
                completions=(completion,) * sampling.group_size,
                sampler=self._number,
                generate_s=self._group_s,
            )
        ]

    def close(self) -> None:
        """Nothing is held."""


class SimulatedRollout(RolloutActor):
    """A rollout actor around a SleepingEngine."""

    def __init__(self, spec: EngineSpec, group_s: float) -> None:
        self._sampler = SamplerThread(
            spec, start=lambda spec: SleepingEngine(spec.sampler, group_s)
        )

    def load(self, manifest: Manifest, buckets: Sequence[BucketRef], verify: bool) -> float:
        """Take the message of a version; its bytes stay where they are."""
        return 0.0


class Host:
    """Rollout actors in one process; the first argument of a call is the number of one."""

    def __init__(self, spec: EngineSpec, numbers: Sequence[int], group_s: float) -> None:
        self._rollouts = {
            number: SimulatedRollout(replace(spec, sampler=number), group_s) for number in numbers
        }

    def generate(
        self, number: int, prompts: Sequence[Prompt], sampling: Sampling, min_version: int
    ) -> Iterator[Group]:
        """As RolloutActor.generate."""
        yield from self._rollouts[number].generate(prompts, sampling, min_version)

    def abort(self, number: int, positions: Sequence[int]) -> dict[int, list[int]]:
        """As RolloutActor.abort."""
        return self._rollouts[number].abort(positions)

    def load(
        self, number: int, manifest: Manifest, buckets: Sequence[BucketRef], verify: bool
    ) -> float:
        """As RolloutActor.load."""
        return self._rollouts[number].load(manifest, buckets, verify)

    def drain_spans(self, number: int) -> list[Span]:
        """As RolloutActor.drain_spans."""
        return self._rollouts[number].drain_spans()


@dataclass(frozen=True, kw_only=True)
class Addressed(Handle[Actor]):
    """Puts `before` before the arguments of every call, and counts the calls by method."""

    before: tuple[object, ...] = ()
    tally: Counter[str]

    def call(
        self,
        method: Callable[Concatenate[Actor, Parameters], Result],
        *arguments: Parameters.args,
        **keywords: Parameters.kwargs,
    ) -> Ref[Result]:
        begin: Any = super().call
        return cast(Ref[Result], begin(self._counted(method), *self.before, *arguments, **keywords))

    def call_apart(
        self,
        num_results: int,
        method: Callable[Concatenate[Actor, Parameters], Sequence[Result]],
        *arguments: Parameters.args,
        **keywords: Parameters.kwargs,
    ) -> list[Ref[Result]]:
        begin: Any = super().call_apart
        given = (*self.before, *arguments)
        return cast(
            list[Ref[Result]], begin(num_results, self._counted(method), *given, **keywords)
        )

    def stream(
        self,
        method: Callable[Concatenate[Actor, Parameters], Iterator[Result]],
        *arguments: Parameters.args,
        **keywords: Parameters.kwargs,
    ) -> Stream[Result]:
        begin: Any = super().stream
        given = (*self.before, *arguments)
        return cast(Stream[Result], begin(self._counted(method), *given, **keywords))

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        self.tally[method.__name__] += 1
        return method


class SimulatedReward:
    """A reward actor that gives every completion the same reward at once."""

    def score(
        self, gold: GoldRecords, *groups: Group
    ) -> tuple[list[GroupSummary] | ScoredGroup, ...]:
        """As RewardActor.score."""
        scored = [ungraded(group) for group in groups]
        return [summarise(one, preset("f1"), score_s=0.0) for one in scored], *scored
