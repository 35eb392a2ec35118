"""Shapes and configurations that several tests of plans build alike."""

from __future__ import annotations

from typing import Any

from t2g_ray.config import GrpoConfig, SftConfig, build_config
from t2g_ray.planning.cards import CARDS
from t2g_ray.planning.parts import Speed
from t2g_ray.planning.shapes import ModelShape
from t2g_ray.planning.speed.hardware import Hardware
from t2g_ray.planning.speed.lengths import Lengths
from t2g_ray.planning.speed.plan import plan_speed
from t2g_ray.planning.speed.rates import EngineRates, Rates

QWEN_7B = ModelShape(
    layers=28,
    hidden=3584,
    inner=18944,
    queries=3584,
    keys=512,
    vocab=152_064,
    is_tied=False,
)
"""Qwen2.5-7B."""
TINY = ModelShape(layers=3, hidden=64, inner=192, queries=128, keys=128, vocab=400, is_tied=True)


def grpo(**changes: Any) -> GrpoConfig:
    """GRPO on GPUs of its own for each actor; sections are given as `learner={...}`."""
    tree: dict[str, Any] = {
        "run_dir": "/tmp/run",
        "device": "cuda",
        "colocate": "off",
        "prompts_per_step": 64,
        "prompt": {"max_tokens": 1024},
        "checkpoint": {"every": 0},
        "rollout": {"gpus": 1},
        "learner": {"gpus": 1},
    }
    return build_config(GrpoConfig, merged(tree, changes))


def sft(**changes: Any) -> SftConfig:
    """SFT on CPUs."""
    tree = {"run_dir": "/tmp/run", "device": "cpu", "checkpoint": {"every": 0}}
    return build_config(SftConfig, merged(tree, changes))


def merged(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Sections joined key by key."""
    joined = {
        key: {**tree[key], **value} if isinstance(tree.get(key), dict) else value
        for key, value in changes.items()
    }
    return {**tree, **joined}


def lengths(prompt: float = 600, answer: float = 200, longest: float = 400) -> Lengths:
    """As given, without a story."""
    return Lengths(prompt=prompt, answer=answer, longest=longest, source="given")


def rates(**changes: Any) -> Rates:
    """Of a machine that is easy to calculate with: a pass of n sequences takes 10 + n ms."""
    fields: dict[str, Any] = {
        "learner_flops_per_s": 1e12,
        "learner_fixed_s": 0.5,
        "parameters": QWEN_7B.parameters,
        "prompt_tokens": 600.0,
        "answer_tokens": 200.0,
        "longest_tokens": 400.0,
        "engine": EngineRates(
            decode=((10.0, 500.0), (90.0, 900.0)), prefill_tokens_per_s=1e4, sync_s=0.25
        ),
    }
    return Rates(**{**fields, **changes})


H100 = Hardware(source=CARDS["H100"])


def plan(hardware: Hardware = H100, **changes: Any) -> Speed:
    """The speed of GRPO on Qwen2.5-7B."""
    return plan_speed(grpo(**changes), QWEN_7B, lengths(), hardware)


def part(speed: Speed, name: str) -> float:
    """Seconds of the parts of this name."""
    return sum(one.seconds for one in speed.parts if one.name == name)
