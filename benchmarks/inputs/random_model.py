"""Size -> a folder with a model of that shape, random weights and the embedded tokenizer.

The weights are scaled so that the model has clear preferences, as a trained one has: next to a
model that likes all tokens alike, hardly any fault would move a probability.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

Dtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder: Qwen2 has biases in attention, Qwen3 norms of queries and keys."""

    hidden: int
    layers: int
    heads: int
    key_heads: int
    head_size: int
    vocabulary: int
    """0: the tokenizer's."""
    inner: int | None = None
    """Width of the feed-forward layers; None: three times `hidden`."""
    kind: Literal["qwen2", "qwen3"] = "qwen3"
    positions: int = 1024


def _qwen3(
    hidden: int, layers: int, heads: int, key_heads: int, head_size: int, vocabulary: int
) -> Shape:
    return Shape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        key_heads=key_heads,
        head_size=head_size,
        vocabulary=vocabulary,
    )


def _qwen2(hidden: int, layers: int, heads: int, inner: int) -> Shape:
    return Shape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        key_heads=2,
        head_size=hidden // heads,
        vocabulary=151_936,
        inner=inner,
        kind="qwen2",
        positions=4096,
    )


SIZES = {
    "demo": _qwen3(64, 3, 2, 2, 32, 0),
    "10m": _qwen3(256, 8, 4, 2, 64, 8_192),
    "100m": _qwen3(768, 10, 12, 4, 64, 32_768),
    "500m": _qwen3(1024, 28, 16, 8, 128, 49_152),
}
"""What the weight sync is measured with."""
REAL_SHAPES = {
    # But for its norms of queries and keys, which it has not.
    "smollm2-135m": replace(_qwen3(576, 30, 9, 3, 64, 49_152), inner=1536),
    "qwen2.5-0.5b": _qwen2(896, 24, 14, 4864),
    "qwen2.5-1.5b": _qwen2(1536, 28, 12, 8960),
}
"""Shapes of released models, for speed that means something outside of this project."""
SHAPES: Mapping[str, Shape] = {**SIZES, **REAL_SHAPES}


def write_random_model(folder: Path, size: str, *, dtype: Dtype = "float32") -> str:
    """Write the model of this size and return the folder.

    Raises ValueError for a size that is not one of SHAPES.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    from t2g_ray.records.corpus import build_tokenizer

    if size not in SHAPES:
        raise ValueError(f"a size must be one of {', '.join(SHAPES)}, found {size!r}; choose one")
    tokenizer = build_tokenizer()
    config = _config(SHAPES[size], len(tokenizer), dtype)
    with torch.device("meta"):
        shapes = AutoModelForCausalLM.from_config(config).named_parameters()
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: _random(name, shape.shape, generator).to(getattr(torch, dtype))
        for name, shape in shapes
    }
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def _random(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    import torch

    noise = torch.randn(shape, generator=generator)
    if name.endswith("norm.weight"):
        # If all were 1, a sync that forgot one would go unnoticed.
        return noise.mul_(0.1).add_(1.0)
    if noise.ndim == 1:
        return noise.mul_(0.02)
    # A row of the tied head gives logits with a spread of 2.
    gain = 2.0 if "embed" in name else 1.0
    scaled: torch.Tensor = noise.mul_(gain * noise.shape[1] ** -0.5)
    return scaled


def _config(shape: Shape, tokenizer_size: int, dtype: Dtype) -> PretrainedConfig:
    from transformers import AutoConfig

    config: PretrainedConfig = AutoConfig.for_model(
        shape.kind,
        vocab_size=shape.vocabulary or tokenizer_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner or 3 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        head_dim=shape.head_size,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
        dtype=dtype,
    )
    config.architectures = ["Qwen2ForCausalLM" if shape.kind == "qwen2" else "Qwen3ForCausalLM"]
    return config
