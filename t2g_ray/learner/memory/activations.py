"""What a forward pass keeps for its backward pass <-> host memory, each tensor as it comes.

With checkpointed layers that is the input of each layer. Invariant: a tensor comes back bit for
bit; parameters stay where they are, since their memory is not the pass's.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

Kept = tuple[torch.device, torch.Tensor]


def kept_on_host() -> saved_tensors_hooks:
    """A context for the forward pass; `backward` may run outside of it.

    As `torch.autograd.graph.save_on_cpu`, which would copy the matrix of the head as well. On a
    device with memory of its own not yet run.
    """
    return saved_tensors_hooks(_to_host, _back)


def _to_host(tensor: torch.Tensor) -> Kept | nn.Parameter:
    if isinstance(tensor, nn.Parameter):
        return tensor
    is_pinned = tensor.device.type == "cuda"
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=is_pinned)
    return tensor.device, host.copy_(tensor)


def _back(kept: Kept | nn.Parameter) -> torch.Tensor:
    if isinstance(kept, nn.Parameter):
        return kept
    device, host = kept
    return host.to(device, non_blocking=True)
