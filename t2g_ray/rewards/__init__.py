"""Completion text and record -> one finite reward with its named parts."""

from __future__ import annotations

from t2g_ray.rewards.parts import PARTS, PENALTIES, Shaping
from t2g_ray.rewards.score import grade, grade_all, masked_reward, score_completion
from t2g_ray.rewards.spec import PRESETS, CustomReward, RewardSpec, preset

__all__ = [
    "PARTS",
    "PENALTIES",
    "PRESETS",
    "CustomReward",
    "RewardSpec",
    "Shaping",
    "grade",
    "grade_all",
    "masked_reward",
    "preset",
    "score_completion",
]
