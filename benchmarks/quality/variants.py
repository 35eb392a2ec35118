"""What `benchmarks.quality.ablations` compares: name -> changes of configs/demo_grpo.yaml.

One change a variant, except for the ratios: they differ only when a batch is used more than once,
so they are changes of `two_updates`. With another group size the number of prompts changes too, so
that every step still trains on 256 completions.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT = "default"
SFT = "sft_continued"
"""Not a change of GRPO: the supervised stage is continued for as long as the default took."""
STARTS: Mapping[str, str] = {"sft": DEFAULT, "sft_thinking": "thinking"}
"""The policies before GRPO: name -> the variant that starts from it."""
SFT_CHANGES: Mapping[str, tuple[str, ...]] = {"thinking": ("prompt.thinking=true",)}
"""Variants that need a policy of their own to start from, and what its SFT changes."""

TWO_UPDATES = "algorithm.updates_per_batch=2"

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "sft": (),
    DEFAULT: (),
    SFT: (),
    "sft_thinking": ("prompt.thinking=true",),
    "thinking": ("prompt.thinking=true",),
    "async_1": ("max_staleness=1",),
    "async_2": ("max_staleness=2",),
    "reward_default": ("reward.preset=default",),
    "reward_of_the_record": ("reward.level=record",),
    "reward_f1_schema": ("reward.preset=f1_schema",),
    "reward_recall": ("reward.beta=2",),
    "reward_square_root": ("reward.level=record", "reward.power=0.5"),
    "reward_duplicates": ("reward.penalties={duplicates: 0.5}",),
    "advantage_group_std": ("reward.level=record", "algorithm.advantage=group_std"),
    "advantage_leave_one_out": ("algorithm.advantage=leave_one_out",),
    "advantage_batch_std": ("algorithm.advantage=batch_std",),
    "advantage_group_mean_batch_std": ("algorithm.advantage=group_mean_batch_std",),
    "normalisation_sequences": ("algorithm.normalisation=sequences",),
    "normalisation_constant": ("algorithm.normalisation=constant",),
    "two_updates": (TWO_UPDATES,),
    "two_updates_cispo": (TWO_UPDATES, "algorithm.objective=cispo"),
    "two_updates_gspo": (TWO_UPDATES, "algorithm.ratio=sequence"),
    "kl": ("algorithm.kl_coef=0.04",),
    "entropy": ("algorithm.entropy_coef=0.001",),
    "async_1_uncorrected": ("max_staleness=1", "algorithm.importance=none"),
    "adapters": ("learner.lora.rank=16",),
    "over_sample": ("sampling.over_sample=1.25",),
    "replace_no_signal": ("sampling.extra_groups=8",),
    "small_first": ("data.order=small_first",),
    "half_right_first": ("data.order=half_right_first",),
    "group_4": ("group_size=4", "prompts_per_step=64"),
    "group_16": ("group_size=16", "prompts_per_step=16"),
}
