"""A finished pipeline -> records.jsonl, rejects.jsonl, card.json and card.md.

Invariants: the page shows the figures of the JSON file and no others; neither holds a time or a
path of this machine, so that a run that was stopped leaves the same bytes as one that was not.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from t2g_ray.data.card import COUNTS, file_digest, markdown_table
from t2g_ray.data.generate.config import GenerateConfig
from t2g_ray.data.generate.content.augment import KEY
from t2g_ray.data.generate.pipeline import GenerateFiles, RejectedItem, Tally
from t2g_ray.data.inspect import MAX_SAMPLES, SAMPLE_CHARS, SplitRecords
from t2g_ray.records.jsonl import record_to_dict, write_records
from t2g_ray.run.folder import write_json, write_text
from t2g_ray.types import Record

MAX_RECORDS_SHOWN = 3
UNTOLD = ("parallel_requests", "timeout_s", "give_up_s", "actors", "threads", "gpus")
"""Settings that say where answers are computed, not which."""


def write_generated(
    config: GenerateConfig, records: Sequence[Record], tally: Tally
) -> dict[str, Any]:
    """Write all files of a run and return its card."""
    files = GenerateFiles(path=config.run_dir)
    write_records(files.records, records)
    lines = (json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in tally.rejected)
    write_text(files.rejects, "".join(lines))
    card = make_card(config, records, tally)
    write_json(files.card_json, card)
    write_text(files.card_page, generation_card(card))
    return card


def make_card(config: GenerateConfig, records: Sequence[Record], tally: Tally) -> dict[str, Any]:
    """What was asked of which teacher, what came out of each step, and why the rest did not."""
    split = SplitRecords(name="", records=list(records))
    source = Path(config.source.name)
    return {
        "settings": _settings(config),
        "source": {
            "name": source.name,
            "sha256": file_digest(source) if source.is_file() else None,
        },
        "result": {
            "name": GenerateFiles(path=config.run_dir).records.name,
            "sha256": file_digest(GenerateFiles(path=config.run_dir).records),
        },
        "steps": [
            {
                "step": step.name,
                "in": step.num_in,
                "out": step.num_out,
                "rejected": _reasons([item for item in tally.rejected if item.step == step.name]),
            }
            for step in tally.steps
        ],
        "agreement": _agreement(tally.agreements),
        "graphs_repaired": tally.num_repaired,
        "variants": dict(Counter(record.extra[KEY]["variant"] for record in records)),
        "copies_not_made": dict(sorted(tally.copies_not_made.items())),
        "records": {**split.counts(), "types": split.types(), "text_chars": split.lengths()},
        "samples": [record_to_dict(record) for record in records[:MAX_RECORDS_SHOWN]],
    }


def _settings(config: GenerateConfig) -> dict[str, Any]:
    settings = config.model_dump(mode="json", exclude={"run_dir", "device"})
    for name in ("teacher", "reasoner"):
        settings[name] = {k: v for k, v in settings[name].items() if k not in UNTOLD}
    return settings


def _reasons(rejected: Sequence[RejectedItem]) -> dict[str, dict[str, Any]]:
    reasons: dict[str, dict[str, Any]] = {}
    for item in rejected:
        found = reasons.setdefault(item.reason, {"count": 0, "samples": []})
        found["count"] += 1
        if len(found["samples"]) < MAX_SAMPLES:
            sample = {"place": item.place, "message": item.message[:SAMPLE_CHARS]}
            found["samples"].append(sample)
    return dict(sorted(reasons.items(), key=lambda pair: (-pair[1]["count"], pair[0])))


def _agreement(values: Sequence[float]) -> dict[str, float] | None:
    """Bounds of the mean pairwise F1 over texts; None where each text has one sample."""
    if not values:
        return None
    figures = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return {"mean": statistics.fmean(values), **figures}


def generation_card(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    settings, records = card["settings"], card["records"]
    teacher, reasoner = settings["teacher"], settings["reasoner"]
    steps = [(step["step"], step["in"], step["out"]) for step in card["steps"]]
    parts = [
        f"# {card['result']['name']}\n\n{records['records']} records from {card['source']['name']}"
        f"\n\n- teacher: {teacher['model']}, {settings['samples']} samples a text, temperature "
        f"{teacher['temperature']:g}\n- reasoner: {reasoner['model'] or 'none'}\n"
        f"- seed: {settings['seed']}\n- sha256 of the source: {card['source']['sha256'] or '-'}\n"
        f"- sha256 of this set: {card['result']['sha256']}",
        "## Steps\n\n" + markdown_table(("step", "in", "out"), steps),
        "## Left out\n\n" + _left_out(card["steps"]),
        "## Records\n\n"
        + markdown_table(
            ("", "count"),
            [
                *((name.replace("_", " "), records[name]) for name in COUNTS),
                *((f"{name} text length", records["text_chars"][name]) for name in _BOUNDS),
                *((f"variant {name}", count) for name, count in card["variants"].items()),
                *((f"{name} not made", count) for name, count in card["copies_not_made"].items()),
                ("graphs repaired", card["graphs_repaired"]),
            ],
        ),
    ]
    if card["agreement"] is not None:
        rows = [(name, f"{value:.3f}") for name, value in card["agreement"].items()]
        parts.append("## Agreement of samples\n\n" + markdown_table(("", "F1"), rows))
    for kind, uses in records["types"].items():
        table = markdown_table(("type", "uses"), list(uses.items()))
        parts.append(f"## Types of {kind}\n\n{table}")
    samples = [json.dumps(sample, ensure_ascii=False, indent=2) for sample in card["samples"]]
    parts.append("## Samples\n\n" + "\n\n".join(f"```json\n{sample}\n```" for sample in samples))
    return "\n\n".join(parts) + "\n"


_BOUNDS = ("min", "median", "max")


def _left_out(steps: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (step["step"], reason, item["count"], item["samples"][0]["message"])
        for step in steps
        for reason, item in step["rejected"].items()
    ]
    return markdown_table(("step", "reason", "count", "first"), rows) if rows else "Nothing."
