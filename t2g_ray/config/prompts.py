"""Which records a run reads, and how they are shown to the policy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from t2g_ray.config.section import EMBEDDED, Section


class DataConfig(Section):
    """Where records come from. `embedded` is the world that the product ships."""

    train: str = EMBEDDED
    """JSONL file of records, or `embedded`."""
    heldout: str = EMBEDDED
    """JSONL file of records, `embedded`, or `none`."""
    train_records: int | None = Field(default=None, ge=1)
    """Use the first so many records; for the embedded world, how many are written."""
    heldout_records: int | None = Field(default=None, ge=1)
    """Evaluate on the first so many held-out records."""
    level: Literal["easy", "medium", "hard"] = "medium"
    """Difficulty of the embedded world."""
    part: Literal["train", "rl"] = "train"
    """Part of the embedded world to train on: they never share a text."""
    overlooked: float = Field(default=0.0, ge=0, le=1)
    """Share of passively stated relations that the embedded world's training graphs lack, as a
    hurried annotator's do; held-out graphs are always complete."""
    seed: int | None = None
    """Seed of the embedded world and of the prompt order; the run's seed when not given."""
    order: Literal["shuffled", "small_first", "half_right_first"] = "shuffled"
    """Order of the prompts inside an epoch of GRPO: by chance, small gold graphs first, or first
    those whose F1 in the epochs before was nearest to one half."""


class PromptConfig(Section):
    """How a record is shown to the policy."""

    style: Literal["full", "compact"] = "full"
    """`full` explains task and output; `compact` states types and text only (the tiny policy)."""
    thinking: bool = False
    """Let the policy reason between think tags before it answers."""
    max_tokens: int = Field(default=1024, ge=8)
    """Prompts longer than this are counted and left out, never cut."""
