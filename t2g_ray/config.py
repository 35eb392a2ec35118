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
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

EMBEDDED = "embedded"


class ConfigError(ValueError):
    """The configuration is wrong: says what must hold, what was found, what to do."""


class Section(BaseModel):
    """Base of all sections: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class DataConfig(Section):
    """Where records come from. `embedded` is the world that the product ships."""

    train: str = EMBEDDED
    """JSONL file of records, or `embedded`."""
    heldout: str = EMBEDDED
    """JSONL file of records, `embedded`, or `none`."""
    train_records: int | None = Field(default=None, ge=1)
    """Use the first so many records; for the embedded world, how many are written."""
    heldout_records: int | None = Field(default=None, ge=1)
    """Evaluate on the first so many held-out records."""
    level: Literal["easy", "medium", "hard"] = "medium"
    """Difficulty of the embedded world."""
    part: Literal["train", "rl"] = "train"
    """Part of the embedded world to train on: they never share a text."""
    seed: int | None = None
    """Seed of the embedded world and of the prompt order; the run's seed when not given."""


class PromptConfig(Section):
    """How a record is shown to the policy."""

    style: Literal["full", "compact"] = "full"
    thinking: bool = False
    max_tokens: int = Field(default=1024, ge=8)
    """Prompts longer than this are counted and left out, never cut."""


class SamplingConfig(Section):
    """How completions are sampled."""

    temperature: float = Field(default=1.0, gt=0.0)
    max_new_tokens: int = Field(default=512, ge=1)


class RolloutConfig(Section):
    """vLLM rollout actors: how many, and what each one holds."""

    actors: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    """CPU threads of one actor; also the CPUs that its bundle reserves."""
    gpus: float = Field(default=0, ge=0)
    """GPUs of one actor: its tensor parallel size, or a share where a learner rank has the rest."""
    tensor_parallel: int = Field(default=1, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """Size of the KV cache on a CPU; a GPU uses `gpu_memory_utilization`."""
    gpu_memory_utilization: float = Field(default=0.85, gt=0, le=1)
    max_sequences: int = Field(default=256, ge=1)
    engine: dict[str, Any] = Field(default_factory=dict)
    """More engine arguments, passed to vLLM as they are."""


class RewardConfig(Section):
    """Reward actors and what they compute."""

    actors: int = Field(default=1, ge=1)
    preset: str = "default"
    weights: dict[str, float] | None = None
    """Named weights in place of a preset's."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of completions whose grader failed above which the run stops."""


class OptimizerConfig(Section):
    """AdamW, or Muon on hidden matrices with AdamW on the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    lr: float = Field(default=1e-6, gt=0)
    """Learning rate of AdamW (and of the AdamW part under Muon)."""
    muon_lr: float = Field(default=0.02, gt=0)
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    final_lr_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the peak learning rate that is left at the last step."""
    max_grad_norm: float = Field(default=1.0, gt=0)


class LearnerConfig(Section):
    """DeepSpeed learner ranks."""

    ranks: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    gpus: float = Field(default=0, ge=0)
    """GPUs of one rank."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    dtype: Literal["float32", "bfloat16"] = "float32"
    token_budget: int = Field(default=8192, ge=16)
    """Tokens of one micro-batch of one rank, padding included."""
    gradient_checkpointing: bool = False
    share_prompts: bool = True
    """Compute each prompt once for all completions of its group."""
    optimizer: OptimizerConfig = OptimizerConfig()

    @model_validator(mode="after")
    def _muon_is_whole(self) -> LearnerConfig:
        # DeepSpeed clips Muon's orthogonalised update instead of the gradient once it shards,
        # which changes the result by more than an order of magnitude.
        if self.optimizer.name == "muon" and self.zero_stage > 0:
            raise ValueError(
                "learner.optimizer.name=muon needs learner.zero_stage=0, found "
                f"{self.zero_stage}; set zero_stage 0 or choose adamw"
            )
        if self.gradient_checkpointing and self.share_prompts:
            raise ValueError(
                "learner.gradient_checkpointing=true needs learner.share_prompts=false, because "
                "recomputed layers cannot read shared keys and values; set share_prompts false"
            )
        return self


class AlgorithmConfig(Section):
    """How rewards become a gradient; docs/algorithms.md has the equations."""

    advantage: Literal["group_std", "group_mean", "leave_one_out"] = "group_std"
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float = Field(default=0.28, gt=0)
    importance_cap: float = Field(default=2.0, gt=0)
    """Upper bound of the truncated importance weight of tokens an older policy wrote."""
    parity_tolerance: float | None = Field(default=None, gt=0)
    """Largest mean |log-prob difference| in nats between sampler and learner on the same weights;
    when not given, 1e-5 where both compute in fp32, else 0.05."""


class SyncConfig(Section):
    """Weights from the learner to the samplers."""

    bucket_mib: float = Field(default=64.0, gt=0)
    verify_every: int = Field(default=10, ge=1)
    """Compare all tensors at the first sync, after a resume and every so many syncs."""


class EvalConfig(Section):
    """Greedy evaluation on the held-out records during the run."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0 evaluates only before and after."""
    max_new_tokens: int | None = None


class CheckpointConfig(Section):
    """What is kept to resume from."""

    every: int = Field(default=50, ge=0)
    """Steps between checkpoints; 0 keeps only the last state."""
    keep: int = Field(default=2, ge=1)


class DeadlineConfig(Section):
    """Seconds that each waiting phase may take before the run stops with its name."""

    start_s: float = Field(default=600, gt=0)
    generate_s: float = Field(default=600, gt=0)
    train_s: float = Field(default=600, gt=0)
    sync_s: float = Field(default=300, gt=0)


class StageConfig(Section):
    """What SFT and GRPO have in common."""

    run_dir: Path
    seed: int = 0
    model: str = EMBEDDED
    """`embedded`, a folder in Hugging Face format, or a hub name."""
    resume: Literal["never", "auto"] = "never"
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
    epochs: float = Field(default=2.0, gt=0)
    """Used when `steps` is not given."""
    batch_size: int = Field(default=16, ge=1)
    """Records of one optimiser step, over all ranks."""


class GrpoConfig(StageConfig):
    """GRPO stage: prompts -> groups -> rewards -> gradient steps."""

    steps: int = Field(default=100, ge=1)
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
    def parity_tolerance(self) -> float:
        """The gate's tolerance, derived from the precisions where it is not given."""
        if self.algorithm.parity_tolerance is not None:
            return self.algorithm.parity_tolerance
        return 1e-5 if {self.rollout.dtype, self.learner.dtype} == {"float32"} else 0.05

    @model_validator(mode="after")
    def _tensor_parallel_fits(self) -> GrpoConfig:
        rollout = self.rollout
        if rollout.tensor_parallel > max(1, rollout.gpus):
            raise ValueError(
                "rollout.tensor_parallel must be at most rollout.gpus, got "
                f"{rollout.tensor_parallel} and {rollout.gpus}; raise rollout.gpus"
            )
        return self


AnyConfig = TypeVar("AnyConfig", SftConfig, GrpoConfig)


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


def dump_config(config: StageConfig) -> str:
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
    node[leaf] = yaml.safe_load(text) if text else None


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
