"""RunData -> one HTML page: results, curves, examples, and how the run was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from t2g_ray.graph import Graph
from t2g_ray.graph.counts import score_graph
from t2g_ray.report.graph_diff import MARKS, compare_graphs, marked_text
from t2g_ray.report.headline import cards, tables
from t2g_ray.report.load import RunData, SampleLine
from t2g_ray.report.plots.curves import figures
from t2g_ray.report.plots.drawing import draw_both
from t2g_ray.report.template import fill

NUM_EXAMPLES = 8
FACTS = {
    "records": "Held-out records",
    "seed": "Seed",
    "steps": "Steps",
    "wall_s": "Wall-clock, s",
    "sft_wall_s": "SFT, s",
    "grpo_wall_s": "GRPO, s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownText:
    """One text with its two graphs, ready to show."""

    caption: str
    parts: str
    text: Markup
    absent: str
    gold: Markup
    missed: str
    predicted: Markup | None
    wrong: str
    parse: str
    completion: str


def render(data: RunData) -> str:
    """The whole page as HTML."""
    result_tables = tables(data.summary, data.evals)
    return fill(
        "page.html.j2",
        name=data.name,
        notes=data.notes,
        is_finished="after" in data.summary,
        tables=result_tables,
        cards=cards(result_tables[0]) if result_tables else [],
        facts={FACTS[key]: _shown(data.summary[key]) for key in FACTS if key in data.summary},
        num_steps=data.metrics[-1]["step"] if data.metrics else 0,
        num_nonfinite=sum(any(k.startswith("nonfinite/") for k in m) for m in data.metrics),
        figures=figures(data.metrics, data.evals),
        marks=MARKS,
        examples=[_example(sample) for sample in choose_samples(data.samples)],
        config_text=data.config_text,
        machine=_flat(data.summary.get("machine", {})),
        versions=_flat(data.summary.get("versions", {})),
    )


def choose_samples(samples: list[SampleLine]) -> list[SampleLine]:
    """At most NUM_EXAMPLES texts, evenly spaced from the best reward to the worst.

    Held-out texts only, when there are any: what was trained on says less.
    """
    held_out = [sample for sample in samples if sample.split == "heldout"]
    by_text = {sample.text: sample for sample in held_out or samples}
    ranked = sorted(by_text.values(), key=lambda sample: -sample.reward)
    num_shown = min(NUM_EXAMPLES, len(ranked))
    last = max(1, num_shown - 1)
    return [ranked[index * (len(ranked) - 1) // last] for index in range(num_shown)]


def _example(sample: SampleLine) -> ShownText:
    predicted_graph = sample.predicted or Graph((), ())
    gold, predicted = compare_graphs(sample.gold, predicted_graph)
    text, absent = marked_text(sample.text, gold, predicted)
    gold_svg, predicted_svg = draw_both(gold, predicted)
    counts = score_graph(sample.gold, predicted_graph)
    entities, relations = counts.entities, counts.relations
    split = "held out" if sample.split == "heldout" else "training"
    return ShownText(
        caption=f"reward {sample.reward:.2f}, {split}, step {sample.step}",
        parts=", ".join(f"{name} {value:.2f}" for name, value in sample.parts.items()),
        text=text,
        absent=", ".join(absent),
        gold=gold_svg,
        missed=f"{entities.fn} of {entities.tp + entities.fn} entities and "
        f"{relations.fn} of {relations.tp + relations.fn} relations missed",
        predicted=None if sample.predicted is None else predicted_svg,
        wrong=f"{entities.fp} of {entities.tp + entities.fp} entities and "
        f"{relations.fp} of {relations.tp + relations.fp} relations wrong",
        parse=sample.parse,
        completion=sample.completion,
    )


def _flat(values: Any) -> dict[str, str]:
    return {str(key): _shown(value) for key, value in values.items()} if values else {}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
