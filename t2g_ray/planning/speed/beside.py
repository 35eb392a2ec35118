"""What a step takes beside writing and training: sync, turns, evaluations, checkpoints, driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from t2g_ray.config import GrpoConfig, SftConfig, StageConfig
from t2g_ray.planning.cards import Card
from t2g_ray.planning.parts import TimePart
from t2g_ray.planning.shapes import ModelShape, trained_parameters
from t2g_ray.planning.shares import (
    BANDWIDTH_SHARE,
    LINK_SHARE,
    STORAGE,
    STORE,
)
from t2g_ray.planning.speed.engine import LINK, MEASURED, MEMORY, Engine, EngineLoad, decode
from t2g_ray.planning.speed.rates import EngineRates
from t2g_ray.planning.speed.work import checkpoint_bytes, sent_bytes

SCORED_PER_S = 5000.0
"""Completions that a reward actor grades a second: the least that `t2g bench rewards` demands.
Functions and teachers of one's own may take any time."""
DRIVER_S = 0.02
"""Of the driver, a step beside its groups; assumed."""
DRIVER_GROUP_S = 0.001
"""Of the driver, a group: what `t2g bench scale` allows."""
HELDOUT_RECORDS = 512
"""Where the configuration gives no number."""
GIGA = 1e9


def sync_part(
    config: GrpoConfig,
    shape: ModelShape,
    source: Card | EngineRates,
    *,
    scale: float,
    network: float | None,
) -> TimePart:
    """The weights of a version on their way, verification left out; `network` between nodes in
    GB/s, None where they stay on one."""
    if isinstance(source, EngineRates):
        return TimePart("sync", source.sync_s * scale, "sync", MEASURED)
    num_bytes = sent_bytes(config, shape)
    # Read, converted, written and loaded: the bytes pass the device's memory four times.
    copied = 4 * num_bytes / (source.bytes_per_s * BANDWIDTH_SHARE)
    transport = config.sync.transport
    if transport == "ipc":
        return TimePart("sync", copied, "sync", MEMORY)
    if transport == "store":
        return TimePart("sync", copied + num_bytes / (STORE * GIGA), "sync", "object store")
    # The slowest way to any engine counts.
    link = min(source.link, network or source.link) * GIGA * LINK_SHARE
    return TimePart("sync", copied + num_bytes / link, "sync", LINK)


def turns_part(config: GrpoConfig, shape: ModelShape, card: Card | None) -> list[TimePart]:
    """With colocate=time, the optimiser's states to the host's memory and back."""
    learner = config.learner
    is_asked = config.colocate == "time" and learner.gpus and not learner.has_optimizer_on_host
    if not is_asked or card is None:
        return []
    own = trained_parameters(learner, shape) / (learner.ranks if learner.zero_stage else 1)
    seconds = 2 * 12 * own / (card.host * GIGA * LINK_SHARE)
    return [TimePart("turns", seconds, "sync", LINK)]


def evaluation_part(config: GrpoConfig, engine: Engine, load: EngineLoad) -> list[TimePart]:
    """One greedy answer to each held-out record, shared over the steps between evaluations."""
    if not config.eval.every or config.data.heldout == "none":
        return []
    records = config.data.heldout_records or HELDOUT_RECORDS
    asked = replace(load, sequences=records / config.rollout.actors, in_flight=1)
    written, read = decode(engine, asked), engine.read(asked.sequences * load.prompt, load.prompt)
    seconds = (written.seconds + read.seconds) / config.eval.every
    return [TimePart("evaluation", seconds, "rollout", written.bound)]


def loss_part(config: SftConfig, learner_parts: Sequence[TimePart]) -> TimePart:
    """The held-out loss: a forward pass over those records, shared over the steps between."""
    records = config.data.heldout_records or HELDOUT_RECORDS
    if config.data.heldout == "none":
        records = 0
    forward = next(part for part in learner_parts if part.name == "forward")
    seconds = forward.seconds * records / config.batch_size / config.eval.every
    return TimePart("evaluation", seconds, "learner", forward.bound)


def checkpoint_part(config: StageConfig, shape: ModelShape) -> list[TimePart]:
    """The training state to the run folder, shared over the steps between checkpoints."""
    if not config.checkpoint.every:
        return []
    seconds = checkpoint_bytes(config.learner, shape) / (STORAGE * GIGA) / config.checkpoint.every
    return [TimePart("checkpoint", seconds, "learner", "storage")]
