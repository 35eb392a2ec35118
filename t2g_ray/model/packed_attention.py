"""A Hugging Face model -> the same model reading packed rows, where it can.

The attention of the model is replaced through Hugging Face's attention interface by one of two that
read a row as its `Packing` says: torch's own attention on padded calls, or a kernel for sequences
of unlike length. A prompt is computed once; its keys serve every completion and collect all their
gradients.

Invariant: a model is switched only after its states agreed, packed and one row at a time.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from t2g_ray.model.attention.choice import kernel_for, no_kernel
from t2g_ray.model.attention.merged import merged_attention
from t2g_ray.model.attention.proof import check_kernel
from t2g_ray.model.heads import heads_of
from t2g_ray.model.packing import Packing, Segment
from t2g_ray.model.probe import TOLERANCE, relative_difference

NAME = "t2g_packed"
AttentionName = Literal["padded", "varlen"]
"""Values of `learner.attention`."""


class NotPackedError(ValueError):
    """Packed attention was called without a packing."""


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one row [1, heads, L, dim] -> [1, L, heads, dim], by padded calls.

    No mask arrives, because none is registered under this name. `more` is what a layer passes to
    any attention (dropout, scaling).
    """
    padded, outputs = _given(packing).padded, []
    for call in padded.calls:
        queries = _lay_out(query, call.queries)
        keys, values = (_lay_out(states, call.keys) for states in (key, value))
        output, _ = sdpa_attention_forward(module, queries, keys, values, call.mask, **more)
        outputs.append(output.flatten(0, 1))
    rows = torch.cat(outputs)
    restored = functional.embedding(padded.restore, rows.flatten(1))
    return restored.view(1, -1, *rows.shape[1:]), None


def _lay_out(states: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """[1, heads, L, dim] and [S, C] -> [S, heads, C, dim]; the same with P for C."""
    rows = states[0].transpose(0, 1)
    # Not by indexing: the backward pass of an embedding also adds up rows that were read many
    # times, and is much faster on CPUs.
    taken = functional.embedding(indices, rows.flatten(1))
    return taken.view(*indices.shape, *rows.shape[1:]).transpose(1, 2)


def varlen_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """As `packed_attention`, without padding, by the kernel for its device.

    Raises NoKernelError for dropout, and for values of another size than queries: no kernel here
    computes them.
    """
    _check_dropout(dropout)
    size = query.shape[-1]
    if value.shape[-1] != size:
        raise no_kernel(f"heads of queries have size {size} and those of values {value.shape[-1]}")
    kernel = kernel_for(query.device, query.dtype, size)
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))
    scale = size**-0.5 if scaling is None else scaling
    return merged_attention(q, k, v, _given(packing).ragged, kernel, scale)[None], None


def _check_dropout(dropout: float) -> None:
    if dropout:
        raise no_kernel(f"the model asks for dropout of {dropout:g} in attention, which none has")


def _given(packing: Packing | None) -> Packing:
    if packing is None:
        raise NotPackedError(
            f"attention {NAME!r} must be called with a packing, found none; load the model again "
            "to read it without one"
        )
    return packing


NAMES: dict[AttentionName, str] = {"padded": NAME, "varlen": "t2g_varlen"}
"""Hugging Face's name of each."""
AttentionInterface.register(NAMES["padded"], packed_attention)
AttentionInterface.register(NAMES["varlen"], varlen_attention)


def enable_packing(
    policy: PreTrainedModel,
    attention: AttentionName = "padded",
    device: torch.device | None = None,
) -> str | None:
    """Let `policy` read packed rows only; where it cannot, leave it alone and return the reason.

    What is known not to work is refused first. Any other model must show, in a probe with its own
    weights where they lie, that two completions of one prompt get the same states as each does
    alone. `device` is where it will train, if elsewhere: a kernel is probed there.

    Raises NoKernelError where `varlen` is asked for and no kernel computes it.
    """
    if reason := _known_obstacle(policy):
        return reason
    if attention == "varlen":
        _check_kernel(policy, device or policy.device)
    ids = torch.arange(11, device=policy.device) % policy.config.get_text_config().vocab_size
    row, packing = ids.tolist(), _PROBED.to(policy.device)
    decoder, before = policy.base_model, policy.config._attn_implementation
    with torch.no_grad():
        alone = [decoder(ids[None, :9], use_cache=False).last_hidden_state[0]]
        second = torch.tensor([row[:5] + row[9:]], device=policy.device)
        alone += [decoder(second, use_cache=False).last_hidden_state[0, 5:]]
        policy.set_attn_implementation(NAMES[attention])
        try:
            found = decoder(
                ids[None], position_ids=packing.position_ids, use_cache=False, packing=packing
            ).last_hidden_state[0]
        except NotPackedError:
            policy.set_attn_implementation(before)
            return "its layers hand no keyword arguments to their attention"
    expected = torch.cat(alone)
    difference = relative_difference(found, expected)
    if difference <= TOLERANCE[expected.dtype]:
        return None
    policy.set_attn_implementation(before)
    return f"its states differ by {difference:.2g} of their size when they are packed"


_PROBED = Packing(
    segments=(
        Segment(start=0, length=5),
        Segment(start=5, length=4, prefix_start=0, prefix_length=5),
        Segment(start=9, length=2, prefix_start=0, prefix_length=5),
    )
)


def _check_kernel(policy: PreTrainedModel, device: torch.device) -> None:
    config = policy.config.get_text_config()
    for name in ("attention_dropout", "attn_pdrop"):
        _check_dropout(getattr(config, name, 0.0))
    heads = heads_of(config)
    if heads is None:
        raise no_kernel(f"{type(config).__name__} does not say how many heads attention has")
    kernel = kernel_for(device, policy.dtype, heads.size)
    numbers = heads.queries, heads.keys
    check_kernel(kernel, device, policy.dtype, heads=numbers, size=heads.size)


def _known_obstacle(policy: PreTrainedModel) -> str | None:
    config = policy.config.get_text_config()
    if not policy._supports_attention_backend:
        return "its attention does not use Hugging Face's attention interface"
    if policy._is_stateful:
        return "it has recurrent layers"
    # The probe is shorter than any window, so it could not show one.
    has_window = getattr(config, "sliding_window", None) is not None
    kinds = getattr(config, "layer_types", None) or ["sliding" if has_window else "full_attention"]
    if set(kinds) != {"full_attention"}:
        return "it has layers that do not see all tokens before them"
    return None
