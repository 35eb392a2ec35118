"""ADE relation lines: pmid|sentence|name|start|end|drug|start|end; a record a sentence.

The name of the file says what the first name is: DRUG-AE an adverse effect, DRUG-DOSE a dose. Where
it does not, `--columns` does; or the names do, because a dose is counted and measured. The offsets
are those of the whole abstract, so names are found in the sentence: as whole words, or at the
distance of their offsets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each
from t2g_ray.data.importers.row import Rejection, Row, shown
from t2g_ray.data.importers.source import Source, SourcePreview, text_lines
from t2g_ray.data.importers.texts.surface import surface

DRUG = "drug"
KINDS = {"effect": ("adverse effect", "adverse effect of"), "dose": ("dose", "dose of")}
"""Name of the third column -> type of its entities, and of their relations to the drug."""
NUM_COLUMNS = 8
OFFSET_COLUMNS = (3, 4, 6, 7)
IS_EFFECT = re.compile(r"(?<![a-z])(ae|adverse|effects?)(?![a-z])", re.IGNORECASE)
IS_DOSE = re.compile(r"(?<![a-z])(dose|doses|dosage)(?![a-z])", re.IGNORECASE)
MEASURE = re.compile(r"\d|\bdos(e|es|age)\b|\b(mg|g|ml|kg|units?)\b", re.IGNORECASE)

Mention = tuple[str, int, int]
"""Name, and its characters in the abstract."""


def looks_like(preview: SourcePreview) -> bool:
    lines = preview.text.splitlines()[:1]
    return bool(lines) and _columns(lines[0]) is not None


def read(source: Source, options: ReadOptions) -> Drafts:
    for path in source.files(".rel"):
        rows = list(sentences(path))
        yield from each(rows, partial(_draft, _kind(path, rows, options.columns)))


def sentences(path: Path) -> Iterator[Row | Rejection]:
    """The pairs of each sentence, at the place of its first line."""
    pairs: dict[tuple[str, str], list[tuple[Mention, Mention]]] = {}
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
        pairs.setdefault(key, []).append((_mention(columns[2:5]), _mention(columns[5:])))
    for (pmid, text), found in pairs.items():
        value = {"pmid": pmid, "text": text, "pairs": found}
        yield Row(place=places[pmid, text], value=value)


def _columns(line: str) -> list[str] | None:
    columns = [column.strip() for column in line.split("|")]
    is_right = len(columns) == NUM_COLUMNS and all(columns[i].isdecimal() for i in OFFSET_COLUMNS)
    return columns if is_right else None


def _mention(columns: Sequence[str]) -> Mention:
    name, start, end = columns
    return name, int(start), int(end)


def _kind(path: Path, rows: Sequence[Row | Rejection], asked: tuple[str, ...] | None) -> str:
    """What the third column holds. Raises ValueError when nothing says it."""
    if asked is not None:
        if len(asked) != NUM_COLUMNS or asked[2] not in KINDS or asked[5] != DRUG:
            raise ValueError(
                f"--columns must be pmid,text,effect,start,end,drug,start,end (or dose in place "
                f"of effect), found {','.join(asked)}"
            )
        return asked[2]
    by_name = [kind for kind, name in (("effect", IS_EFFECT), ("dose", IS_DOSE))
               if name.search(path.stem)]  # fmt: skip
    names = [pair[0][0] for row in rows if isinstance(row, Row) for pair in row.value["pairs"]]
    num_measures = sum(MEASURE.search(name) is not None for name in names)
    by_content = [] if 0 < num_measures < len(names) else ["dose" if num_measures else "effect"]
    said = by_name if len(by_name) == 1 else by_content
    if len(said) != 1:
        raise ValueError(
            f"{path}: the name of the file must say whether its first names are effects (DRUG-AE) "
            f"or doses (DRUG-DOSE), found {path.name!r} and names like {shown(names[:3])}; say it "
            "with --columns pmid,text,effect,start,end,drug,start,end (or dose)"
        )
    return said[0]


def _draft(kind: str, row: Row) -> RecordDraft:
    text, pairs = row.value["text"], row.value["pairs"]
    type_, relation = KINDS[kind]
    entities: list[tuple[str, str]] = []
    relations: list[tuple[int, int, str]] = []
    absent: list[str] = []
    for pair in pairs:
        forms = [surface(mention[0], text) or _by_distance(mention, pairs, text)
                 for mention in pair]  # fmt: skip
        absent += [m[0] for m, form in zip(pair, forms, strict=True) if form is None]
        relations.append((len(entities), len(entities) + 1, relation))
        named = [form or mention[0] for mention, form in zip(pair, forms, strict=True)]
        entities += [(named[0], type_), (named[1], DRUG)]
    order = sorted(range(len(entities)), key=lambda index: text.find(entities[index][0]))
    place = {index: number for number, index in enumerate(order)}
    return RecordDraft(
        place=row.place,
        text=text,
        entities=tuple(entities[index] for index in order),
        relations=tuple((place[head], place[tail], name) for head, tail, name in relations),
        entity_types=(DRUG, type_),
        relation_types=(relation,),
        absent=tuple(absent),
        extra={"id": row.value["pmid"]},
    )


def _by_distance(
    mention: Mention, pairs: Sequence[tuple[Mention, Mention]], text: str
) -> str | None:
    """A name inside a word, if it is as far from some other name as the offsets say."""
    name, start, _ = mention
    for other, other_start, _ in (m for pair in pairs for m in pair if m != mention):
        if (form := surface(other, text)) is not None and text.count(form) == 1:
            place = text.find(form) + start - other_start
            if place >= 0 and text[place : place + len(name)] == name:
                return name
    return None


LAYOUT = Layout(
    name="ade_rel",
    summary="ADE corpus lines: pmid|sentence|effect (or dose)|start|end|drug|start|end",
    looks_like=looks_like,
    read=read,
    has_columns=True,
)
