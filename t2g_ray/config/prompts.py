"""Which records a run reads, and how they are shown to the policy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from t2g_ray.config.section import EMBEDDED, Section, Seed


class DataConfig(Section):
    """Where records come from. `embedded` is the small world that ships with the product."""

    train: str = EMBEDDED
    """JSONL file of records, or `embedded`."""
    heldout: str = EMBEDDED
    """JSONL file of records, `embedded`, or `none`."""
    train_records: int | None = Field(default=None, ge=1)
    """Use only this many records, from the first; for the embedded world, how many to make."""
    heldout_records: int | None = Field(default=None, ge=1)
    """Evaluate on only this many held-out records, from the first."""
    level: Literal["easy", "medium", "hard"] = "medium"
    """Difficulty of the embedded world."""
    part: Literal["train", "rl"] = "train"
    """Part of the embedded world to train on; no two parts share a text."""
    overlooked: float = Field(default=0.0, ge=0, le=1)
    """Share of the relations stated in the passive voice that are missing from the embedded world's
    training graphs, as a hurried annotator would miss them; held-out graphs are always complete."""
    seed: Seed | None = None
    """Seed of the embedded world and of the prompt order; the run's seed when not given."""
    order: Literal["shuffled", "small_first", "half_right_first"] = "shuffled"
    """Order of the prompts within an epoch of GRPO: random, small gold graphs first, or first the
    records whose F1 in earlier epochs was nearest to one half."""


class PromptConfig(Section):
    """How a record is shown to the policy."""

    style: Literal["full", "compact"] = "full"
    """`full` explains task and output; `compact` states types and text only (the tiny policy)."""
    thinking: bool = False
    """Let the policy reason between think tags before it answers."""
    max_tokens: int = Field(default=1024, ge=8)
    """Prompts longer than this are counted and left out, never cut."""
