"""One DeepSpeed rank: micro-batches with a loss -> optimiser steps, and the weights they make.

What GRPO and SFT share. The methods are collective: all ranks call the same ones in the same order.
Invariant: all ranks run the same number of micro-batches (short ranks repeat one with weight 0) and
walk one gather schedule, so that no rank waits in a collective that the others never enter.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from t2g_ray.config import LearnerConfig
from t2g_ray.learner.batching import AnyBatch, AnySample, cut
from t2g_ray.learner.logprobs import TokenLogProbs, check_head
from t2g_ray.learner.memory.activations import kept_on_host
from t2g_ray.learner.optim import (
    add_up_in_float32,
    deepspeed_config,
    forget_first_step,
    lr_share,
    orthogonalise_in_float32,
    tag_for_muon,
)
from t2g_ray.learner.reference import digest_of_policy
from t2g_ray.learner.state import Trained, load_state, save_state, trained_of
from t2g_ray.learner.timing.phases import Phases
from t2g_ray.learner.timing.profile import StepProfiler
from t2g_ray.model.files.export import export_policy
from t2g_ray.model.files.sharded import layer_by_layer, whole, whole_shape
from t2g_ray.model.lora import adapters_of, add_adapters, plain_tensors
from t2g_ray.model.packed_attention import enable_packing
from t2g_ray.run.timing.profiled import Profiled
from t2g_ray.run.timing.startup import part
from t2g_ray.weights.manifest import right_probe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_log = logging.getLogger(__name__)

WeightedBatch = tuple[AnyBatch, float]
"""A micro-batch and its weight: 1, or 0 where it only keeps this rank in step with the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSpec:
    """What a rank of either stage needs to start."""

    model: str
    config: LearnerConfig
    total_steps: int
    seed: int
    profiled: Profiled | None = None
    """Steps to profile on the ranks of `profiled_ranks`."""
    profiled_ranks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GatheredAdapter:
    """What is added to one frozen matrix [outputs, inputs]; all in fp32."""

    layer: str
    a: torch.Tensor
    b: torch.Tensor
    """[outputs, rank], the scaling in it: B A is what is added."""
    product: torch.Tensor
    """[outputs]: what the layer itself adds for the input `right_probe(inputs)`."""


class DeepSpeedRank:
    """One rank. torch.distributed must be set up before (`ranks.join_ranks`).

    `is_start_kept`: the loss depends on the policy that the run started from, as with a KL.
    """

    def __init__(self, spec: RankSpec, *, is_start_kept: bool = False) -> None:
        import deepspeed
        from deepspeed.accelerator import get_accelerator

        from t2g_ray.model.policy import load_policy

        torch.manual_seed(spec.seed)
        self._settings, self._total_steps = spec.config, spec.total_steps
        self.step_count = 0
        lora = spec.config.lora
        self.dtype: torch.dtype = getattr(torch, spec.config.dtype)
        is_sharded = spec.config.zero_stage == 3
        with part("model"):
            policy, self._tokenizer = load_policy(spec.model, self.dtype, is_sharded=is_sharded)
        # What DeepSpeed chooses for LOCAL_RANK 0. Probes then see what training computes.
        self.device = torch.device(get_accelerator().device_name(0))
        self.phases = Phases(self.device)
        rank = dist.get_rank()
        is_profiled = rank in spec.profiled_ranks
        self.profiler = StepProfiler(
            spec.profiled if is_profiled else None, f"learner-{rank}", self.device
        )
        if not is_sharded:
            torch.nn.Module.to(policy, self.device)
        with part("probes"), layer_by_layer(policy):
            check_head(policy)
            self.is_packed = spec.config.packing and _is_packed(policy, spec.config, self.device)
        self._start = digest_of_policy(policy) if is_start_kept or lora.rank else None
        if spec.config.gradient_checkpointing:
            policy.gradient_checkpointing_enable()
        if lora.rank:
            add_adapters(policy, lora, seed=spec.seed)
        module = TokenLogProbs(policy, chunk_mib=spec.config.head_chunk_mib)
        if spec.config.optimizer.name == "muon":
            tag_for_muon(policy)
        trained = [p for p in module.parameters() if p.requires_grad]
        numbers = sum(whole_shape(p).numel() for p in trained)
        with part("optimiser"):
            self.engine: Any = deepspeed.initialize(
                model=module,
                model_parameters=trained,
                config=deepspeed_config(spec.config, trained_numbers=numbers),
                dist_init_required=False,
            )[0]
        if self.dtype == torch.bfloat16 and not spec.config.zero_stage:
            forget_first_step(self.engine.optimizer)
            # Not before: DeepSpeed makes its first gradients in bf16.
            add_up_in_float32(policy)
        self._peak_lrs = [group["lr"] for group in self.engine.optimizer.param_groups]
        if spec.config.optimizer.name == "muon" and self.device.type == "cpu":
            orthogonalise_in_float32()

    @property
    def policy(self) -> Any:
        """The Hugging Face model; its parameters are shards under ZeRO-3."""
        return self.engine.module.policy

    @property
    def lr(self) -> float:
        """Learning rate of the last step; of the AdamW part under Muon."""
        return float(self.engine.optimizer.param_groups[-1]["lr"])

    def micro_batches(
        self,
        samples: Sequence[AnySample],
        collate: Callable[..., AnyBatch],
        filler: AnySample,
    ) -> list[WeightedBatch[AnyBatch]]:
        """This rank's samples as micro-batches, the same number on every rank.

        A rank without any sample computes `filler`.
        """
        parts = cut(samples, token_budget=self._settings.token_budget, is_packed=self.is_packed)
        micros = [self._on_device(collate(part, is_packed=self.is_packed), 1.0) for part in parts]
        count = torch.tensor([len(micros)])
        dist.all_reduce(count, op=dist.ReduceOp.MAX)
        if not micros and int(count):
            micros.append(self._on_device(collate([filler], is_packed=self.is_packed), 0.0))
        return micros + [(micros[0][0], 0.0)] * (int(count) - len(micros))

    def _on_device(self, micro: AnyBatch, weight: float) -> WeightedBatch[AnyBatch]:
        return micro.to(self.device), weight

    def logprobs(self, micro: AnyBatch, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies of the micro-batch's trained tokens, [K] each; collective under
        ZeRO-3."""
        with kept_on_host() if self._settings.has_activations_on_host else nullcontext():
            logprobs, entropies = self.engine(micro, temperature)
        return logprobs, entropies

    def start_step(self) -> None:
        """Switch to training mode and set the learning rate of the coming step."""
        self.phases.begin()
        self.engine.train()
        share = lr_share(self._settings.optimizer, self.step_count, self._total_steps)
        for group, peak in zip(self.engine.optimizer.param_groups, self._peak_lrs, strict=True):
            group["lr"] = peak * share

    def update(
        self,
        micros: Sequence[WeightedBatch[AnyBatch]],
        loss_of: Callable[[int, AnyBatch, float], torch.Tensor],
        *,
        divisor: float,
    ) -> float:
        """One optimiser step; returns the global norm of the gradient before clipping.

        `loss_of(index, micro, weight)` gives the loss of a micro-batch, summed over tokens.
        `divisor` is a constant of the whole batch, over all ranks.
        """
        norm = 0.0
        for index, (micro, weight) in enumerate(micros):
            is_last = index == len(micros) - 1
            self.engine.set_gradient_accumulation_boundary(is_last)
            with self.phases.phase("forward"):
                loss = loss_of(index, micro, weight)
            with self.phases.phase("backward"):
                # DeepSpeed averages over ranks; the loss is a sum over them.
                self.engine.backward(loss * (weight * dist.get_world_size() / divisor))
            norm = self._whole_grad_norm() if is_last else 0.0
            with self.phases.phase("optimiser") if is_last else nullcontext():
                self.engine.step()
        return self._sharded_grad_norm() if self._settings.zero_stage else norm

    def _whole_grad_norm(self) -> float:
        # Before the step. DeepSpeed reports a norm only where it shards.
        if self._settings.zero_stage > 0:
            return 0.0
        gradients = [p.grad for p in self.policy.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def _sharded_grad_norm(self) -> float:
        # After the step, which DeepSpeed skips where the norm is not finite; it then reports
        # None or -1.
        norm = self.engine.get_global_grad_norm()
        return math.nan if norm is None or norm < 0 else float(norm)

    def named_tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Full tensors in one fixed order, for the rank that packs; collective under ZeRO-3.

        Each is gathered and copied before it is yielded: a generator that yields while a gather is
        open lets ranks drift apart.
        """
        for name, tensor, _ in self.changed_tensors():
            yield name, tensor

    def changed_tensors(
        self, *, is_merged: bool = True
    ) -> Iterator[tuple[str, torch.Tensor, torch.Tensor | None]]:
        """`named_tensors`, each with what its adapter adds, where it has one; or as they were
        before there were any adapters."""
        for tensor in plain_tensors(self.policy, is_merged=is_merged):
            if self._settings.zero_stage < 3:
                yield tensor.name, tensor.value(), tensor.change()
                continue
            with whole(tensor.parts):
                full, change = tensor.value().clone(), tensor.change()
            yield tensor.name, full, change

    def gathered_adapters(self) -> Iterator[GatheredAdapter]:
        """Every adapter, whole, in one fixed order; collective under ZeRO-3."""
        for adapter in adapters_of(self.policy):
            with whole(adapter.parts):
                a, b = adapter.factors()
                product = adapter.product(right_probe(a.shape[1]))
            yield GatheredAdapter(adapter.layer, a, b, product)

    def save(self, folder: Path) -> list[Path]:
        """Write this rank's share of the trained parameters and optimiser state, and return its
        files; collective."""
        return save_state(self.engine, folder, self._trained(), is_first=dist.get_rank() == 0)

    def load(self, folder: Path) -> None:
        """Restore what `save` wrote; collective.

        Raises FileNotFoundError when it is not there, and ResumeError when it is of other tensors
        or of a run that started from another policy, where that matters.
        """
        self.step_count = load_state(self.engine, folder, self._trained())

    def _trained(self) -> Trained:
        return trained_of(self.policy, self._settings, step=self.step_count, start=self._start)

    def export(self, folder: Path) -> None:
        """Write the policy and its tokenizer in Hugging Face format; collective.

        With adapters in fp32: in fewer bits the model would lack what they learned.
        """
        tensors = self.named_tensors()
        if dist.get_rank() == 0:
            dtype = torch.float32 if self._settings.lora.rank else None
            export_policy(self.policy, tensors, folder, dtype=dtype)
            self._tokenizer.save_pretrained(folder)
        else:
            take_part(tensors)
        dist.barrier()


def take_part(gathers: Iterator[object]) -> None:
    """Gather what another rank needs, and keep nothing of it."""
    for _ in gathers:
        pass


def _is_packed(policy: PreTrainedModel, config: LearnerConfig, device: torch.device) -> bool:
    """Switch the policy to packed rows where it can read them; log the reason where it cannot."""
    reason = enable_packing(policy, config.attention, device)
    if reason is not None:
        _log.warning("%s computes padded rows: %s", type(policy).__name__, reason)
    return reason is None
