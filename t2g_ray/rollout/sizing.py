"""The memory of a device beside a learner rank -> the share of it that an engine may take.

The engine starts after the learner computed its largest micro-batch and, where the two take turns,
left the device. What the device's driver counts as free then is the engine's, less what its own
process needs before vLLM looks. vLLM measures its weights, its largest pass and its CUDA graphs
within that share and makes the rest its KV cache, so no size has to be guessed; it counts what it
took itself, which is right only while no other process changes what it holds.
"""

from __future__ import annotations

import math
from typing import Any

from t2g_ray.model.heads import heads_of

GIB = 1 << 30

HEADROOM = GIB
"""Of a process that uses a GPU, before and beside what it allocates: its context and libraries."""


class NoRoom(ValueError):
    """A device that cannot hold an engine beside the learner: says what it needs and has."""


def engine_share(
    *, total: int, free: int, weights: int, longest: int, limit: float, headroom: int = HEADROOM
) -> float:
    """`gpu_memory_utilization` of an engine on a device with `free` of `total` bytes.

    `weights` and `longest` are the bytes of the engine's model and of the keys and values of one
    longest sequence, `limit` is the largest share that the user allows. Raises NoRoom where the two
    do not fit.
    """
    room = min(free - headroom, int(limit * total))
    if room <= weights + longest:
        raise NoRoom(
            "an engine beside a learner rank needs room for its weights and a KV cache of one "
            f"longest sequence, {_gib(weights)} + {_gib(longest)}, found {_gib(max(0, room))} of "
            f"{_gib(total)}: the learner's largest micro-batch leaves {_gib(free)}, less "
            f"{_gib(headroom)} for the engine's process, and rollout.gpu_memory_utilization="
            f"{limit:g} allows {_gib(int(limit * total))}; lower learner.token_budget or "
            "prompt.max_tokens, set learner.gradient_checkpointing=true or colocate=time, or give "
            "each a GPU of its own (colocate=off)"
        )
    # Rounded down: vLLM refuses to start where less is free than it was promised.
    return math.floor(room / total * 10_000) / 10_000


def check_learner_fits(*, total: int, free: int, held: int, peak: int) -> None:
    """Beside a sleeping engine the learner must find the memory that its largest micro-batch took.

    `held` of what is not free is the learner's own. Raises NoRoom.
    """
    if free + held < peak:
        raise NoRoom(
            "the learner must find the memory that its largest micro-batch takes while the engine "
            f"sleeps, {_gib(peak)}, found {_gib(free + held)} of {_gib(total)}: a sleeping engine "
            "keeps its process's context and its CUDA graphs; lower learner.token_budget, set "
            "learner.gradient_checkpointing=true, or rollout.engine={enforce_eager: true}"
        )


def sequence_bytes(model_config: Any, *, tokens: int, number_bytes: int) -> int:
    """Keys and values of `tokens` tokens, by a model's configuration in Hugging Face's format.

    0 for a model that keeps something else, such as compressed keys: vLLM then says what it needs.
    """
    text = model_config.get_text_config()
    heads = heads_of(text)
    if getattr(text, "kv_lora_rank", None) or heads is None:
        return 0
    return int(2 * text.num_hidden_layers * heads.keys * heads.size * tokens * number_bytes)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.2f} GiB"
