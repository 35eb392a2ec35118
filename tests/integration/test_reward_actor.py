"""A reward actor with a function of the user's own that hangs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from actors.grpo import run_grpo
from actors.workers.reward import reward_actor_class
from t2g_ray.config import RewardSpec
from t2g_ray.config.rewards import CustomReward
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.types import Completion, Group, Prompt
from tests.integration.parts import ANSWER, RECORD, grpo_config

ROOT = Path(__file__).parents[2]
DEADLINE_S = 3.0


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def group(index: int, *texts: str) -> Group:
    tokenizer = build_tokenizer()
    completions = []
    for text in texts:
        ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
        completions.append(
            Completion(
                token_ids=np.array(ids, np.int32),
                logprobs=np.zeros(len(ids), np.float32),
                versions=np.zeros(len(ids), np.int32),
                finish_reason="stop",
            )
        )
    prompt = Prompt(index=index, token_ids=(1,))
    return Group(prompt=prompt, completions=tuple(completions), sampler=0, generate_s=0.0)


def test_a_hung_function_masks_its_completion_while_questions_are_answered() -> None:
    function = CustomReward(
        path="tests.integration.own_reward:slow_on_nothing",
        name="slow",
        weight=2.0,
        deadline_s=DEADLINE_S,
    )
    spec = RewardSpec({"json": 1.0}, custom=(function,))
    actor = reward_actor_class().remote(0, build_tokenizer(), spec, False, str(ROOT))
    ray.get(actor.node.remote())
    gold = dict.fromkeys(range(3), RECORD)
    summary, _ = actor.score.options(num_returns=2).remote(gold, group(0, ANSWER, "", ANSWER))
    both = (group(1, ANSWER, "no graph"), group(2, ANSWER))
    later, *handles = actor.score.options(num_returns=3).remote(gold, *both)
    started = time.monotonic()
    while not ray.wait([summary], timeout=0)[0]:
        asked = time.monotonic()
        ray.get(actor.drain_spans.remote())
        assert time.monotonic() - asked < DEADLINE_S
        time.sleep(0.05)
    assert time.monotonic() - started >= DEADLINE_S
    (found,) = ray.get(summary)
    assert found.is_valid == (True, False, True)
    assert found.rewards == (3.0, 0.0, 3.0)
    assert found.parts == {"json": 1.0, "slow": 1.0}
    assert [one.rewards for one in ray.get(later)] == [(3.0, 2.0), (3.0,)]
    assert [one.group.prompt.index for one in ray.get(handles)] == [1, 2]
    best = ray.get(actor.best_sample.remote(handles[0], RECORD))
    assert (best["completion"], best["reward"], best["prompt_index"]) == (ANSWER, 3.0, 1)
    ray.kill(actor)


def test_a_reward_that_cannot_be_imported_is_named_before_anything_starts(tmp_path: Path) -> None:
    custom = [{"path": "no_such_module:reward"}]
    config = grpo_config(tmp_path / "run", tmp_path, reward={"custom": custom})
    with pytest.raises(ValueError, match="no_such_module:reward must be importable"):
        run_grpo(config)
    assert not (tmp_path / "run").exists()
