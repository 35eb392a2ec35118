"""Records -> supervised steps on every rank -> a policy that knows the form of the answer.

Invariants: the loss is on the answer and its end token, never on the prompt; a run that was
killed and resumed gives the same weights as one that was not.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from t2g_ray.config import AlgorithmConfig, SftConfig, dump_config
from t2g_ray.learner.batching import balance
from t2g_ray.learner.learner import Learner, LearnerSpec
from t2g_ray.model.policy import resolve_model
from t2g_ray.prompts.load import load_split
from t2g_ray.prompts.settings import write_prompt_settings
from t2g_ray.run import checkpoint
from t2g_ray.run.folder import RunDir, write_text
from t2g_ray.run.jsonlines import JsonLinesWriter
from t2g_ray.run.metrics import MetricsWriter, throughput_metrics
from t2g_ray.sft_data import Encoded, SftData, encode_samples, num_answer_tokens, num_tokens
from t2g_ray.types import Record, Sample

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SftPlan:
    """What a run will do, settled before any process starts. `config.run_dir` is absolute."""

    config: SftConfig
    records: Sequence[Record]
    heldout: Sequence[Record]
    """Empty where the run does not evaluate."""
    is_new: bool
    start: checkpoint.Found | None
    """The checkpoint to continue from."""

    @property
    def order_key(self) -> dict[str, int]:
        """What decides the order of records: a resumed run must have the same."""
        return {
            "records": len(self.records),
            "data_seed": self.config.data_seed,
            "batch_size": self.config.batch_size,
        }


def plan_sft(config: SftConfig) -> SftPlan:
    """Read the records, enter the run folder and find where to go on.

    Raises ValueError for what is wrong with the configuration, the records or the run folder.
    """
    records = load_split(config, "train")
    heldout = load_split(config, "heldout") if config.eval.every else []
    run_dir = RunDir(config.run_dir.resolve())
    # Workers may run in other folders.
    model = str(Path(config.model).resolve()) if Path(config.model).is_dir() else config.model
    config = config.model_copy(update={"run_dir": run_dir.path, "model": model})
    is_new = not run_dir.prepare(resume=config.resume == "auto")
    start = checkpoint.find_checkpoint(run_dir.checkpoints)
    plan = SftPlan(config=config, records=records, heldout=heldout, is_new=is_new, start=start)
    if start is not None:
        for reason in start.rejected:
            _log.warning("resuming from %s: %s", start.path.name, reason)
        if start.state["order_key"] != plan.order_key:
            raise ValueError(
                f"a resumed run must keep the order of its records, {start.path} has "
                f"{start.state['order_key']}, found {plan.order_key}; restore these settings or "
                "give another run_dir"
            )
        checkpoint.discard_after(run_dir.checkpoints, start.step)
    write_text(run_dir.config, dump_config(config))
    return plan


def num_steps(config: SftConfig, num_samples: int) -> int:
    """Optimiser steps of the run: as given, else enough for the epochs."""
    return config.steps or math.ceil(config.epochs * num_samples / config.batch_size)


def run_sft_rank(plan: SftPlan, *, rank: int, num_ranks: int) -> None:
    """Train on this rank's share of every batch; collective over the ranks (`join_ranks`).

    Rank 0 writes metrics and evaluations. All ranks write checkpoints and, at the end, the model.
    """
    config, run_dir = plan.config, RunDir(plan.config.run_dir)
    if rank == 0:
        resolve_model(config, run_dir)
    dist.barrier()  # the other ranks find the folder that rank 0 made
    model = resolve_model(config, run_dir)
    encoded = _encode(config, model, plan.records)
    heldout = _encode(config, model, plan.heldout) if plan.heldout else None
    data = SftData(
        samples=encoded.samples,
        batch_size=config.batch_size,
        num_steps=num_steps(config, len(encoded.samples)),
        seed=config.data_seed,
    )
    learner = Learner(_spec(config, model, data.num_steps))
    if plan.start is not None:
        learner.load(plan.start.path)
    record = _Recorder(plan, encoded, num_ranks) if rank == 0 else None
    if heldout and plan.start is None:
        _evaluate(learner, heldout, record)
    for step in range(learner.step_count, data.num_steps):
        batch = data.batch(step)
        share = balance([num_tokens(sample) for sample in batch], num_ranks)[rank]
        metrics = learner.step(
            [batch[position] for position in share], divisor=num_answer_tokens(batch)
        )
        if record is not None:
            record.step(step + 1, batch, metrics)
        is_last = step + 1 == data.num_steps
        if heldout and (is_last or _is_due(step + 1, config.eval.every)):
            _evaluate(learner, heldout, record)
        # After the evaluation: a run that is resumed here does not take it again.
        if is_last or _is_due(step + 1, config.checkpoint.every):
            _save(learner, plan, record)
    _export(learner, config, data.samples, rank=rank)


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _encode(config: SftConfig, model: str, records: Sequence[Record]) -> Encoded:
    from transformers import AutoConfig, AutoTokenizer

    return encode_samples(
        AutoTokenizer.from_pretrained(model),
        records,
        config.prompt,
        max_positions=getattr(
            AutoConfig.from_pretrained(model).get_text_config(), "max_position_embeddings", None
        ),
        token_budget=config.learner.token_budget,
    )


def _spec(config: SftConfig, model: str, total_steps: int) -> LearnerSpec:
    return LearnerSpec(
        model=model,
        config=config.learner,
        algorithm=AlgorithmConfig(),
        temperature=1.0,
        total_steps=total_steps,
        seed=config.seed,
        objective="likelihood",
    )


def _evaluate(learner: Learner, heldout: Encoded, record: _Recorder | None) -> None:
    """The held-out loss of all ranks' shares; the one that keeps the record writes it."""
    samples, num_ranks = heldout.samples, dist.get_world_size()
    share = balance([num_tokens(sample) for sample in samples], num_ranks)[dist.get_rank()]
    loss = learner.held_out_loss([samples[position] for position in share])
    if record is not None:
        record.evaluation(learner.step_count, loss, heldout)


class _Recorder:
    """Rank 0's view of the run: a line of metrics a step, and one an evaluation."""

    def __init__(self, plan: SftPlan, encoded: Encoded, num_ranks: int) -> None:
        self._num_ranks = num_ranks
        self._num_samples = len(encoded.samples)
        self._left_out = {
            "records/long_prompts": encoded.num_long_prompts,
            "records/long_answers": encoded.num_long_answers,
        }
        resume_step = None if plan.is_new else plan.start.step if plan.start else -1
        run_dir = RunDir(plan.config.run_dir)
        self._writer = MetricsWriter(run_dir.metrics, resume_step=resume_step)
        self._evals = JsonLinesWriter(run_dir.evals, resume_step=resume_step)
        self.time_s = float(plan.start.state["time_s"]) if plan.start else 0.0
        self._last_s = time.perf_counter()

    def step(self, step: int, batch: Sequence[Sample], metrics: Mapping[str, float]) -> None:
        now_s = time.perf_counter()
        wall_s, self._last_s = now_s - self._last_s, now_s
        self.time_s += wall_s
        prompt_tokens = sum(len(sample.prompt_ids) for sample in batch)
        answer_tokens = num_answer_tokens(batch)
        self._writer.write(
            {
                "step": step,
                "time_s": self.time_s,
                "epoch": step * len(batch) / self._num_samples,
                "loss": metrics["loss"],
                "entropy": metrics["entropy"],
                "grad_norm": metrics["grad_norm"],
                "lr": metrics["lr"],
                "tokens/prompt": prompt_tokens,
                "tokens/trained": answer_tokens,
                **self._left_out,
                "time/train_s": metrics["time/learner_s"],
                **throughput_metrics(
                    prompt_tokens=prompt_tokens,
                    generated_tokens=answer_tokens,
                    wall_s=wall_s,
                    num_devices=self._num_ranks,
                ),
            }
        )

    def evaluation(self, step: int, loss: float, heldout: Encoded) -> None:
        self._evals.append(
            {
                "step": step,
                "policy_version": step,
                "split": "heldout",
                "time_s": self.time_s,
                "loss": loss,
                "records": len(heldout.samples),
                "records/left_out": heldout.num_long_prompts + heldout.num_long_answers,
            }
        )


def _save(learner: Learner, plan: SftPlan, record: _Recorder | None) -> None:
    """A checkpoint of all ranks; the one that keeps the record makes and seals the folder."""
    run_dir = RunDir(plan.config.run_dir)
    folder = run_dir.checkpoint(learner.step_count)
    if record is not None:
        checkpoint.begin(folder)
    dist.barrier()
    learner.save(checkpoint.temporary_path(folder))
    dist.barrier()
    if record is not None:
        checkpoint.finish(folder, {"time_s": record.time_s, "order_key": plan.order_key})
        checkpoint.keep_last(run_dir.checkpoints, plan.config.checkpoint.keep)


def _export(learner: Learner, config: SftConfig, samples: Sequence[Sample], *, rank: int) -> None:
    """The folder of the model, whole or not there."""
    folder = RunDir(config.run_dir).model
    temporary = folder.with_name(f".{folder.name}.partial")
    learner.export(temporary)
    if rank > 0:
        return
    longest = max(len(sample.completion_ids) for sample in samples)
    # Answers to other texts may be longer than any that was trained on.
    max_new_tokens = config.eval.max_new_tokens or 2 * longest
    write_prompt_settings(temporary, config.prompt, max_new_tokens)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
