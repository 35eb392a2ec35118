"""Lines of columns -> which column is the token, which the index, and which are tags.

An option says it, else a header, else what all cells of the file show. Invariant: where none of
these says it, the error asks; a column is never taken for another because of its place alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

TOKEN, TAG, INDEX = "token", "tag", "index"
HEADER_NAMES = {
    TOKEN: {"token", "form", "word", "text"},
    TAG: {"tag", "ner", "ne", "label", "bio", "iob", "bilou", "ner_tag", "entity"},
    INDEX: {"index", "id", "idx"},
}
GLOBAL_COLUMNS = "# global.columns ="
TAG_SHAPE = re.compile(r"O|[BILUESM]-\S.*")
NUMBER = re.compile(r"\d+([-.]\d+)?")
CHUNKS = frozenset(
    {"NP", "VP", "PP", "ADVP", "SBAR", "ADJP", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "VC"}
)
"""Types of syntactic chunks, which CoNLL-2003 has in a column of its own."""
PART_OF_SPEECH = re.compile(r"[A-Z]{1,8}\$?|\W+")
MIN_TAGS = 0.9
"""Share of tags in a column of tags; the rest are faults of their sentences."""

Cells = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Places of the columns, from 0. Several columns of tags are annotations beside each other."""

    num_columns: int
    token: int
    tags: tuple[int, ...]
    index: int | None = None


def named_roles(names: Sequence[str]) -> Roles:
    """The roles that names give to columns; other names are columns that are not read.

    Example: named_roles(["index", "token", "tag", "-"]). Raises ValueError.
    """
    places = {role: [i for i, name in enumerate(names) if name == role] for role in HEADER_NAMES}
    if len(places[TOKEN]) != 1 or not places[TAG] or len(places[INDEX]) > 1:
        raise ValueError(
            f"columns must be one {TOKEN}, at least one {TAG}, at most one {INDEX} and any other "
            f"names, found {','.join(names)}"
        )
    return Roles(
        num_columns=len(names),
        token=places[TOKEN][0],
        tags=tuple(places[TAG]),
        index=next(iter(places[INDEX]), None),
    )


def header_roles(cells: Cells) -> Roles | None:
    """The roles that a line of column names gives, None when the line is none: a tag is no name."""
    names = [_role(cell) for cell in cells]
    if names.count(TOKEN) != 1 or TAG not in names or any(is_tag(cell) for cell in cells):
        return None
    first = names.index(INDEX) if INDEX in names else -1
    return named_roles([n if n != INDEX or i == first else "-" for i, n in enumerate(names)])


def _role(name: str) -> str:
    plain = name.strip().lower().rpartition(":")[2]
    return next((role for role, names in HEADER_NAMES.items() if plain in names), "-")


def shown_roles(lines: Sequence[Cells]) -> Roles:
    """The roles that the cells show. Raises ValueError with the columns to choose between."""
    width = Counter(len(cells) for cells in lines).most_common(1)[0][0] if lines else 0
    columns = [*zip(*(cells for cells in lines if len(cells) == width), strict=True)]
    tagged = [i for i, column in enumerate(columns) if is_tagged(column)]
    entities = [i for i in tagged if not _types(columns[i]) <= CHUNKS or len(tagged) == 1]
    full = [i for i in entities if _types(columns[i])]
    empty = [i for i in tagged if not _types(columns[i])]
    others = [i for i in range(width) if i not in tagged]
    numbers = [i for i in others if all(map(NUMBER.fullmatch, columns[i]))]
    texts = [i for i in others if i not in numbers]
    if len(full) > 1 or not (full or empty):
        raise _unclear("which one holds the tags of entities", columns, full or tagged)
    if not texts and len(numbers) == 1 and not _counts_up(columns[numbers[0]]):
        texts, numbers = numbers, []
    variety = {i: len(set(columns[i])) for i in texts}
    is_part = [all(map(PART_OF_SPEECH.fullmatch, columns[i])) for i in texts]
    if not texts or variety[texts[0]] < max(variety.values()) or (is_part[0] and not all(is_part)):
        raise _unclear("which one holds the tokens", columns, others)
    indices = [i for i in numbers if _counts_up(columns[i])]
    return Roles(
        num_columns=width,
        token=texts[0],
        tags=(full[0] if full else empty[-1],),
        index=indices[0] if len(indices) == 1 else None,
    )


def is_tagged(column: Sequence[str]) -> bool:
    """Whether the cells are tags, a few faults aside."""
    num_tags = sum(is_tag(cell) for cell in column)
    return num_tags > 0 and num_tags >= MIN_TAGS * len(column)


def is_tag(cell: str) -> bool:
    return TAG_SHAPE.fullmatch(cell.strip()) is not None


def _types(column: Sequence[str]) -> set[str]:
    return {cell.strip()[2:] for cell in column if is_tag(cell) and cell.strip() != "O"}


def _counts_up(column: Sequence[str]) -> bool:
    """Whether numbers go up by one, from 0 or 1 wherever they start again; ranges, which stand for
    words of several tokens, aside."""
    numbers = [int(cell) for cell in column if cell.isdecimal()]
    pairs = zip([-1, *numbers], numbers, strict=False)
    is_next = all(after in (0, 1) or after == before + 1 for before, after in pairs)
    return (is_next and len(set(numbers)) > 1) or len(numbers) < len(column)


def _unclear(what: str, columns: Sequence[Cells], choices: Sequence[int]) -> ValueError:
    found = {i + 1: columns[i][:3] for i in choices}
    return ValueError(
        f"the {len(columns)} columns must show {what}, found the columns {[*found]} that begin "
        f"with {[list(cells) for cells in found.values()]}; name all columns with --columns, for "
        "example --columns index,token,tag,- (one token, one or more tags, - for what is not read)"
    )
