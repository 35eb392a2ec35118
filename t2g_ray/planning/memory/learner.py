"""Shape of a model and settings -> the memory that one learner rank needs on a GPU, estimated.

What is counted: states of training, activations of one micro-batch, logits of one chunk. Attention
is taken to keep no matrix of scores, as flash kernels do. Models other than decoders of
attention and gated feed-forward layers are not estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

from t2g_ray.config import GrpoConfig, LearnerConfig, StageConfig
from t2g_ray.planning.shapes import ModelShape

GIB = 2**30
OVERHEAD_GIB = 2.0
"""CUDA's context, NCCL's buffers, and what the allocator cannot use."""


@dataclass(frozen=True, slots=True)
class LearnerMemory:
    """GiB of one rank."""

    states: float
    activations: float

    @property
    def total(self) -> float:
        """With what is always there."""
        return self.states + self.activations + OVERHEAD_GIB


def memory_line(config: StageConfig, shape: ModelShape, card_gib: float | None) -> str:
    """What `t2g plan` says of a learner rank's memory. `card_gib`: of the smallest GPU, if known.

    Raises ValueError where the GPU cannot hold it.
    """
    has_reference = isinstance(config, GrpoConfig) and config.algorithm.kl_coef > 0
    needed = learner_memory(config.learner, shape, has_reference=has_reference)
    line = (
        f"a learner rank needs about {needed.total:.0f} GiB of its GPU: {needed.states:.1f} of "
        f"states, {needed.activations:.1f} of activations for {config.learner.token_budget} tokens"
    )
    if card_gib is None:
        return line
    free = card_gib
    if isinstance(config, GrpoConfig) and config.colocate == "share":
        free *= 1 - config.rollout.gpu_memory_utilization
    if needed.total > free:
        raise ValueError(
            f"{line}, found {free:.0f}; lower learner.token_budget, set "
            "learner.gradient_checkpointing=true, raise learner.zero_stage and learner.ranks, keep "
            "a part on the host (learner.offload), or train adapters (learner.lora.rank)"
        )
    return f"{line}, of {free:.0f}"


def learner_memory(
    learner: LearnerConfig, shape: ModelShape, *, has_reference: bool = False
) -> LearnerMemory:
    """What one rank needs for `learner.token_budget` tokens. `has_reference`: beside a frozen copy
    of the start."""
    width = 2 if learner.dtype == "bfloat16" else 4
    states = _states(learner, shape, width, has_reference)
    per_token = _kept_of_a_token(learner, shape, width)
    chunks = 4 * learner.head_chunk_mib * 2**20
    return LearnerMemory(states / GIB, (learner.token_budget * per_token + chunks) / GIB)


def _states(learner: LearnerConfig, shape: ModelShape, width: int, has_reference: bool) -> float:
    """Bytes of weights, gradients (fp32), and of what the optimiser keeps: in bf16 with a copy of
    the weights in fp32. ZeRO shards them one stage after the other."""
    stage, ranks = learner.zero_stage, learner.ranks
    trained = shape.adapters(learner.lora.rank) if learner.lora.rank else shape.parameters
    weights = shape.parameters * width * (2 if has_reference and not learner.lora.rank else 1)
    optimizer = 0 if learner.has_optimizer_on_host else trained * (8 if width == 4 else 12)
    gradients = trained * 4
    return (
        weights / (ranks if stage == 3 else 1)
        + gradients / (ranks if stage >= 2 else 1)
        + optimizer / (ranks if stage >= 1 else 1)
    )


def _kept_of_a_token(learner: LearnerConfig, shape: ModelShape, width: int) -> int:
    """Bytes of activations: of all layers, or the input of each and all of the one recomputed."""
    layer, ends = shape.kept_by_layer(width), 3 * width * shape.hidden
    if learner.gradient_checkpointing:
        inputs = 0 if learner.has_activations_on_host else shape.layers * width * shape.hidden
        return inputs + layer + ends
    return shape.layers * layer + ends
