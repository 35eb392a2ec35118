"""What goes on beside training: sync, evaluation, checkpoints, deadlines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from t2g_ray.config.section import Section


class SyncConfig(Section):
    """Weights from the learner to the samplers."""

    transport: Literal["store", "broadcast", "ipc"] = "store"
    """How weights travel: through Ray's object store, which goes everywhere; from the learner's
    device to those of the samplers (NCCL between GPUs, Gloo between CPUs); or as memory that
    learner and sampler share, where both are on one device."""
    bucket_mib: float = Field(default=64.0, gt=0)
    """Size of the pieces that weights are sent in."""
    verify_every: int = Field(default=10, ge=1)
    """Compare all tensors at the first sync, after a resume and every so many syncs."""


class EvalConfig(Section):
    """Evaluation on the held-out records: of greedy answers in GRPO, of the loss in SFT."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations, beside those before and after; 0: GRPO has only these two, SFT
    none."""
    max_new_tokens: int | None = None
    """Longest answer in an evaluation; as in training when not given."""


class CheckpointConfig(Section):
    """What is kept to resume from."""

    every: int = Field(default=50, ge=0)
    """Steps between checkpoints; 0 keeps only the last state."""
    keep: int = Field(default=2, ge=1)
    """How many of the newest checkpoints stay."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """How long a phase may take, and the key that says so."""

    name: str
    seconds: float

    def __str__(self) -> str:
        return f"deadlines.{self.name}={self.seconds:g} s"


class DeadlineConfig(Section):
    """Seconds that each waiting phase may take before the run stops with its name."""

    start_s: float = Field(default=600, gt=0)
    """All actors answer."""
    generate_s: float = Field(default=600, gt=0)
    """The groups of a step arrive."""
    train_s: float = Field(default=600, gt=0)
    """One optimiser step, or one checkpoint."""
    sync_s: float = Field(default=300, gt=0)
    """A gather, or a load of new weights."""

    @property
    def start(self) -> Deadline:
        """`start_s` with its name."""
        return Deadline("start_s", self.start_s)

    @property
    def generate(self) -> Deadline:
        """`generate_s` with its name."""
        return Deadline("generate_s", self.generate_s)

    @property
    def train(self) -> Deadline:
        """`train_s` with its name."""
        return Deadline("train_s", self.train_s)

    @property
    def sync(self) -> Deadline:
        """`sync_s` with its name."""
        return Deadline("sync_s", self.sync_s)
