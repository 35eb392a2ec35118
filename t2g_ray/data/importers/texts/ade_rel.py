"""ADE relation lines: pmid|sentence|effect|start|end|drug|start|end; a record a sentence.

The offsets are those of the whole abstract, so names are found in the sentence. The layout has no
type names of its own: they are 'drug', 'adverse effect' and 'adverse effect of' (effect to drug).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from t2g_ray.data.importers.layout import Drafts, Layout, RecordDraft, each
from t2g_ray.data.importers.row import Rejection, Row, shown
from t2g_ray.data.importers.source import Source, SourcePreview, text_lines
from t2g_ray.data.importers.texts.surface import surface

DRUG, EFFECT, RELATION = "drug", "adverse effect", "adverse effect of"
NUM_COLUMNS = 8
OFFSET_COLUMNS = (3, 4, 6, 7)


def looks_like(preview: SourcePreview) -> bool:
    lines = preview.text.splitlines()[:1]
    return bool(lines) and _columns(lines[0]) is not None


def read(source: Source, schema_file: Path | None) -> Drafts:
    for path in source.files(".rel"):
        yield from each(sentences(path), _draft)


def sentences(path: Path) -> Iterator[Row | Rejection]:
    """The (effect, drug) pairs of each sentence, at the place of its first line."""
    pairs: dict[tuple[str, str], list[tuple[str, str]]] = {}
    places: dict[tuple[str, str], str] = {}
    for number, line in text_lines(path):
        columns = _columns(line)
        if columns is None:
            yield Rejection(
                place=f"{path}:{number}",
                reason="wrong_columns",
                message="a line must be pmid|sentence|effect|start|end|drug|start|end, "
                f"found {shown(line)}",
                value=line,
            )
            continue
        key = (columns[0], columns[1])
        places.setdefault(key, f"{path}:{number}")
        pairs.setdefault(key, []).append((columns[2], columns[5]))
    for (pmid, text), found in pairs.items():
        value = {"pmid": pmid, "text": text, "pairs": found}
        yield Row(place=places[pmid, text], value=value)


def _columns(line: str) -> list[str] | None:
    columns = [column.strip() for column in line.split("|")]
    is_right = len(columns) == NUM_COLUMNS and all(columns[i].isdigit() for i in OFFSET_COLUMNS)
    return columns if is_right else None


def _draft(row: Row) -> RecordDraft:
    text = row.value["text"]
    pairs = [tuple(surface(name, text) or name for name in pair) for pair in row.value["pairs"]]
    mentions = [item for effect, drug in pairs for item in ((effect, EFFECT), (drug, DRUG))]
    return RecordDraft(
        place=row.place,
        text=text,
        entities=tuple(sorted(mentions, key=lambda mention: text.find(mention[0]))),
        relations=tuple((effect, drug, RELATION) for effect, drug in pairs),
        entity_types=(DRUG, EFFECT),
        relation_types=(RELATION,),
        extra={"id": row.value["pmid"]},
    )


LAYOUT = Layout(
    name="ade_rel",
    summary="ADE corpus lines: pmid|sentence|effect|start|end|drug|start|end",
    looks_like=looks_like,
    read=read,
)
