"""Names and weights of reward parts -> a checked specification; the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import isfinite

from t2g_ray.rewards.parts import PARTS, Shaping


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomReward:
    """A function of the user's own, `path` as in "my_module:my_reward", and its part's name.

    A call that takes longer than `deadline_s` seconds is killed.
    """

    path: str
    name: str
    weight: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """How much each part weighs: the total is their weighted sum.

    Raises ValueError for an unknown part, a weight that is not a finite number above 0, or a name
    of a custom part that is taken.
    """

    weights: Mapping[str, float]
    shaping: Shaping = field(default_factory=Shaping)
    custom: tuple[CustomReward, ...] = ()

    def __post_init__(self) -> None:
        if not self.weights and not self.custom:
            raise ValueError(f"a reward needs at least one part of {sorted(PARTS)}, found none")
        for name in self.weights:
            if name not in PARTS:
                near = get_close_matches(name, PARTS, n=1) or sorted(PARTS)
                raise ValueError(f"unknown reward part {name!r}; use {near}")
        names = [*self.weights, *(custom.name for custom in self.custom)]
        weights = [*self.weights.values(), *(custom.weight for custom in self.custom)]
        for name, weight in zip(names, weights, strict=True):
            if not (isfinite(weight) and weight > 0):
                raise ValueError(f"the weight of {name} must be finite and above 0, found {weight}")
        taken = {*PARTS, "mean"}
        for custom in self.custom:
            if custom.name in taken:
                raise ValueError(
                    f"a custom reward must have a name of its own, found {custom.name!r} for "
                    f"{custom.path}; set its name"
                )
            taken.add(custom.name)


PRESETS: dict[str, RewardSpec] = {
    # F1 decides; the rest breaks ties among answers that F1 cannot tell apart yet.
    "default": RewardSpec(
        {
            "f1_entities": 1.0,
            "f1_relations": 1.0,
            "soft_entities": 0.25,
            "soft_relations": 0.25,
            "json": 0.1,
            "schema": 0.1,
            "grounding": 0.1,
            "format": 0.1,
        }
    ),
    "f1": RewardSpec({"f1_entities": 1.0, "f1_relations": 1.0}),
    # Ten parts F1 to one part schema: the weighing of ReasoningNER (AAAI 2026).
    "f1_schema": RewardSpec({"f1_entities": 5.0, "f1_relations": 5.0, "schema": 1.0}),
}


def preset(name: str) -> RewardSpec:
    """The preset of this name. Raises ValueError with the names there are."""
    if name not in PRESETS:
        raise ValueError(f"unknown reward preset {name!r}; use one of {sorted(PRESETS)}")
    return PRESETS[name]
