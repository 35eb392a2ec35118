"""The sections of a configuration, in the order in which the data meets them.

Each field is documented below itself; docs/configuration.md lists them all. Derived values are
properties of the stage configurations in `config`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from t2g_ray.rewards import PENALTIES, CustomReward, RewardSpec, Shaping, preset

EMBEDDED = "embedded"


class Section(BaseModel):
    """Base of all sections: frozen, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )


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
    overlooked: float = Field(default=0.0, ge=0, le=1)
    """Share of passively stated relations that the embedded world's training graphs lack, as a
    hurried annotator's do; held-out graphs are always complete."""
    seed: int | None = None
    """Seed of the embedded world and of the prompt order; the run's seed when not given."""
    order: Literal["shuffled", "small_first", "half_right_first"] = "shuffled"
    """Order of the prompts inside an epoch of GRPO: by chance, small gold graphs first, or first
    those whose F1 in the epochs before was nearest to one half."""


class PromptConfig(Section):
    """How a record is shown to the policy."""

    style: Literal["full", "compact"] = "full"
    """`full` explains task and output; `compact` states types and text only (the tiny policy)."""
    thinking: bool = False
    """Let the policy reason between think tags before it answers."""
    max_tokens: int = Field(default=1024, ge=8)
    """Prompts longer than this are counted and left out, never cut."""


class SamplingConfig(Section):
    """How completions are sampled."""

    temperature: float = Field(default=1.0, gt=0.0)
    """Divides the logits on both sides, sampler and learner."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Longest completion, the end token included."""
    ignore_eos: bool = False
    """Write on past the end token, for measurements with completions of one known length."""
    over_sample: float = Field(default=1.0, ge=1.0)
    """Groups begun for a step, as a multiple of prompts_per_step. Above 1 the first to finish are
    trained, the others aborted, and their prompts come again; needs max_staleness 0."""
    extra_groups: int = Field(default=0, ge=0)
    """Further groups that a step may take in place of those whose rewards are all equal."""


class RolloutConfig(Section):
    """vLLM rollout actors: how many, and what each one holds."""

    actors: int = Field(default=1, ge=1)
    """Rollout actors, each with an engine of its own."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of one actor; also the CPUs that its bundle reserves."""
    gpus: float = Field(default=0, ge=0)
    """GPUs of one actor: its tensor parallel size, or a share where a learner rank has the rest."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that one engine spreads its layers over."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the sampler."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """Size of the KV cache on a CPU; a GPU uses `gpu_memory_utilization`."""
    gpu_memory_utilization: float = Field(default=0.85, gt=0, le=1)
    """Share of a GPU that one engine may use."""
    max_sequences: int = Field(default=256, ge=1)
    """Completions that one engine writes at a time."""
    draft_tokens: int | None = Field(default=None, ge=0, le=64)
    """Tokens of a record's own graph that the engine takes as guesses and checks in one pass of the
    model; that changes the speed alone. 24 on CPUs when not given; not for GPUs."""
    engine: dict[str, Any] = Field(default_factory=dict)
    """More engine arguments, passed to vLLM as they are."""

    @property
    def num_guessed(self) -> int:
        """`draft_tokens`, or what the hardware makes of it."""
        return (0 if self.gpus else 24) if self.draft_tokens is None else self.draft_tokens

    @model_validator(mode="after")
    def _drafts_are_exact(self) -> RolloutConfig:
        if self.gpus and self.draft_tokens:
            raise ValueError("rollout.draft_tokens must be 0 or left out where rollout.gpus is set")
        if "speculative_config" in self.engine and not self.gpus:
            raise ValueError(
                "rollout.engine must not hold speculative_config on CPUs, where vLLM samples "
                "guessed tokens wrongly; use rollout.draft_tokens"
            )
        return self


class CustomRewardConfig(Section):
    """A reward function of your own; docs/rewards.md says how it is called."""

    path: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    """Import path, as in `my_module:my_reward`; the folder of the command is searched first."""
    name: str | None = Field(default=None, pattern=r"^\w+$")
    """Its name in the metrics; that of the function when not given."""
    weight: float = Field(default=1.0, gt=0)
    """What its value is multiplied by."""
    deadline_s: float = Field(default=10.0, gt=0)
    """Seconds that one call may take; then its process is killed and its completions are masked."""


class RewardConfig(Section):
    """Reward actors and what they compute."""

    actors: int = Field(default=1, ge=1)
    """Reward actors; each takes groups as they finish."""
    preset: str = "default"
    """Named weights of the reward parts."""
    weights: dict[str, float] | None = None
    """Named weights in place of a preset's."""
    penalties: dict[str, float] = Field(default_factory=dict)
    """Weights of the penalties `duplicates` and `overlong`, on top of the preset or the weights."""
    beta: float = Field(default=1.0, gt=0)
    """F-beta in place of F1 in the reward: above 1 recall weighs more, below 1 precision."""
    power: float = Field(default=1.0, gt=0)
    """The F1 parts of the reward are raised to this power: 0.5 is the square root."""
    overlong_share: float = Field(default=0.2, gt=0, le=1)
    """Last share of sampling.max_new_tokens over which the overlong penalty grows to its whole."""
    custom: list[CustomRewardConfig] = Field(default_factory=list)
    """Reward functions of your own, added to the parts above."""
    max_error_rate: float = Field(default=0.01, ge=0, le=1)
    """Share of completions whose grader failed above which the run stops."""

    @model_validator(mode="after")
    def _spec_is_valid(self) -> RewardConfig:
        self.spec(max_new_tokens=1)
        return self

    def spec(self, *, max_new_tokens: int) -> RewardSpec:
        """What the reward actors compute. Raises ValueError for unknown names and bad weights."""
        if wrong := sorted(set(self.penalties) - PENALTIES):
            raise ValueError(f"penalties must be among {sorted(PENALTIES)}, found {wrong}")
        weights = preset(self.preset).weights if self.weights is None else self.weights
        shaping = Shaping(
            beta=self.beta,
            power=self.power,
            max_new_tokens=max_new_tokens,
            overlong_share=self.overlong_share,
        )
        custom = tuple(
            CustomReward(
                path=one.path,
                name=one.name or one.path.rpartition(":")[2].rpartition(".")[2],
                weight=one.weight,
                deadline_s=one.deadline_s,
            )
            for one in self.custom
        )
        return RewardSpec({**weights, **self.penalties}, shaping, custom)


class OptimizerConfig(Section):
    """AdamW, or Muon on hidden matrices with AdamW on the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    """Muon needs zero_stage 0."""
    lr: float = Field(default=1e-6, gt=0)
    """Learning rate of AdamW (and of the AdamW part under Muon)."""
    muon_lr: float = Field(default=0.02, gt=0)
    """Learning rate of hidden matrices under Muon."""
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    """Momentum of Muon."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """First moment of AdamW."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Second moment of AdamW."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear warm-up."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Learning rate after the warm-up."""
    final_lr_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the peak learning rate that is left at the last step."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this global norm."""


class LoraConfig(Section):
    """Low-rank adapters in place of training all weights (Hu et al. 2021)."""

    rank: int = Field(default=0, ge=0)
    """Rank of the adapters; 0 trains all weights."""
    alpha: int = Field(default=32, ge=1)
    """Adapters are scaled by alpha / rank."""
    targets: list[str] = Field(default_factory=list)
    """Names of the layers that get one, as in `q_proj`; when empty, all but the head."""


class LearnerConfig(Section):
    """DeepSpeed learner ranks."""

    ranks: int = Field(default=1, ge=1)
    """Data-parallel ranks."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of one rank; also the CPUs that it reserves."""
    gpus: float = Field(default=0, ge=0)
    """GPUs of one rank."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """What DeepSpeed shards: nothing, optimiser state, gradients, parameters."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the learner; bfloat16 keeps fp32 master weights."""
    token_budget: int = Field(default=8192, ge=16)
    """Tokens of one micro-batch of one rank, padding included."""
    gradient_checkpointing: bool = False
    """Compute activations again in place of keeping them."""
    packing: bool = True
    """Compute no padding, and each prompt once for all completions of its group, where the model
    allows it; else padded rows of prompt and completion."""
    lora: LoraConfig = LoraConfig()
    """Adapters; samplers and the exported model get them merged into the weights."""
    optimizer: OptimizerConfig = OptimizerConfig()

    @model_validator(mode="after")
    def _muon_is_whole(self) -> LearnerConfig:
        # DeepSpeed clips Muon's orthogonalised update instead of the gradient once it shards,
        # which changes the result by more than an order of magnitude.
        if self.optimizer.name == "muon" and (self.zero_stage or self.lora.rank):
            raise ValueError(
                "learner.optimizer.name=muon needs whole matrices, learner.zero_stage=0 and "
                f"learner.lora.rank=0, found {self.zero_stage} and {self.lora.rank}; set both to "
                "0 or choose adamw"
            )
        return self


class SyncConfig(Section):
    """Weights from the learner to the samplers."""

    transport: Literal["store", "broadcast", "ipc"] = "store"
    """How weights travel: through Ray's object store, which goes everywhere; from the learner's
    device to those of the samplers (NCCL between GPUs, Gloo between CPUs); or as memory that
    learner and sampler share, where both are on one device."""
    bucket_mib: float = Field(default=64.0, gt=0)
    """Size of the pieces that weights are sent in."""
    verify_every: int = Field(default=10, ge=1)
    """Compare all tensors at the first sync, after a resume and every so many syncs."""


class EvalConfig(Section):
    """Evaluation on the held-out records: of greedy answers in GRPO, of the loss in SFT."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations, beside those before and after; 0: GRPO has only these two, SFT
    none."""
    max_new_tokens: int | None = None
    """Longest answer in an evaluation; as in training when not given."""


class CheckpointConfig(Section):
    """What is kept to resume from."""

    every: int = Field(default=50, ge=0)
    """Steps between checkpoints; 0 keeps only the last state."""
    keep: int = Field(default=2, ge=1)
    """How many of the newest checkpoints stay."""


class DeadlineConfig(Section):
    """Seconds that each waiting phase may take before the run stops with its name."""

    start_s: float = Field(default=600, gt=0)
    """All actors answer."""
    generate_s: float = Field(default=600, gt=0)
    """The groups of a step arrive."""
    train_s: float = Field(default=600, gt=0)
    """One optimiser step, or one checkpoint."""
    sync_s: float = Field(default=300, gt=0)
    """A gather, or a load of new weights."""
