"""Samples of this rank -> one optimiser step by DeepSpeed, and the weights that come of it.

Every rank holds one Learner and calls the same methods in the same order: they are collective.
Invariant: all ranks run the same number of micro-batches (short ranks repeat one with weight 0)
and walk one gather schedule, so that no rank waits in a collective the others never enter.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist

from t2g_ray.batching import MicroBatch, collate, cut
from t2g_ray.config import AlgorithmConfig, LearnerConfig
from t2g_ray.logprobs import TokenLogProbs
from t2g_ray.loss import policy_loss
from t2g_ray.optim import deepspeed_config, lr_share, tag_for_muon
from t2g_ray.types import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_log = logging.getLogger(__name__)

Objective = Literal["policy", "likelihood"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec:
    """What one rank needs to start."""

    model: str
    config: LearnerConfig
    algorithm: AlgorithmConfig
    temperature: float
    total_steps: int
    seed: int
    objective: Objective


class Learner:
    """One DeepSpeed rank. torch.distributed must be set up before (`join_ranks`)."""

    def __init__(self, spec: LearnerSpec) -> None:
        import deepspeed

        from t2g_ray.policy import load_policy

        torch.manual_seed(spec.seed)
        self.spec = spec
        self.step_count = 0
        policy, self.tokenizer = load_policy(spec.model, dtype=getattr(torch, spec.config.dtype))
        if spec.config.gradient_checkpointing:
            policy.gradient_checkpointing_enable()
        self.is_packed = spec.config.packing and _is_packed(policy)
        module = TokenLogProbs(policy)
        tag_for_muon(policy)
        self._engine: Any = deepspeed.initialize(
            model=module,
            model_parameters=list(module.parameters()),
            config=deepspeed_config(spec.config),
            dist_init_required=False,
        )[0]
        self._peak_lrs = [group["lr"] for group in self._engine.optimizer.param_groups]
        self.device = torch.device(self._engine.device)

    @property
    def policy(self) -> Any:
        """The Hugging Face model; its parameters are shards under ZeRO-3."""
        return self._engine.module.policy

    def step(self, samples: Sequence[Sample], *, num_loss_tokens: int) -> dict[str, float]:
        """One optimiser step over all ranks' samples.

        `num_loss_tokens` is the divisor of the loss: trained tokens of the whole batch, over all
        ranks. Returns metrics of the whole batch, the same on every rank.
        """
        started = time.perf_counter()
        micros = self._micro_batches(samples)
        self._engine.train()
        self._set_lr()
        totals = torch.zeros(7, dtype=torch.float64)
        max_ratio = torch.ones(1, dtype=torch.float64)
        num_ranks, grad_norm = dist.get_world_size(), 0.0
        for number, (micro, weight) in enumerate(micros):
            is_last = number == len(micros) - 1
            self._engine.set_gradient_accumulation_boundary(is_last)
            loss, sums, ratio = self._micro_loss(micro)
            # DeepSpeed averages over ranks; the loss is a sum over them.
            self._engine.backward(loss * (weight * num_ranks / num_loss_tokens))
            if is_last:
                grad_norm = self._grad_norm_before_step()
            self._engine.step()
            totals += weight * sums
            max_ratio = torch.maximum(max_ratio, ratio if weight else max_ratio)
        self.step_count += 1
        dist.all_reduce(totals)
        dist.all_reduce(max_ratio, op=dist.ReduceOp.MAX)
        if self.spec.config.zero_stage > 0:
            grad_norm = float(self._engine.get_global_grad_norm())
        metrics = self._metrics(totals, max_ratio)
        return {**metrics, "grad_norm": grad_norm, "time/learner_s": time.perf_counter() - started}

    def held_out_loss(self, samples: Sequence[Sample]) -> float:
        """Mean negative log-likelihood of a completion token, in nats, over all ranks' samples.

        Collective, without a gradient; the same on every rank.
        """
        self._engine.eval()
        totals = torch.zeros(2, dtype=torch.float64)
        with torch.no_grad():
            for micro, weight in self._micro_batches(samples):
                logprobs, _ = self._engine(micro, self.spec.temperature)
                totals += weight * torch.tensor([-float(logprobs.sum()), logprobs.numel()])
        dist.all_reduce(totals)
        return float(totals[0] / totals[1])

    def _grad_norm_before_step(self) -> float:
        # DeepSpeed reports a norm only where it shards; at stage 0 the gradients lie here whole.
        if self.spec.config.zero_stage > 0:
            return 0.0
        gradients = [p.grad for p in self.policy.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def _micro_batches(self, samples: Sequence[Sample]) -> list[tuple[MicroBatch, float]]:
        spec = self.spec
        parts = cut(samples, token_budget=spec.config.token_budget, is_packed=self.is_packed)
        micros = [(collate(part, is_packed=self.is_packed).to(self.device), 1.0) for part in parts]
        count = torch.tensor([len(micros)])
        dist.all_reduce(count, op=dist.ReduceOp.MAX)
        while len(micros) < int(count):
            filler = micros[0][0] if micros else self._filler().to(self.device)
            micros.append((filler, 0.0))
        return micros

    def _filler(self) -> MicroBatch:
        import numpy as np

        one = np.zeros(1, dtype=np.int32)
        zero = np.zeros(1, dtype=np.float32)
        sample = Sample(
            group=0,
            prompt_ids=(0,),
            completion_ids=one,
            sampler_logprobs=zero,
            versions=one,
            advantage=0.0,
        )
        return collate([sample], is_packed=self.is_packed)

    def _micro_loss(self, micro: MicroBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logprobs, entropies = self._engine(micro, self.spec.temperature)
        num_tokens = torch.tensor(float(logprobs.numel()), device=logprobs.device)
        if self.spec.objective == "likelihood":
            loss, zero = -logprobs.sum(), torch.zeros_like(num_tokens)
            parts = [loss.detach(), num_tokens, entropies.sum(), zero, zero, zero, zero]
            return loss, torch.stack(parts).double().cpu(), torch.ones(1, dtype=torch.float64)
        sums = policy_loss(
            logprobs, entropies, micro.sampler_logprobs, micro.advantages, self.spec.algorithm
        )
        difference = (logprobs.detach() - micro.sampler_logprobs).abs().sum()
        watched = [sums.entropy, sums.mismatch_kl, sums.clipped, sums.truncated, difference]
        parts = [sums.loss.detach(), num_tokens, *watched]
        return (
            sums.loss,
            torch.stack(parts).double().cpu(),
            sums.max_ratio.double().cpu().reshape(1),
        )

    def _set_lr(self) -> None:
        share = lr_share(self.spec.config.optimizer, self.step_count, self.spec.total_steps)
        for group, peak in zip(self._engine.optimizer.param_groups, self._peak_lrs, strict=True):
            group["lr"] = peak * share

    def _metrics(self, totals: torch.Tensor, max_ratio: torch.Tensor) -> dict[str, float]:
        loss, tokens, entropy, mismatch, clipped, truncated, difference = totals.tolist()
        return {
            "loss": loss / tokens,
            "entropy": entropy / tokens,
            "kl": 0.0,
            "clip_fraction": clipped / tokens,
            "mismatch/kl": mismatch / tokens,
            "mismatch/max_ratio": float(max_ratio),
            "mismatch/truncated_share": truncated / tokens,
            "mismatch/logprob_difference": difference / tokens,
            "tokens/loss": tokens,
            "lr": self._engine.optimizer.param_groups[-1]["lr"],
        }

    def named_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Full tensors in one fixed order, for the rank that packs; collective under ZeRO-3.

        Gathered and copied one at a time, and never while a gather is open: a generator that
        yields inside one lets ranks drift apart.
        """
        import deepspeed

        for name, parameter in self.policy.named_parameters():
            if self.spec.config.zero_stage < 3:
                yield name, parameter.detach()
                continue
            with deepspeed.zero.GatheredParameters([parameter]):
                full = parameter.detach().clone()
            yield name, full

    def save(self, folder: Path) -> None:
        """Write this rank's share of model and optimiser state; collective."""
        self._engine.save_checkpoint(
            str(folder), tag="state", client_state={"step": self.step_count}
        )

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; raises FileNotFoundError when it is not there."""
        path, state = self._engine.load_checkpoint(str(folder), tag="state")
        if path is None:
            raise FileNotFoundError(f"{folder} must hold a learner state, found none")
        self.step_count = int(state["step"])

    def export(self, folder: Path) -> None:
        """Write the policy and its tokenizer in Hugging Face format; collective."""
        tensors = {name: tensor.cpu() for name, tensor in self.named_tensors()}
        if dist.get_rank() == 0:
            self.policy.save_pretrained(folder, state_dict=tensors)
            self.tokenizer.save_pretrained(folder)
        dist.barrier()


def _is_packed(policy: PreTrainedModel) -> bool:
    """Switch the policy to packed rows where it can read them; say why where it cannot."""
    from t2g_ray.packed_attention import enable_packing

    reason = enable_packing(policy)
    if reason is not None:
        _log.warning("%s computes padded rows: %s", type(policy).__name__, reason)
    return reason is None


def join_ranks(*, rank: int, num_ranks: int, address: str, port: int, is_cpu: bool) -> None:
    """Set up torch.distributed and DeepSpeed for this process: gloo on CPUs, nccl on GPUs."""
    if is_cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
        # Without this Muon's update is compiled at its first call, which takes minutes here.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import deepspeed

    environment: Mapping[str, str] = {
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }
    os.environ.update(environment)
    # A C++ all-reduce that only inference uses, compiled for half a minute at first start.
    importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None  # type: ignore[attr-defined]
    deepspeed.init_distributed(
        dist_backend="gloo" if is_cpu else "nccl", auto_mpi_discovery=False, verbose=False
    )
