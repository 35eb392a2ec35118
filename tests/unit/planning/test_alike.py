"""Places that hold the same are shown once."""

from __future__ import annotations

from t2g_ray.planning.alike import alike
from t2g_ray.planning.parts import MemoryPart, MemoryPlace


def gpu(machine: int, holder: str, num_bytes: int = 5) -> MemoryPlace:
    parts = (MemoryPart("weights", num_bytes, holder), MemoryPart("moments", 7, holder))
    return MemoryPlace(f"machine {machine} (x), GPU 0", machine, 0, 100, parts)


def test_equal_places_are_one_group_whoever_holds_them() -> None:
    groups = alike(
        [gpu(0, "rollout/0"), gpu(1, "rollout/11"), gpu(2, "rollout/2"), gpu(12, "reward/0", 6)]
    )
    titles = [group.title for group in groups]
    assert titles == ["3 x GPU of rollout/0 to rollout/11", "machine 12 (x), GPU 0 of reward/0"]


def test_a_device_and_a_machine_are_never_one_group() -> None:
    parts = gpu(0, "rollout/0").parts
    host = MemoryPlace("machine 0 (x), host", 0, None, 100, parts)
    groups = alike([gpu(0, "rollout/0"), host])
    assert [group.title for group in groups] == [
        "machine 0 (x), GPU 0 of rollout/0",
        "machine 0 (x), host",
    ]


def test_parts_of_one_role_are_added_up() -> None:
    parts = [MemoryPart("process", size, f"reward/{size}") for size in (2, 3)]
    free = MemoryPart("kept free", 1, "rollout.gpu_memory_utilization")
    (group,) = alike([MemoryPlace("machine 0 (x), host", 0, None, None, (*parts, free))])
    assert group.sums == {"reward: process": 5, "kept free": 1}
