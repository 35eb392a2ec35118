"""CoNLL columns: a token a line, its tag in a column, an empty line after a sentence.

    Ann   NNP  B-Person
    works VBZ  O

There are no relations. Columns are parted by tabs, and then cells can hold blanks; without tabs, by
spaces. What each column is, `roles` says. -DOCSTART- lines, and indices that start again, end a
sentence. A line that opens with # is a comment, unless its cells are those of a token.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from t2g_ray.data.importers.conll.relations import MARK
from t2g_ray.data.importers.conll.roles import (
    GLOBAL_COLUMNS,
    Roles,
    header_roles,
    is_tag,
    is_tagged,
    named_roles,
    shown_roles,
)
from t2g_ray.data.importers.layout import Drafts, Layout, ReadOptions, RecordDraft, each
from t2g_ray.data.importers.row import Rejection, Row, RowError, shown
from t2g_ray.data.importers.source import Source, SourcePreview, text_lines
from t2g_ray.data.importers.tokens.tags import spans_of
from t2g_ray.data.importers.tokens.token_graph import token_draft

DOCUMENT_MARK = "-DOCSTART-"
SUFFIXES = (".conll", ".txt", ".bio", ".iob", ".iob2", ".bioes", ".conllu", ".conllup", ".tsv")
SPACES = re.compile(" +")

Line = tuple[int, str]
"""Number from 1, content."""


def looks_like(preview: SourcePreview) -> bool:
    lines = list(enumerate(preview.text.lstrip("\ufeff").split("\n")[:-1], start=1))
    if preview.rows or preview.text.lstrip("\ufeff").startswith(MARK):
        return False
    lines = [(number, line.rstrip("\r")) for number, line in lines]
    return _are_columns(lines)


def read(source: Source, options: ReadOptions) -> Drafts:
    for path in source.files(*SUFFIXES):
        lines = list(text_lines(path))
        if all(_is_blank(line) for _, line in lines):
            continue
        if source.path != path and not _are_columns(lines) and options.columns is None:
            message = (
                "a file must have a column of tags, found none: it may be a page about the data"
            )
            yield Rejection(place=f"{path}:1", reason="no_tags", message=message, value=lines[0][1])
            continue
        roles = _roles(path, lines, options.columns)
        yield from each(sentences(path, lines, roles), partial(_draft, roles))


def _are_columns(lines: Sequence[Line]) -> bool:
    """Whether a header or some column shows tags."""
    rows = [cells for _, cells in _token_lines(lines, _has_tabs(lines))]
    if rows and header_roles(rows[0]):
        return True
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 0
    columns = [*zip(*(cells for cells in rows if len(cells) == width), strict=True)]
    return width > 1 and any(is_tagged(column) for column in columns)


def _roles(path: Path, lines: Sequence[Line], asked: Sequence[str] | None) -> Roles:
    """What the columns are: by the option, the header or the cells. Raises ValueError."""
    try:
        if asked is not None:
            return named_roles(asked)
        for _, line in lines:
            if line.startswith(GLOBAL_COLUMNS):
                roles = header_roles(line.removeprefix(GLOBAL_COLUMNS).split())
                if roles is not None:
                    return roles
        rows = [cells for _, cells in _token_lines(lines, _has_tabs(lines))]
        return (header_roles(rows[0]) if rows else None) or shown_roles(rows)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def sentences(path: Path, lines: Sequence[Line], roles: Roles) -> Iterator[Row]:
    """The cells of each sentence, at the place of its first token."""
    has_tabs, place, rows, is_begun = _has_tabs(lines), "", list[list[str]](), False
    comment = ""
    for number, line in [*lines, (0, "")]:
        cells = _cells(line, has_tabs)
        is_token = not _is_comment(cells, line, roles)
        is_between = _is_blank(line) or _is_mark(line)
        is_end = is_between or _starts_again(rows, cells, roles)
        if rows and is_end:
            yield Row(place=place, value=rows)
            rows = []
        if is_end:
            comment = ""
        is_first = not is_begun and not is_between and is_token
        is_begun = is_begun or is_first
        if is_between or (is_first and header_roles(cells)):
            continue
        if not is_token:
            comment = line if rows else ""
            continue
        place = place if rows else f"{path}:{number}"
        rows.append([*cells, f"{number}: {comment}"] if comment else cells)


def _draft(roles: Roles, row: Row) -> RecordDraft:
    rows: list[list[str]] = row.value
    for cells in rows:
        if len(cells) != roles.num_columns or not cells[roles.token]:
            raise RowError(
                "wrong_columns",
                f"a line must have {roles.num_columns} columns, the token in column "
                f"{roles.token + 1}, and stand beside no comment, found {shown(cells)}",
            )
        if roles.index is not None and not cells[roles.index].isdecimal():
            raise RowError(
                "wrong_columns",
                f"column {roles.index + 1} must be the index of one token, found {shown(cells)}",
            )
    spans = [
        span
        for column in roles.tags
        for span in spans_of([cells[column].strip() for cells in rows])
    ]
    tokens = [cells[roles.token] for cells in rows]
    tokens = [token if token.isspace() else token.strip(" ") for token in tokens]
    return token_draft(row.place, tokens, spans, [])


def _starts_again(rows: Sequence[Sequence[str]], cells: Sequence[str], roles: Roles) -> bool:
    """Whether the index of a line is not above that of the line before."""
    if roles.index is None or not rows or len(cells) <= roles.index:
        return False
    before, after = rows[-1][roles.index], cells[roles.index]
    return before.isdecimal() and after.isdecimal() and int(after) <= int(before)


def _is_comment(cells: Sequence[str], line: str, roles: Roles) -> bool:
    if not line.startswith("#"):
        return False
    is_row = len(cells) == roles.num_columns
    return not (is_row and all(is_tag(cells[column]) for column in roles.tags))


def _is_mark(line: str) -> bool:
    """A line between documents, whatever parts its columns."""
    return DOCUMENT_MARK in line.split()


def _is_blank(line: str) -> bool:
    """An empty line, or one of empty cells."""
    return not line.strip()


def _cells(line: str, has_tabs: bool) -> list[str]:
    return line.split("\t") if has_tabs else SPACES.split(line.strip(" "))


def _has_tabs(lines: Sequence[Line]) -> bool:
    return any("\t" in line for _, line in lines if not line.startswith("#") and not _is_mark(line))


def _token_lines(lines: Sequence[Line], has_tabs: bool) -> list[tuple[int, list[str]]]:
    """Lines that show what the columns are: not those that open with #, if there are others."""
    rows = [
        (number, _cells(line, has_tabs))
        for number, line in lines
        if not _is_blank(line) and not _is_mark(line)
    ]
    return [row for row in rows if not row[1][0].startswith("#")] or rows


LAYOUT = Layout(
    name="conll_columns",
    summary="CoNLL columns without relations: a token and its BIO or BILOU tag a line",
    looks_like=looks_like,
    read=read,
    has_relations=False,
    has_columns=True,
)
