"""Tokens a second of the optimiser step in each layout, their padding, and the share of the peak.

Real learner actors train on groups of realistic lengths; each layout has ranks of its own, and they
take turns. A token counts once for each completion that it belongs to, its prompt included, so that
all layouts get credit for the same work; what packed rows need not compute shows as speed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from actors.cluster.handles import Handle, call_all, get_all, put, start_alone
from actors.cluster.placement import connect
from actors.cluster.refusal import check_device
from actors.workers.learner import LearnerActor
from benchmarks.inputs.workload import first_prompts, ungraded, written_groups
from benchmarks.result import ResultRow, check_count, make_row, ratio_row, turns
from benchmarks.speed.measured import MeasuredLearner
from t2g_ray.algorithm.loss import loss_divisor
from t2g_ray.algorithm.samples import to_samples
from t2g_ray.config import GrpoConfig
from t2g_ray.learner.batching import MicroBatch, balance, collate, cut
from t2g_ray.learner.learner import learner_spec
from t2g_ray.model.packed_attention import AttentionName
from t2g_ray.model.policy import resolve_model
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.run.folder import RunDir
from t2g_ray.types import Group, Sample, TrainReport

LAYOUTS: dict[str, tuple[bool, AttentionName]] = {
    "joined": (False, "padded"),
    "packed": (True, "padded"),
    "varlen": (True, "varlen"),
}
"""Whether rows are packed, and how attention reads them."""


def run(
    config: GrpoConfig,
    *,
    runs: int,
    steps: int = 5,
    layouts: Sequence[str] = ("joined", "packed"),
    completion_tokens: int | None = None,
) -> list[ResultRow]:
    """Rows of these layouts; a run takes `steps` optimiser steps with each, on groups of its own.

    `completion_tokens` is the length of every completion; None: as long as its graph.
    """
    check_device(config.device)
    connect()
    model = resolve_model(config, RunDir(config.run_dir))
    rounds = _rounds(config, model, runs + 1, completion_tokens)
    share = config.learner.gpus / len(layouts)
    ranks = {name: start_ranks(config, model, *LAYOUTS[name], gpus=share) for name in layouts}
    seconds: dict[str, list[float]] = {name: [] for name in layouts}
    peaks: list[float] = []
    try:
        for number, shares in enumerate(rounds):
            for name in turns(layouts, number):
                elapsed = Batch(config, shares, ranks[name]).time_steps(steps)
                if number:  # the first round allocates
                    seconds[name].append(elapsed / steps)
            if number:
                found = get_all(call_all(ranks[layouts[-1]], MeasuredLearner.peak_flops_per_s))
                peaks.append(sum(found))
        shape = get_all([ranks[layouts[-1]][0].call(MeasuredLearner.shape)])[0]
    finally:
        for learner in (learner for learners in ranks.values() for learner in learners):
            learner.kill()
    rows = [make_row("matmul_peak", [peak / 1e9 for peak in peaks], "GFLOP/s")]
    for name in layouts:
        works = [_work(config, shares, shape, name) for shares in rounds[1:]]
        rows += rows_of_layout(name, works, seconds[name], peaks)
    num_sequences = config.prompts_per_step * config.group_size
    lengths = [work.num_tokens / num_sequences for work in works]
    rows.append(make_row("sequence_tokens", lengths, "tokens"))
    return [
        *rows,
        *(ratio_row(f"{b}_over_{a}", seconds[a], seconds[b]) for a, b in pairwise(layouts)),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one step computes in one layout."""

    num_tokens: int
    """Of all completions, each with its prompt."""
    computed: int
    """Tokens that the layout computes."""
    slots: int
    """Those, and the padding beside them."""
    attention_padding: float
    """Share of attention's query-key pairs that are padding."""
    flops: float


def rows_of_layout(
    name: str, works: Sequence[Work], seconds: Sequence[float], peaks: Sequence[float]
) -> list[ResultRow]:
    """Work, seconds of a step and peak (FLOP/s) of each run -> rows. Packed rows have no padding
    by construction, but attention may compute blocks of them."""
    runs = list(zip(works, seconds, peaks, strict=True))
    rows = [
        make_row(f"step_ms/{name}", [1000 * s for s in seconds], "ms"),
        make_row(f"tokens_per_s/{name}", [work.num_tokens / s for work, s, _ in runs], "tokens/s"),
        make_row(f"computed_share/{name}", [w.computed / w.num_tokens for w in works], "share"),
        make_row(
            f"attention_padding_share/{name}", [work.attention_padding for work in works], "share"
        ),
        make_row(f"mfu/{name}", [work.flops / s / peak for work, s, peak in runs], "share"),
    ]
    if name == "joined":
        padding = [1 - work.computed / work.slots for work in works]
        rows.append(make_row(f"padding_share/{name}", padding, "share"))
    return rows


def _rounds(
    config: GrpoConfig, model: str, count: int, completion_tokens: int | None
) -> list[list[list[Group]]]:
    """The groups of `count` steps, each shared over the ranks."""
    size = config.prompts_per_step
    prompts = first_prompts(config, load_tokenizer(model), count * size)
    groups = written_groups(
        prompts,
        load_tokenizer(model),
        group_size=config.group_size,
        seed=config.seed,
        num_tokens=completion_tokens,
    )
    return [shares_of(config, groups[i : i + size]) for i in range(0, count * size, size)]


def _work(
    config: GrpoConfig,
    shares: Sequence[Sequence[Group]],
    shape: tuple[int, int, int],
    name: str,
) -> Work:
    is_packed, attention = LAYOUTS[name]
    micros = _micros(config, shares, is_packed)
    groups = [group for share in shares for group in share]
    return Work(
        num_tokens=sum(
            len(g.prompt.token_ids) + len(c.token_ids) for g in groups for c in g.completions
        ),
        computed=sum(micro.num_tokens for micro in micros),
        slots=sum(micro.num_slots for micro in micros),
        attention_padding=0.0 if attention == "varlen" else _attention_padding(micros),
        flops=sum(step_flops(micro, shape) for micro in micros),
    )


def step_flops(micro: MicroBatch, shape: tuple[int, int, int]) -> float:
    """Operations that a training step of this micro-batch needs, padding left out.

    6 a parameter and token (2 forward, 4 backward); the head only where a token is trained;
    attention 12 x width x context, with the context of a causal row. Kaplan et al. 2020, "Scaling
    laws for neural language models", table 1.
    """
    num_body, num_head, width = shape
    linear = num_body * micro.num_tokens + num_head * len(micro.targets)
    pairs = sum(s.length * (s.prefix_length + s.length / 2) for s in micro.segments)
    return 6.0 * linear + 12.0 * width * pairs


def _attention_padding(micros: Sequence[MicroBatch]) -> float:
    """Share of the query-key pairs in attention's calls that are padding.

    A real query with a real key of its sequence is no padding, although causality hides some.
    """
    real = sum(segment.num_pairs for micro in micros for segment in micro.segments)
    laid_out = 0
    for micro in micros:
        if micro.packing is None:
            laid_out += micro.num_slots * micro.token_ids.shape[1]
        else:
            laid_out += sum(call.num_pairs for call in micro.packing.padded.calls)
    return 1 - real / laid_out


class Batch:
    """One step's groups in the object store, shared over the ranks of one layout."""

    def __init__(
        self,
        config: GrpoConfig,
        shares: Sequence[Sequence[Group]],
        learners: Sequence[Handle[LearnerActor]],
    ) -> None:
        self._learners = learners
        self._handles = [[put(ungraded(group)).reference for group in share] for share in shares]
        self._advantages = [_advantages(share, config.seed) for share in shares]
        # Every rank reports the tokens of all.
        lengths = [len(c.token_ids) for share in shares for g in share for c in g.completions]
        self._num_tokens = sum(lengths)
        self._divisor = loss_divisor(lengths, config.algorithm, config.sampling.max_new_tokens)

    def time_steps(self, count: int) -> float:
        """Seconds of `count` optimiser steps, seen from the driver.

        Raises ValueError where a step left out tokens: all layouts train the same.
        """
        started = time.perf_counter()
        for _ in range(count):
            self.step()
        return time.perf_counter() - started

    def step(self) -> TrainReport:
        """One optimiser step; its report has the seconds that the ranks themselves took."""
        calls = [
            learner.call(LearnerActor.step, handles, advantages, self._divisor)
            for learner, handles, advantages in zip(
                self._learners, self._handles, self._advantages, strict=True
            )
        ]
        report = get_all(calls)[0]
        check_count("trained tokens", report.num_tokens, self._num_tokens)
        return report


def start_ranks(
    config: GrpoConfig, model: str, is_packed: bool, attention: AttentionName, *, gpus: float
) -> list[Handle[MeasuredLearner]]:
    learner = config.learner.model_copy(update={"packing": is_packed, "attention": attention})
    ranks = [
        start_alone(
            MeasuredLearner,
            *(number, learner.ranks, learner.threads, not learner.gpus),
            name=f"learner/{number}",
            threads=learner.threads,
            gpus=gpus,
        )
        for number in range(learner.ranks)
    ]
    measured = config.model_copy(update={"learner": learner})
    spec = learner_spec(measured, model)
    address, port = get_all([ranks[0].call(MeasuredLearner.address)])[0]
    get_all(call_all(ranks, MeasuredLearner.start, address, port, spec))
    if get_all([ranks[0].call(MeasuredLearner.is_packed)])[0] != is_packed:
        raise ValueError(
            f"the measured model must read packed rows, {model} does not; give another model"
        )
    return ranks


def shares_of(config: GrpoConfig, groups: Sequence[Group]) -> list[list[Group]]:
    """The groups of each rank."""
    costs = [sum(len(c.token_ids) for c in group.completions) for group in groups]
    return [[groups[i] for i in share] for share in balance(costs, config.learner.ranks)]


def _micros(
    config: GrpoConfig, shares: Sequence[Sequence[Group]], is_packed: bool
) -> list[MicroBatch]:
    budget = config.learner.token_budget
    return [
        collate(part, is_packed=is_packed)
        for share in shares
        for part in cut(_samples(share, config.seed), token_budget=budget, is_packed=is_packed)
    ]


def _samples(groups: Sequence[Group], seed: int) -> list[Sample]:
    return to_samples([ungraded(group) for group in groups], _advantages(groups, seed))


def _advantages(groups: Sequence[Group], seed: int) -> list[list[float | None]]:
    rng = Random(seed)
    return [[rng.gauss(0.0, 1.0) for _ in group.completions] for group in groups]
