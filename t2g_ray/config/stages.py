"""The configuration of a stage, SFT or GRPO: its sections, and what follows from them."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from t2g_ray.config.algorithm import AlgorithmConfig
from t2g_ray.config.device.settle import DeviceConfig
from t2g_ray.config.learner import LearnerConfig
from t2g_ray.config.prompts import DataConfig, PromptConfig
from t2g_ray.config.rewards import RewardConfig, RewardSpec
from t2g_ray.config.rollout import RolloutConfig, SamplingConfig
from t2g_ray.config.run import (
    CheckpointConfig,
    DeadlineConfig,
    EvalConfig,
    KeptConfig,
    ProfileConfig,
    SyncConfig,
    TrackerName,
    TrackingConfig,
)
from t2g_ray.config.section import EMBEDDED, Seed
from t2g_ray.run.folder import RunDir
from t2g_ray.run.timing.profiled import Profiled


class StageConfig(KeptConfig, DeviceConfig):
    """What SFT and GRPO have in common."""

    seed: Seed = 0
    """Seed of data, sampling and initial weights."""
    model: str = EMBEDDED
    """`embedded`, a folder in Hugging Face format, a hub name (`owner/model`, or with a revision
    `owner/model@revision`), or the URL of such a folder. A name is pinned to its commit."""
    cluster: str | None = None
    """Machines that the run is meant for, as `t2g plan --nodes` takes them; nothing else reads
    it."""
    resume: Literal["never", "auto"] = "never"
    """auto: continue the run of this folder from its newest whole checkpoint; start it where no
    step was taken yet."""
    data: DataConfig = DataConfig()
    prompt: PromptConfig = PromptConfig()
    learner: LearnerConfig = LearnerConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    profile: ProfileConfig = ProfileConfig()
    deadlines: DeadlineConfig = DeadlineConfig()
    trackers: list[TrackerName] = Field(default_factory=list)
    """Where the metrics, evaluations and samples of completions show beside the run folder: any of
    `wandb`, `mlflow`, `trackio`, `tensorboard`."""
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="before")
    @classmethod
    def _one_key_names_all_trackers(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and "tensorboard" in tree:
            raise ValueError(
                "tensorboard is now one of the trackers, found the key "
                f"tensorboard={tree['tensorboard']}; write trackers: [tensorboard] in its place, "
                "or leave it out"
            )
        return tree

    @field_validator("trackers")
    @classmethod
    def _each_tracker_once(cls, names: list[TrackerName]) -> list[TrackerName]:
        if len(set(names)) < len(names):
            raise ValueError(f"a tracker must be named once, found {', '.join(names)}")
        return names

    @property
    def data_seed(self) -> int:
        """Seed of the data: its own, else the run's."""
        return self.seed if self.data.seed is None else self.data.seed

    @property
    def profiled(self) -> Profiled | None:
        """The steps to profile, where there are any."""
        wanted = self.profile
        if not wanted.steps:
            return None
        return Profiled(
            # Actors may work in other folders.
            folder=RunDir(self.run_dir.resolve()).profile,
            first=wanted.steps[0],
            last=wanted.steps[-1],
            has_memory=wanted.memory,
        )


class SftConfig(StageConfig):
    """Supervised stage: records -> a policy that knows the output format."""

    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps; `epochs` decides when not given."""
    epochs: float = Field(default=2.0, gt=0)
    """Used when `steps` is not given."""
    batch_size: int = Field(default=16, ge=1)
    """Records of one optimiser step, over all ranks."""

    @model_validator(mode="after")
    def _profile_is_of_this_run(self) -> SftConfig:
        self.profile.check(steps=self.steps, ranks=self.learner.ranks, engines=0)
        return self


class GrpoConfig(StageConfig):
    """GRPO stage: prompts -> groups -> rewards -> gradient steps."""

    steps: int = Field(default=100, ge=1)
    """Optimiser steps."""
    prompts_per_step: int = Field(default=16, ge=1)
    """Groups that one optimiser step consumes."""
    group_size: int = Field(default=8, ge=2)
    """Completions of one prompt."""
    max_staleness: int = Field(default=0, ge=0)
    """How many optimiser steps older than the trained policy a group's first token may be."""
    sampling: SamplingConfig = SamplingConfig()
    rollout: RolloutConfig = RolloutConfig()
    reward: RewardConfig = RewardConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    sync: SyncConfig = SyncConfig()
    colocate: Literal["time", "share", "off"] = "off"
    """How a learner rank and an engine use one GPU. time: in turns (needs max_staleness 0): the
    engine sleeps while the learner trains, and the optimiser's states wait in the machine's memory
    while the engine writes. share: both at the same time, each with a part of its memory. off: each
    has devices of its own."""

    @property
    def num_devices(self) -> int:
        """GPUs of the run; on CPUs, the processes that hold a model."""
        return self.devices_with(self.rollout.actors)

    def devices_with(self, rollouts: int) -> int:
        """`num_devices` where this many rollout actors work for the run."""
        gpus = rollouts * self.rollout.gpus + self.learner.ranks * self.learner.gpus
        return math.ceil(gpus) or rollouts + self.learner.ranks

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
    def guesses_train_answers(self) -> bool:
        """Whether training answers are guessed. Not where the first to finish are trained: a
        right guess makes a group fast, so the step would select what the policy does well.
        """
        return self.rollout.num_guessed > 0 and self.sampling.over_sample == 1

    @property
    def parity_tolerance(self) -> float:
        """The gate's tolerance, derived from precisions and kernels where it is not given."""
        if self.algorithm.parity_tolerance is not None:
            return self.algorithm.parity_tolerance
        if {self.rollout.dtype, self.learner.dtype} != {"float32"}:
            return 0.05
        # Attention of fp32 on a GPU multiplies in TF32, whose numbers have 11 bits where those of
        # bf16 have 8: an eighth of its error.
        return 1e-5 if self.device == "cpu" else 0.05 / 8

    @model_validator(mode="after")
    def _profile_is_of_this_run(self) -> GrpoConfig:
        self.profile.check(steps=self.steps, ranks=self.learner.ranks, engines=self.rollout.actors)
        return self

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
    def _turns_are_synchronous(self) -> GrpoConfig:
        if self.colocate == "time" and self.max_staleness:
            raise ValueError(
                f"colocate=time needs max_staleness=0, found {self.max_staleness}: the engine "
                "sleeps while the learner trains, so no group is written meanwhile; set "
                "max_staleness=0, or colocate=share"
            )
        return self

    @model_validator(mode="after")
    def _devices_are_shared_as_said(self) -> GrpoConfig:
        engine, rank = self.rollout.gpus, self.learner.gpus
        found = f"rollout.gpus={engine:g} and learner.gpus={rank:g}"
        if self.colocate == "off":
            if 0 < engine < 1 and 0 < rank < 1:
                raise ValueError(
                    "an engine and a learner rank with parts of a GPU need colocate=time (in "
                    f"turns) or colocate=share (at once), found colocate=off with {found}; set "
                    "one of these, or whole GPUs"
                )
            return self
        if not engine and not rank:
            return self
        if not (engine and rank) or engine + rank > 1:
            raise ValueError(
                f"colocate={self.colocate} needs parts of one GPU for an engine and a learner "
                f"rank, found {found}; set rollout.gpus=0.5 learner.gpus=0.5, or colocate=off"
            )
        if self.rollout.actors > self.learner.ranks:
            raise ValueError(
                f"colocate={self.colocate} puts each engine beside a learner rank, found "
                f"rollout.actors={self.rollout.actors} and learner.ranks={self.learner.ranks}; "
                "lower rollout.actors or raise learner.ranks"
            )
        if self.sync.transport == "broadcast":
            raise ValueError(
                f"colocate={self.colocate} needs sync.transport=ipc or store, found broadcast: "
                "NCCL takes no two processes on one GPU; set sync.transport=ipc"
            )
        return self

    @model_validator(mode="after")
    def _adapters_have_kernels(self) -> GrpoConfig:
        rollout = self.rollout
        if self.learner.lora.sync == "adapter" and rollout.gpus and rollout.dtype == "float32":
            raise ValueError(
                "learner.lora.sync=adapter needs rollout.dtype=bfloat16 on GPUs, whose kernels for "
                "adapters compute nothing else, found float32; set rollout.dtype=bfloat16, or "
                "learner.lora.sync=merged"
            )
        return self

    @model_validator(mode="after")
    def _advantages_keep_the_price(self) -> GrpoConfig:
        if self.reward.level == "batch" and self.algorithm.advantage == "group_std":
            raise ValueError(
                "algorithm.advantage=group_std needs reward.level=record: it blows the small price "
                "of an item too many up to the size of a right answer, and the policy falls "
                "silent; choose advantage=group_mean_batch_std or group_mean"
            )
        return self

    @model_validator(mode="after")
    def _a_sample_fits_the_budget(self) -> GrpoConfig:
        # The last token of an answer predicts none, so the learner does not compute it.
        longest = self.prompt.max_tokens + self.sampling.max_new_tokens - 1
        if longest > self.learner.token_budget:
            raise ValueError(
                "learner.token_budget must hold the longest prompt and answer, prompt.max_tokens + "
                f"sampling.max_new_tokens - 1 = {longest}, found {self.learner.token_budget}; "
                f"set learner.token_budget={longest} or more"
            )
        return self

    @model_validator(mode="after")
    def _tensor_parallel_fits(self) -> GrpoConfig:
        rollout = self.rollout
        if not rollout.gpus:
            # The ranks of an engine on CPUs are processes of one device.
            return self
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
