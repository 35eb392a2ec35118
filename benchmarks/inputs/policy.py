"""--model, --config and key=value -> the configuration that a benchmark measures.

Without a model the embedded default's supervised stage makes one, once, in a cache folder: its
completions have the lengths and the mistakes that a run starts with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from t2g_ray.config import GrpoConfig, SftConfig, load_config
from t2g_ray.run.folder import RunDir

DEMO_SFT = Path(__file__).resolve().parents[2] / "configs" / "demo_sft.yaml"


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
