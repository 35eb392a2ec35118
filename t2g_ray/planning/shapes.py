"""Name or folder of a model -> the widths that its memory and its work follow from.

Models other than decoders of attention and gated feed-forward layers have no shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from t2g_ray.model.heads import heads_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Widths of a decoder. Example: Qwen2.5-1.5B has 28 layers, hidden 1536, inner 8960."""

    layers: int
    hidden: int
    inner: int
    """Width of a feed-forward layer; with experts, of one of them."""
    queries: int
    """Heads times their width; `keys` alike."""
    keys: int
    vocab: int
    is_tied: bool
    experts: int = 1
    active: int = 1
    """Experts that a token goes through."""

    @property
    def parameters(self) -> int:
        """Matrices only; vectors are below a thousandth of them."""
        attention = 2 * self.hidden * (self.queries + self.keys)
        forward = self.experts * 3 * self.hidden * self.inner
        embedding = self.vocab * self.hidden * (1 if self.is_tied else 2)
        return self.layers * (attention + forward) + embedding

    def adapters(self, rank: int) -> int:
        """Parameters of adapters of this rank on all layers."""
        ends = 2 * (2 * self.hidden + self.queries + self.keys)
        ends += self.experts * 3 * (self.hidden + self.inner)
        return self.layers * rank * ends

    def kept_by_layer(self, width: int) -> int:
        """Bytes that one layer keeps of one token for its backward pass; `width` bytes a number.

        Norms compute in fp32: each keeps its input and its result so, and its scaled result.
        """
        norms = 2 * (2 * 4 + width) * self.hidden
        attention = 3 * width * (self.queries + self.keys)
        forward = 4 * width * self.active * self.inner
        if self.experts > 1:
            forward += 2 * width * self.active * self.hidden
        return width * self.hidden + norms + attention + forward


def read_shape(model: str) -> ModelShape | None:
    """The shape of a model on this machine; None where it is not here or of another kind."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError):
        return None  # not here, or of a kind that transformers does not know
    return shape_of(config)


def shape_of(config: Any) -> ModelShape | None:
    """The shape in a configuration of transformers; None where it has not the usual fields."""
    inner = getattr(config, "moe_intermediate_size", None) or getattr(
        config, "intermediate_size", None
    )
    if not (inner and getattr(config, "hidden_size", None)) or (heads := heads_of(config)) is None:
        return None
    experts = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None)
    return ModelShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=inner,
        queries=heads.queries * heads.size,
        keys=heads.keys * heads.size,
        vocab=config.vocab_size,
        is_tied=bool(getattr(config, "tie_word_embeddings", False)),
        experts=experts or 1,
        active=config.num_experts_per_tok if experts else 1,
    )
