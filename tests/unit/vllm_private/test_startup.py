"""What is timed of an engine's start exists, and is left as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from t2g_ray.run.timing.startup import part, take_spans
from t2g_ray.vllm_private.startup import PARTS, compile_seconds, timed_start
from t2g_ray.vllm_private.table import PRIVATE_PARTS


def test_the_timed_methods_of_an_executor_are_listed_and_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from vllm.v1.executor import Executor

    listed = {one.name for one in PRIVATE_PARTS if one.owner.endswith(":Executor")}
    assert listed == PARTS.keys() - {"__init__"}
    monkeypatch.setattr(Executor, "determine_available_memory", lambda self: [7])
    own = {name: getattr(Executor, name) for name in PARTS}
    take_spans("")
    with pytest.raises(RuntimeError), timed_start(part):
        blank: Any = object()
        assert Executor.determine_available_memory(blank) == [7]
        raise RuntimeError
    assert [span.name for span in take_spans("rollout/0")] == ["start: memory"]
    assert {name: getattr(Executor, name) for name in PARTS} == own


def test_compilation_is_counted_by_vllm() -> None:
    from vllm.config import CompilationConfig

    config = CompilationConfig()
    engine = SimpleNamespace(vllm_config=SimpleNamespace(compilation_config=config))
    assert compile_seconds(engine) == 0.0
    config.compilation_time = 3.0
    assert compile_seconds(engine) == 3.0
