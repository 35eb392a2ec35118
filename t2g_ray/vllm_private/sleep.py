"""vLLM's sleep: an engine's memory given up and taken again, at the addresses it had.

Level 2 discards weights and KV cache. vLLM keeps the buffers of a model (tables of rotary
positions, scales) on the host and puts them back with the weights; the weights themselves have no
content until they are loaded. CUDA graphs stay, since addresses do, and so does their own memory.
The prefix cache is emptied. Between `take_weights` and `take_cache` the scheduler stands still.

On a CPU vLLM changes the state of its engine in the same way and frees nothing. The calls have not
yet run on a GPU. Read in 0.32.0: `LLMEngine.sleep`, `EngineCore.sleep`, `Worker.sleep` and
`CuMemAllocator`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine

DISCARD_WEIGHTS = 2


def fall_asleep(engine: LLMEngine) -> None:
    """Give up weights and cache. Groups being written would be lost: there must be none."""
    engine.sleep(level=DISCARD_WEIGHTS)


def take_weights(engine: LLMEngine) -> None:
    """Take memory for weights, without content."""
    engine.wake_up(["weights"])


def take_cache(engine: LLMEngine) -> None:
    """Take memory for the KV cache; the engine writes again."""
    engine.wake_up(["kv_cache"])
