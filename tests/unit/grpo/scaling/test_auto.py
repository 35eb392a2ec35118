"""Made-up runs under the rule: it follows both sides, keeps its bounds, goes not to and fro."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from t2g_ray.grpo.scaling.auto import FEWEST, AutoScale, Decision
from t2g_ray.run.scale_request import Bounds
from tests.unit.grpo.scaling.parts import MadeUpRun


def follow(
    run: MadeUpRun, auto: AutoScale, *, steps: int, start: int = 1, start_up: int = 0
) -> list[tuple[float, int]]:
    """(seconds, number) at the start and at each change; a newcomer takes `start_up` steps."""
    number, found = start, [(run.time_s, start)]
    for _ in range(steps):
        decision = auto.after_step(run.line(number), number)
        if decision is not None:
            if decision.wanted > number:
                for _ in range(start_up):
                    run.line(number)
            number = decision.wanted
            found.append((run.time_s, number))
    return found


def numbers(found: list[tuple[float, int]]) -> list[int]:
    return [number for _, number in found]


def rule(least: int, most: int, *, cool_down_s: float = 0.0, max_staleness: int = 1) -> AutoScale:
    return AutoScale(Bounds(least, most, cool_down_s), max_staleness=max_staleness)


def test_it_goes_up_and_down_and_up_with_a_learner_that_is_slowed_and_released() -> None:
    run, auto = MadeUpRun(generate_s=2.0, train_s=0.5), rule(1, 2)
    assert numbers(follow(run, auto, steps=30, start_up=5)) == [1, 2]
    run.train_s = 4.0
    assert numbers(follow(run, auto, steps=30, start=2)) == [2, 1]
    run.train_s = 0.5
    assert numbers(follow(run, auto, steps=30)) == [1, 2]


def test_it_stops_where_the_next_actor_does_not_pay() -> None:
    # The learner takes as long as 4 actors.
    run, auto = MadeUpRun(generate_s=8.0, train_s=2.0), rule(1, 16)
    assert numbers(follow(run, auto, steps=200)) == [1, 2, 3, 4]


def test_a_synchronous_run_gets_actors_for_as_long_as_writing_is_the_longer_part() -> None:
    run = MadeUpRun(generate_s=8.0, train_s=1.0, max_staleness=0)
    found = numbers(follow(run, rule(1, 16, max_staleness=0), steps=200))
    assert found == sorted(found)
    assert 4 <= found[-1] <= 8  # with n actors 8 / n s of writing, and 1 s of training


def test_a_reason_holds_the_figures() -> None:
    run, auto = MadeUpRun(generate_s=4.0, train_s=1.0), rule(1, 2)
    made = [auto.after_step(run.line(1), 1) for _ in range(20)]
    up = next(one for one in made if one is not None)
    assert up == Decision(
        2,
        "the learner waits 3.00 s or more of a step of 4.00 s; "
        "one more gives 1.00 of its ideal gain",
    )
    run.train_s = 5.0
    made = [auto.after_step(run.line(2), 2) for _ in range(20)]
    down = next(one for one in made if one is not None)
    assert down == Decision(
        1, "samplers write 2.00 s of a step of 5.00 s; the last one gives 0.00 of its ideal gain"
    )


def test_what_lies_outside_of_the_bounds_is_changed_at_once() -> None:
    run = MadeUpRun(generate_s=1.0, train_s=1.0)
    assert rule(3, 5, cool_down_s=600).after_step(run.line(1), 1) == Decision(
        3, "at least 3 are asked for"
    )
    assert rule(3, 5, cool_down_s=600).after_step(run.line(8), 8) == Decision(
        5, "at most 5 are asked for"
    )


def test_steps_that_began_with_another_number_are_not_looked_at() -> None:
    run = MadeUpRun(generate_s=8.0, train_s=1.0, max_staleness=2)
    auto = rule(1, 8, max_staleness=2)
    made = [auto.after_step(run.line(1), 1) for _ in range(2 + 2 + FEWEST)]
    assert [one is not None for one in made] == [False] * (2 + 2 + FEWEST - 1) + [True]


def test_changes_lie_a_cool_down_apart() -> None:
    run, auto = MadeUpRun(generate_s=9.0, train_s=0.1), rule(1, 6, cool_down_s=100.0)
    found = follow(run, auto, steps=600)
    assert numbers(found) == [1, 2, 3, 4, 5, 6]
    assert all(later - earlier >= 100 for (earlier, _), (later, _) in pairwise(found))


def test_steady_runs_go_one_way_and_come_to_rest_within_their_bounds_whatever_the_noise() -> None:
    turned = []
    for seed in range(60):
        chance = random.Random(seed)
        run = MadeUpRun(
            generate_s=chance.uniform(0.5, 30.0),
            train_s=chance.uniform(0.5, 5.0),
            alone_s=chance.choice([0.0, chance.uniform(0.0, 2.0)]),
            max_staleness=chance.choice([0, 1, 2]),
            noise=chance.choice([0.05, 0.1, 0.2]),
            chance=chance,
        )
        auto = rule(1, 12, max_staleness=run.max_staleness)
        found = numbers(follow(run, auto, steps=400, start=chance.choice([1, 6, 12])))
        assert all(1 <= number <= 12 for number in found)
        moves = [later - earlier for earlier, later in pairwise(found)]
        turned.append(sum(move != following for move, following in pairwise(moves)))
    # A step of the smallest size back, in a run of a hundred.
    assert sum(turned) <= 1


def test_single_stragglers_change_nothing() -> None:
    run, auto = MadeUpRun(generate_s=2.0, train_s=2.0), rule(1, 4)
    for step in range(100):
        line = run.line(1)
        if step % 4 == 0:
            line |= {"time/step_s": 60.0, "time/rollout_wait_s": 58.0, "idle/samplers": 0.0}
        assert auto.after_step(line, 1) is None


@pytest.mark.parametrize("number", [1, 2, 3])
def test_equal_bounds_hold_the_number(number: int) -> None:
    run = MadeUpRun(generate_s=9.0, train_s=0.1)
    assert set(numbers(follow(run, rule(2, 2), steps=60, start=number))[1:]) <= {2}
