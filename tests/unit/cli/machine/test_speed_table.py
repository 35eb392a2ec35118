"""What is told of a plan's time."""

from __future__ import annotations

import pytest

from t2g_ray.cli.machine.speed_table import print_speed, speed_lines
from t2g_ray.planning.speed.hardware import Hardware
from t2g_ray.planning.speed.plan import plan_speed
from tests.unit.planning.parts import H100, QWEN_7B, lengths, plan, rates, sft


def test_the_slow_side_is_named_with_the_number_of_actors_that_balances() -> None:
    slow = plan(max_staleness=1, learner={"ranks": 8})
    (told,) = [line for line in speed_lines(slow) if line.startswith("bottleneck")]
    assert told.startswith(f"bottleneck: the samplers, {slow.imbalance:.3g} times as long")
    assert told.endswith(f"{slow.balanced_rollouts} rollout actors balance it, rollout.actors is 1")
    quick = plan(max_staleness=1, rollout={"actors": 63})
    assert any(line.startswith("bottleneck: the learner") for line in speed_lines(quick))


def test_where_no_number_balances_the_reason_stands_below() -> None:
    lines = speed_lines(plan(colocate="time", rollout={"gpus": 0.5}, learner={"gpus": 0.5}))
    assert not any("balance it" in line for line in lines)
    assert any("on the learner's devices" in line for line in lines)


def test_sft_has_no_side_to_wait_for() -> None:
    speed = plan_speed(sft(), QWEN_7B, lengths(), Hardware(source=rates(engine=None)))
    assert not any("bottleneck" in line for line in speed_lines(speed))


def test_every_part_is_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    speed = plan(H100, learner={"ranks": 2}, eval={"every": 10}, checkpoint={"every": 10})
    print_speed(speed)
    printed = capsys.readouterr().out
    assert all(part.name in printed and part.bound in printed for part in speed.parts)
    assert "tokens/s, of which" in printed
