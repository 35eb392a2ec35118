"""WebNLG release XML: entries of triples, each with several English texts; a record a text.

Triples are 'subject | relation | object'. The layout has no entity types: all are 'entity'.
Invariant: a file that declares a document type is refused, so that no entity is ever expanded or
fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from t2g_ray.data.importers.layout import Drafts, Layout, RecordDraft, each
from t2g_ray.data.importers.row import Row, RowError, shown
from t2g_ray.data.importers.source import Source, SourcePreview
from t2g_ray.data.importers.texts.surface import plain_name, surface

ENTITY_TYPE = "entity"
LANGUAGES = ("", "en")
BAD = "bad"


class _NoDocumentType(ElementTree.TreeBuilder):
    """Called by the parser before it reads what a document type declares."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError(f"a file without <!DOCTYPE>, not one for {name!r}")


def looks_like(preview: SourcePreview) -> bool:
    return "<benchmark" in preview.text or "<modifiedtripleset" in preview.text


def read(source: Source, schema_file: Path | None) -> Drafts:
    for path in source.files(".xml"):
        yield from each(texts(path), _draft)


def texts(path: Path) -> Iterator[Row]:
    """Every text with the triples of its entry. Raises ValueError for a file that is not XML."""
    try:
        parser = ElementTree.XMLParser(target=_NoDocumentType())
        root = ElementTree.parse(path, parser).getroot()
    except (ValueError, ElementTree.ParseError) as error:
        raise ValueError(f"{path}: must be WebNLG XML, found {error}") from None
    for number, entry in enumerate(root.iter("entry"), start=1):
        triples = [item.text or "" for item in entry.iterfind("modifiedtripleset/mtriple")]
        for lex_number, lex in enumerate(entry.iterfind("lex"), start=1):
            yield Row(
                place=f"{path}, entry {number}, text {lex_number}",
                value={
                    "text": " ".join("".join(lex.itertext()).split()),
                    "triples": triples,
                    "comment": lex.get("comment", ""),
                    "lang": lex.get("lang", ""),
                    "id": "-".join((entry.get("eid", ""), lex.get("lid", ""))),
                    "category": entry.get("category", ""),
                },
            )


def _draft(row: Row) -> RecordDraft:
    value = row.value
    if value["comment"] == BAD:
        raise RowError(
            "marked_bad", "a text must not be marked bad by the source, found that it is"
        )
    if value["lang"] not in LANGUAGES:
        raise RowError("other_language", f"a text must be English, found lang={value['lang']!r}")
    relations, names = [], dict[str, None]()
    for triple in value["triples"]:
        parts = triple.split(" | ")
        if len(parts) != 3:
            raise RowError(
                "wrong_shape",
                f"a triple must be 'subject | relation | object', found {shown(triple)}",
            )
        head, tail = (_form(parts[end], value["text"]) for end in (0, 2))
        relations.append((head, tail, parts[1].strip()))
        names |= {head: None, tail: None}
    return RecordDraft(
        place=row.place,
        text=value["text"],
        entities=tuple((name, ENTITY_TYPE) for name in sorted(names, key=value["text"].find)),
        relations=tuple(relations),
        extra={"id": value["id"], "category": value["category"]},
    )


def _form(name: str, text: str) -> str:
    plain = plain_name(name)
    return surface(plain, text) or plain


LAYOUT = Layout(
    name="webnlg",
    summary="WebNLG release XML: entry, modifiedtripleset, lex",
    looks_like=looks_like,
    read=read,
)
