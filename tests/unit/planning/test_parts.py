"""The words of a plan: what follows from them."""

from __future__ import annotations

from t2g_ray.planning.parts import Change, KvRoom, MemoryPart, MemoryPlace, Seat

PARTS = (MemoryPart("weights", 30, "learner/0"), MemoryPart("KV cache", 50, "rollout/0"))


def test_a_place_holds_the_sum_of_its_parts_and_fits_up_to_its_capacity() -> None:
    def place(capacity: int | None) -> MemoryPlace:
        return MemoryPlace("machine 0, GPU 0", 0, 0, capacity, PARTS)

    assert place(None).used == 80
    assert [place(capacity).fits for capacity in (79, 80, None)] == [False, True, True]


def test_only_whole_sequences_are_counted() -> None:
    room = KvRoom(num_bytes=299, sequence_bytes=100, sequence_tokens=10, max_sequences=8)
    assert room.sequences == 2


def test_the_role_is_in_the_name_of_an_actor() -> None:
    assert Seat("rollout/11", 0, (1, 2)).role == "rollout"


def test_a_change_is_written_as_a_command_line_takes_it() -> None:
    settings = {"learner.gradient_checkpointing": True, "learner.zero_stage": 3}
    written = "learner.gradient_checkpointing=true learner.zero_stage=3"
    assert Change(settings, ()).written == written
