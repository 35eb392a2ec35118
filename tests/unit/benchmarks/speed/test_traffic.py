"""Messages of a sync, counted where they are sent, and the driver's memory at its peak."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cluster.handles import call_all
from benchmarks.speed.traffic import (
    CountingGroup,
    CountingHandle,
    PeakMemory,
    Traffic,
    num_references,
)

MIB = 2**20


class ObjectRef:
    """Named as Ray's."""


class Load:
    """Stands for a method of a handle of Ray's."""

    def remote(self, *arguments: Any, **keywords: Any) -> tuple[Any, Any]:
        return arguments, keywords


class Sampler:
    load = Load()


def load(sampler: Any, manifest: str, objects: list[ObjectRef], verify: bool) -> float:
    """The signature of the call."""
    raise NotImplementedError


@given(st.integers(0, 40), st.integers(1, 4))
def test_messages_grow_with_what_is_handed_over(num_objects: int, num_calls: int) -> None:
    traffic = Traffic()
    handle: CountingHandle[Any] = CountingHandle("rollout/0", Sampler(), traffic=traffic)
    objects = [ObjectRef() for _ in range(num_objects)]
    for _ in range(num_calls):
        sent: Any = handle.call(load, "manifest", objects, verify=False)
        assert sent.actor == "rollout/0"
        assert sent.reference == (("manifest", objects), {"verify": False})
    assert traffic.messages == num_calls * (1 + 2 * num_objects)


def test_calls_to_all_actors_count_each() -> None:
    traffic = Traffic()
    handles = [CountingHandle(f"rollout/{n}", Sampler(), traffic=traffic) for n in range(3)]
    call_all(handles, load, "manifest", [ObjectRef()], True)
    assert (traffic.calls, traffic.references) == (3, 3)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (None, 0),
        ("ObjectRef", 0),
        (ObjectRef(), 1),
        ([ObjectRef(), 1, (ObjectRef(),)], 2),
        ({"a": [ObjectRef()], "b": ObjectRef()}, 2),
        ([[], {}, ()], 0),
    ],
)
def test_references_are_found_wherever_they_are(value: object, count: int) -> None:
    assert num_references(value) == count


def test_broadcasts_over_a_link_count() -> None:
    class Group:
        def broadcast(self, tensor: int, root: int) -> int:
            return tensor + root

    group = CountingGroup(Group())
    assert [group.broadcast(1, 2), group.broadcast(3, 4)] == [3, 7]
    assert group.count == 2


@pytest.mark.skipif(not PeakMemory.is_kept, reason="this system keeps no peak that can be reset")
def test_memory_that_was_given_back_counts_and_begins_anew() -> None:
    memory = PeakMemory()
    memory.start()
    block = bytearray(64 * MIB)
    block[:] = b"x" * len(block)
    del block
    assert memory.growth() >= 48 * MIB
    memory.start()
    assert memory.growth() < 16 * MIB
