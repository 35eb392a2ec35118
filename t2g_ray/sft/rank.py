"""Records -> supervised steps on every rank -> a policy that knows the form of the answer.

Invariants: the loss is on the answer and its end token, never on the prompt; a run that was
killed and resumed gives the same weights as one that was not.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence

import torch.distributed as dist

from t2g_ray.config import SftConfig
from t2g_ray.learner.batching import balance
from t2g_ray.learner.deepspeed_rank import RankSpec
from t2g_ray.prompts.settings import write_prompt_settings
from t2g_ray.run import checkpoint
from t2g_ray.run.folder import RunDir
from t2g_ray.run.resume.meaning import ResumeError
from t2g_ray.run.resume.start import check_steps
from t2g_ray.run.storage.stage import Stage
from t2g_ray.sft.batches import (
    WINDOW_STEPS,
    Encoded,
    SftData,
    encode_examples,
    num_answer_tokens,
    num_tokens,
)
from t2g_ray.sft.learner import SftLearner
from t2g_ray.sft.plan import SftPlan, num_steps
from t2g_ray.sft.recorder import Recorder
from t2g_ray.types import Example, Record


def run_sft_rank(plan: SftPlan, *, rank: int, num_ranks: int) -> None:
    """Train on this rank's share of every batch; collective over the ranks (`join_ranks`).

    Rank 0 writes metrics and evaluations. All ranks write checkpoints and, at the end, the model.
    """
    config, run_dir = plan.config, RunDir(plan.config.run_dir)
    model = plan.model
    encoded = _encode(config, model, plan.records)
    heldout = _encode(config, model, plan.heldout) if plan.heldout else None
    data = SftData(
        examples=encoded.examples,
        batch_size=config.batch_size,
        num_steps=num_steps(config, len(encoded.examples)),
        seed=config.data_seed,
    )
    config.profile.check(steps=data.num_steps, ranks=num_ranks, engines=0)
    if plan.start is not None:
        _check_length(plan.start, data)
    learner = SftLearner(_spec(config, model, data.num_steps))
    if plan.start is not None:
        learner.load(plan.start.path)
    record = Recorder(plan, encoded, num_ranks) if rank == 0 else None
    stage = Stage(config.storage, run_dir) if config.storage else None
    if heldout and plan.start is None:
        _evaluate(learner, heldout, record)
    for step in range(learner.step_count, data.num_steps):
        batch = data.batch(step)
        share = balance([num_tokens(example) for example in batch], num_ranks)[rank]
        report = learner.step(
            [batch[position] for position in share], num_tokens=num_answer_tokens(batch)
        )
        if record is not None:
            record.step(step + 1, batch, report)
        is_last = step + 1 == data.num_steps
        if heldout and (is_last or _is_due(step + 1, config.eval.every)):
            _evaluate(learner, heldout, record)
        # After the evaluation, so that a run that resumes from here does not repeat it.
        if is_last or _is_due(step + 1, config.checkpoint.every):
            _save(learner, plan, data.num_steps, record, stage)
    _export(learner, config, data.examples, rank=rank)
    if stage is not None and rank == 0:
        stage.push()


def _check_length(start: checkpoint.FoundCheckpoint, data: SftData) -> None:
    """Raises ResumeError where the run ends before `start`, or has other batches to come."""
    check_steps(start, data.num_steps)
    planned = start.state["total_steps"]
    if not data.follows(start.step, planned):
        raise ResumeError(
            f"a resumed run must draw each record once an epoch: {start.path} lies inside a window "
            f"of {WINDOW_STEPS} steps, whose batches {planned} and {data.num_steps} steps in all "
            f"divide differently; keep {planned} steps, or resume at a multiple of {WINDOW_STEPS}"
        )


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _encode(config: SftConfig, model: str, records: Sequence[Record]) -> Encoded:
    from transformers import AutoConfig, AutoTokenizer

    return encode_examples(
        AutoTokenizer.from_pretrained(model),
        records,
        config.prompt,
        max_positions=getattr(
            AutoConfig.from_pretrained(model).get_text_config(), "max_position_embeddings", None
        ),
        token_budget=config.learner.token_budget,
    )


def _spec(config: SftConfig, model: str, total_steps: int) -> RankSpec:
    return RankSpec(
        model=model,
        config=config.learner,
        total_steps=total_steps,
        seed=config.seed,
        profiled=config.profiled,
        profiled_ranks=tuple(config.profile.ranks),
    )


def _evaluate(learner: SftLearner, heldout: Encoded, record: Recorder | None) -> None:
    """The held-out loss of all ranks' shares; the rank that keeps the record writes it."""
    examples, num_ranks = heldout.examples, dist.get_world_size()
    share = balance([num_tokens(example) for example in examples], num_ranks)[dist.get_rank()]
    loss = learner.held_out_loss([examples[position] for position in share])
    if record is not None:
        record.evaluation(learner.step_count, loss, heldout)


def _save(
    learner: SftLearner,
    plan: SftPlan,
    total_steps: int,
    record: Recorder | None,
    stage: Stage | None,
) -> None:
    """A checkpoint of all ranks; the rank that keeps the record makes and seals it. Where the run
    is kept at a URL each rank uploads its own share."""
    config, run_dir = plan.config, RunDir(plan.config.run_dir)
    folder = run_dir.checkpoint(learner.step_count)
    temporary = checkpoint.temporary_path(folder)
    target = [""]
    if record is not None:
        checkpoint.begin(folder)
        target = [stage.begin(learner.step_count) if stage else ""]
    dist.broadcast_object_list(target)
    writer = f"learner rank {dist.get_rank()} on node {platform.node()}"
    own = checkpoint.share_of(writer, temporary, learner.save(temporary))
    if stage is not None:
        stage.put(target[0], temporary, own)
    shares: list[checkpoint.Share] = [own] * dist.get_world_size()
    dist.all_gather_object(shares, own)
    if record is None:
        return
    state = {
        "step": learner.step_count,
        "time_s": record.time_s,
        "total_steps": total_steps,
        "meaning": plan.meaning.state(),
    }
    if stage is None:
        checkpoint.finish(folder, state, shares)
        checkpoint.keep_last(run_dir.checkpoints, config.checkpoint.keep)
        return
    stage.complete(target[0], temporary, state, [], shares)
    stage.keep_last(config.checkpoint.keep)


def _export(
    learner: SftLearner, config: SftConfig, examples: Sequence[Example], *, rank: int
) -> None:
    """The folder of the model, whole or not there."""
    folder = RunDir(config.run_dir).model
    temporary = folder.with_name(f".{folder.name}.partial")
    learner.export(temporary)
    if rank > 0:
        return
    longest = max(len(example.completion_ids) for example in examples)
    # Answers to other texts may be longer than any answer in training.
    max_new_tokens = config.eval.max_new_tokens or 2 * longest
    write_prompt_settings(temporary, config.prompt, max_new_tokens)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)
