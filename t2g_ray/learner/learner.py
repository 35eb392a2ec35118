"""Samples of this rank -> one optimiser step by DeepSpeed, and the weights that come of it.

Every rank holds one Learner and calls the same methods in the same order: they are collective.
Invariant: all ranks run the same number of micro-batches (short ranks repeat one with weight 0)
and walk one gather schedule, so that no rank waits in a collective the others never enter.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.distributed as dist

from t2g_ray.algorithm.loss import LossSums, TokenBatch, likelihood_loss, policy_loss
from t2g_ray.config import AlgorithmConfig, LearnerConfig
from t2g_ray.learner.batching import MicroBatch, collate, cut
from t2g_ray.learner.logprobs import TokenLogProbs, check_head
from t2g_ray.learner.optim import (
    deepspeed_config,
    lr_share,
    orthogonalise_in_float32,
    tag_for_muon,
)
from t2g_ray.learner.reference import Reference, check_same_start, digest_of_policy
from t2g_ray.learner.totals import StepTotals
from t2g_ray.model.lora import add_adapters, plain_tensors, without_adapters
from t2g_ray.types import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_log = logging.getLogger(__name__)

Objective = Literal["policy", "likelihood"]

FixedLogProbs = tuple[torch.Tensor, torch.Tensor | None]
"""Log-probs [K] of a micro-batch before the first update on it, and by the reference policy."""


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
    """One DeepSpeed rank. torch.distributed must be set up before (`ranks.join_ranks`)."""

    def __init__(self, spec: LearnerSpec) -> None:
        import deepspeed

        from t2g_ray.model.policy import load_policy

        torch.manual_seed(spec.seed)
        self.spec = spec
        self.step_count = 0
        dtype: torch.dtype = getattr(torch, spec.config.dtype)
        policy, self.tokenizer = load_policy(spec.model, dtype=dtype)
        check_head(policy)
        algorithm, lora = spec.algorithm, spec.config.lora
        self._start = digest_of_policy(policy) if algorithm.kl_coef or lora.rank else None
        if spec.config.gradient_checkpointing:
            policy.gradient_checkpointing_enable()
        self.is_packed = spec.config.packing and _is_packed(policy)
        if lora.rank:
            add_adapters(policy, lora, seed=spec.seed)
        module = TokenLogProbs(policy)
        tag_for_muon(policy)
        self._engine: Any = deepspeed.initialize(
            model=module,
            model_parameters=[p for p in module.parameters() if p.requires_grad],
            config=deepspeed_config(spec.config),
            dist_init_required=False,
        )[0]
        self._peak_lrs = [group["lr"] for group in self._engine.optimizer.param_groups]
        self.device = torch.device(self._engine.device)
        if spec.config.optimizer.name == "muon" and self.device.type == "cpu":
            orthogonalise_in_float32()
        self._reference: Reference | None = None
        if algorithm.kl_coef and not lora.rank:
            self._reference = Reference(
                spec.model, dtype=dtype, device=self.device, is_packed=self.is_packed
            )

    @property
    def policy(self) -> Any:
        """The Hugging Face model; its parameters are shards under ZeRO-3."""
        return self._engine.module.policy

    def step(self, samples: Sequence[Sample], *, divisor: float) -> dict[str, float]:
        """Train on all ranks' samples: `updates_per_batch` optimiser steps on the same batch.

        `divisor` of the loss is a constant of the whole batch, over all ranks (`loss_divisor`).
        Returns metrics of the whole batch, means over the updates, the same on every rank.
        """
        started = time.perf_counter()
        micros = self._micro_batches(samples)
        self._engine.train()
        self._set_lr()
        totals, grad_norms, fixed = StepTotals(), list[float](), list[FixedLogProbs]()
        num_updates = self.spec.algorithm.updates_per_batch
        for _ in range(num_updates):
            for number, (micro, weight) in enumerate(micros):
                is_last = number == len(micros) - 1
                self._engine.set_gradient_accumulation_boundary(is_last)
                sums = self._micro_loss(micro, fixed, number)
                # DeepSpeed averages over ranks; the loss is a sum over them.
                self._engine.backward(sums.loss * (weight * dist.get_world_size() / divisor))
                norm = self._whole_grad_norm() if is_last else 0.0
                self._engine.step()
                totals.add(sums, weight=weight)
            grad_norms.append(self._sharded_grad_norm() if self.spec.config.zero_stage else norm)
        self.step_count += 1
        return {
            **totals.metrics(divisor=divisor, num_updates=num_updates),
            "grad_norm": fmean(grad_norms),
            "lr": self._engine.optimizer.param_groups[-1]["lr"],
            "time/learner_s": time.perf_counter() - started,
        }

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

    def _whole_grad_norm(self) -> float:
        # Before the step. DeepSpeed reports a norm only where it shards.
        if self.spec.config.zero_stage > 0:
            return 0.0
        gradients = [p.grad for p in self.policy.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def _sharded_grad_norm(self) -> float:
        # After the step, which DeepSpeed skips where the norm is not finite; it then reports
        # None or -1.
        norm = self._engine.get_global_grad_norm()
        return math.nan if norm is None or norm < 0 else float(norm)

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

    def _micro_loss(self, micro: MicroBatch, fixed: list[FixedLogProbs], number: int) -> LossSums:
        """Sums of micro-batch `number`; `fixed` grows by one in the first update on the batch."""
        is_first = number == len(fixed) and self.spec.objective == "policy"
        # Before the forward pass that a backward pass follows: ZeRO-3 gathers for both.
        reference = self._reference_logprobs(micro) if is_first else None
        logprobs, entropies = self._engine(micro, self.spec.temperature)
        if self.spec.objective == "likelihood":
            return likelihood_loss(logprobs, entropies)
        if is_first:
            fixed.append((logprobs.detach(), reference))
        tokens = TokenBatch(
            logprobs=logprobs,
            entropies=entropies,
            old_logprobs=fixed[number][0],
            sampler_logprobs=micro.sampler_logprobs,
            reference_logprobs=fixed[number][1],
            advantages=micro.advantages,
            sample_of=micro.sample_of,
        )
        return policy_loss(tokens, self.spec.algorithm)

    def _reference_logprobs(self, micro: MicroBatch) -> torch.Tensor | None:
        if not self.spec.algorithm.kl_coef:
            return None
        if self._reference is not None:
            return self._reference.logprobs(micro, self.spec.temperature)
        with torch.no_grad(), without_adapters(self.policy):
            logprobs: torch.Tensor = self._engine(micro, self.spec.temperature)[0]
        return logprobs

    def _set_lr(self) -> None:
        share = lr_share(self.spec.config.optimizer, self.step_count, self.spec.total_steps)
        for group, peak in zip(self._engine.optimizer.param_groups, self._peak_lrs, strict=True):
            group["lr"] = peak * share

    def named_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Full tensors in one fixed order, for the rank that packs; collective under ZeRO-3.

        Gathered and copied one at a time, and never while a gather is open: a generator that
        yields inside one lets ranks drift apart.
        """
        import deepspeed

        for tensor in plain_tensors(self.policy):
            if self.spec.config.zero_stage < 3:
                yield tensor.name, tensor.value()
                continue
            with deepspeed.zero.GatheredParameters(tensor.parts):
                full = tensor.value().clone()
            yield tensor.name, full

    def save(self, folder: Path) -> None:
        """Write this rank's share of the trained parameters and optimiser state; collective."""
        self._engine.save_checkpoint(
            str(folder),
            tag="state",
            client_state={"step": self.step_count, "start": self._start},
            exclude_frozen_parameters=self.spec.config.lora.rank > 0,
        )

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; raises FileNotFoundError when it is not there.

        Raises ValueError when the run did not start from the present policy, where that matters.
        """
        path, state = self._engine.load_checkpoint(
            str(folder), tag="state", load_module_strict=not self.spec.config.lora.rank
        )
        if path is None:
            raise FileNotFoundError(f"{folder} must hold a learner state, found none")
        check_same_start(state.get("start"), self._start, folder)
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
    from t2g_ray.model.packed_attention import enable_packing

    reason = enable_packing(policy)
    if reason is not None:
        _log.warning("%s computes padded rows: %s", type(policy).__name__, reason)
    return reason is None
