"""What vLLM is asked for, by the arguments that it takes."""

from __future__ import annotations

import inspect
from typing import Any

from t2g_ray.vllm_private.sleep import fall_asleep, take_cache, take_weights


class Engine:
    """Notes its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def sleep(self, level: int) -> None:
        self.calls.append(("sleep", level))

    def wake_up(self, tags: list[str]) -> None:
        self.calls.append(("wake_up", tags))


def test_weights_and_cache_are_discarded_together_and_taken_again_one_after_the_other() -> None:
    engine: Any = Engine()
    fall_asleep(engine)
    take_weights(engine)
    take_cache(engine)
    assert engine.calls == [("sleep", 2), ("wake_up", ["weights"]), ("wake_up", ["kv_cache"])]


def test_vllm_takes_these_arguments_and_knows_these_parts() -> None:
    from vllm.device_allocator import DEFERRABLE_TAGS
    from vllm.v1.engine.llm_engine import LLMEngine

    assert "level" in inspect.signature(LLMEngine.sleep).parameters
    assert next(iter(inspect.signature(LLMEngine.wake_up).parameters)) == "self"
    assert list(inspect.signature(LLMEngine.wake_up).parameters)[1] == "tags"
    assert set(DEFERRABLE_TAGS) == {"weights", "kv_cache"}
