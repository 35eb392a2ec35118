"""The learner ranks, their optimiser and adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from t2g_ray.config.section import Section

MAX_BUCKET_NUMBERS = 500_000_000
"""Gradients that ZeRO reduces at once; DeepSpeed's own size."""


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


MAX_SLOT_RANK = 512
"""Largest rank of adapters that vLLM holds beside the weights."""


class LoraConfig(Section):
    """Low-rank adapters instead of training all weights (Hu et al. 2021)."""

    rank: int = Field(default=0, ge=0)
    """Rank of the adapters; 0 trains all weights."""
    alpha: int = Field(default=32, ge=1)
    """Adapters are scaled by alpha / rank."""
    targets: list[str] = Field(default_factory=list)
    """Names of the layers that get an adapter, such as `q_proj`; when empty, all but the head."""
    sync: Literal["merged", "adapter"] = "merged"
    """What samplers get of each version: `merged`, all weights with what the adapters add; or
    `adapter`, the frozen weights once and then the adapters alone. Groups that are being written
    then end under the adapters that they began with."""

    @model_validator(mode="after")
    def _adapters_are_there(self) -> LoraConfig:
        if self.sync == "adapter" and not 0 < self.rank <= MAX_SLOT_RANK:
            raise ValueError(
                "learner.lora.sync=adapter needs adapters that an engine has slots for, "
                f"learner.lora.rank from 1 to {MAX_SLOT_RANK}, found {self.rank}; set the rank, or "
                "learner.lora.sync=merged"
            )
        return self


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
    """Precision of the learner; bfloat16 keeps master weights and sums of gradients in fp32."""
    token_budget: int = Field(default=8192, ge=16)
    """Tokens of one micro-batch of one rank, padding included; at least the longest prompt with its
    answer."""
    gradient_checkpointing: bool = False
    """Recompute activations instead of keeping them."""
    offload: Literal["none", "optimizer", "activations", "both"] = "none"
    """What is kept in host memory in place of the device's: `optimizer` states, master weights and
    the step itself (needs zero_stage 1 or more), `activations` of checkpointed layers (needs
    gradient_checkpointing). Saves memory, costs time."""
    packing: bool = True
    """Pack rows where the model allows it: no padding, and each prompt once for all completions of
    its group. Otherwise padded rows of prompt and completion are computed."""
    attention: Literal["padded", "varlen"] = "padded"
    """How attention reads packed rows: `padded` lays sequences of similar length side by side with
    a mask; `varlen` reads them where they are, without mask or padding, with flash attention's
    kernels on GPUs (in bfloat16). On CPUs `varlen` is for tests, and slower."""
    head_chunk_mib: int = Field(default=64, ge=1)
    """MiB of logits (fp32) computed at a time. The gradient of the vocabulary matrix is read and
    written once for each such chunk, so larger ones are faster on GPUs; peak memory takes
    three to four times a chunk, six times with an entropy bonus."""
    lora: LoraConfig = LoraConfig()
    """Adapters; the exported model has them merged into its weights."""
    optimizer: OptimizerConfig = OptimizerConfig()

    @property
    def has_optimizer_on_host(self) -> bool:
        """Whether optimiser states are kept off the device."""
        return self.offload in ("optimizer", "both")

    @property
    def has_activations_on_host(self) -> bool:
        """Whether inputs of checkpointed layers are kept off the device."""
        return self.offload in ("activations", "both")

    @model_validator(mode="after")
    def _offload_has_what_it_needs(self) -> LearnerConfig:
        if self.has_optimizer_on_host and not self.zero_stage:
            raise ValueError(
                f"learner.offload={self.offload} must have an optimiser that DeepSpeed shards, "
                "found learner.zero_stage=0; set learner.zero_stage=1, which one rank can have too"
            )
        if self.has_activations_on_host and not self.gradient_checkpointing:
            raise ValueError(
                f"learner.offload={self.offload} must have checkpointed layers, whose inputs are "
                "few, found learner.gradient_checkpointing=false; set it to true"
            )
        return self

    @model_validator(mode="after")
    def _kernels_take_half_precision(self) -> LearnerConfig:
        if self.gpus and self.attention == "varlen" and self.dtype == "float32":
            raise ValueError(
                "learner.attention=varlen needs learner.dtype=bfloat16 on GPUs, found float32; set "
                "learner.attention=padded or leave learner.dtype out"
            )
        return self

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
