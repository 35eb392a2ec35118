"""Chat rows: {"prompt": [system message, user message], "solution": JSON string of the graph}.

The text is the user message without the instruction that opens it: what all user messages open
with, up to the last label there, as in "per instructions:" or a line "Text:". Without a label
nothing is cut, because texts can begin alike too. A lone row has the usual instruction.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

from t2g_ray.data.importers.layout import (
    Drafts,
    End,
    Layout,
    ReadOptions,
    RecordDraft,
    each,
    unread,
)
from t2g_ray.data.importers.row import Rejection, Row, RowError, get, shown, typed
from t2g_ray.data.importers.source import Source, SourcePreview

LABEL = re.compile(
    r"\binstructions?\s*\**:\**|(?:^|\n)[#*\s]*(?:(?:the|user|input|given)\s+)?"
    r"(?:text|input|sentence|passage|document|paragraph)\s*\**:\**",
    re.IGNORECASE,
)
USUAL_INSTRUCTION = re.compile(r"[^:\n]{0,300}\binstructions?:")
NO_INSTRUCTION = "instruction not recognised, the whole user message is the text"


def looks_like(preview: SourcePreview) -> bool:
    return preview.has_keys("prompt", "solution")


def read(source: Source, options: ReadOptions) -> Drafts:
    rows = list(source.rows())
    return each(rows, partial(_draft, _instruction(rows)))


def _instruction(rows: list[Row | Rejection]) -> str:
    """What all user messages open with, cut after its last colon or line break."""
    messages = set()
    for row in rows:
        try:
            if isinstance(row, Row):
                messages.add(_user_message(row))
        except RowError:
            continue  # the row is rejected, and counted, when it is read
    if len(messages) < 2:
        usual = USUAL_INSTRUCTION.match(next(iter(messages), ""))
        return usual.group() if usual else ""
    shared = _common_start(min(messages), max(messages))
    return shared[: max((label.end() for label in LABEL.finditer(shared)), default=0)]


def _common_start(first: str, last: str) -> str:
    """What two texts open with; of the first and the last in order, what all between open with."""
    pairs = enumerate(zip(first, last, strict=False))
    return first[: next((i for i, (a, b) in pairs if a != b), min(len(first), len(last)))]


def _user_message(row: Row) -> str:
    messages = get(row.value, "prompt", list)
    users = [get(m, "content", str) for m in messages if get(m, "role", str) == "user"]
    if len(users) != 1:
        raise RowError("wrong_shape", f"a prompt must have one user message, found {len(users)}")
    return users[0]


def _draft(instruction: str, row: Row) -> RecordDraft:
    graph = _graph(row)
    items = [typed(e, dict, "an entity") for e in get(graph, "entities", list)]
    entities = [(get(e, "text", str), get(e, "type", str)) for e in items]
    ids = [e.get("id") for e in items]
    indices = {id_: index for index, id_ in enumerate(ids) if type(id_) is int}
    if len(indices) < sum(type(id_) is int for id_ in ids):
        repeated = next(id_ for id_ in ids if type(id_) is int and ids.count(id_) > 1)
        raise RowError("repeated_id", f"an id must stand for one entity, found {repeated} twice")
    relations = [
        (_end(r, "head", indices), _end(r, "tail", indices), get(r, "type", str))
        for r in get(graph, "relations", list)
    ]
    return RecordDraft(
        place=row.place,
        text=_user_message(row)[len(instruction) :].strip(),
        entities=tuple(entities),
        relations=tuple(relations),
        notes=(
            *((NO_INSTRUCTION,) if not instruction else ()),
            *unread(graph, "entities", "relations"),
        ),
    )


def _graph(row: Row) -> dict[str, Any]:
    """The solution, which may have been parsed already."""
    solution = typed(row.value, dict, "a row").get("solution")
    if not isinstance(solution, str):
        return typed(solution, dict, "solution")
    try:
        graph = json.loads(solution)
    except (ValueError, RecursionError) as error:
        raise RowError(
            "solution_not_json", f"solution must be JSON, found {error}: {shown(solution)}"
        ) from None
    return typed(graph, dict, "solution")


def _end(relation: object, key: str, indices: dict[int, int]) -> End:
    """The text of an end, or the index of the entity whose id some rows give in its place."""
    fields = typed(relation, dict, "a relation")
    end = fields.get(key)
    return indices[end] if type(end) is int and end in indices else get(fields, key, str)


LAYOUT = Layout(
    name="prompt_solution",
    summary="chat rows: prompt (system and user message), solution (JSON string of the graph)",
    looks_like=looks_like,
    read=read,
    has_free_types=True,
)
