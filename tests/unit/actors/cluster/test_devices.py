"""Who gets which device, and the table with which the rest is refused."""

from __future__ import annotations

from itertools import combinations_with_replacement
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cluster.devices import Demand, Node, PlacementError, Slot, device_table, plan_devices
from actors.cluster.placement import demands_of
from t2g_ray.config import GrpoConfig, load_config

CONFIGS = Path(__file__).resolve().parents[4] / "configs"
NUMBERS = ("x", "y", "z")


def nodes(*gpus: int, **roles: int) -> list[Node]:
    """Nodes with so many GPUs; `learner=1` keeps node 1 for learners."""
    return [
        Node(
            NUMBERS[i],
            {"CPU": 64.0, "GPU": float(n), **{r: 1.0 for r, at in roles.items() if at == i}},
        )
        for i, n in enumerate(gpus)
    ]


def learners(number: int, gpus: float = 1) -> list[Demand]:
    return [Demand("learner", i, 1, gpus) for i in range(number)]


def rollouts(number: int, gpus: float = 1) -> list[Demand]:
    return [Demand("rollout", i, 1, gpus) for i in range(number)]


def on_devices(slots: list[Slot]) -> list[str]:
    """ "x0+1: rollout/0 rollout/1" for each slot, in order."""
    return sorted(
        f"{NUMBERS[s.node]}{'+'.join(map(str, s.devices))}: {' '.join(h.actor for h in s.holders)}"
        for s in slots
    )


def test_learners_are_packed_on_one_node_and_rollouts_are_spread() -> None:
    assert on_devices(plan_devices(learners(2) + rollouts(4), nodes(4, 4))) == [
        "x0: learner/0",
        "x1: learner/1",
        "x2: rollout/1",
        "x3: rollout/3",
        "y0: rollout/0",
        "y1: rollout/2",
    ]


def test_learners_take_the_tightest_node_that_holds_them() -> None:
    assert on_devices(plan_devices(learners(2), nodes(8, 2))) == ["y0: learner/0", "y1: learner/1"]
    assert on_devices(plan_devices(learners(3), nodes(1, 2))) == [
        "x0: learner/2",
        "y0: learner/0",
        "y1: learner/1",
    ]


def test_a_learner_and_its_rollout_share_one_device() -> None:
    assert on_devices(plan_devices(learners(4, 0.5) + rollouts(4, 0.5), nodes(8))) == [
        f"x{i}: learner/{i} rollout/{i}" for i in range(4)
    ]


def test_further_rollouts_share_a_device_with_each_other() -> None:
    assert on_devices(plan_devices(learners(1, 0.5) + rollouts(3, 0.5), nodes(2))) == [
        "x0: learner/0 rollout/0",
        "x1: rollout/1 rollout/2",
    ]


def test_two_learner_ranks_never_share_a_device() -> None:
    with pytest.raises(PlacementError) as caught:
        plan_devices(learners(2, 0.5), nodes(1))
    assert (
        "learner/1 with 0.5 GPUs found none (1 GPUs asked for, 1 free devices; each learner "
        in (str(caught.value))
    )


def test_an_engine_has_all_its_devices_on_one_node() -> None:
    assert on_devices(plan_devices(rollouts(3, 2), nodes(3, 4))) == [
        "x0+1: rollout/1",
        "y0+1: rollout/0",
        "y2+3: rollout/2",
    ]
    with pytest.raises(PlacementError):
        plan_devices(rollouts(1, 2), nodes(1, 1))


def test_learners_leave_whole_nodes_to_engines_on_several_devices() -> None:
    # Packed on x, the learners would leave no pair of devices there.
    assert on_devices(plan_devices(learners(2) + rollouts(3, 2), nodes(3, 5))) == [
        "x0: learner/0",
        "x1+2: rollout/1",
        "y0: learner/1",
        "y1+2: rollout/0",
        "y3+4: rollout/2",
    ]


def test_shares_are_checked_for_each_device() -> None:
    with pytest.raises(PlacementError) as caught:
        plan_devices(rollouts(3, 0.6), nodes(2))
    assert str(caught.value).splitlines() == [
        "every actor must find its devices, on one node: rollout/2 with 0.6 GPUs found none "
        "(1.8 GPUs asked for, 2 free devices)",
        "  node  GPU  actors         free",
        "  x     0    rollout/0 0.6  0.4",
        "  x     1    rollout/1 0.6  0.4",
        "lower rollout.actors, rollout.gpus, or add nodes",
    ]


def test_nodes_that_are_kept_for_a_role_are_used_by_it_alone() -> None:
    asked = learners(2) + rollouts(2)
    marked = nodes(4, 2, 0, learner=0, rollout=1)
    assert on_devices(plan_devices(asked, marked)) == [
        "x0: learner/0",
        "x1: learner/1",
        "y0: rollout/0",
        "y1: rollout/1",
    ]
    with pytest.raises(PlacementError, match="rollout actors run only on y, kept for them"):
        plan_devices(learners(1) + rollouts(3), marked)


def test_devices_of_other_programs_are_left_alone_and_shown() -> None:
    busy = [Node("x", {"GPU": 4.0}, num_taken=3)]
    assert on_devices(plan_devices(learners(1), busy)) == ["x0: learner/0"]
    with pytest.raises(PlacementError, match=r"x +3 more +another program +0"):
        plan_devices(learners(2), busy)


def test_more_than_one_gpu_is_a_whole_number_of_them() -> None:
    with pytest.raises(PlacementError, match=r"found 1.5 for rollout/0; set rollout.gpus"):
        plan_devices(rollouts(1, 1.5), nodes(4))


def test_a_cluster_without_devices_holds_no_gpu_actor_and_all_others() -> None:
    assert plan_devices([Demand("learner", 0, 1, 0)], nodes(0)) == []
    with pytest.raises(PlacementError, match=r"x +none"):
        plan_devices(rollouts(1), nodes(0))
    with pytest.raises(PlacementError, match="0 free devices"):
        plan_devices(rollouts(1), [])


@pytest.mark.parametrize(
    ("name", "devices"),
    [
        ("gpu_1x", ["x0: learner/0 rollout/0"]),
        (
            "cluster_8x",
            [f"x{i}: learner/{i}" for i in range(4)] + [f"x{i + 4}: rollout/{i}" for i in range(4)],
        ),
    ],
)
def test_the_configurations_in_the_repository_have_a_place(name: str, devices: list[str]) -> None:
    config = load_config(GrpoConfig, CONFIGS / f"{name}.yaml", ())
    assert on_devices(plan_devices(demands_of(config), nodes(8))) == devices


def test_the_table_names_each_device_and_what_is_free_of_it() -> None:
    slots = plan_devices(
        learners(1, 0.25) + rollouts(1, 0.5) + [Demand("rollout", 1, 1, 2)], nodes(4)
    )
    rows = [line.split() for line in device_table(slots, nodes(4)).splitlines()]
    assert rows[1:] == [
        ["x", "0", "learner/0", "0.25,", "rollout/0", "0.5", "0.25"],
        ["x", "1", "rollout/1", "1", "0"],
        ["x", "2", "rollout/1", "1", "0"],
        ["x", "3", "1"],
    ]


def fits_somehow(num_learners: int, num_engines: int, size: int, room: list[int]) -> bool:
    """By trying every node for every learner rank."""
    for seats in combinations_with_replacement(range(len(room)), num_learners):
        left = [n - seats.count(i) for i, n in enumerate(room)]
        if min(left) >= 0 and sum(n // size for n in left) >= num_engines:
            return True
    return False


@given(
    num_learners=st.integers(0, 4),
    num_engines=st.integers(0, 4),
    size=st.integers(1, 4),
    room=st.lists(st.integers(0, 6), min_size=1, max_size=3),
)
def test_what_fits_in_some_way_is_placed_and_nothing_is_given_twice(
    num_learners: int, num_engines: int, size: int, room: list[int]
) -> None:
    asked = learners(num_learners) + rollouts(num_engines, size)
    if not fits_somehow(num_learners, num_engines, size, room):
        with pytest.raises(PlacementError):
            plan_devices(asked, nodes(*room))
        return
    slots = plan_devices(asked, nodes(*room))
    assert sorted(h.actor for s in slots for h in s.holders) == sorted(d.actor for d in asked)
    given_away = [(slot.node, device) for slot in slots for device in slot.devices]
    assert len(set(given_away)) == len(given_away)
    assert all(device < room[node] for node, device in given_away)
