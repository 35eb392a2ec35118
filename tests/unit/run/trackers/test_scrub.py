"""No secret of a configuration reaches a tracker."""

from __future__ import annotations

import pytest

from t2g_ray.run.trackers.scrub import HIDDEN, scrubbed


@pytest.mark.parametrize(
    ("tree", "hidden"),
    [
        ({"rollout": {"engine": {"hf_token": "x"}}}, "rollout.engine.hf_token"),
        ({"engine": {"api-key": "x", "seed": 1}}, "engine.api-key"),
        ({"PASSWORD": "x"}, "PASSWORD"),
        ({"model": "https://me:word@host/model"}, "model"),
        ({"run_dir": "s3://bucket/run?X-Amz-Signature=abc"}, "run_dir"),
        ({"run_dir": "https://host/x?sig=abc"}, "run_dir"),
        ({"engine": {"extra": ["a", "hf_abcdefghijklmnopqrst"]}}, "engine.extra"),
        ({"name": "AKIAABCDEFGHIJKLMNOP"}, "name"),
        ({"name": "mine: planted-in-a-variable"}, "name"),
    ],
)
def test_a_secret_is_hidden_by_its_name_or_its_form(tree: dict[str, object], hidden: str) -> None:
    assert scrubbed(tree, {"MY_TOKEN": "planted-in-a-variable"})[hidden] == HIDDEN


def test_settings_that_are_none_stay_as_they_are() -> None:
    tree = {
        "model": "HuggingFaceTB/SmolLM2-135M",
        "sampling": {"max_new_tokens": 8, "temperature": 1.5},
        "prompt": {"max_tokens": 160},
        "learner": {"token_budget": 256, "packing": True, "lora": {"targets": []}},
        "eval": {"max_new_tokens": None},
        "data": {"train": "s3://bucket/train.jsonl"},
    }
    assert scrubbed(tree, {}) == {
        "model": "HuggingFaceTB/SmolLM2-135M",
        "sampling.max_new_tokens": 8,
        "sampling.temperature": 1.5,
        "prompt.max_tokens": 160,
        "learner.token_budget": 256,
        "learner.packing": True,
        "learner.lora.targets": "[]",
        "eval.max_new_tokens": None,
        "data.train": "s3://bucket/train.jsonl",
    }
