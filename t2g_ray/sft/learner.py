"""Examples of this rank -> one supervised step by all ranks, or their held-out loss."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from t2g_ray.learner.batching import MicroBatch, collate
from t2g_ray.learner.deepspeed_rank import DeepSpeedRank
from t2g_ray.learner.totals import Totals
from t2g_ray.types import Example

_TEMPERATURE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodSums:
    """Sums over the answer tokens of a micro-batch, in nats."""

    loss: torch.Tensor
    """Negative log-likelihood."""
    entropy: torch.Tensor
    num_tokens: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SftReport:
    """What one supervised step did, means over its answer tokens; log-probs in nats."""

    loss: float
    entropy: float
    grad_norm: float
    """Global norm of the gradient before it was clipped."""
    lr: float
    seconds: float


class SftLearner(DeepSpeedRank):
    """One rank of the supervised stage."""

    def step(self, examples: Sequence[Example], *, num_tokens: int) -> SftReport:
        """Train on all ranks' examples, whose answers have `num_tokens` tokens together.

        The report is of the whole batch, the same on every rank.
        """
        with self.profiler.step(self.step_count + 1):
            return self._step(examples, num_tokens)

    def _step(self, examples: Sequence[Example], num_tokens: int) -> SftReport:
        started = time.perf_counter()
        micros = self.micro_batches(examples, collate, _FILLER)
        self.start_step()
        totals = Totals(LikelihoodSums)

        def loss_of(_: int, micro: MicroBatch, weight: float) -> torch.Tensor:
            sums = self._sums(micro)
            totals.add(sums, weight=weight)
            return sums.loss

        grad_norm = self.update(micros, loss_of, divisor=num_tokens)
        self.step_count += 1
        total = totals.over_ranks()
        return SftReport(
            loss=float(total.loss) / num_tokens,
            entropy=float(total.entropy / total.num_tokens),
            grad_norm=grad_norm,
            lr=self.lr,
            seconds=time.perf_counter() - started,
        )

    def held_out_loss(self, examples: Sequence[Example]) -> float:
        """Mean negative log-likelihood of an answer token, in nats, over all ranks' examples.

        Collective, without a gradient; the same on every rank.
        """
        self.engine.eval()
        totals = Totals(LikelihoodSums)
        with torch.no_grad():
            for micro, weight in self.micro_batches(examples, collate, _FILLER):
                totals.add(self._sums(micro), weight=weight)
        total = totals.over_ranks()
        return float(total.loss / total.num_tokens)

    def _sums(self, micro: MicroBatch) -> LikelihoodSums:
        logprobs, entropies = self.logprobs(micro, _TEMPERATURE)
        return LikelihoodSums(
            loss=-logprobs.sum(),
            entropy=entropies.detach().sum(),
            num_tokens=torch.ones_like(logprobs).sum(),
        )


_FILLER = Example(group=0, prompt_ids=(0,), completion_ids=np.zeros(1, dtype=np.int32))
