"""The start of an engine -> how long each part of it took.

model      workers, devices, and the model with its weights
memory     a pass as large as any, to see what is left for the cache
cache      the KV cache
warm-up    compilation, and CUDA graphs
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

PARTS: Mapping[str, str] = {
    "__init__": "model",
    "determine_available_memory": "memory",
    "initialize_from_config": "cache",
    "compile_or_warm_up_model": "warm-up",
}
"""Methods of vLLM's executor, in the order in which an engine calls them once, and what they do."""


Measure = Callable[[str], AbstractContextManager[None]]
"""The block is a part of this name."""


@contextmanager
def timed_start(measure: Measure) -> Iterator[None]:
    """Measure the parts of an engine that starts inside the block."""
    from vllm.v1.executor import Executor

    own = {method: getattr(Executor, method) for method in PARTS}
    try:
        for method, name in PARTS.items():
            setattr(Executor, method, _timed(own[method], name, measure))
        yield
    finally:
        for method, function in own.items():
            setattr(Executor, method, function)


def _timed(method: Callable[..., Any], name: str, measure: Measure) -> Callable[..., Any]:
    @functools.wraps(method)
    def timed(*arguments: Any, **keywords: Any) -> Any:
        with measure(name):
            return method(*arguments, **keywords)

    return timed


def compile_seconds(engine: Any) -> float:
    """What of `memory` and `warm-up` was compilation, by vLLM's count; 0 where nothing was, as on
    CPUs. Not yet run on a GPU."""
    return float(engine.vllm_config.compilation_config.compilation_time)
