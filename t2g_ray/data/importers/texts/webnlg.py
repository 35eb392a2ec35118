"""WebNLG release XML: entries of triples, each with several English texts; a record a text.

Triples are 'subject | relation | object'. The layout has no entity types: all are 'entity'.
Invariants: a file that declares a document type is refused, so that no entity is ever expanded or
fetched; a text without triples is rejected, because it is no text with nothing to find.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each
from t2g_ray.data.importers.row import Rejection, Row, RowError, shown
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.texts.surface import names_in_text
from t2g_ray.records.files import unpacked

ENTITY_TYPE = "entity"
LANGUAGES = ("", "en")
BAD = "bad"
TRIPLES = ("mtriple", "otriple")
"""Both names occur inside <modifiedtripleset>."""


class _NoDocumentType(ElementTree.TreeBuilder):
    """Called by the parser before it reads what a document type declares."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError(f"a file without <!DOCTYPE>, not one for {name!r}")


def looks_like(preview: SourcePreview) -> bool:
    return "<benchmark" in preview.text or "<modifiedtripleset" in preview.text


def read(source: Source, options: ReadOptions) -> Drafts:
    for path in source.files(".xml"):
        yield from each(texts(path), _draft)


def texts(path: Path) -> Iterator[Row | Rejection]:
    """Every text with the triples of its entry. Raises ValueError for a file that is not XML."""
    try:
        parser = ElementTree.XMLParser(target=_NoDocumentType())
        root = ElementTree.fromstring(unpacked(path), parser)
    except (ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"{path}: must be WebNLG XML, found {error}") from None
    for number, entry in enumerate(root.iter("entry"), start=1):
        entry_id, lexes = entry.get("eid", ""), entry.findall("lex")
        row = Row(place=f"{path}, entry {number}", value={"id": entry_id})
        if not lexes:
            missing = RowError("no_text", "an entry must have at least one <lex>, found none")
            yield missing.rejection(row)
        for lex_number, lex in enumerate(lexes, start=1):
            value: dict[str, Any] = {
                "content": "".join(lex.itertext()),
                "comment": lex.get("comment", ""),
                "lang": lex.get("lang", ""),
                "id": f"{entry_id}-{lex.get('lid', '')}",
                "category": entry.get("category", ""),
            }
            row = Row(place=f"{path}, entry {number}, text {lex_number}", value=value)
            try:
                value |= {"text": _text(lex), "triples": _triples(entry)}
            except RowError as error:
                yield error.rejection(row)
            else:
                yield row


def _triples(entry: ElementTree.Element) -> list[str]:
    """What the one <modifiedtripleset> holds, whatever its elements are called."""
    sets = entry.findall("modifiedtripleset")
    if len(sets) > 1:
        raise RowError(
            "wrong_shape", f"an entry must have one <modifiedtripleset>, found {len(sets)}"
        )
    triples = [item for triple_set in sets for item in triple_set]
    if not triples:
        raise RowError(
            "no_triples",
            "an entry must have triples in <modifiedtripleset>, found none: nobody says that its "
            "texts hold nothing",
        )
    if wrong := [item.tag for item in triples if item.tag not in TRIPLES or len(item)]:
        raise RowError("wrong_shape", f"a triple must be one of {TRIPLES}, found <{wrong[0]}>")
    return [item.text or "" for item in triples]


def _text(lex: ElementTree.Element) -> str:
    """The text of a <lex>; in the enriched release that of its <text>, beside a template."""
    inner = lex.findall("text") if len(lex) else [lex]
    if len(inner) != 1 or len(inner[0]):
        raise RowError(
            "wrong_shape",
            "a <lex> must hold its text alone or one <text>, found the elements "
            f"{[item.tag for item in lex]}",
        )
    return " ".join((inner[0].text or "").split())


def _draft(row: Row) -> RecordDraft:
    value: dict[str, Any] = row.value
    if value["comment"] == BAD:
        raise RowError(
            "marked_bad", "a text must not be marked bad by the source, found that it is"
        )
    if value["lang"] not in LANGUAGES:
        raise RowError("other_language", f"a text must be English, found lang={value['lang']!r}")
    text, triples = value["text"], [_parts(triple) for triple in value["triples"]]
    names = names_in_text([name for head, _, tail in triples for name in (head, tail)], text)
    return RecordDraft(
        place=row.place,
        text=text,
        entities=tuple((form, ENTITY_TYPE) for form in names.forms),
        relations=tuple((names.indices[h], names.indices[t], type_) for h, type_, t in triples),
        absent=names.absent,
        notes=names.notes,
        extra={"id": value["id"], "category": value["category"]},
    )


def _parts(triple: str) -> tuple[str, str, str]:
    parts = triple.split(" | ")
    if len(parts) != 3 or not all(part.strip() for part in parts):
        raise RowError(
            "wrong_shape",
            f"a triple must be 'subject | relation | object', found {shown(triple)}",
        )
    return parts[0].strip(), parts[1].strip(), parts[2].strip()


LAYOUT = Layout(
    name="webnlg",
    summary="WebNLG release XML: entry, modifiedtripleset, lex",
    looks_like=looks_like,
    read=read,
)
