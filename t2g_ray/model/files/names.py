"""Tensors as a model keeps them -> as its checkpoints name them, which is what samplers know.

Some architectures keep what a checkpoint has as many tensors in one: all experts of a layer, for
instance. Hugging Face knows the way back of each.

Invariant: the names and values are those that `save_pretrained` would write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def as_saved(policy: PreTrainedModel, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The policy's tensors under the names, and in the shapes, that a checkpoint has.

    All parameters that one tensor of a checkpoint is made from must come together.
    """
    from transformers.core_model_loading import revert_weight_conversion

    saved: Mapping[str, Tensor] = revert_weight_conversion(policy, dict(tensors)) if tensors else {}
    return saved


def checkpoint_tensors(
    policy: PreTrainedModel, name: str, tensor: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """One of the policy's tensors under its names in a checkpoint."""
    yield from as_saved(policy, {name: tensor}).items()
