"""Prompts of an evaluation -> greedy completions, by the run's own rollout actors."""

from __future__ import annotations

from collections.abc import Sequence

import ray

from actors.cluster.handles import Handle, Stream
from actors.cluster.waiting import listed, ready
from actors.workers.rollout import RolloutActor
from t2g_ray.config import Deadline
from t2g_ray.grpo.stages import LoopError
from t2g_ray.rollout.spec import Sampling
from t2g_ray.run.progress import announced_wait
from t2g_ray.types import Group, Prompt


def greedy_groups(
    actors: Sequence[Handle[RolloutActor]],
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    min_version: int,
    deadline: Deadline,
) -> list[Group]:
    """One greedy completion for each prompt, in order of `prompts`, whose indices are unique.

    The actors take equal shares, so this is called only when all of them are idle. Raises
    LoopError when an actor fails or no answer comes within `deadline`.
    """
    sampling = Sampling(group_size=1, temperature=0.0, max_new_tokens=max_new_tokens)
    num_used = min(len(actors), len(prompts))
    streams: dict[Stream[Group], int] = {}
    for number in range(num_used):
        share = prompts[number::num_used]
        stream = actors[number].stream(RolloutActor.generate, share, sampling, min_version)
        streams[stream] = len(share)
    by_index: dict[int, Group] = {}

    def describe() -> str:
        parts = [f"{stream.actor}: {left} prompts" for stream, left in streams.items()]
        return f"greedy answers under version {min_version} ({listed(parts)})"

    with announced_wait(describe):
        while streams:
            for stream in _with_an_answer(list(streams), deadline, describe()):
                group = _fetch(stream, deadline)
                by_index[group.prompt.index] = group
                streams[stream] -= 1
                if not streams[stream]:
                    del streams[stream]
    return [by_index[prompt.index] for prompt in prompts]


def _with_an_answer(
    streams: Sequence[Stream[Group]], deadline: Deadline, waiting: str
) -> list[Stream[Group]]:
    references = [stream.reference for stream in streams]
    done = ready(references, 1, deadline.seconds, fetch=True)
    if not done:
        raise LoopError(f"greedy answers must arrive within {deadline}, still waiting: {waiting}")
    return [stream for stream in streams if stream.reference in done]


def _fetch(stream: Stream[Group], deadline: Deadline) -> Group:
    answer = stream.next()
    if answer is None:
        raise LoopError(f"{stream.who} must answer every prompt, found its answers ended too early")
    try:
        group: Group = ray.get(answer.reference, timeout=deadline.seconds)
    except ray.exceptions.RayError as error:
        raise LoopError(
            f"a greedy answer must be written, found a failure in {stream.who}: {error}"
        ) from error
    return group
