"""Name or folder of a model -> the widths that its memory and its work follow from.

Models other than decoders of attention and gated feed-forward layers have no shape.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from t2g_ray.config import LearnerConfig
from t2g_ray.model.fetch import hub
from t2g_ray.model.heads import heads_of
from t2g_ray.model.source import is_embedded


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
    head_size: int = 128
    """Width of one head of attention."""
    experts: int = 1
    active: int = 1
    """Experts that a token goes through."""

    @property
    def parameters(self) -> int:
        """Matrices only; vectors are below a thousandth of them."""
        return self._of_layers(self.experts) + self.head * (1 if self.is_tied else 2)

    @property
    def active_parameters(self) -> int:
        """Those that one token is multiplied with, the head's among them."""
        return self.body_parameters + self.head

    @property
    def body_parameters(self) -> int:
        """Of the layers, as many as a token goes through."""
        return self._of_layers(self.active)

    def _of_layers(self, experts: int) -> int:
        attention = 2 * self.hidden * (self.queries + self.keys)
        forward = experts * 3 * self.hidden * self.inner
        return self.layers * (attention + forward)

    @property
    def head(self) -> int:
        """Numbers of the vocabulary's matrix."""
        return self.vocab * self.hidden

    @property
    def key_numbers(self) -> int:
        """Keys and values of one token, in all layers."""
        return 2 * self.layers * self.keys

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


def _dense(
    layers: int,
    hidden: int,
    inner: int,
    queries: int,
    keys: int,
    head_size: int = 128,
    *,
    vocab: int = 151_936,
    is_tied: bool = False,
) -> ModelShape:
    return ModelShape(
        layers=layers,
        hidden=hidden,
        inner=inner,
        queries=queries * head_size,
        keys=keys * head_size,
        vocab=vocab,
        is_tied=is_tied,
        head_size=head_size,
    )


PUBLISHED = {
    "HuggingFaceTB/SmolLM2-135M": _dense(30, 576, 1536, 9, 3, 64, vocab=49_152, is_tied=True),
    "Qwen/Qwen2.5-0.5B": _dense(24, 896, 4864, 14, 2, 64, is_tied=True),
    "Qwen/Qwen2.5-1.5B": _dense(28, 1536, 8960, 12, 2, is_tied=True),
    "Qwen/Qwen2.5-3B": _dense(36, 2048, 11_008, 16, 2, is_tied=True),
    "Qwen/Qwen2.5-7B": _dense(28, 3584, 18_944, 28, 4, vocab=152_064),
    "Qwen/Qwen2.5-14B": _dense(48, 5120, 13_824, 40, 8, vocab=152_064),
    "Qwen/Qwen2.5-32B": _dense(64, 5120, 27_648, 40, 8, vocab=152_064),
    "Qwen/Qwen3-30B-A3B": replace(_dense(48, 2048, 768, 32, 4), experts=128, active=8),
}
"""Shapes of released models, as their configurations give them: for those that are not here."""


BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Of one number."""


def trained_parameters(learner: LearnerConfig, shape: ModelShape) -> int:
    """Those that the optimiser moves."""
    return shape.adapters(learner.lora.rank) if learner.lora.rank else shape.parameters


def read_shape(model: str) -> ModelShape | None:
    """The shape of the embedded policy, of a released model by its hub name (its `-Instruct` has
    the same), or of a model on this machine; None where it is not here or of another kind."""
    if is_embedded(model):
        return _embedded()
    name, _, revision = model.partition("@") if hub.is_hub_name(model) else (model, "", "")
    if (known := PUBLISHED.get(name.removesuffix("-Instruct"))) is not None:
        return known
    from transformers import AutoConfig

    here = {"local_files_only": True, "revision": revision or "main"}
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False, **here)
    except (OSError, ValueError):
        return None  # not here, or of a kind that transformers does not know
    return shape_of(config)


def _embedded() -> ModelShape | None:
    from t2g_ray.model.policy import build_tiny_policy
    from t2g_ray.records.corpus import build_tokenizer

    return shape_of(build_tiny_policy(build_tokenizer(), seed=0).config)


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
        head_size=heads.size,
        experts=experts or 1,
        active=config.num_experts_per_tok if experts else 1,
    )
