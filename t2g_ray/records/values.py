"""A JSON file of any form -> its rows: JSON Lines, an array, values one after the other, a wrapper.

Invariant: every value of a file is a row or a fault with its place; a key that stands twice and NaN
are faults too, since readers disagree on them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from t2g_ray.graph.parsing import STRICT_JSON
from t2g_ray.records.files import TextFile

WRAPPERS = ("data", "records", "rows", "examples")
"""Keys that hold the rows of a file which is one object."""
SPLITS = (
    *("train", "training", "dev", "devel", "development", "valid", "validation", "val"),
    *("test", "testing", "eval", "heldout"),
)
BLANKS = " \t\r\n"
INNER = (" ", "\t", "}", "]", ",", '"')
"""How lines inside a value begin."""
ESCAPED = re.compile("[\udc80-\udcff]")
"""What bytes that are not UTF-8 are decoded to."""


@dataclass(frozen=True, slots=True)
class JsonRow:
    """A value and its place, as in "dev.jsonl:7" or "dev.json, record 7"."""

    place: str
    value: Any


@dataclass(frozen=True, slots=True)
class JsonFault:
    """What is no JSON: its place, why, and its text."""

    place: str
    message: str
    text: str


Found = JsonRow | JsonFault


def read_rows(path: Path) -> Iterator[JsonRow]:
    """The rows of a file. Raises ValueError at the first fault."""
    for found in json_rows(path):
        if isinstance(found, JsonFault):
            raise ValueError(f"{found.place}: {found.message}")
        yield found


def json_rows(path: Path, *, split: str | None = None) -> Iterator[Found]:
    """Rows and faults of a file in its order.

    `split` chooses one where the file is an object of several. Raises ValueError for a file that is
    no text, an array that is not whole, and an object of several splits where none is chosen.
    """
    file = TextFile.read(path)
    if file.data.lstrip().startswith(b"["):
        if split is not None:
            raise ValueError(f"{path}: must be an object of splits for --split, found an array")
        yield from _items(_arrays(file), path)
        return
    values = _values(file)
    first, second = next(values, None), next(values, None)
    if first is None:
        return
    if second is None and isinstance(first, JsonRow) and isinstance(first.value, dict):
        yield from _opened(first, path, split)
        return
    if split is not None:
        raise ValueError(f"{path}: must be an object of splits for --split, found rows")
    yield from chain((first,), () if second is None else (second,), values)


def _arrays(file: TextFile) -> Iterator[Any]:
    """The items of an array, or of several one after the other."""
    for found in _values(file):
        if isinstance(found, JsonFault) or not isinstance(found.value, list):
            what = found.message if isinstance(found, JsonFault) else "another value follows it"
            raise ValueError(f"{file.path}: must be a JSON array: {what}")
        yield from found.value


def _items(values: Iterable[Any], path: Path) -> Iterator[JsonRow]:
    for number, value in enumerate(values, start=1):
        yield JsonRow(f"{path}, record {number}", value)


def _opened(row: JsonRow, path: Path, split: str | None) -> Iterator[JsonRow]:
    """The rows inside the one object of a file; the object itself where it is a row."""
    value: dict[str, Any] = row.value
    if value and all(key.lower() in SPLITS and _are_rows(rows) for key, rows in value.items()):
        if split is None and len(value) > 1:
            raise ValueError(
                f"{path}: must be one split, found {', '.join(value)}; choose one with t2g data "
                "import --split"
            )
        if split is not None and split not in value:
            raise ValueError(f"{path}: must have the split {split!r}, found {', '.join(value)}")
        yield from _items(value[split or next(iter(value))], path)
        return
    if split is not None:
        raise ValueError(f"{path}: must be an object of splits for --split, found {[*value][:8]}")
    for key in WRAPPERS:
        if _are_rows(value.get(key)) and (value[key] or len(value) == 1):
            others = [name for name, item in value.items() if name != key and not _is_plain(item)]
            if others:
                raise ValueError(
                    f"{path}: beside the rows in {key!r} there must be single values only, found "
                    f"{others[:5]}, which would be lost; keep the rows alone"
                )
            yield from _items(value[key], path)
            return
    yield row


def _are_rows(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return not any(isinstance(item, dict | list) for item in value.values())
    return not isinstance(value, list)


def _values(file: TextFile) -> Iterator[Found]:
    """The values of a text, one a line, or one after the other over any number of lines.

    After a fault it goes on with the next line that looks like the beginning of a value, so that a
    bad line does not take others with it.
    """
    lines = file.text_lines()
    number = 0
    while number < len(lines):
        if not lines[number].strip(BLANKS):
            number += 1
            continue
        num_lines = 1
        while (chunk := _read(lines[number : number + num_lines])).is_open:
            if number + num_lines >= len(lines):
                break
            num_lines *= 2  # a value that goes on: little is read more than twice
        earlier = -1
        for start, value in chunk.values:
            line = number + chunk.text.count("\n", 0, start) + 1
            place = f"{file.path}:{line}"
            yield JsonRow(place if line != earlier else f"{place}, at {start + 1}", value)
            earlier = line
        if chunk.fault is None:
            number += num_lines
            continue
        number += chunk.text.count("\n", 0, chunk.end)
        first = number
        number += 1
        while number < len(lines) and lines[number].startswith(INNER):
            number += 1
        text = "\n".join(lines[first:number])
        message = file.fault_in(text) or f"must be JSON in UTF-8, found {chunk.fault}"
        yield JsonFault(f"{file.path}:{first + 1}", message, text)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Values of some lines with their starts, the end of the last, and what is wrong behind it.

    `is_open`: nothing is wrong, but the lines end inside a value.
    """

    text: str
    values: list[tuple[int, Any]]
    end: int = 0
    fault: str | None = None
    is_open: bool = False


def _read(lines: list[str]) -> _Chunk:
    text = "\n".join(lines)
    values: list[tuple[int, Any]] = []
    start = _skip_blanks(text, 0)
    while start < len(text):
        try:
            value, end = STRICT_JSON.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            is_open = isinstance(error, JSONDecodeError) and error.pos >= len(text.rstrip(BLANKS))
            return _Chunk(text, values, start, str(error), is_open)
        if ESCAPED.search(text, start, end):
            return _Chunk(text, values, start, "bytes that are not UTF-8")
        values.append((start, value))
        start = _skip_blanks(text, end)
    return _Chunk(text, values)


def _skip_blanks(text: str, start: int) -> int:
    while start < len(text) and text[start] in BLANKS:
        start += 1
    return start
