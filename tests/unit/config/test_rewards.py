"""The section of rewards -> what completions are graded by; what cannot be is refused."""

from __future__ import annotations

import pytest

from t2g_ray.config import (
    ConfigError,
    GrpoConfig,
    build_config,
)
from t2g_ray.config.rewards import CustomReward, Shaping


def build(**tree: object) -> GrpoConfig:
    return build_config(GrpoConfig, {"run_dir": "runs/x", **tree})


def test_the_reward_is_the_preset_with_penalties_and_shaping() -> None:
    config = build(
        reward={
            "preset": "f1",
            "penalties": {"overlong": 0.5},
            "beta": 0.5,
            "power": 2.0,
            "level": "record",
        },
        sampling={"max_new_tokens": 64},
    )
    spec = config.reward_spec
    assert spec.weights == {"f1_entities": 1.0, "f1_relations": 1.0, "overlong": 0.5}
    assert spec.shaping == Shaping(beta=0.5, power=2.0, max_new_tokens=64, overlong_share=0.2)
    assert build(reward={"weights": {"json": 2.0}}).reward_spec.weights == {"json": 2.0}


def test_a_custom_reward_is_named_after_its_function() -> None:
    reward = {"weights": {}, "custom": [{"path": "my.module:Judge.score", "weight": 2}]}
    spec = build(reward=reward).reward_spec
    assert spec.weights == {}
    assert spec.custom == (
        CustomReward(path="my.module:Judge.score", name="score", weight=2.0, deadline_s=10.0),
    )


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ({"weights": {}}, "a reward needs at least one part"),
        ({"custom": [{"path": "my_module.reward"}]}, "reward.custom.0.path: String should match"),
        ({"custom": [{"path": "m:json"}]}, "a name of its own, found 'json' for m:json"),
        ({"custom": [{"path": "m:mean"}]}, "a name of its own, found 'mean'"),
        ({"custom": [{"path": "m:f"}, {"path": "n:f"}]}, "a name of its own, found 'f' for n:f"),
        ({"custom": [{"path": "m:f", "weigth": 1}]}, "unknown key reward.custom.0.weigth"),
        ({"preset": "best"}, "unknown reward preset 'best'; use one of"),
        ({"weights": {"f1_entites": 1.0}}, "unknown reward part 'f1_entites'; use"),
        ({"weights": {"json": -1.0}}, "the weight of json must be finite and above 0, found -1.0"),
        ({"penalties": {"overlong": 0.0}}, "the weight of overlong must be finite and above 0"),
        ({"penalties": {"json": 1.0}}, "penalties must be among .* found \\['json'\\]"),
        ({"power": 0.0}, "reward.power"),
        ({"power": 0.5}, "reward.power must be 1 with reward.level batch, found 0.5"),
    ],
)
def test_a_reward_that_cannot_be_is_refused_at_load(
    reward: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(reward=reward)
