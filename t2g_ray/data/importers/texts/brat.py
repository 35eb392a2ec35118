"""BRAT stand-off: NAME.txt with NAME.ann beside it; a record a document.

    T1  Person 0 3    Ann
    R1  Works_For Arg1:T1 Arg2:T2

Events, attributes, normalisations, equivalences and notes are counted and not read. Offsets count
characters; an entity in several pieces has no text of its own, so its document is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from t2g_ray.data.importers.layout import Drafts, Layout, RecordDraft, each
from t2g_ray.data.importers.row import Rejection, Row, RowError, shown
from t2g_ray.data.importers.source import Source, SourcePreview

KINDS = {
    "E": "event",
    "A": "attribute",
    "M": "attribute",
    "N": "normalisation",
    "*": "equivalence",
    "#": "note",
}


def looks_like(preview: SourcePreview) -> bool:
    return ".ann" in preview.suffixes


def read(source: Source, schema_file: Path | None) -> Drafts:
    return each(documents(source), _draft)


def documents(source: Source) -> Iterator[Row | Rejection]:
    """Text and annotation lines of every document; half a pair is a rejection."""
    for stem in sorted({path.with_suffix("") for path in source.files(".txt", ".ann")}):
        text, annotations = stem.with_suffix(".txt"), stem.with_suffix(".ann")
        if missing := [path for path in (text, annotations) if not path.is_file()]:
            yield Rejection(
                place=str(stem),
                reason="half_a_pair",
                message=f"a document must be a .txt and an .ann file, found no {missing[0].name}",
                value=None,
            )
            continue
        try:  # bytes, because offsets count every character, those of line ends included
            content, lines = (path.read_bytes().decode("utf-8") for path in (text, annotations))
        except UnicodeDecodeError as error:
            message = f"a document must be UTF-8, found {error}"
            yield Rejection(place=str(stem), reason="not_utf8", message=message, value=None)
            continue
        value = {"text": content, "lines": lines.splitlines(), "id": stem.name}
        yield Row(place=str(annotations), value=value)


def _draft(row: Row) -> RecordDraft:
    text = row.value["text"]
    entities: dict[str, tuple[str, str]] = {}
    relations: list[tuple[str, list[str]]] = []
    notes: list[str] = []
    for number, line in enumerate(row.value["lines"], start=1):
        kind = line[:1]
        if kind == "T":
            key, entity = _entity(line, number, text)
            entities[key] = entity
        elif kind == "R":
            relations.append(_relation(line, number))
        elif kind in KINDS:
            notes.append(f"{KINDS[kind]} not read")
        elif line.strip():
            raise RowError(
                "wrong_shape",
                f"line {number} must open with T, R, E, A, M, N, * or #, found {shown(line)}",
            )
    for type_, ends in relations:
        if unknown := [end for end in ends if end not in entities]:
            raise RowError(
                "unknown_relation_end", f"an end of {type_} must be an entity, found {unknown[0]}"
            )
    return RecordDraft(
        place=row.place,
        text=text.strip(),
        entities=tuple(entities.values()),
        relations=tuple((entities[h][0], entities[t][0], type_) for type_, (h, t) in relations),
        notes=tuple(notes),
        extra={"id": row.value["id"]},
    )


def _entity(line: str, number: int, text: str) -> tuple[str, tuple[str, str]]:
    key, _, rest = line.partition("\t")
    head, _, mention = rest.partition("\t")
    type_, _, offsets = head.partition(" ")
    if ";" in offsets:
        raise RowError(
            "entity_in_pieces", f"line {number}: an entity must be in one piece, found {offsets!r}"
        )
    bounds = offsets.split()
    if len(bounds) != 2 or not all(bound.isdigit() for bound in bounds) or not type_:
        raise RowError(
            "wrong_shape",
            f"line {number} must be 'T1<tab>Type start end<tab>text', found {shown(line)}",
        )
    found = text[int(bounds[0]) : int(bounds[1])]
    if found.split() != mention.split():
        raise RowError(
            "offsets_do_not_fit",
            f"line {number}: characters {offsets} must read {mention!r:.80}, found {found!r:.80}",
        )
    return key, (found, type_)


def _relation(line: str, number: int) -> tuple[str, list[str]]:
    words = line.partition("\t")[2].split()
    ends = [word.partition(":")[2] for word in words[1:]]
    if len(ends) != 2 or not all(ends):
        raise RowError(
            "wrong_shape",
            f"line {number} must be 'R1<tab>Type Arg1:T1 Arg2:T2', found {shown(line)}",
        )
    return words[0], ends


LAYOUT = Layout(
    name="brat",
    summary="BRAT stand-off: a .txt and an .ann file a document",
    looks_like=looks_like,
    read=read,
)
