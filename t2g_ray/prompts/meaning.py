"""Configuration, records, tokenizer and model -> the meaning of a run, which checkpoints keep.

Invariant: two runs with equal contents read the same records in the same order, show the policy the
same token ids, and start from the same files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import xxhash

from t2g_ray import __version__
from t2g_ray.config import GrpoConfig, PromptConfig, RewardSpec, StageConfig
from t2g_ray.prompts.load import LoadedSplit
from t2g_ray.prompts.messages import fitting_prompts
from t2g_ray.records.jsonl import record_to_dict
from t2g_ray.run.resume.meaning import Meaning, flat
from t2g_ray.types import Record

SHOWN_PROMPTS = 64
"""Prompts whose token ids are digested, beside all records and the tokenizer: they show whether
the program still writes the same prompts."""

_CHUNK = 1 << 24


def meaning_of(
    config: StageConfig,
    *,
    tokenizer: Any,
    model: str,
    train: Sequence[Record],
    heldout: Mapping[LoadedSplit, Sequence[Record]],
) -> Meaning:
    """The meaning of a run from its resolved inputs; `heldout` has a name for each split, `model`
    is a folder or a hub name with its commit."""
    contents = {
        "training records": _records(train),
        **{f"{split} records": _records(records) for split, records in heldout.items()},
        "prompts": _prompts(tokenizer, train, config.prompt),
        "tokenizer": _tokenizer(tokenizer),
        "starting model": _model(model),
    }
    noted = {"version of t2g_ray": __version__}
    if isinstance(config, GrpoConfig):
        contents["weights of the reward"] = json.dumps(asdict(config.reward_spec), sort_keys=True)
        noted |= _reward_code(config.reward_spec)
    return Meaning(
        stage="GRPO" if isinstance(config, GrpoConfig) else "SFT",
        settings=flat(config.model_dump(mode="json")),
        contents=contents,
        noted=noted,
    )


def _digest(parts: Iterable[bytes]) -> str:
    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))  # so that no two lists join to one
        digest.update(part)
    return digest.hexdigest()


def _plain(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _records(records: Sequence[Record]) -> str:
    digest = _digest(_plain(record_to_dict(record)) for record in records)
    return f"{len(records)} records, digest {digest}"


def _prompts(tokenizer: Any, records: Sequence[Record], config: PromptConfig) -> str:
    shown = list(fitting_prompts(tokenizer, records[:SHOWN_PROMPTS], config))
    digest = _digest(_plain([number, list(token_ids)]) for number, token_ids in shown)
    return f"the first {len(shown)}, digest {digest}"


def _tokenizer(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = {} if backend is None else json.loads(backend.to_str())
    for setting in ("truncation", "padding"):
        rules.pop(setting, None)  # of the last call, not of the tokenizer
    parts = [
        rules,
        tokenizer.get_vocab(),
        tokenizer.chat_template,
        {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
    ]
    return f"{len(tokenizer)} tokens, digest {_digest(_plain(part) for part in parts)}"


def _model(model: str) -> str:
    """Digest of the files of a folder that decide its weights, or a hub name with its commit."""
    folder = Path(model)
    if not folder.is_dir():
        name, _, commit = model.partition("@")
        return f"{name} at {commit}"
    digests = (
        f"{path.name} {_file(path)}".encode()
        for path in sorted(folder.iterdir())
        if path.name == "config.json" or path.suffix in (".safetensors", ".bin")
    )
    return f"digest {_digest(digests)}"


def _file(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _reward_code(spec: RewardSpec) -> dict[str, str]:
    """Digest of the source of each reward of the user's own."""
    noted = {}
    for custom in spec.custom:
        module = custom.path.partition(":")[0].replace(".", "/")
        names = (f"{module}.py", f"{module}/__init__.py")
        places = [Path(place or ".") / name for place in ("", *sys.path) for name in names]
        found = next((place for place in places if place.is_file()), None)
        noted[f"code of {custom.path}"] = _file(found) if found else "not a file"
    return noted
