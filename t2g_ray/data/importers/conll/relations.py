"""CoNLL04 columns: '#doc N', then index, token, tag, relation types, tails; a tab between.

    1  Ann   B-Peop  ['Work_For']  [4]
    4  Acme  B-Org   ['N']         [4]

A relation is listed at the last token of its head and names the last token of its tail; 'N' is
none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2g_ray.data.importers.layout import Drafts, Layout, RecordDraft, each
from t2g_ray.data.importers.row import Row, RowError, shown
from t2g_ray.data.importers.source import Source, SourcePreview, text_lines
from t2g_ray.data.importers.tokens.tags import spans_of
from t2g_ray.data.importers.tokens.token_graph import TokenRelation, token_draft

MARK = "#doc"
NONE = "N"
NUM_COLUMNS = 5


def looks_like(preview: SourcePreview) -> bool:
    return preview.text.lstrip("\ufeff").startswith(MARK)


def read(source: Source, schema_file: Path | None) -> Drafts:
    for path in source.files(".txt", ".conll", ".tsv"):
        yield from each(sentences(path), _draft)


def sentences(path: Path) -> Iterator[Row]:
    """The lines of each '#doc', at the place of its first line."""
    place, lines = "", list[str]()
    for number, line in text_lines(path):
        if line.startswith(MARK) and lines:
            yield Row(place=place, value=lines)
            lines = []
        if line.strip():
            place = place if lines else f"{path}:{number}"
            lines.append(line)
    if lines:
        yield Row(place=place, value=lines)


def _draft(row: Row) -> RecordDraft:
    if not row.value[0].startswith(MARK):
        raise RowError(
            "wrong_shape", f"a sentence must open with '{MARK} N', found {row.value[0]!r:.80}"
        )
    cells = [_cells(line) for line in row.value[1:]]
    spans = spans_of([tag for _, tag, _, _ in cells])
    by_last_token = {end - 1: index for index, (_, end, _) in enumerate(spans)}
    relations: list[TokenRelation] = []
    for token, (_, _, types, tails) in enumerate(cells):
        for type_, tail in zip(types, tails, strict=True):
            if type_ == NONE:
                continue
            if unknown := [place for place in (token, tail) if place not in by_last_token]:
                raise RowError(
                    "unknown_relation_end",
                    f"an end of {type_} must be the last token of an entity, "
                    f"found token {unknown[0]}",
                )
            relations.append((by_last_token[token], by_last_token[tail], type_))
    tokens = [token for token, _, _, _ in cells]
    name = row.value[0].removeprefix(MARK).strip()
    return token_draft(row.place, tokens, spans, relations, extra={"id": name})


def _cells(line: str) -> tuple[str, str, list[str], list[int]]:
    columns = line.split("\t")
    if len(columns) != NUM_COLUMNS:
        raise RowError(
            "wrong_columns", f"a line must have {NUM_COLUMNS} columns, found {shown(line)}"
        )
    types, tails = (_literal_list(column) for column in columns[3:])
    is_right = all(isinstance(t, str) for t in types) and all(isinstance(t, int) for t in tails)
    if not is_right or len(types) != len(tails):
        raise RowError(
            "wrong_columns",
            f"columns 4 and 5 must be lists of types and tokens, one for one, found {shown(line)}",
        )
    return columns[1], columns[2], types, tails


def _literal_list(cell: str) -> list[Any]:
    try:
        value = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, list):
        raise RowError("wrong_columns", f"a cell must be a list like ['N'], found {shown(cell)}")
    return value


LAYOUT = Layout(
    name="conll_relations",
    summary="CoNLL04 columns: index, token, BIO tag, relations, tails, after a '#doc' line",
    looks_like=looks_like,
    read=read,
)
