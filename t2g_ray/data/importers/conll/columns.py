"""CoNLL columns: a token a line, its tag in the last column, an empty line after a sentence.

The token is the first column. There are no relations. Lines '-DOCSTART-' and comments ('# ') are
no tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from t2g_ray.data.importers.layout import Drafts, Layout, RecordDraft, each
from t2g_ray.data.importers.row import Row, RowError, shown
from t2g_ray.data.importers.source import Source, SourcePreview, text_lines
from t2g_ray.data.importers.tokens.tags import spans_of
from t2g_ray.data.importers.tokens.token_graph import token_draft

DOCUMENT_MARK = "-DOCSTART-"
SUFFIXES = (".conll", ".txt", ".bio", ".iob", ".tsv")


def looks_like(preview: SourcePreview) -> bool:
    lines = [line.split() for line in preview.text.splitlines()[:-1] if _is_token(line)]
    tags = [columns[-1] for columns in lines if len(columns) > 1]
    is_tagged = all(tag == "O" or tag[1:2] == "-" for tag in tags)
    return bool(tags) and len(tags) == len(lines) and is_tagged and not preview.rows


def read(source: Source, schema_file: Path | None) -> Drafts:
    for path in source.files(*SUFFIXES):
        yield from each(sentences(path), _draft)


def sentences(path: Path) -> Iterator[Row]:
    """The token lines of each sentence, at the place of its first token."""
    place, lines = "", list[str]()
    for number, line in text_lines(path):
        if _is_token(line):
            place = place if lines else f"{path}:{number}"
            lines.append(line)
        elif lines and not line.strip():
            yield Row(place=place, value=lines)
            lines = []
    if lines:
        yield Row(place=place, value=lines)


def _is_token(line: str) -> bool:
    return bool(line.strip()) and not line.startswith((DOCUMENT_MARK, "# "))


def _draft(row: Row) -> RecordDraft:
    columns = [line.split() for line in row.value]
    if short := [line for line, cells in zip(row.value, columns, strict=True) if len(cells) < 2]:
        raise RowError(
            "wrong_columns", f"a line must have a token and a tag, found {shown(short[0])}"
        )
    spans = spans_of([cells[-1] for cells in columns])
    return token_draft(row.place, [cells[0] for cells in columns], spans, [])


LAYOUT = Layout(
    name="conll_columns",
    summary="CoNLL columns without relations: the token first, its BIO or BILOU tag last",
    looks_like=looks_like,
    read=read,
)
