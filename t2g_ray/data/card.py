"""A selection -> its card: what was asked for, what was kept, and why the rest was not.

Invariant: the Markdown page shows the figures of the JSON file and no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from t2g_ray.data.select import Selection
from t2g_ray.run.folder import write_json, write_text

MAX_SHOWN_SAMPLES = 3
COUNTS = (
    "records",
    "entities",
    "relations",
    "records_without_entities",
    "records_without_relations",
)


def write_card(selection: Selection, source: Path, out: Path) -> tuple[Path, Path]:
    """Write OUT.card.json and OUT.card.md beside `out`, which is written already."""
    json_path, page_path = card_paths(out)
    card = {
        "source": {"name": source.name, "sha256": file_digest(source)},
        "result": {"name": out.name, "sha256": file_digest(out)},
        **selection.card(),
    }
    write_json(json_path, card)
    write_text(page_path, card_page(card))
    return json_path, page_path


def card_paths(out: Path) -> tuple[Path, Path]:
    """OUT.card.json and OUT.card.md."""
    return out.with_name(f"{out.name}.card.json"), out.with_name(f"{out.name}.card.md")


def card_page(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    before, after = card["before"], card["after"]
    options = ", ".join(f"{name} {value}" for name, value in card["options"].items())
    parts = [
        f"# {card['result']['name']}\n\n{card['kept']} of {card['read']} records of "
        f"{card['source']['name']}.\n\n- options: {options}\n"
        f"- sha256 of the source: {card['source']['sha256']}\n"
        f"- sha256 of this set: {card['result']['sha256']}",
        "## Counts\n\n"
        + markdown_table(
            ("", "before", "after"),
            [(name.replace("_", " "), before[name], after[name]) for name in COUNTS]
            + [
                (f"{name} text length", before["text_chars"][name], after["text_chars"][name])
                for name in ("min", "median", "max")
            ],
        ),
    ]
    for kind in ("entities", "relations"):
        uses = [(t, n, after["types"][kind].get(t, 0)) for t, n in before["types"][kind].items()]
        parts.append(f"## Types of {kind}\n\n" + markdown_table(("type", "before", "after"), uses))
    parts.append("## Left out\n\n" + _left_out(card["rejected"]))
    return "\n\n".join(parts) + "\n"


def _left_out(rejected: Mapping[str, Any]) -> str:
    if not rejected:
        return "Nothing."
    counts = [(reason, item["count"]) for reason, item in rejected.items()]
    samples = [
        (reason, sample["record"], sample["found"], sample["text"])
        for reason, item in rejected.items()
        for sample in item["samples"][:MAX_SHOWN_SAMPLES]
    ]
    shown = markdown_table(("reason", "record", "found", "text"), samples)
    return f"{markdown_table(('reason', 'records'), counts)}\n\nSamples:\n\n{shown}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as a Markdown table; cells keep to one line."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
