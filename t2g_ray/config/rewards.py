"""Names and weights of reward parts -> a checked specification; also the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from math import isfinite
from typing import Literal

from pydantic import Field, model_validator

from t2g_ray.config.section import Section

RewardLevel = Literal["batch", "record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaping:
    """How F1 and length become parts.

    The F1 parts are F-`beta` to the power `power` (0.5: the square root). `max_new_tokens` is the
    longest completion, in tokens; the overlong penalty grows over its last `overlong_share`.
    """

    beta: float = 1.0
    power: float = 1.0
    max_new_tokens: int | None = None
    overlong_share: float = 0.2


PART_NAMES = (
    "format",
    "json",
    "schema",
    "grounding",
    "f1_entities",
    "f1_relations",
    "soft_entities",
    "soft_relations",
    "duplicates",
    "overlong",
)
"""`rewards.parts.PARTS` holds the function behind each name."""
F1_PARTS: Mapping[str, tuple[Literal["entities", "relations"], bool]] = {
    "f1_entities": ("entities", False),
    "f1_relations": ("relations", False),
    "soft_entities": ("entities", True),
    "soft_relations": ("relations", True),
}
"""The parts that compare with the gold graph -> which half of it, and whether near misses count."""
PENALTIES = frozenset({"duplicates", "overlong"})
"""The parts that lie in [-1, 0]; all others lie in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomReward:
    """A reward function of the user: import path, as in "my_module:my_reward", and name of its
    part.

    A call that takes longer than `deadline_s` seconds is killed.
    """

    path: str
    name: str
    weight: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """How much each part weighs: the total is their weighted sum.

    `level` says what the F1 parts are: F1 of the record, or what the completion adds to the micro
    F1 of its batch. Raises ValueError for an unknown part, a weight that is not a finite number
    above 0, a custom part whose name is taken, or a power other than 1 at level batch.
    """

    weights: Mapping[str, float]
    shaping: Shaping = field(default_factory=Shaping)
    custom: tuple[CustomReward, ...] = ()
    level: RewardLevel = "batch"

    def __post_init__(self) -> None:
        if not self.weights and not self.custom:
            raise ValueError(
                f"a reward needs at least one part of {sorted(PART_NAMES)}, found none"
            )
        for name in self.weights:
            if name not in PART_NAMES:
                near = get_close_matches(name, PART_NAMES, n=1) or sorted(PART_NAMES)
                raise ValueError(f"unknown reward part {name!r}; use {near}")
        names = [*self.weights, *(custom.name for custom in self.custom)]
        weights = [*self.weights.values(), *(custom.weight for custom in self.custom)]
        for name, weight in zip(names, weights, strict=True):
            if not (isfinite(weight) and weight > 0):
                raise ValueError(f"the weight of {name} must be finite and above 0, found {weight}")
        taken = {*PART_NAMES, "mean"}
        for custom in self.custom:
            if custom.name in taken:
                raise ValueError(
                    f"a custom reward must have a name of its own, found {custom.name!r} for "
                    f"{custom.path}; set its name"
                )
            taken.add(custom.name)
        if self.level == "batch" and self.shaping.power != 1:
            raise ValueError(
                f"reward.power must be 1 with reward.level batch, found {self.shaping.power:g}: "
                "what a completion adds to micro F1 may be negative; set reward.level=record"
            )

    def without_f1(self, parts: Mapping[str, float]) -> float:
        """The weighted sum of these parts except the F1 parts."""
        weights = {**self.weights, **{custom.name: custom.weight for custom in self.custom}}
        return sum(weights[name] * value for name, value in parts.items() if name not in F1_PARTS)


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
    # Ten parts F1 to one part schema: the weighting of ReasoningNER (AAAI 2026).
    "f1_schema": RewardSpec({"f1_entities": 5.0, "f1_relations": 5.0, "schema": 1.0}),
}


def preset(name: str) -> RewardSpec:
    """The preset of this name. Raises ValueError that lists the valid names."""
    if name not in PRESETS:
        raise ValueError(f"unknown reward preset {name!r}; use one of {sorted(PRESETS)}")
    return PRESETS[name]


class CustomRewardConfig(Section):
    """A reward function of your own; docs/rewards.md says how it is called."""

    path: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    """Import path, as in `my_module:my_reward`; the folder of the command is searched first."""
    name: str | None = Field(default=None, pattern=r"^\w+$")
    """Its name in the metrics; by default the name of the function."""
    weight: float = Field(default=1.0, gt=0)
    """What its value is multiplied by."""
    deadline_s: float = Field(default=10.0, gt=0)
    """Seconds that one call may take; then its process is killed and its completions are masked."""


class RewardConfig(Section):
    """Reward actors and what they compute."""

    actors: int = Field(default=1, ge=1)
    """Reward actors; each takes groups as they finish."""
    preset: str = "default"
    """Weights of the reward parts, by the name of a preset."""
    weights: dict[str, float] | None = None
    """Weights of reward parts by name, instead of a preset."""
    penalties: dict[str, float] = Field(default_factory=dict)
    """Weights of the penalties `duplicates` and `overlong`, on top of the preset or the weights."""
    level: RewardLevel = "batch"
    """What the F1 parts are: what a completion adds to the micro F1 of its batch, or the F1 of its
    record, with which a weak policy can earn most by writing nothing."""
    beta: float = Field(default=1.0, gt=0)
    """F-beta instead of F1 in the reward: above 1 recall weighs more, below 1 precision."""
    power: float = Field(default=1.0, gt=0)
    """The F1 parts of the reward are raised to this power: 0.5 is the square root. Needs level
    record."""
    overlong_share: float = Field(default=0.2, gt=0, le=1)
    """Last share of sampling.max_new_tokens, over which the overlong penalty grows from 0 to 1."""
    custom: list[CustomRewardConfig] = Field(default_factory=list)
    """Reward functions of your own, added to the parts above."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of completions whose grader failed above which the run stops."""

    @model_validator(mode="after")
    def _spec_is_valid(self) -> RewardConfig:
        self.spec(max_new_tokens=1)
        return self

    def spec(self, *, max_new_tokens: int) -> RewardSpec:
        """What the reward actors compute. Raises ValueError for unknown names and bad weights."""
        if wrong := sorted(set(self.penalties) - PENALTIES):
            raise ValueError(f"penalties must be among {sorted(PENALTIES)}, found {wrong}")
        weights = preset(self.preset).weights if self.weights is None else self.weights
        shaping = Shaping(
            beta=self.beta,
            power=self.power,
            max_new_tokens=max_new_tokens,
            overlong_share=self.overlong_share,
        )
        custom = tuple(
            CustomReward(
                path=one.path,
                name=one.name or one.path.rpartition(":")[2].rpartition(".")[2],
                weight=one.weight,
                deadline_s=one.deadline_s,
            )
            for one in self.custom
        )
        return RewardSpec({**weights, **self.penalties}, shaping, custom, self.level)
