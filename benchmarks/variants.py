"""What `python -m benchmarks.ablations` compares: name -> changes of configs/demo_grpo.yaml.

One change a variant. Where the group size changes, the prompts change with it, so that every step
still trains on 256 completions. Reasoning is not among them: the embedded records hold none, so
the tiny policy cannot learn it.
"""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT = "default"
SFT = "sft_continued"
"""Not a change of GRPO: the supervised stage goes on for as long as the default took."""

VARIANTS: Mapping[str, tuple[str, ...]] = {
    DEFAULT: (),
    SFT: (),
    "async_1": ("max_staleness=1",),
    "async_2": ("max_staleness=2",),
    "reward_default": ("reward.preset=default",),
    "reward_f1_schema": ("reward.preset=f1_schema",),
    "reward_recall": ("reward.beta=2",),
    "reward_square_root": ("reward.power=0.5",),
    "reward_duplicates": ("reward.penalties={duplicates: 0.5}",),
    "advantage_group_std": ("algorithm.advantage=group_std",),
    "advantage_leave_one_out": ("algorithm.advantage=leave_one_out",),
    "advantage_batch_std": ("algorithm.advantage=batch_std",),
    "advantage_group_mean_batch_std": ("algorithm.advantage=group_mean_batch_std",),
    "objective_cispo": ("algorithm.objective=cispo",),
    "ratio_sequence": ("algorithm.ratio=sequence",),
    "normalisation_sequences": ("algorithm.normalisation=sequences",),
    "normalisation_constant": ("algorithm.normalisation=constant",),
    "two_updates": ("algorithm.updates_per_batch=2",),
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
