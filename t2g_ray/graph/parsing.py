"""Completion text -> Parsed or ParseFailure.

The answer is the first complete JSON object of a graph's shape that stands outside the reasoning
(<think>...</think>). Finding it never counts braces: the JSON scanner itself says where an object
ends, so braces inside strings and stray ones around the answer do no harm.

Invariant: `parse_completion` never raises, and its time and depth are bounded linearly in the
length of the text, whatever the text is.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from t2g_ray.graph.graph import Graph, GraphError

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"
MAX_CHARS = 1_000_000
MAX_DEPTH = 64
MAX_ATTEMPTS = 16  # objects tried in one completion: keeps the worst case linear

FailureKind = Literal[
    "empty",
    "no_json",
    "truncated",
    "invalid_json",
    "duplicate_key",
    "wrong_shape",
    "too_deep",
    "too_long",
]

_MARK = re.compile(r'</?think>|\{[ \t\r\n]*(?:["}]|\Z)')
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[][{}]', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A graph was found.

    `outside_chars` counts the characters around it, blank ends left out; reasoning counts too
    when the completion was not asked to think. `think_ok`: exactly one non-empty
    <think>...</think>, before the graph.
    """

    graph: Graph
    outside_chars: int
    graph_chars: int
    reasoning: str | None
    think_ok: bool
    kind: Literal["ok"] = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseFailure:
    """No graph was found; `kind` and `message` tell of the first object that failed."""

    kind: FailureKind
    message: str
    outside_chars: int

    @property
    def graph(self) -> None:
        """No graph: scoring counts all gold as missed."""
        return None


class _DuplicateKey(ValueError):
    pass


def parse_completion(text: str, *, thinking: bool = False) -> Parsed | ParseFailure:
    """Find the answer in a completion. A </think> without a <think> closes a reasoning that the
    prompt opened; a <think> without a </think> runs to the end.
    """
    if len(text) > MAX_CHARS:
        return _failure(text, "too_long", f"at most {MAX_CHARS} characters, found {len(text)}")
    found: tuple[Graph, int, int] | None = None
    failure: ParseFailure | None = None
    reasoning: slice | None = None
    num_attempts = position = 0
    while mark := _MARK.search(text, position):
        position = mark.end()
        if mark[0] == THINK_OPEN:
            close = text.find(THINK_CLOSE, position)
            if found is None:
                reasoning = slice(position, close if close >= 0 else len(text))
            if close < 0:
                break
            position = close + len(THINK_CLOSE)
        elif mark[0] == THINK_CLOSE:
            reasoning, found, failure = slice(0, mark.start()), None, None
        elif found is None and num_attempts < MAX_ATTEMPTS:
            num_attempts += 1
            outcome, end = _read_graph(text, mark.start())
            position = max(end, mark.start() + 1)
            if isinstance(outcome, Graph):
                found = (outcome, mark.start(), end)
            else:
                failure = failure or outcome
    if found is not None:
        return _parsed(text, *found, None if reasoning is None else text[reasoning], thinking)
    if failure is not None:
        return failure
    if not text.strip():
        return _failure(text, "empty", "the completion is empty")
    return _failure(text, "no_json", "no JSON object outside the reasoning")


def _parsed(
    text: str, graph: Graph, start: int, end: int, reasoning: str | None, thinking: bool
) -> Parsed:
    before, after = text[:start], text[end:]
    outside_chars = len(before.strip()) + len(after.strip())
    think_ok = False
    if reasoning is not None:
        opened, closed = before.find(THINK_OPEN), before.find(THINK_CLOSE)
        think_ok = (
            0 <= opened < closed
            and reasoning.strip() != ""
            and before.count(THINK_OPEN) == before.count(THINK_CLOSE) == 1
            and THINK_OPEN not in after
            and THINK_CLOSE not in after
        )
        if think_ok and thinking:
            rest = before[:opened].strip(), before[closed + len(THINK_CLOSE) :].strip()
            outside_chars = len(rest[0]) + len(rest[1]) + len(after.strip())
    return Parsed(
        graph=graph,
        outside_chars=outside_chars,
        graph_chars=end - start,
        reasoning=reasoning,
        think_ok=think_ok,
    )


def _read_graph(text: str, start: int) -> tuple[Graph | ParseFailure, int]:
    """The graph at `start`, or why there is none, and where to continue the search."""
    if _is_too_deep(text, start):
        return _failure(text, "too_deep", f"brackets nest deeper than {MAX_DEPTH}"), start
    try:
        value, end = STRICT_JSON.raw_decode(text, start)
    except json.JSONDecodeError as error:
        kind: FailureKind = "truncated" if _is_cut(text, error) else "invalid_json"
        return _failure(text, kind, f"{error.msg} at character {error.pos}"), start
    except _DuplicateKey as error:
        return _failure(text, "duplicate_key", str(error)), start
    except ValueError as error:  # NaN, or an integer beyond the digits that int() accepts
        return _failure(text, "invalid_json", str(error)), start
    try:
        return Graph.from_dict(value), end
    except GraphError as error:
        return _failure(text, "wrong_shape", str(error)), end


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the JSON is right as far as it goes, and the text just ends too early."""
    tail = text[error.pos : error.pos + 8].strip()
    return (
        not tail
        or error.msg.startswith("Unterminated")
        or (error.msg.startswith("Invalid \\u") and len(tail) < 6)
    )


def _is_too_deep(text: str, start: int) -> bool:
    """Whether brackets nest beyond MAX_DEPTH: the JSON scanner recurses on the C stack."""
    if text.count("{", start) + text.count("[", start) <= MAX_DEPTH:
        return False
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(text, start):
        if token[0] in ("{", "["):
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif token[0] in ("}", "]"):
            depth -= 1
            if depth == 0:
                return False
    return False


def _failure(text: str, kind: FailureKind, message: str) -> ParseFailure:
    return ParseFailure(kind=kind, message=message, outside_chars=len(text.strip()))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKey(f"the key {key[:40]!a} stands twice in one object")
            seen.add(key)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


STRICT_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)
