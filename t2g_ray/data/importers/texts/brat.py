"""BRAT stand-off: NAME.txt with NAME.ann beside it; a record a document.

    T1  Person 0 3    Ann
    R1  Works_For Arg1:T1 Arg2:T2

Events and their triggers, attributes, normalisations, equivalences and notes are counted and not
read. Offsets count characters; an entity in several pieces, not only parted by a line break, has
no text of its own, so its document is rejected.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each
from t2g_ray.data.importers.row import Rejection, Row, RowError, shown
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.records.files import PACKED, TextFile, suffix_of

ENDINGS = (".txt", ".ann")
KINDS = {
    "E": "event",
    "A": "attribute",
    "M": "attribute",
    "N": "normalisation",
    "*": "equivalence",
    "#": "note",
}
TRIGGER = "trigger of an event not read"
EVENT_RELATION = "relation of an event not read"
NO_ANNOTATIONS = "document without a line of annotations, read as one with nothing to find"


def looks_like(preview: SourcePreview) -> bool:
    return ".ann" in preview.suffixes


def read(source: Source, options: ReadOptions) -> Drafts:
    return each(documents(source), _draft)


def documents(source: Source) -> Iterator[Row | Rejection]:
    """Text and annotation lines of every document; half a pair is a rejection."""
    files = source.files(*ENDINGS)
    if source.path is not None and source.path.is_file():
        stem = _stem(source.path)
        files = [path for path in sorted(source.path.parent.iterdir()) if _stem(path) == stem]
    pairs: dict[str, list[Path]] = {}
    for path in files:
        if suffix_of(path) in ENDINGS:
            pairs.setdefault(_stem(path), []).append(path)
    for stem, paths in sorted(pairs.items()):
        by_ending = {suffix_of(path): path for path in paths}
        if len(by_ending) < 2 or len(paths) > 2:
            found = [path.name for path in paths]
            yield Rejection(
                place=stem,
                reason="half_a_pair",
                message=f"a document must be one .txt and one .ann file, found {found}",
                value=None,
            )
            continue
        try:  # the whole text, because offsets count every character, those of line ends included
            text, annotations = (TextFile.read(by_ending[ending]).text() for ending in ENDINGS)
        except ValueError as error:
            yield Rejection(place=stem, reason="not_utf8", message=str(error), value=None)
            continue
        value = {"text": text, "lines": annotations.split("\n"), "id": Path(stem).name}
        yield Row(place=str(by_ending[".ann"]), value=value)


def _stem(path: Path) -> str:
    """The path without its last ending only, since names of documents can have dots."""
    name = path.name
    for ending in (*PACKED, suffix_of(path)):
        if ending and name.lower().endswith(ending):
            name = name[: -len(ending)]
    return str(path.with_name(name)) if name else str(path)


def _draft(row: Row) -> RecordDraft:
    text, lines = row.value["text"], _lines(row.value["lines"])
    triggers = {_trigger(line, number) for key, number, line in lines if key[0] == "E"}
    found = {key: _entity(line, number, text) for key, number, line in lines if key[0] == "T"}
    if unknown := sorted(triggers - set(found)):
        raise RowError("wrong_shape", f"a trigger must be a text-bound line, found {unknown[0]}")
    entities = {key: entity for key, entity in found.items() if key not in triggers}
    indices = {key: index for index, key in enumerate(entities)}
    no_entities = triggers | {key for key, _, _ in lines if key[0] == "E"}
    relations: list[tuple[int, int, str]] = []
    notes = [f"{KINDS[key[0]]} not read" for key, _, _ in lines if key[0] in KINDS]
    notes += [TRIGGER] * len(triggers) + [NO_ANNOTATIONS] * (not lines)
    for key, number, line in lines:
        if key[0] != "R":
            continue
        head, tail, type_ = _relation(line, number)
        if unknown := [end for end in (head, tail) if end not in indices.keys() | no_entities]:
            raise RowError(
                "unknown_relation_end", f"an end of {type_} must be an entity, found {unknown[0]}"
            )
        if {head, tail} & no_entities:
            notes.append(EVENT_RELATION)
        else:
            relations.append((indices[head], indices[tail], type_))
    return RecordDraft(
        place=row.place,
        text=text.strip(),
        entities=tuple(entities.values()),
        relations=tuple(relations),
        notes=tuple(notes),
        extra={"id": row.value["id"]},
    )


def _lines(lines: list[str]) -> list[tuple[str, int, str]]:
    """Id, number and content of every line. Raises RowError for an id that two lines have."""
    found: list[tuple[str, int, str]] = []
    numbers: dict[str, int] = {}
    for number, line in enumerate((line.rstrip("\r") for line in lines), start=1):
        key = line.partition("\t")[0].strip()
        if not line.strip():
            continue
        if not key or key[0] not in {"T", "R", *KINDS}:
            raise RowError(
                "wrong_shape",
                f"line {number} must open with T, R, E, A, M, N, * or #, found {shown(line)}",
            )
        if key in numbers and key != "*":
            raise RowError(
                "repeated_id",
                f"an id must stand for one annotation, found {key} in the lines {numbers[key]} and "
                f"{number}",
            )
        numbers[key] = number
        found.append((key, number, line))
    return found


def _entity(line: str, number: int, text: str) -> tuple[str, str]:
    """Text and type. Pieces with only a line break between them are one mention."""
    head, _, mention = line.partition("\t")[2].partition("\t")
    type_, _, offsets = head.partition(" ")
    pieces = [piece.split() for piece in offsets.split(";")]
    if not type_ or any(len(p) != 2 or not all(map(str.isdecimal, p)) for p in pieces):
        raise RowError(
            "wrong_shape",
            f"line {number} must be 'T1<tab>Type start end<tab>text', found {shown(line)}",
        )
    bounds = [(int(start), int(end)) for start, end in pieces]
    gaps = [text[end:start] for (_, end), (start, _) in pairwise(bounds)]
    if any(not gap.isspace() or "\n" not in gap for gap in gaps):
        raise RowError(
            "entity_in_pieces", f"line {number}: an entity must be in one piece, found {offsets!r}"
        )
    found = text[bounds[0][0] : bounds[-1][1]]
    if bounds[-1][1] > len(text) or not found.strip() or found.split() != mention.split():
        raise RowError(
            "offsets_do_not_fit",
            f"line {number}: characters {offsets} must read {mention!r:.80}, found {found!r:.80}",
        )
    return found.strip(), type_


def _relation(line: str, number: int) -> tuple[str, str, str]:
    """Head, tail and type; the names of the arguments say which is which, their order does not."""
    type_, *arguments = line.partition("\t")[2].split() or [""]
    pairs = [argument.partition(":") for argument in arguments]
    ends = {name: end for name, _, end in pairs}
    if len(pairs) != 2 or set(ends) != {"Arg1", "Arg2"} or not all(ends.values()):
        raise RowError(
            "wrong_shape",
            f"line {number} must be 'R1<tab>Type Arg1:T1 Arg2:T2', found {shown(line)}",
        )
    return ends["Arg1"], ends["Arg2"], type_


def _trigger(line: str, number: int) -> str:
    """The id of an event's trigger."""
    trigger = line.partition("\t")[2].split(" ")[0].rpartition(":")[2].strip()
    if not trigger:
        raise RowError(
            "wrong_shape",
            f"line {number} must be 'E1<tab>Type:T1 Role:T2 ...', found {shown(line)}",
        )
    return trigger


LAYOUT = Layout(
    name="brat",
    summary="BRAT stand-off: a .txt and an .ann file a document",
    looks_like=looks_like,
    read=read,
)
