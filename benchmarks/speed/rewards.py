"""Completions graded in a second of a core, and what that is of a step of the demo.

What is timed is `score_group`, as a reward actor calls it: decoding, parsing, scoring, summary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from benchmarks.inputs.workload import completion_of, written_groups
from benchmarks.result import ResultRow, make_row
from benchmarks.speed.loop import Clock, LoopMode, throughput_run, values_of
from t2g_ray.config import GrpoConfig, RewardSpec
from t2g_ray.graph import Entity, Graph
from t2g_ray.prompts.messages import encode_prompt
from t2g_ray.records.corpus import build_tokenizer, generate_records
from t2g_ray.rewards.group import score_group
from t2g_ray.types import Completion, Group, Prompt, Record

NUM_TOKENS = 100
"""Mean length of the completions, roughly; the row completion_tokens has it exactly."""


def run(config: GrpoConfig, *, runs: int, num_groups: int = 200) -> list[ResultRow]:
    """The grader's speed on groups of `config.group_size` completions of about NUM_TOKENS."""
    tokenizer = build_tokenizer()
    spec = config.reward_spec
    # Groups of its own for each run: what the grader keeps of texts that it has seen is no speed.
    groups = hundred_token_groups(config, tokenizer, (runs + 1) * num_groups)
    first, *parts = (groups[i : i + num_groups] for i in range(0, len(groups), num_groups))
    _rate(first, tokenizer, spec)
    rates = [_rate(part, tokenizer, spec) for part in parts]
    lengths = [[len(c.token_ids) for g, _ in part for c in g.completions] for part in parts]
    completions_per_step = config.prompts_per_step * config.group_size
    return [
        make_row("completions_per_s_per_core", rates, "completions/s"),
        make_row("completion_tokens", [fmean(each) for each in lengths], "tokens"),
        make_row("ms_per_step", [1000 * completions_per_step / rate for rate in rates], "ms"),
    ]


def rows_of_steps(config: GrpoConfig, *, runs: int, steps: int) -> list[ResultRow]:
    """Share of the wall-clock of a run's steps in which a reward actor was scoring."""
    mode = LoopMode(max_staleness=config.max_staleness)
    clock = Clock(counted=steps, lag=config.max_staleness)
    shares = []
    for number in range(runs):
        lines = throughput_run(config, mode, clock, seed=config.seed + number)
        scoring, walls = (values_of(lines, f"time/{key}_s") for key in ("reward", "step"))
        shares.append(sum(scoring) / sum(walls))
    return [make_row("share_of_demo_step", shares, "share")]


def hundred_token_groups(
    config: GrpoConfig, tokenizer: Any, count: int
) -> list[tuple[Group, Record]]:
    """Groups of answers with some items left out, the first of each cut short; their records."""
    records = list(_long_records(config, tokenizer, count))
    style = config.prompt.style
    prompts = [
        Prompt(
            index=index,
            token_ids=encode_prompt(
                tokenizer, record, style=style, thinking=False, max_tokens=None
            ),
        )
        for index, record in enumerate(records)
    ]
    pairs = list(zip(prompts, records, strict=True))
    if len(pairs) < count:
        raise ValueError(f"{count} groups must be made, found {len(pairs)}; give fewer runs")
    groups = written_groups(pairs, tokenizer, group_size=config.group_size, seed=config.seed)
    cut = [replace(group, completions=_with_one_cut(group.completions)) for group in groups]
    return list(zip(cut, records, strict=True))


def _with_one_cut(completions: Sequence[Completion]) -> tuple[Completion, ...]:
    first, *others = completions
    return completion_of(first.token_ids[:-10].tolist()), *others


def _long_records(config: GrpoConfig, tokenizer: Any, count: int) -> Iterator[Record]:
    """Records of the embedded world put together until their answers are long enough."""
    parts: list[Record] = []
    source = generate_records("train", 8 * count, seed=config.data_seed, level="hard")
    for record in source:
        parts.append(record)
        whole = _joined(parts)
        # The last record overshoots about as much as what is left out of the completions.
        if len(tokenizer(whole.graph.to_json())["input_ids"]) >= NUM_TOKENS:
            yield whole
            parts = []
            count -= 1
        if count == 0:
            return


def _joined(parts: Sequence[Record]) -> Record:
    entities = {(e.text, e.type) for record in parts for e in record.graph.entities}
    relations = {(r.head, r.tail, r.type): r for record in parts for r in record.graph.relations}
    return Record(
        text=" ".join(record.text for record in parts),
        entity_types=tuple(sorted({t for record in parts for t in record.entity_types})),
        relation_types=tuple(sorted({t for record in parts for t in record.relation_types})),
        graph=Graph(
            tuple(
                Entity(id=number, text=text, type=kind)
                for number, (text, kind) in enumerate(sorted(entities), start=1)
            ),
            tuple(relations.values()),
        ),
    )


def _rate(groups: Sequence[tuple[Group, Record]], tokenizer: Any, spec: RewardSpec) -> float:
    # Seconds of this process on a core: what else the machine does is left out.
    started = time.process_time()
    for group, record in groups:
        score_group(group, record, tokenizer, spec, thinking=False)
    seconds = time.process_time() - started
    return sum(len(group.completions) for group, _ in groups) / seconds
