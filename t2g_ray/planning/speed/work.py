"""Configuration, shape and lengths -> what one optimiser step has to compute and to move."""

from __future__ import annotations

from dataclasses import dataclass

from t2g_ray.config import GrpoConfig, LearnerConfig, SftConfig, StageConfig
from t2g_ray.planning.shapes import BYTES, ModelShape, trained_parameters
from t2g_ray.planning.speed.lengths import Lengths


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations by what they are made of, since cards reach different shares with them."""

    linear: float
    """Of matrices with tokens; the head's only where a token is trained."""
    attention: float

    @property
    def total(self) -> float:
        """All."""
        return self.linear + self.attention


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """Of one optimiser step, over all ranks and engines."""

    groups: int
    sequences: int
    """Completions; in SFT, records."""
    lengths: Lengths
    computed: float
    """Tokens that go through the learner's layers: with packed rows a group's prompt once."""
    forward: Flops
    """Of one forward pass of the learner over them."""

    @property
    def answer_tokens(self) -> float:
        """Of all sequences."""
        return self.sequences * self.lengths.answer

    @property
    def tokens(self) -> float:
        """Each sequence with its prompt, as throughput/tokens_per_s counts them."""
        return self.sequences * (self.lengths.prompt + self.lengths.answer)


def step_work(config: StageConfig, shape: ModelShape, lengths: Lengths) -> StepWork:
    """The work of one step."""
    groups, size = sequences_of(config)
    sequences = groups * size
    num_prompts = groups if config.learner.packing else sequences
    answers = sequences * lengths.answer
    return StepWork(
        groups=groups,
        sequences=sequences,
        lengths=lengths,
        computed=num_prompts * lengths.prompt + answers,
        forward=forward_flops(shape, lengths, num_prompts=num_prompts, num_answers=sequences),
    )


def sequences_of(config: StageConfig) -> tuple[int, int]:
    """Groups of a step, and the sequences of each."""
    if isinstance(config, GrpoConfig):
        return config.prompts_per_step, config.group_size
    assert isinstance(config, SftConfig)
    return config.batch_size, 1


def forward_flops(
    shape: ModelShape, lengths: Lengths, *, num_prompts: float, num_answers: float
) -> Flops:
    """Operations of a forward pass: 2 a parameter and token, the head only where a token is
    trained, attention 4 x width x context (Kaplan et al. 2020, "Scaling laws for neural language
    models", table 1)."""
    tokens = num_prompts * lengths.prompt + num_answers * lengths.answer
    pairs = num_prompts * lengths.prompt**2 / 2
    pairs += num_answers * lengths.answer * (lengths.prompt + lengths.answer / 2)
    head = shape.head * num_answers * lengths.answer
    width = shape.layers * shape.queries
    return Flops(2.0 * (shape.body_parameters * tokens + head), 4.0 * width * pairs)


@dataclass(frozen=True, slots=True)
class Passes:
    """How often a step computes what one forward pass computes."""

    forward: float
    """With the reference policy's, where there is one."""
    backward: float
    recomputation: float
    updates: int = 1
    """Optimiser steps on each batch."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.forward + self.backward + self.recomputation


def passes_of(config: StageConfig) -> Passes:
    """A backward pass is two forward passes; with adapters one, since frozen weights have no
    gradient. Checkpointed layers are computed again."""
    updates, reference = 1, 0
    if isinstance(config, GrpoConfig):
        updates = config.algorithm.updates_per_batch
        reference = int(config.algorithm.kl_coef > 0)
    return Passes(
        forward=updates + reference,
        backward=updates * (1 if config.learner.lora.rank else 2),
        recomputation=updates * int(config.learner.gradient_checkpointing),
        updates=updates,
    )


def sent_bytes(config: GrpoConfig, shape: ModelShape) -> float:
    """Of one version, in the samplers' precision."""
    is_adapter = config.learner.lora.sync == "adapter"
    count = trained_parameters(config.learner, shape) if is_adapter else shape.parameters
    return float(count * BYTES[config.rollout.dtype])


def checkpoint_bytes(learner: LearnerConfig, shape: ModelShape) -> float:
    """Weights, and fp32 master weights and two moments of what is trained."""
    weights = shape.parameters * BYTES[learner.dtype]
    return float(weights + 12 * trained_parameters(learner, shape))
