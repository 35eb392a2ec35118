"""YAML file + key=value overrides -> one frozen, fully resolved configuration.

Invariant: an unknown key is an error that names the nearest valid one, and nothing outside this
module fills in a default. This module imports neither torch, ray nor vllm, so that the command
line answers at once.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from t2g_ray.algorithm import AlgorithmConfig
from t2g_ray.rewards import RewardSpec
from t2g_ray.sections import (
    EMBEDDED,
    CheckpointConfig,
    DataConfig,
    DeadlineConfig,
    EvalConfig,
    LearnerConfig,
    LoraConfig,
    OptimizerConfig,
    PromptConfig,
    RewardConfig,
    RolloutConfig,
    SamplingConfig,
    Section,
    SyncConfig,
)

__all__ = [
    "EMBEDDED",
    "AlgorithmConfig",
    "AnyConfig",
    "CheckpointConfig",
    "ConfigError",
    "DataConfig",
    "DeadlineConfig",
    "EvalConfig",
    "GrpoConfig",
    "LearnerConfig",
    "LoraConfig",
    "OptimizerConfig",
    "PromptConfig",
    "RewardConfig",
    "RolloutConfig",
    "SamplingConfig",
    "Section",
    "SftConfig",
    "StageConfig",
    "SyncConfig",
    "build_config",
    "dump_config",
    "load_config",
]


class ConfigError(ValueError):
    """The configuration is wrong: says what must hold, what was found, what to do."""


class StageConfig(Section):
    """What SFT and GRPO have in common."""

    run_dir: Path
    """Folder of the run; must be empty or, to resume, hold this run."""
    seed: int = 0
    """Seed of data, sampling and initial weights."""
    model: str = EMBEDDED
    """`embedded`, a folder in Hugging Face format, or a hub name."""
    resume: Literal["never", "auto"] = "never"
    """auto: go on from the newest valid checkpoint, if there is one."""
    data: DataConfig = DataConfig()
    prompt: PromptConfig = PromptConfig()
    learner: LearnerConfig = LearnerConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    deadlines: DeadlineConfig = DeadlineConfig()

    @property
    def data_seed(self) -> int:
        """Seed of the data: its own, else the run's."""
        return self.seed if self.data.seed is None else self.data.seed


class SftConfig(StageConfig):
    """Supervised stage: records -> a policy that knows the output format."""

    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; `epochs` decides when not given."""
    epochs: float = Field(default=2.0, gt=0)
    """Used when `steps` is not given."""
    batch_size: int = Field(default=16, ge=1)
    """Records of one optimiser step, over all ranks."""


class GrpoConfig(StageConfig):
    """GRPO stage: prompts -> groups -> rewards -> gradient steps."""

    steps: int = Field(default=100, ge=1)
    """Optimiser steps."""
    prompts_per_step: int = Field(default=16, ge=1)
    """Groups that one optimiser step consumes."""
    group_size: int = Field(default=8, ge=2)
    """Completions of one prompt."""
    max_staleness: int = Field(default=0, ge=0)
    """Optimiser steps a group's first token may be older than the policy trained."""
    sampling: SamplingConfig = SamplingConfig()
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    sync: SyncConfig = SyncConfig()
    tensorboard: bool = False
    """Write the metrics as TensorBoard event files too."""

    @property
    def num_devices(self) -> int:
        """GPUs of the run; on CPUs, the processes that hold a model."""
        gpus = self.rollout.actors * self.rollout.gpus + self.learner.ranks * self.learner.gpus
        return math.ceil(gpus) or self.rollout.actors + self.learner.ranks

    @property
    def reward_spec(self) -> RewardSpec:
        """What the reward actors compute."""
        return self.reward.spec(max_new_tokens=self.sampling.max_new_tokens)

    @property
    def prompts_begun(self) -> int:
        """Groups begun for one step."""
        # 10 x 1.1 is a little more than 11 in floating point.
        return math.ceil(round(self.prompts_per_step * self.sampling.over_sample, 6))

    @property
    def parity_tolerance(self) -> float:
        """The gate's tolerance, derived from the precisions where it is not given."""
        if self.algorithm.parity_tolerance is not None:
            return self.algorithm.parity_tolerance
        return 1e-5 if {self.rollout.dtype, self.learner.dtype} == {"float32"} else 0.05

    @model_validator(mode="after")
    def _over_sampling_is_synchronous(self) -> GrpoConfig:
        if self.sampling.over_sample > 1 and self.max_staleness > 0:
            raise ValueError(
                "sampling.over_sample above 1 needs max_staleness 0, found "
                f"{self.sampling.over_sample:g} and {self.max_staleness}: with staleness a step "
                "takes the first groups that finish anyway; set one of the two back"
            )
        return self

    @model_validator(mode="after")
    def _tensor_parallel_fits(self) -> GrpoConfig:
        rollout = self.rollout
        if rollout.tensor_parallel > max(1, rollout.gpus):
            raise ValueError(
                "rollout.tensor_parallel must be at most rollout.gpus, got "
                f"{rollout.tensor_parallel} and {rollout.gpus}; raise rollout.gpus"
            )
        if rollout.tensor_parallel > 1 and self.sync.transport == "ipc":
            raise ValueError(
                "sync.transport=ipc needs rollout.tensor_parallel=1, found "
                f"{rollout.tensor_parallel}: an engine on several GPUs cannot read from one; "
                "choose sync.transport=broadcast"
            )
        return self


AnyConfig = TypeVar("AnyConfig", bound=Section)


def load_config(kind: type[AnyConfig], path: Path, overrides: Iterable[str] = ()) -> AnyConfig:
    """Read a YAML file, apply `a.b=value` overrides, check everything.

    Raises ConfigError for a missing file, bad YAML, an unknown key or a value out of range.
    """
    if not path.is_file():
        raise ConfigError(f"the configuration must be a YAML file, found no file at {path}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} must be valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of keys, found {type(tree).__name__}")
    for override in overrides:
        _apply_override(tree, override)
    return build_config(kind, tree)


def build_config(kind: type[AnyConfig], tree: Mapping[str, Any]) -> AnyConfig:
    """Check a tree of plain values; raises ConfigError with one line per problem."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(kind, item) for item in error.errors()]
        raise ConfigError("the configuration is not valid:\n  " + "\n  ".join(lines)) from error


def dump_config(config: Section) -> str:
    """The resolved configuration as YAML; loading it again gives the same object."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"an override must look like key=value, found {override!r}")
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{key}: {parent} must be a section, found the value {child!r}")
        node = child
    try:
        node[leaf] = yaml.safe_load(text) if text else None
    except yaml.YAMLError as error:
        raise ConfigError(f"{key}: the value must be valid YAML, found {text!r}") from error


def _explain(kind: type[BaseModel], item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    name = ".".join(path) or "configuration"
    if item["type"] != "extra_forbidden":
        return f"{name}: {item['msg']} (found {item['input']!r})"
    valid = _keys_of(kind)
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5) or [
        key for key in valid if key.split(".")[-1] == path[-1]
    ]
    hint = f"did you mean {near[0]}?" if near else "see the configuration reference"
    return f"unknown key {name}: {hint}"


def _keys_of(kind: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in kind.model_fields.items():
        keys.append(prefix + name)
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            keys += _keys_of(annotation, f"{prefix}{name}.")
    return keys
