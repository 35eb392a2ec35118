"""Size -> a folder with a model of the Qwen3 shape, random weights and the embedded tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import Qwen3Config

SIZES = {
    "demo": (64, 3, 2, 2, 32, 0),
    "10m": (256, 8, 4, 2, 64, 8_192),
    "100m": (768, 10, 12, 4, 64, 32_768),
    "500m": (1024, 28, 16, 8, 128, 49_152),
}
"""Hidden size, layers, heads, key and value heads, head size, vocabulary (0: the tokenizer's)."""


def write_random_model(folder: Path, size: str) -> str:
    """Write the model of this size in fp32 and return the folder.

    Raises ValueError for a size that is not one of SIZES.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    from t2g_ray.records.corpus import build_tokenizer

    if size not in SIZES:
        raise ValueError(f"a size must be one of {', '.join(SIZES)}, found {size!r}; choose one")
    tokenizer = build_tokenizer()
    config = _config(size, len(tokenizer))
    with torch.device("meta"):
        shapes = AutoModelForCausalLM.from_config(config).named_parameters()
    generator = torch.Generator().manual_seed(0)
    # Norms too: if all were 1, a sync that forgot one would go unnoticed.
    tensors = {
        name: torch.randn(shape.shape, generator=generator).mul_(0.02) for name, shape in shapes
    }
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def _config(size: str, tokenizer_size: int) -> Qwen3Config:
    from transformers import Qwen3Config

    hidden, layers, heads, key_heads, head_size, vocabulary = SIZES[size]
    config = Qwen3Config(
        vocab_size=vocabulary or tokenizer_size,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        head_dim=head_size,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
        dtype="float32",
    )
    config.architectures = ["Qwen3ForCausalLM"]
    return config
