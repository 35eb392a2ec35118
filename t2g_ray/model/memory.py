"""Shape of a model and settings -> the memory that one learner rank needs on a GPU, estimated.

What is counted: states of training, activations of one micro-batch, logits of one chunk. Attention
is taken to keep no matrix of scores, as flash kernels do. Models other than decoders of
attention and gated feed-forward layers are not estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from t2g_ray.config import GrpoConfig, LearnerConfig, StageConfig
from t2g_ray.model.heads import heads_of

GIB = 2**30
OVERHEAD_GIB = 2.0
"""CUDA's context, NCCL's buffers, and what the allocator cannot use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Widths of a decoder. Example: Qwen2.5-1.5B has 28 layers, hidden 1536, inner 8960."""

    layers: int
    hidden: int
    inner: int
    """Width of a feed-forward layer; with experts, of one of them."""
    queries: int
    """Heads times their width; `keys` alike."""
    keys: int
    vocab: int
    is_tied: bool
    experts: int = 1
    active: int = 1
    """Experts that a token goes through."""

    @property
    def parameters(self) -> int:
        """Matrices only; vectors are below a thousandth of them."""
        attention = 2 * self.hidden * (self.queries + self.keys)
        forward = self.experts * 3 * self.hidden * self.inner
        embedding = self.vocab * self.hidden * (1 if self.is_tied else 2)
        return self.layers * (attention + forward) + embedding

    def adapters(self, rank: int) -> int:
        """Parameters of adapters of this rank on all layers."""
        ends = 2 * (2 * self.hidden + self.queries + self.keys)
        ends += self.experts * 3 * (self.hidden + self.inner)
        return self.layers * rank * ends

    def kept_by_layer(self, width: int) -> int:
        """Bytes that one layer keeps of one token for its backward pass; `width` bytes a number.

        Norms compute in fp32: each keeps its input and its result so, and its scaled result.
        """
        norms = 2 * (2 * 4 + width) * self.hidden
        attention = 3 * width * (self.queries + self.keys)
        forward = 4 * width * self.active * self.inner
        if self.experts > 1:
            forward += 2 * width * self.active * self.hidden
        return width * self.hidden + norms + attention + forward


@dataclass(frozen=True, slots=True)
class LearnerMemory:
    """GiB of one rank."""

    states: float
    activations: float

    @property
    def total(self) -> float:
        """With what is always there."""
        return self.states + self.activations + OVERHEAD_GIB


def read_shape(model: str) -> ModelShape | None:
    """The shape of a model on this machine; None where it is not here or of another kind."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        return None  # not here, or of a kind that transformers does not know
    return shape_of(config)


def shape_of(config: Any) -> ModelShape | None:
    """The shape in a configuration of transformers; None where it has not the usual fields."""
    inner = getattr(config, "moe_intermediate_size", None) or getattr(
        config, "intermediate_size", None
    )
    if not (inner and getattr(config, "hidden_size", None)) or (heads := heads_of(config)) is None:
        return None
    experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None)
    return ModelShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=inner,
        queries=heads.queries * heads.size,
        keys=heads.keys * heads.size,
        vocab=config.vocab_size,
        is_tied=bool(getattr(config, "tie_word_embeddings", False)),
        experts=experts or 1,
        active=config.num_experts_per_tok if experts else 1,
    )


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
