"""Samples of this rank -> one step of GRPO by all ranks.

Invariant: the log-probs that ratios are taken to, and those of the reference policy, are computed
before the first update on a batch and stay the same for all updates on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from t2g_ray.algorithm.loss import LossSums, TokenBatch, policy_loss
from t2g_ray.config import AlgorithmConfig, GrpoConfig
from t2g_ray.learner.batching import PolicyBatch, collate_policy
from t2g_ray.learner.deepspeed_rank import DeepSpeedRank, RankSpec, take_part
from t2g_ray.learner.reference import ReferencePolicy
from t2g_ray.learner.totals import Totals
from t2g_ray.model.files.names import checkpoint_tensors
from t2g_ray.model.lora import without_adapters
from t2g_ray.types import Sample, TrainReport
from t2g_ray.weights.adapters import adapter_tensors
from t2g_ray.weights.rounding import ChangeArrived, rounded

FixedLogProbs = tuple[torch.Tensor, torch.Tensor | None]
"""Log-probs [K] of a micro-batch: before the first update on it, and by the reference policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec(RankSpec):
    """What one rank of GRPO needs to start."""

    algorithm: AlgorithmConfig
    temperature: float
    sampler_dtype: str | None = None
    """What samplers compute with; None: as the learner does."""


def learner_spec(config: GrpoConfig, model: str) -> LearnerSpec:
    """The ranks that a configuration asks for, from the policy in `model`."""
    return LearnerSpec(
        model=model,
        config=config.learner,
        algorithm=config.algorithm,
        temperature=config.sampling.temperature,
        sampler_dtype=config.rollout.dtype,
        total_steps=config.steps,
        seed=config.seed,
        profiled=config.profiled,
        profiled_ranks=tuple(config.profile.ranks),
    )


class Learner(DeepSpeedRank):
    """One rank of GRPO's learner."""

    def __init__(self, spec: LearnerSpec) -> None:
        algorithm = spec.algorithm
        super().__init__(spec, is_start_kept=algorithm.kl_coef > 0)
        self._algorithm, self._temperature = algorithm, spec.temperature
        self._sampler_dtype, self._seed = spec.sampler_dtype, spec.seed
        self.token_budget = spec.config.token_budget
        self._reference: ReferencePolicy | None = None
        if algorithm.kl_coef and not spec.config.lora.rank:
            self._reference = ReferencePolicy(
                spec.model, spec.config, device=self.device, is_packed=self.is_packed
            )

    def sampler_tensors(
        self, version: int, *, is_whole: bool = True
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """What samplers get as `version`, under the names that they know and in their precision,
        rounded once, and the same for a version on every rank and after a resume: `named_tensors`,
        or with learner.lora.sync=adapter the frozen weights, where `is_whole`, and the adapters.

        Raises WeightSyncError at the end where what adapters learned does not arrive.
        """
        arrived = ChangeArrived()
        if self._settings.lora.sync == "merged":
            yield from self._merged_tensors(version, arrived)
        else:
            if is_whole:
                for name, tensor, _ in self.changed_tensors(is_merged=False):
                    frozen = tensor.to(self._sampled)  # the same in every version
                    yield from checkpoint_tensors(self.policy, name, frozen)
            yield from self._adapter_tensors(version, arrived)
        arrived.check(version)

    def only_gather(self, *, is_whole: bool) -> None:
        """What the other ranks do while one of them walks `sampler_tensors`."""
        is_merged = self._settings.lora.sync == "merged"
        if is_merged or is_whole:
            take_part(self.changed_tensors(is_merged=is_merged))
        if not is_merged:
            take_part(self.gathered_adapters())

    @property
    def _sampled(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self._sampler_dtype or self._settings.dtype)
        return dtype

    def _merged_tensors(
        self, version: int, arrived: ChangeArrived
    ) -> Iterator[tuple[str, torch.Tensor]]:
        for number, (name, tensor, change) in enumerate(self.changed_tensors()):
            sent = rounded(tensor, self._sampled, seed=self._seed_of(version, number))
            if change is not None:
                arrived.add(change, tensor, sent)
            yield from checkpoint_tensors(self.policy, name, sent)

    def _adapter_tensors(
        self, version: int, arrived: ChangeArrived
    ) -> Iterator[tuple[str, torch.Tensor]]:
        for number, adapter in enumerate(self.gathered_adapters()):
            a = rounded(adapter.a, self._sampled, seed=self._seed_of(version, 2 * number))
            b = rounded(adapter.b, self._sampled, seed=self._seed_of(version, 2 * number + 1))
            if self._sampled != torch.float32:
                exact = adapter.b @ adapter.a
                arrived.add(exact, exact, b.float() @ a.float())
            yield from adapter_tensors(adapter.layer, a, b, adapter.product)

    def _seed_of(self, version: int, number: int) -> int:
        (seed,) = np.random.SeedSequence([self._seed, version, number]).generate_state(1)
        return int(seed)

    def step(self, samples: Sequence[Sample], *, divisor: float) -> TrainReport:
        """Train on all ranks' samples: `updates_per_batch` optimiser steps on the same batch.

        `divisor` of the loss is a constant of the whole batch, over all ranks (`loss_divisor`).
        The report is of the whole batch, the mean over the updates, the same on every rank.
        """
        with self.profiler.step(self.step_count + 1):
            return self._step(samples, divisor)

    def _step(self, samples: Sequence[Sample], divisor: float) -> TrainReport:
        started = time.perf_counter()
        micros = self.micro_batches(samples, collate_policy, _FILLER)
        self.start_step()
        totals, fixed = Totals(LossSums), list[FixedLogProbs]()

        def loss_of(index: int, micro: PolicyBatch, weight: float) -> torch.Tensor:
            sums = self._micro_loss(micro, fixed, index)
            totals.add(sums, weight=weight)
            return sums.loss

        num_updates = self._algorithm.updates_per_batch
        norms = [self.update(micros, loss_of, divisor=divisor) for _ in range(num_updates)]
        self.step_count += 1
        with self.phases.phase("sync"):
            total = totals.over_ranks()
        num_tokens = float(total.num_tokens)
        return TrainReport(
            loss=float(total.loss) / num_updates / divisor,
            grad_norm=fmean(norms),
            lr=self.lr,
            entropy=float(total.entropy) / num_tokens,
            kl=float(total.kl) / num_tokens,
            clip_fraction=float(total.clipped) / num_tokens,
            logprob_difference=float(total.mismatch) / num_tokens,
            current_difference=float(total.current_mismatch) / max(1.0, float(total.num_current)),
            num_current=round(float(total.num_current) / num_updates),
            mismatch_kl=float(total.mismatch_kl) / num_tokens,
            max_ratio=float(total.max_ratio),
            truncated_share=float(total.truncated) / num_tokens,
            num_tokens=round(num_tokens / num_updates),
            seconds=time.perf_counter() - started,
        )

    @property
    def reference_tensors(self) -> list[torch.Tensor]:
        """What this rank holds of the reference policy, which steps alone read."""
        return [] if self._reference is None else self._reference.tensors()

    def rehearse(self, samples: Sequence[Sample]) -> None:
        """Forward and backward passes of these samples, which leave a later step as it would be:
        their loss has weight 0, like that of a rank which has no samples left."""
        self.start_step()
        with torch.random.fork_rng():
            for micro, _ in self.micro_batches(samples, collate_policy, _FILLER):
                self.engine.set_gradient_accumulation_boundary(False)
                self.engine.backward(self._micro_loss(micro, [], 0).loss * 0.0)
                self.engine.step()

    def _micro_loss(self, micro: PolicyBatch, fixed: list[FixedLogProbs], index: int) -> LossSums:
        """Sums of micro-batch `index`; `fixed` grows by one in the first update on the batch."""
        is_first = index == len(fixed)
        # Before the policy's forward pass, because ZeRO-3 gathers for it and its backward pass
        # together.
        reference = self._reference_logprobs(micro) if is_first else None
        logprobs, entropies = self.logprobs(micro, self._temperature)
        if is_first:
            fixed.append((logprobs.detach(), reference))
        tokens = TokenBatch(
            logprobs=logprobs,
            entropies=entropies,
            old_logprobs=fixed[index][0],
            sampler_logprobs=micro.sampler_logprobs,
            reference_logprobs=fixed[index][1],
            advantages=micro.advantages,
            # A later token of an older completion was read from keys and values of older weights.
            is_current=micro.first_versions == self.step_count,
            sample_of=micro.sample_of,
        )
        return policy_loss(tokens, self._algorithm)

    def _reference_logprobs(self, micro: PolicyBatch) -> torch.Tensor | None:
        if not self._algorithm.kl_coef:
            return None
        if self._reference is not None:
            return self._reference.logprobs(micro, self._temperature)
        with torch.no_grad(), without_adapters(self.policy):
            logprobs: torch.Tensor = self.engine(micro, self._temperature)[0]
        return logprobs


_FILLER = Sample(
    group=0,
    prompt_ids=(0,),
    completion_ids=np.zeros(1, dtype=np.int32),
    sampler_logprobs=np.zeros(1, dtype=np.float32),
    versions=np.zeros(1, dtype=np.int32),
    advantage=0.0,
)
