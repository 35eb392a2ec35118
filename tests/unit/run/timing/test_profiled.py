"""When an engine is profiled."""

from __future__ import annotations

from pathlib import Path

from t2g_ray.run.timing.profiled import EngineProfiler, Profiled

WANTED = Profiled(folder=Path("profile"), first=2, last=3, has_memory=False)


class Engine:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def start_profile(self, profile_prefix: str | None = None) -> None:
        self.calls.append(f"start {profile_prefix}")

    def stop_profile(self) -> None:
        self.calls.append("stop")


def calls_at(versions: list[int], wanted: Profiled | None = WANTED) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    engine = Engine()
    profiler = EngineProfiler(engine, wanted, "rollout-0")
    for version in versions:
        profiler.at_version(version)
        found += [(version, call) for call in engine.calls]
        engine.calls.clear()
    return found


def test_an_engine_is_profiled_from_the_weights_of_the_first_step_to_those_after_the_last() -> None:
    assert calls_at([0, 1, 2, 3, 4]) == [(1, "start rollout-0"), (3, "stop")]


def test_a_run_that_resumes_inside_or_behind_the_range_records_what_is_left() -> None:
    assert calls_at([2, 3]) == [(2, "start rollout-0"), (3, "stop")]
    assert calls_at([3, 4]) == []
    assert calls_at([0, 1, 2], None) == []
