"""Gold records and a file of completions -> the figures of `t2g score`.

Invariant: F1 is micro over all records, from counts that add up; line n of the completions answers
record n of the gold file, and a file of another length is an error.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from t2g_ray.config.rewards import preset as reward_preset
from t2g_ray.config.text.pictures import picture
from t2g_ray.graph.counts import Counts, GraphCounts, count_strict_relations, score_graph
from t2g_ray.graph.parsing import parse_completion
from t2g_ray.records.jsonl import load_records
from t2g_ray.records.outputs import write_lines
from t2g_ray.records.values import read_rows
from t2g_ray.rewards.completion import score_completion
from t2g_ray.types import Record, Reward


def score_files(
    gold: Path, completions: Path, *, preset: str, per_record: Path | None
) -> dict[str, float | int]:
    """Score a file of completions (JSONL {"completion": str}, line by line) against gold records.

    Blank lines are skipped in both files. `per_record` names a file to write with one JSON line a
    record. Raises ValueError for bad lines, an unknown preset, or files of unequal length.
    """
    spec = reward_preset(preset)
    records = load_records(gold)
    texts = load_completions(completions)
    if len(texts) != len(records):
        raise ValueError(
            f"{completions} must hold one completion for each of the {len(records)} records of "
            f"{gold}, found {len(texts)}"
        )
    rewards = [
        score_completion(text, record, spec) for text, record in zip(texts, records, strict=True)
    ]
    if per_record is not None:
        write_lines(per_record, (json.dumps(_line(*item)) for item in enumerate(rewards)))
    return _figures(records, texts, rewards)


def load_completions(path: Path) -> list[str]:
    """The completions of a JSON file, in order. A line may say its `index`, from 0, as those of
    `t2g eval --per-record` do. Raises ValueError with file and line.
    """
    texts: list[str] = []
    for row in read_rows(path):
        text = row.value.get("completion") if isinstance(row.value, dict) else None
        if not isinstance(text, str):
            raise ValueError(
                f'{row.place}: a line must be {{"completion": string}}, found {picture(row.value)}'
            )
        if row.value.get("index", len(texts)) != len(texts):
            raise ValueError(
                f"{row.place}: the key 'index' must be the place of the completion, "
                f"{len(texts)}, found {picture(row.value['index'])}; sort the lines, or rename the "
                "key where it means something else"
            )
        texts.append(text)
    return texts


def _figures(
    records: Sequence[Record], texts: Sequence[str], rewards: Sequence[Reward]
) -> dict[str, float | int]:
    exact = GraphCounts(
        sum((Counts(*reward.entities) for reward in rewards), Counts()),
        sum((Counts(*reward.relations) for reward in rewards), Counts()),
    )
    pairs = [
        (record.graph, parse_completion(text).graph)
        for record, text in zip(records, texts, strict=True)
    ]
    relaxed = sum((score_graph(*pair, "relaxed") for pair in pairs), GraphCounts())
    strict = sum((count_strict_relations(*pair) for pair in pairs), Counts())
    figures: dict[str, float | int] = {
        "f1/entities": exact.entities.f1,
        "f1/relations": exact.relations.f1,
        "f1_relaxed/entities": relaxed.entities.f1,
        "f1_relaxed/relations": relaxed.relations.f1,
        "f1_strict/relations": strict.f1,
        "precision/entities": exact.entities.precision,
        "precision/relations": exact.relations.precision,
        "recall/entities": exact.entities.recall,
        "recall/relations": exact.relations.recall,
        "json_valid_rate": _mean([float(reward.tag == "score") for reward in rewards]),
        "reward/mean": _mean([reward.total for reward in rewards]),
    }
    for name in rewards[0].parts:
        figures[f"reward/{name}"] = _mean([reward.parts[name] for reward in rewards])
    figures["records"] = len(records)
    return figures


def _line(index: int, reward: Reward) -> dict[str, Any]:
    return {
        "index": index,
        "reward": reward.total,
        "parts": dict(reward.parts),
        "parse": reward.parse,
        "tag": reward.tag,
        "entities": reward.entities,
        "relations": reward.relations,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
