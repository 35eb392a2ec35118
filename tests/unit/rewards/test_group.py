"""A group -> rewards, texts and summary by hand; a grader that fails is marked and never a 0."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from t2g_ray.config import RewardSpec
from t2g_ray.config.rewards import Shaping
from t2g_ray.graph import Entity, Graph
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.rewards.answer import Answer
from t2g_ray.rewards.completion import masked_reward
from t2g_ray.rewards.group import score_group, summarise
from t2g_ray.rewards.parts import PARTS
from t2g_ray.types import Completion, FinishReason, Group, Prompt, Record, ScoredGroup

TOKENIZER = build_tokenizer()
GOLD = Graph((Entity(0, "Ann", "person"), Entity(1, "Acme", "company")), ())
RECORD = Record(
    text="Ann met Acme.", entity_types=("person", "company"), relation_types=(), graph=GOLD
)
HALF = Graph(GOLD.entities[:1], ())
SPEC = RewardSpec({"json": 1.0, "f1_entities": 1.0})


def completion(text: str, versions: tuple[int, int], finish: FinishReason = "stop") -> Completion:
    ids = [*TOKENIZER.encode(text, add_special_tokens=False), TOKENIZER.eos_token_id]
    return Completion(
        token_ids=np.array(ids, np.int32),
        logprobs=np.zeros(len(ids), np.float32),
        versions=np.linspace(*versions, len(ids)).astype(np.int32),
        finish_reason=finish,
    )


def group(*completions: Completion) -> Group:
    prompt = Prompt(index=5, token_ids=(1, 2, 3))
    return Group(prompt=prompt, completions=completions, sampler=1, generate_s=0.25)


def test_a_group_is_decoded_scored_and_summed_up() -> None:
    made = group(
        completion(GOLD.to_json(), (3, 3)),
        completion(HALF.to_json(), (3, 4)),
        completion("no graph", (2, 3), "length"),
    )
    summary, scored = score_group(made, RECORD, TOKENIZER, SPEC, thinking=False)
    assert scored.texts == (GOLD.to_json(), HALF.to_json(), "no graph")
    # One of two entities found: precision 1, recall 1/2, F1 2/3.
    assert summary.rewards == pytest.approx((2.0, 1 + 2 / 3, 0.0))
    assert [reward.tag for reward in scored.rewards] == ["score", "score", "invalid_output"]
    assert summary.is_valid == (True, True, True)
    assert summary.total_counts.as_row() == (3, 0, 3, 0, 0, 0)
    assert summary.base == pytest.approx((1.0, 1.0, 0.0))
    assert summary.f1 == pytest.approx((1.0, 2 / 3, 0.0))
    assert summary.parts == pytest.approx({"json": 2 / 3, "f1_entities": (1 + 2 / 3) / 3})
    assert summary.has_graph == (True, True, False)
    assert summary.is_truncated == (False, False, True)
    assert (summary.min_version, summary.max_version) == (2, 4)
    # All of the first completion, all but the end of the second, the end of the third.
    first, second, third = summary.lengths
    assert summary.tokens_by_version == {2: third - 1, 3: first + second, 4: 1}
    assert summary.lengths == tuple(len(c.token_ids) for c in made.completions)
    assert (summary.index, summary.prompt_tokens, summary.sampler) == (5, 3, 1)
    assert summary.generate_s == 0.25


def test_a_grader_that_fails_marks_its_completion_and_the_others_count(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    honest = PARTS["json"]

    def breaks_on_half(answer: Answer, shaping: Shaping) -> float:
        if answer.graph == HALF:
            raise RuntimeError("grader broke")
        return honest(answer, shaping)

    monkeypatch.setitem(PARTS, "json", breaks_on_half)
    made = group(completion(GOLD.to_json(), (3, 3)), completion(HALF.to_json(), (3, 3)))
    with caplog.at_level(logging.CRITICAL):
        summary, scored = score_group(made, RECORD, TOKENIZER, SPEC, thinking=False)
    assert summary.is_valid == (True, False)
    assert scored.rewards[1].tag == "grader_error"
    # Sums and means are over the graded one only.
    assert summary.parts == {"json": 1.0, "f1_entities": 1.0}
    assert summary.total_counts.entities.as_tuple() == (2, 0, 0)
    assert summary.has_graph == (True, False)
    assert summary.tokens_by_version == {3: summary.lengths[0]}


def test_a_timeout_is_no_reward_either() -> None:
    late = masked_reward("timeout")
    made = group(completion("x", (1, 1)))
    summary = summarise(ScoredGroup(group=made, rewards=(late,), texts=("x",)), SPEC, score_s=0.5)
    assert (summary.is_valid, summary.parts, summary.score_s) == ((False,), {}, 0.5)
