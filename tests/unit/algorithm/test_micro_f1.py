"""What a completion adds to micro F1: by definition, in expectation, and in weak policies."""

from __future__ import annotations

import dataclasses
import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.algorithm.advantages import ADVANTAGES
from t2g_ray.algorithm.micro_f1 import added_f1, price_batch
from t2g_ray.config.rewards import PRESETS, RewardSpec, preset
from t2g_ray.graph.counts import Counts, GraphCounts
from t2g_ray.types import GroupSummary
from tests.unit.parts import group_summary

F1 = preset("f1")
SMALL = st.integers(0, 4)
COUNTS = st.builds(Counts, SMALL, SMALL, SMALL)


def values(counts: list[Counts], beta: float = 1.0) -> list[float]:
    return added_f1(counts, [0.0] * len(counts), [True] * len(counts), beta=beta)


def total(counts: list[Counts]) -> Counts:
    return sum(counts, Counts())


@given(st.lists(COUNTS, min_size=2, max_size=6))
def test_leaving_a_completion_out_changes_micro_f1_by_what_it_adds(counts: list[Counts]) -> None:
    found = values(counts)
    for i, own in enumerate(counts):
        others = total(counts[:i] + counts[i + 1 :])
        size = 2 * own.tp + own.fp + own.fn
        rest = 2 * others.tp + others.fp + others.fn
        if not rest:
            continue
        change = total(counts).f1 - others.f1
        mean = max(1.0, rest / (len(counts) - 1))
        assert found[i] == pytest.approx(total(counts).f1 + change * (size + rest) / mean)


def test_the_mean_over_a_batch_is_near_its_micro_f1() -> None:
    rng = random.Random(0)
    counts = [Counts(rng.randrange(4), rng.randrange(3), rng.randrange(4)) for _ in range(256)]
    assert np.mean(values(counts)) == pytest.approx(total(counts).f1, abs=0.01)


def test_one_completion_alone_earns_its_own_f1() -> None:
    assert values([Counts(2, 1, 1)]) == [Counts(2, 1, 1).f1]
    assert values([Counts()]) == [1.0]


@given(st.lists(COUNTS, min_size=2, max_size=6), st.sampled_from([0.5, 1.0, 2.0]))
def test_an_item_pays_exactly_above_half_of_the_f1_of_the_others(
    counts: list[Counts], beta: float
) -> None:
    """Linear in the completion's own counts: a right item and a wrong one each have one price."""
    # Without the level of the batch, which is the same for all completions of it.
    silent, right, wrong = (
        values([*counts, own], beta)[-1] - level_of([*counts, own], beta)
        for own in (Counts(0, 0, 3), Counts(1, 0, 2), Counts(0, 1, 3))
    )
    others = total(counts)
    weight = beta * beta
    size = weight * (others.tp + others.fn) + others.tp + others.fp
    price = (1 + weight) * others.tp / size if size else 1.0
    mean = max(1.0, size / len(counts))
    assert right - silent == pytest.approx((1 + weight - price) / mean)
    assert wrong - silent == pytest.approx(-price / mean)


def level_of(counts: list[Counts], beta: float) -> float:
    weight, all_ = beta * beta, total(counts)
    size = weight * (all_.tp + all_.fn) + all_.tp + all_.fp
    return (1 + weight) * all_.tp / size if size else 1.0


@given(st.lists(COUNTS, min_size=1, max_size=5), COUNTS)
def test_failing_to_write_a_graph_never_earns_more_than_silence(
    counts: list[Counts], own: Counts
) -> None:
    silent = Counts(0, 0, own.tp + own.fn)
    flags = [True] * len(counts)
    near = [0.0] * (len(counts) + 1)
    fails = added_f1([*counts, silent], near, [*flags, False], beta=1.0)[-1]
    says_nothing = added_f1([*counts, silent], near, [*flags, True], beta=1.0)[-1]
    assert fails <= says_nothing


# A weak policy: each of WIDTH places of a record is written with chance q, and what stands there is
# right with chance `skill` where the gold has a relation there. 27 % of the records have none.
WIDTH = 4
SKILLS = (0.01, 0.03, 0.1, 0.3, 0.6, 0.9)
CHANCES = (0.05, 0.3, 0.6, 0.9)


def weak_batch(
    rng: np.random.Generator, q: float, skill: float
) -> tuple[list[list[Counts]], np.ndarray]:
    """Counts of relations [32][8], and how many places each completion wrote [32, 8]."""
    gold = np.where(rng.random(32) < 0.27, 0, rng.integers(1, WIDTH + 1, 32))
    wrote = rng.random((32, 8, WIDTH)) < q
    is_gold = (np.arange(WIDTH) < gold[:, None])[:, None]
    right = (wrote & is_gold & (rng.random(wrote.shape) < skill)).sum(-1)
    written = wrote.sum(-1)
    counts = [
        [Counts(int(t), int(p - t), int(g - t)) for t, p in zip(ts, ps, strict=True)]
        for ts, ps, g in zip(right, written, gold, strict=True)
    ]
    return counts, written


def push_to_write(advantage: str, level: str, q: float, skill: float, batches: int) -> float:
    """Policy gradient with respect to the logit of writing, over its standard error."""
    rng = np.random.default_rng(0)
    pushes = []
    for _ in range(batches):
        counts, written = weak_batch(rng, q, skill)
        if level == "batch":
            flat = values([own for group in counts for own in group])
            rewards = [flat[i : i + 8] for i in range(0, len(flat), 8)]
        else:
            rewards = [[own.f1 for own in group] for group in counts]
        advantages = np.array(ADVANTAGES[advantage](rewards))
        pushes.append((advantages * (written - WIDTH * q)).mean())
    return float(np.mean(pushes) / (np.std(pushes) / np.sqrt(batches)))


@pytest.mark.parametrize("advantage", ["group_mean", "leave_one_out", "group_mean_batch_std"])
@pytest.mark.parametrize("skill", SKILLS)
def test_silence_pays_for_no_weak_policy(skill: float, advantage: str) -> None:
    for q in CHANCES:
        assert push_to_write(advantage, "batch", q, skill, batches=60) > 0, q


def test_with_f1_of_the_record_or_scaled_groups_it_does() -> None:
    """The reasons for level batch, and for refusing group_std with it."""
    assert push_to_write("group_mean", "record", 0.3, 0.1, batches=60) < -5
    assert push_to_write("group_std", "batch", 0.3, 0.1, batches=60) < -5


def test_expected_rewards_order_policies_as_micro_f1_does() -> None:
    """Policies side by side in one batch: whoever has the higher F1 has the higher mean reward."""
    rng = np.random.default_rng(1)
    policies = list(itertools.product((0.0, *CHANCES), (0.1, 0.4, 0.8)))
    counts = [[own for group in weak_batch(rng, *p)[0] for own in group] for p in policies]
    for one, other in itertools.combinations(range(len(policies)), 2):
        f1 = total(counts[one]).f1, total(counts[other]).f1
        found = values([*counts[one], *counts[other]])
        means = np.mean(found[: len(counts[one])]), np.mean(found[len(counts[one]) :])
        if abs(f1[0] - f1[1]) > 0.02:
            assert (f1[0] > f1[1]) == (means[0] > means[1]), (policies[one], policies[other])


@pytest.mark.parametrize("level", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
def test_hedging_pays_what_its_expected_f1_says_and_no_more(level: float) -> None:
    """k guesses at one item of which one is right, against one guess: all pairs up to 6."""
    tp = round(100 * level)
    others = [Counts(1, 0, 0)] * tp + [Counts(0, 1, 1)] * (100 - tp)
    for k in range(2, 7):
        hedge = values([*others, Counts(1, k - 1, 0)])[-1]
        guess = values([*others, Counts(1, 0, 0)])[-1] / k
        guess += values([*others, Counts(0, 1, 1)])[-1] * (k - 1) / k
        # The change of micro F1 per completion if all did the same.
        gain = (2 - level * (1 + k)) - (2 / k - level * 2)
        assert hedge - guess == pytest.approx(gain / 2, abs=0.03)


def batch() -> list[GroupSummary]:
    rows = [((2, 0, 0, 1, 0, 0), (1, 1, 1, 0, 1, 1)), ((0, 1, 2, 0, 0, 0), (0, 0, 2, 0, 1, 0))]
    return [
        group_summary(
            index,
            (9.0, 9.0),
            base=(0.1, 0.2),
            counts=tuple(GraphCounts.from_row(row) for row in pair),
            near=((0.5, 0.0), (0.0, 0.5)),
            parts={"f1_entities": 9.0, "json": 0.5},
        )
        for index, pair in enumerate(rows)
    ]


def test_a_batch_is_priced_part_by_part_and_keeps_the_rest_of_each_reward() -> None:
    spec = RewardSpec({"f1_entities": 2.0, "soft_relations": 0.5, "json": 1.0})
    priced = price_batch(batch(), spec)
    counts = [own for s in batch() for own in s.counts]
    near = [pair[1] for s in batch() for pair in s.near]
    entities = values([own.entities for own in counts])
    relations = added_f1([own.relations for own in counts], near, [True] * 4, beta=1.0)
    expected = [2 * e + 0.5 * r for e, r in zip(entities, relations, strict=True)]
    found = [reward for s in priced for reward in s.rewards]
    assert found == pytest.approx([e + b for e, b in zip(expected, [0.1, 0.2] * 2, strict=True)])
    assert priced[0].parts["f1_entities"] == pytest.approx(np.mean(entities[:2]))
    assert priced[0].parts["json"] == 0.5
    assert [s.index for s in priced] == [0, 1]


def test_completions_that_were_not_graded_have_no_part_in_it() -> None:
    whole = batch()
    masked = dataclasses.replace(
        whole[0],
        is_valid=(True, False),
        counts=(whole[0].counts[0], GraphCounts.from_row((50,) * 6)),
    )
    alone = dataclasses.replace(
        whole[0],
        rewards=(9.0,),
        base=(0.1,),
        counts=whole[0].counts[:1],
        near=whole[0].near[:1],
        has_graph=(True,),
        is_valid=(True,),
    )
    with_mask, without = price_batch([masked, whole[1]], F1), price_batch([alone, whole[1]], F1)
    assert with_mask[0].rewards[0] == without[0].rewards[0]
    assert with_mask[1].rewards == without[1].rewards
    nothing = dataclasses.replace(masked, is_valid=(False, False), parts={})
    assert price_batch([nothing], F1) == [nothing]


@pytest.mark.parametrize("name", PRESETS)
def test_at_the_level_of_the_record_nothing_changes(name: str) -> None:
    spec = dataclasses.replace(preset(name), level="record")
    assert price_batch(batch(), spec) == batch()
