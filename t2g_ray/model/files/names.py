"""Tensors as a model keeps them -> as its checkpoints name them, which is what samplers know.

Some architectures keep what a checkpoint has as many tensors in one: all experts of a layer, for
instance. Hugging Face knows the way back of each.

Invariant: the names and values are those that `save_pretrained` would write.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def checkpoint_tensors(
    policy: PreTrainedModel, name: str, tensor: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """One of the policy's tensors under its names in a checkpoint."""
    from transformers.core_model_loading import revert_weight_conversion

    yield from revert_weight_conversion(policy, {name: tensor}).items()
