"""CoNLL04 columns: '#doc N', then index, token, tag, relation types, tails; a tab between.

    1  Ann   B-Peop  ['Work_For']  [4]
    4  Acme  B-Org   ['N']         [4]

A relation is listed at the last token of its head and names the index of the last token of its
tail; 'N' is none. Indices are those of the first column, wherever they start.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each
from t2g_ray.data.importers.row import Row, RowError, shown
from t2g_ray.data.importers.source import Source, SourcePreview, text_lines
from t2g_ray.data.importers.tokens.tags import spans_of
from t2g_ray.data.importers.tokens.token_graph import TokenRelation, token_draft

MARK = "#doc"
NONE = "N"
NUM_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class _Cells:
    """A line: relations are types with the indices of their tails."""

    index: int
    token: str
    tag: str
    relations: tuple[tuple[str, int], ...]


def looks_like(preview: SourcePreview) -> bool:
    return preview.text.lstrip("\ufeff").startswith(MARK)


def read(source: Source, options: ReadOptions) -> Drafts:
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
    indices = [cell.index for cell in cells]
    _check_indices(cells)
    spans = spans_of([cell.tag for cell in cells])
    by_last_token = {indices[end - 1]: index for index, (_, end, _) in enumerate(spans)}
    relations: list[TokenRelation] = []
    for cell in cells:
        for type_, tail in cell.relations:
            if type_ == NONE:
                continue
            if unknown := [place for place in (cell.index, tail) if place not in by_last_token]:
                raise RowError(
                    "unknown_relation_end",
                    f"an end of {type_} must be the last token of an entity, "
                    f"found token {unknown[0]}",
                )
            relations.append((by_last_token[cell.index], by_last_token[tail], type_))
    tokens = [cell.token for cell in cells]
    name = row.value[0].removeprefix(MARK).strip()
    return token_draft(row.place, tokens, spans, relations, extra={"id": name})


def _check_indices(cells: Sequence[_Cells]) -> None:
    """Raise RowError for indices that do not say which token a tail is."""
    indices = [cell.index for cell in cells]
    if len(set(indices)) < len(indices):
        repeated = next(index for index in indices if indices.count(index) > 1)
        raise RowError(
            "repeated_index", f"an index must stand for one token, found {repeated} more than once"
        )
    own = [(i, cell.index, tail) for i, cell in enumerate(cells) for t, tail in cell.relations
           if t == NONE]  # fmt: skip
    if own and any(tail != index for _, index, tail in own) and all(t == i for i, _, t in own):
        raise RowError(
            "wrong_columns",
            f"tails must be indices of the first column, found that 'N' has tails from {own[0][2]} "
            f"and indices from {own[0][1]}",
        )


def _cells(line: str) -> _Cells:
    columns = line.split("\t")
    if len(columns) != NUM_COLUMNS or not columns[0].isdecimal() or not columns[1]:
        raise RowError(
            "wrong_columns",
            f"a line must have {NUM_COLUMNS} columns, the first an index, the second a token, "
            f"found {shown(line)}",
        )
    types, tails = (_literal_list(column) for column in columns[3:])
    is_right = all(isinstance(t, str) for t in types) and all(type(t) is int for t in tails)
    if not is_right or len(types) != len(tails):
        raise RowError(
            "wrong_columns",
            f"columns 4 and 5 must be lists of types and tokens, one for one, found {shown(line)}",
        )
    pairs = tuple(zip(types, tails, strict=True))
    return _Cells(int(columns[0]), columns[1], columns[2], pairs)


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
