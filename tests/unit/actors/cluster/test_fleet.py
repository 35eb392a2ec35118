"""A number means one actor for as long as it lives."""

from __future__ import annotations

import pytest

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle
from actors.workers.rollout import RolloutActor


def handle(number: int) -> Handle[RolloutActor]:
    return Handle(f"rollout/{number}", object())


def test_who_joins_comes_last_and_who_leaves_was_last() -> None:
    first, second, third = (handle(number) for number in range(3))
    fleet = Fleet([first, second])
    fleet.add(third)
    assert (len(fleet), list(fleet), fleet[2]) == (3, [first, second, third], third)
    assert fleet.remove_last() is third
    assert list(fleet) == [first, second]


def test_a_fleet_keeps_a_list_of_its_own() -> None:
    handles = [handle(0)]
    fleet = Fleet(handles)
    handles.clear()
    assert len(fleet) == 1


def test_a_number_that_no_actor_has_is_an_error() -> None:
    with pytest.raises(IndexError):
        Fleet()[0]
