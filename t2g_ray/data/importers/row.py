"""Rows of a source, the ways they fail, and typed access to their fields.

Invariant: what a field holds is checked when it is read, so a row of the wrong shape is a
RowError that says what was expected and found, and never a TypeError from deep inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")

SHOWN_CHARS = 80
KIND_NAMES = {str: "a string", int: "an integer", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One unit of a source. Example: Row(place="dev.jsonl:7", value={"tokens": [...], ...})."""

    place: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A row that became no record. `reason` is one of few names, to count by."""

    place: str
    reason: str
    message: str
    value: Any


class RowError(ValueError):
    """A row cannot become a record: the reason to count it by, and what was expected and found."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message

    def rejection(self, row: Row) -> Rejection:
        return Rejection(place=row.place, reason=self.reason, message=self.message, value=row.value)


def shown(value: object) -> str:
    """A short ASCII picture of a value."""
    picture = ascii(value)
    return picture if len(picture) <= SHOWN_CHARS else picture[: SHOWN_CHARS - 3] + "..."


def typed(value: object, kind: type[Value], place: str) -> Value:
    """The value, if it is of this kind. Raises RowError (wrong_shape)."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RowError("wrong_shape", f"{place} must be {KIND_NAMES[kind]}, found {shown(value)}")
    return value


def get(value: object, key: str, kind: type[Value]) -> Value:
    """The field `key` of an object. Raises RowError (missing_field, wrong_shape)."""
    fields = typed(value, dict, "a row")
    if key not in fields:
        raise RowError(
            "missing_field", f"a row must have the key {key!r}, found {shown([*fields])}"
        )
    return typed(fields[key], kind, key)


def strings(value: object, place: str) -> list[str]:
    """A list of strings."""
    return [
        typed(item, str, f"{place}[{index}]")
        for index, item in enumerate(typed(value, list, place))
    ]


def fixed(value: object, kinds: Sequence[type], place: str) -> tuple[Any, ...]:
    """A list with exactly these kinds of items, as in [start, end, type]."""
    items = typed(value, list, place)
    if len(items) != len(kinds):
        raise RowError("wrong_shape", f"{place} must have {len(kinds)} items, found {shown(items)}")
    pairs = enumerate(zip(items, kinds, strict=True))
    return tuple(typed(item, kind, f"{place}[{index}]") for index, (item, kind) in pairs)


def at(items: Sequence[Value], index: int, place: str) -> Value:
    """The item at this index, from 0. Raises RowError (index_out_of_range)."""
    if not 0 <= index < len(items):
        raise RowError(
            "index_out_of_range", f"{place} must be an index of {len(items)} items, found {index}"
        )
    return items[index]
