"""Where a run is kept, and what happens beside training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator, model_validator

from t2g_ray.config.section import Folder, Section
from t2g_ray.run.storage.place import is_url, stage_of


class KeptConfig(Section):
    """Where a run is kept: in a folder, or at a URL."""

    run_dir: Folder
    """Folder of the run, which all nodes share; must be empty or, to resume, hold this run. Given
    a URL (s3://bucket/run), it becomes `storage`, and this a folder below T2G_STAGE (by default
    ~/.cache/t2g_ray/stage)."""
    storage: str | None = None
    """URL at which the run is kept, one that fsspec opens. `run_dir` is then the folder on each
    node's own disk in which the run works."""

    @model_validator(mode="before")
    @classmethod
    def _works_in_a_stage(cls, given: object) -> object:
        run_dir = given.get("run_dir") if isinstance(given, Mapping) else None
        if not (isinstance(given, Mapping) and isinstance(run_dir, str) and is_url(run_dir)):
            return given
        if given.get("storage") not in (None, run_dir):
            raise ValueError(
                f"run_dir must be a folder where storage is set, found the URL {run_dir}; leave "
                "storage out, or give a folder"
            )
        return {**given, "run_dir": str(stage_of(run_dir)), "storage": run_dir}

    @field_validator("storage")
    @classmethod
    def _is_at_a_url(cls, value: str | None) -> str | None:
        if value is not None and not is_url(value):
            raise ValueError("must be a URL such as s3://bucket/run; a folder is run_dir")
        return value


class SyncConfig(Section):
    """How weights get from the learner to the samplers."""

    transport: Literal["store", "broadcast", "ipc"] = "store"
    """How weights travel: through Ray's object store, which works everywhere; from the learner's
    device to those of the samplers (NCCL between GPUs, Gloo between CPUs); or as memory that
    learner and sampler share, where both are on one device."""
    bucket_mib: float = Field(default=64.0, gt=0)
    """Size of the buckets that weights are sent in."""
    verify_every: int = Field(default=10, ge=1)
    """Compare all tensors at the first two syncs of a run or resume, and at every n-th version."""


class EvalConfig(Section):
    """Evaluation on the held-out records: of greedy answers in GRPO, of the loss in SFT."""

    every: int = Field(default=0, ge=0)
    """Steps between evaluations, besides those before and after; 0: GRPO has only these two, SFT
    none."""
    max_new_tokens: int | None = None
    """Longest answer in an evaluation; by default as in training."""


class CheckpointConfig(Section):
    """What is kept to resume from."""

    every: int = Field(default=50, ge=0)
    """Steps between checkpoints; 0 keeps only the last state."""
    keep: int = Field(default=2, ge=1)
    """How many of the newest checkpoints are kept."""


TrackerName = Literal["wandb", "mlflow", "trackio", "tensorboard"]


class TrackingConfig(Section):
    """How the run shows in its `trackers`."""

    project: str = Field(default="t2g-ray", min_length=1)
    """Project (in MLflow: experiment) that the run belongs to."""
    name: str = ""
    """Name of the run; by default that of the run folder."""
    tags: list[str] = Field(default_factory=list)
    """Words to find the run by."""
    offline: bool = False
    """Keep everything on this machine: files in the run folder, for trackio in its own folder."""


class ProfileConfig(Section):
    """What torch's profiler records of some steps, into the folder `profile` of the run."""

    steps: list[int] = Field(default_factory=list, max_length=2)
    """First and last step, as [3, 5]; empty: nothing is recorded."""
    ranks: list[int] = Field(default_factory=lambda: [0])
    """Numbers of the learner ranks that are recorded."""
    engines: list[int] = Field(default_factory=list)
    """Numbers of the rollout actors that are recorded while their weights are those that the steps
    begin with (GRPO only)."""
    memory: bool = False
    """Record each allocation too; on a GPU, a snapshot of its memory beside the profile."""

    @model_validator(mode="after")
    def _steps_are_a_range(self) -> ProfileConfig:
        if not self.steps:
            return self
        is_range = len(self.steps) == 2 and 1 <= self.steps[0] <= self.steps[-1]
        if not is_range or min([*self.ranks, *self.engines], default=0) < 0:
            raise ValueError(
                "profile.steps must be the first and the last step, counted from 1, as [3, 5], and "
                f"ranks and engines numbers from 0, found {self.steps}, {self.ranks} and "
                f"{self.engines}"
            )
        return self

    def check(self, *, steps: int | None, ranks: int, engines: int) -> None:
        """Raises ValueError for steps and actors that a run has not; `steps` None: not known."""
        if not self.steps:
            return
        if steps is not None and self.steps[-1] > steps:
            raise ValueError(
                f"profile.steps must lie within the {steps} steps of the run, found {self.steps}; "
                "choose earlier ones"
            )
        for name, numbers, count in (
            ("ranks", self.ranks, ranks),
            ("engines", self.engines, engines),
        ):
            if numbers and max(numbers) >= count:
                raise ValueError(
                    f"profile.{name} must be numbers below {count}, as many as the run has, found "
                    f"{numbers}; leave out the others"
                )


@dataclass(frozen=True, slots=True)
class Deadline:
    """How long a phase may take, and the configuration key that sets it."""

    name: str
    seconds: float

    def __str__(self) -> str:
        return f"deadlines.{self.name}={self.seconds:g} s"


class DeadlineConfig(Section):
    """Seconds that each phase may take before the run stops and names the phase."""

    fetch_s: float = Field(default=3600, gt=0)
    """Until every node has the model, where that is at the hub or a URL."""
    start_s: float = Field(default=600, gt=0)
    """Until all actors answer."""
    generate_s: float = Field(default=600, gt=0)
    """Until the groups of a step have arrived."""
    train_s: float = Field(default=600, gt=0)
    """One optimiser step."""
    save_s: float = Field(default=1800, gt=0)
    """One checkpoint: writing it, or reading it back; and the export of the model."""
    sync_s: float = Field(default=300, gt=0)
    """A gather, or a load of new weights."""

    @property
    def fetch(self) -> Deadline:
        """`fetch_s` with its name."""
        return Deadline("fetch_s", self.fetch_s)

    @property
    def start(self) -> Deadline:
        """`start_s` with its name."""
        return Deadline("start_s", self.start_s)

    @property
    def generate(self) -> Deadline:
        """`generate_s` with its name."""
        return Deadline("generate_s", self.generate_s)

    @property
    def train(self) -> Deadline:
        """`train_s` with its name."""
        return Deadline("train_s", self.train_s)

    @property
    def save(self) -> Deadline:
        """`save_s` with its name."""
        return Deadline("save_s", self.save_s)

    @property
    def sync(self) -> Deadline:
        """`sync_s` with its name."""
        return Deadline("sync_s", self.sync_s)
