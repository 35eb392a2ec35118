"""Learner settings -> a DeepSpeed configuration and a learning rate for each step.

Invariant: a learning rate is a pure function of the step, so a resumed run needs no scheduler
state to continue exactly.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from t2g_ray.config import LearnerConfig, OptimizerConfig
from t2g_ray.config.learner import MAX_BUCKET_NUMBERS


def lr_share(optimizer: OptimizerConfig, step: int, total_steps: int) -> float:
    """Share of the peak learning rate at `step` (from 0): linear warm-up, then the schedule."""
    if step < optimizer.warmup_steps:
        return (step + 1) / optimizer.warmup_steps
    if optimizer.schedule == "constant":
        return 1.0
    decay_steps = max(1, total_steps - optimizer.warmup_steps)
    progress = min(1.0, (step - optimizer.warmup_steps) / decay_steps)
    decay = 1 - progress
    if optimizer.schedule == "cosine":
        decay = 0.5 * (1 + math.cos(math.pi * progress))
    return optimizer.final_lr_share + (1 - optimizer.final_lr_share) * decay


def tag_for_muon(policy: nn.Module) -> None:
    """Mark hidden matrices for Muon; embeddings, heads and vectors stay with AdamW.

    Keller Jordan 2024, "Muon": only matrices inside the network are orthogonalised.
    """
    embeddings = {
        id(p) for m in policy.modules() if isinstance(m, nn.Embedding) for p in m.parameters()
    }
    head = getattr(policy, "lm_head", None)
    outside = embeddings | ({id(p) for p in head.parameters()} if head is not None else set())
    for parameter in policy.parameters():
        parameter.use_muon = parameter.ndim == 2 and id(parameter) not in outside  # type: ignore[attr-defined]


def orthogonalise_in_float32() -> None:
    """Let DeepSpeed's Muon compute in float32 in this process; for learners on CPUs.

    DeepSpeed takes float16 where oneDNN offers it, which depends on the processor, and has no
    setting for it. float16 enlarges a difference in the last bit of a gradient, so one rank and two
    ended apart (weights 2e-4 apart after three steps; now 1e-7). For the matrices of a tiny policy
    float32 is also faster; on GPUs it is not, and they keep float16.
    """
    from deepspeed.runtime.zero.muon import original_muon

    original_muon.ns_compute_dtype = lambda ns_method="gram": torch.float32


def add_up_in_float32(policy: nn.Module) -> None:
    """Let gradients of parameters in bf16 be fp32, for DeepSpeed without sharding."""
    for parameter in policy.parameters():
        if parameter.requires_grad and parameter.dtype == torch.bfloat16:
            parameter.grad_dtype = torch.float32


def forget_first_step(optimizer: Any) -> None:
    """Undo the step that DeepSpeed takes when it makes an optimiser for bf16 without sharding.

    Its gradients are zero, but it decays the master weights, and it counts: the first true step
    would be corrected as the second one, which makes it a quarter smaller.
    """
    for weights, masters in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
        for weight, master in zip(weights, masters, strict=True):
            master.data.copy_(weight.data)
    optimizer.optimizer.state.clear()


def deepspeed_config(learner: LearnerConfig, *, trained_numbers: int) -> dict[str, Any]:
    """Configuration for `deepspeed.initialize` of a policy with so many numbers to train.

    Accumulation is driven by hand, because its length differs from step to step, so DeepSpeed is
    told 1; gradients are clipped by DeepSpeed over all ranks. Those of a policy in bf16 are added
    up in fp32, over micro-batches and over ranks: in bf16 a sum of many loses about 1 %.
    """
    zero: dict[str, Any] = {
        "stage": learner.zero_stage,
        "overlap_comm": False,
        # DeepSpeed reserves a bucket of this size on each rank, however small the policy is.
        "reduce_bucket_size": min(MAX_BUCKET_NUMBERS, trained_numbers),
    }
    if learner.has_optimizer_on_host:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": learner.gpus > 0}
    in_float32: dict[str, Any] = {}
    if learner.dtype == "bfloat16":
        in_float32["communication_data_type"] = "fp32"
        if learner.zero_stage:
            # Without sharding DeepSpeed has no such setting: see `add_up_in_float32`.
            in_float32["data_types"] = {"grad_accum_dtype": "fp32"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": learner.optimizer.max_grad_norm,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": learner.dtype == "bfloat16"},
        "optimizer": _optimizer_section(learner),
        "steps_per_print": 1_000_000_000,
        **in_float32,
    }


def frozen_config(learner: LearnerConfig) -> dict[str, Any]:
    """The same for a model that is computed and not trained."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": learner.zero_stage},
        "bf16": {"enabled": learner.dtype == "bfloat16"},
        "steps_per_print": 1_000_000_000,
    }


def _optimizer_section(learner: LearnerConfig) -> dict[str, Any]:
    optimizer = learner.optimizer
    betas = [optimizer.beta1, optimizer.beta2]
    if optimizer.name == "muon":
        parameters = {
            "muon_lr": optimizer.muon_lr,
            "adam_lr": optimizer.lr,
            "momentum": optimizer.muon_momentum,
            "betas": betas,
            "weight_decay": optimizer.weight_decay,
            # torch's own AdamW, here and below: DeepSpeed's kernels are compiled at first use, and
            # their result depends on memory addresses, so that a resumed run would not repeat.
            "torch_adam": True,
        }
        return {"type": "Muon", "params": parameters}
    parameters = {
        "lr": optimizer.lr,
        "betas": betas,
        "weight_decay": optimizer.weight_decay,
        "torch_adam": True,
    }
    if learner.gpus and not learner.has_optimizer_on_host:
        # One kernel for all weights; torch brings it compiled. On CPUs it would round otherwise
        # than in the runs before.
        parameters["fused"] = True
    return {"type": "AdamW", "params": parameters}
