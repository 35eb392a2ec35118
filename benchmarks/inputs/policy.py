"""--model, --config and key=value -> the configuration that a benchmark measures.

Without a model the embedded default's supervised stage makes one, once, in a cache folder: its
completions have the lengths and the mistakes that a run starts with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2g_ray.config import GrpoConfig, SftConfig, load_config
from t2g_ray.run.folder import RunDir

DEMO_SFT = Path(__file__).resolve().parents[2] / "configs" / "demo_sft.yaml"
PLACES = ("run_dir", "model")
"""Keys of a configuration that only say where something lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySource:
    """Where the measured model comes from: a folder, else SFT of `steps` steps below `cache`."""

    model: Path | None
    cache: Path
    steps: int | None
    """None: as many as the embedded default trains."""


def measured_config(
    policy: PolicySource, path: Path, overrides: Sequence[str], *, is_trained: bool
) -> GrpoConfig:
    """The GRPO configuration at `path` with the model to measure filled in.

    Where `is_trained` is False, the untrained tiny policy is enough: only sizes matter.
    """
    model = trained_model(policy) if is_trained or policy.model else "embedded"
    return load_config(
        GrpoConfig,
        path,
        [f"run_dir={policy.cache.resolve() / 'run'}", f"model={model}", *overrides],
    )


def trained_model(policy: PolicySource) -> str:
    """The folder of the policy; trains it where it is not there yet."""
    if policy.model is not None:
        return str(policy.model.resolve())
    name = "policy" if policy.steps is None else f"policy_{policy.steps}"
    run = RunDir((policy.cache / name).resolve())
    if not (run.model / "config.json").is_file():
        from actors.sft import run_sft

        steps = [] if policy.steps is None else [f"steps={policy.steps}"]
        # resume: an interrupted training is continued instead of refused.
        run_sft(load_config(SftConfig, DEMO_SFT, [f"run_dir={run.path}", "resume=auto", *steps]))
    return str(run.model)


def policy_name(policy: PolicySource) -> str:
    """The same for policies that are made alike, or that have the same weights."""
    if policy.model is not None:
        files = [policy.model / "config.json", *sorted(policy.model.glob("*.safetensors"))]
        return f"weights {digest_of([file for file in files if file.is_file()])}"
    return "embedded" if policy.steps is None else f"embedded, {policy.steps} SFT steps"


def digest_of(paths: Sequence[Path]) -> str:
    """Names and contents of files in 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def set_values(path: Path, overrides: Sequence[str] | None) -> dict[str, Any]:
    """What a configuration sets, where it is not the default: dotted key -> value."""
    config = load_config(GrpoConfig, path, ["model=embedded", *(overrides or ())])
    tree = config.model_dump(mode="json", exclude_defaults=True)
    return {key: value for key, value in _flat(tree) if key not in PLACES}


def _flat(tree: Mapping[str, Any], head: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{head}{key}.")
        else:
            yield f"{head}{key}", value
