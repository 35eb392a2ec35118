"""Name or folder -> a causal language model and its tokenizer; the tiny embedded policy.

Invariant: what `save_policy` wrote, `load_policy` and AutoModelForCausalLM read back unchanged.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from t2g_ray.config import StageConfig, read_tree
from t2g_ray.model.files.sharded import read_sharded
from t2g_ray.model.source import folder_of_model, is_embedded, pinned_model, reading
from t2g_ray.run.folder import RunDir

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Qwen3ForCausalLM

AnyStage = TypeVar("AnyStage", bound=StageConfig)

MAX_POSITIONS = 1024
EMBEDDING_STD = 0.1
"""Wider than the usual 0.02: names then differ enough for copying to form sooner."""


def build_tiny_policy(tokenizer: PreTrainedTokenizerBase, *, seed: int) -> Qwen3ForCausalLM:
    """An untrained fp32 policy of 0.2 M parameters, the same for one seed (to rounding everywhere).

    The random state of the caller is left as it was.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = Qwen3ForCausalLM(config)
        torch.nn.init.normal_(policy.model.embed_tokens.weight, std=EMBEDDING_STD)
    return policy


def save_policy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: str | Path
) -> None:
    """Write both to one folder in the Hugging Face layout; the folder is made where missing."""
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)


def load_policy(
    path_or_name: str | Path, dtype: torch.dtype | None = None, *, is_sharded: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read a causal language model and its tokenizer, from a folder or by its hub name.

    Without `dtype` the weights keep the one they were saved in. `is_sharded`: each rank keeps a
    part of each parameter (`sharded.py`); collective, and needs `dtype`. Code that comes with a
    model is never run. Raises ValueError where nothing loadable is found.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with reading(str(path_or_name)):
        if is_sharded and dtype is not None:
            model = read_sharded(path_or_name, dtype=dtype)
        else:
            model = AutoModelForCausalLM.from_pretrained(
                path_or_name, dtype=dtype or "auto", trust_remote_code=False
            )
        tokenizer = AutoTokenizer.from_pretrained(path_or_name, trust_remote_code=False)
    return model, tokenizer


def pin_model(config: AnyStage, run_dir: RunDir) -> AnyStage:
    """The configuration with a model that keeps its meaning, see `pinned_model`; config.yaml says
    what an earlier start of the run found."""
    earlier = read_tree(run_dir.config).get("model", "") if run_dir.config.is_file() else ""
    model = pinned_model(config.model, str(earlier))
    return config.model_copy(update={"model": model})


def resolve_model(config: StageConfig, run_dir: RunDir) -> str:
    """Folder of the model to start from; the name of one that is not pinned.

    The untrained tiny policy is written to the run folder once; a later call finds it there.
    """
    if not is_embedded(config.model):
        return folder_of_model(config.model)
    folder = run_dir.initial_model
    if not folder.exists():
        from t2g_ray.records.corpus import build_tokenizer

        temporary = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(temporary, ignore_errors=True)
        tokenizer = build_tokenizer()
        save_policy(build_tiny_policy(tokenizer, seed=config.seed), tokenizer, temporary)
        temporary.rename(folder)
    return str(folder)
