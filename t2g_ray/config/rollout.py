"""How completions are sampled, and the engines that write them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from t2g_ray.config.section import EngineArguments, Section


class SamplingConfig(Section):
    """How completions are sampled."""

    temperature: float = Field(default=1.0, gt=0.0)
    """Divides the logits on both sides, sampler and learner."""
    max_new_tokens: int = Field(default=512, ge=1)
    """Longest completion, the end token included."""
    ignore_eos: bool = False
    """Continue past the end token, for measurements with completions of one known length."""
    over_sample: float = Field(default=1.0, ge=1.0)
    """Groups begun for a step, as a multiple of prompts_per_step. Above 1 the first to finish are
    trained on and the others aborted; their prompts are drawn again, and after the second time the
    step waits for them. Training answers are not guessed then. Needs max_staleness 0."""
    extra_groups: int = Field(default=0, ge=0)
    """Extra groups that a step may take to replace those whose F1 are all equal."""


class RolloutConfig(Section):
    """vLLM rollout actors: how many, and what each one holds."""

    actors: int = Field(default=1, ge=1)
    """Rollout actors, each with an engine of its own."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of one actor; on CPUs, of each of its `tensor_parallel` processes. Its bundle
    reserves as many CPUs."""
    gpus: float = Field(default=0, ge=0)
    """GPUs of one actor: its tensor parallel size, or part of one that it shares with a learner
    rank."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that one engine spreads its layers over; on CPUs, processes."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the sampler. With fewer bits than the learner's, each weight is rounded at
    random, right on average."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """Size of the KV cache on a CPU; a GPU uses `gpu_memory_utilization`."""
    gpu_memory_utilization: float = Field(default=0.85, gt=0, le=1)
    """Share of a GPU that one engine may use. Beside a learner rank it takes what that leaves free,
    and no more than this."""
    max_sequences: int = Field(default=256, ge=1)
    """Completions that one engine writes at a time."""
    pass_tokens: int = Field(default=4096, ge=1)
    """Most tokens that one pass of the model computes, those of the oldest groups first; never
    fewer than the longest prompt with its answer."""
    draft_tokens: int | None = Field(default=None, ge=0, le=64)
    """Tokens of a record's own graph that the engine guesses and checks in one pass of the model
    (speculative decoding); the tokens are distributed as without. 24 on CPUs when not given; not
    for GPUs."""
    engine: EngineArguments = Field(default_factory=dict)
    """Further engine arguments, passed to vLLM unchanged. Not asynchronous scheduling and not
    pipeline stages: the versions of tokens could not be told. None may make it load code: classes,
    plug-ins, pickles and `trust_remote_code` are refused."""

    @property
    def cpus(self) -> int:
        """CPUs of one actor."""
        return self.threads if self.gpus else self.threads * self.tensor_parallel

    @property
    def num_guessed(self) -> int:
        """`draft_tokens`, or the default for the hardware."""
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

    @model_validator(mode="after")
    def _prompts_are_whole(self) -> RolloutConfig:
        cuts = ("enable_chunked_prefill", "long_prefill_token_threshold")
        if not self.gpus and (found := [name for name in cuts if self.engine.get(name)]):
            raise ValueError(
                f"rollout.engine must not hold {found[0]} on CPUs: vLLM takes back what a part of "
                "a prompt drew, which generators on CPUs cannot do, and would end; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _passes_are_in_turn(self) -> RolloutConfig:
        stages = self.engine.get("pipeline_parallel_size") or 1
        if self.engine.get("async_scheduling") or stages != 1:
            raise ValueError(
                "rollout.engine must leave async_scheduling off and pipeline_parallel_size at 1, "
                f"found {self.engine}: with passes under way while weights change, tokens would "
                "carry the version of other weights; leave both out"
            )
        return self
