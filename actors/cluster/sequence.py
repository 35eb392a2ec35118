"""Learner ranks first, then the engines that share their devices, sized by what the ranks leave.

Started together, each would count what the other takes as its own. So a rank computes its largest
micro-batch before an engine starts; where they take turns it leaves the device then, and once the
engine is there, that sleeps and the rank comes back: the first turn is the learner's. On CPUs the
order is the same and nothing is sized.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle, call_all
from actors.cluster.waiting import results_of
from actors.workers.learner import LearnerActor
from actors.workers.rollout import RolloutActor
from t2g_ray.config import GrpoConfig
from t2g_ray.learner.turns.taking import DeviceMemory
from t2g_ray.rollout.sizing import check_learner_fits, engine_share, sequence_bytes
from t2g_ray.rollout.spec import EngineSpec

Learners = Sequence[Handle[LearnerActor]]


def make_room(config: GrpoConfig, learners: Learners) -> DeviceMemory:
    """Rehearse the largest micro-batch, and leave where the devices are used in turns. Returns the
    memory of the rank with the least left."""
    deadline, rehearsal = config.deadlines.start, "rehearsal of the learner's largest micro-batch"
    longest = config.prompt.max_tokens, config.sampling.max_new_tokens
    results_of(call_all(learners, LearnerActor.rehearse, *longest), rehearsal, deadline)
    if config.colocate == "time":
        phase = "move of optimiser states to the host"
        results_of(call_all(learners, LearnerActor.leave), phase, deadline)
    return min(_memories(config, learners), key=lambda memory: memory.free)


def sized(spec: EngineSpec, memory: DeviceMemory | None) -> EngineSpec:
    """The engine with the share of its device that the ranks leave, those that are away for good
    or for its turn. Raises NoRoom where that is too little."""
    if memory is None or not memory.total:
        return spec
    from transformers import AutoConfig

    number_bytes = getattr(torch, spec.dtype).itemsize
    model_config = AutoConfig.from_pretrained(spec.model, trust_remote_code=False)
    share = engine_share(
        total=memory.total,
        free=memory.free if spec.takes_turns else memory.left,
        weights=memory.num_parameters * number_bytes,
        longest=sequence_bytes(model_config, tokens=spec.max_model_len, number_bytes=number_bytes),
        limit=spec.gpu_memory_utilization,
    )
    return replace(spec, gpu_memory_utilization=share)


def begin_with_the_learner(config: GrpoConfig, learners: Learners, fleet: Fleet) -> None:
    """Put the engines to sleep and let the ranks come back. Raises NoRoom where the largest
    micro-batch would not fit beside a sleeping engine."""
    deadline = config.deadlines.start
    results_of(call_all(fleet, RolloutActor.sleep), "first sleep of the engines", deadline)
    for memory in _memories(config, learners):
        check_learner_fits(total=memory.total, free=memory.free, held=memory.held, peak=memory.peak)
    phase = "move of optimiser states to the device"
    results_of(call_all(learners, LearnerActor.come_back), phase, deadline)


def _memories(config: GrpoConfig, learners: Learners) -> list[DeviceMemory]:
    phase = "question for the memory of the devices"
    return results_of(call_all(learners, LearnerActor.device_memory), phase, config.deadlines.start)
