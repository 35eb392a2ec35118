"""Record -> chat messages -> token ids, and gold graph -> answer token ids.

Both styles always state the wanted entity and relation types: the task is to extract what is asked
for. Invariants: a prompt is whole or refused. Nothing is ever cut, since the instructions come
first and a cut prompt would lose them in silence. Texts, types and answers are never control
tokens, whatever they hold.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from t2g_ray.config import PromptConfig
from t2g_ray.graph import Graph
from t2g_ray.graph.parsing import THINK_CLOSE, THINK_OPEN
from t2g_ray.prompts.chat import encode_chat
from t2g_ray.prompts.control import ControlInText, Piece, encode_pieces
from t2g_ray.types import Record

PromptStyle = Literal["full", "compact"]

_SYSTEM = """\
You are an expert in information extraction. You turn a text into a graph of the entities and \
relations that it states.

Rules:
- Use only the entity types and relation types that you are given, spelled as given.
- Copy each entity text from the text character by character. List each entity once.
- The ids of entities count from 0.
- The head and tail of a relation are texts of listed entities. List each relation once.
- Leave out what the text does not state. A list with nothing to extract stays empty.

{order}, in this form:
{{"entities":[{{"id":0,"text":"...","type":"..."}}],\
"relations":[{{"head":"...","tail":"...","type":"..."}}]}}"""

_NONE = "none"
_SEPARATORS = frozenset(",|\n\r")

_DIRECT = "Answer with one JSON object and nothing else"
_THINKING = (
    f"First reason briefly between {THINK_OPEN} and {THINK_CLOSE}. "
    "Then answer with one JSON object and nothing else"
)


class PromptTooLong(ValueError):
    """The whole prompt does not fit. Carries both counts, in tokens."""

    def __init__(self, num_tokens: int, max_tokens: int) -> None:
        super().__init__(num_tokens, max_tokens)
        self.num_tokens = num_tokens
        self.max_tokens = max_tokens

    def __str__(self) -> str:
        return (
            f"a prompt must fit in {self.max_tokens} tokens, found {self.num_tokens}; "
            "raise the limit or leave the record out (prompts are never cut)"
        )


def build_messages(
    record_text: str,
    entity_types: Sequence[str],
    relation_types: Sequence[str],
    *,
    style: PromptStyle,
    thinking: bool,
) -> list[dict[str, str]]:
    """Chat messages that ask for the graph of one text.

    "full" is for instruction models: a system message with role, rules and output form, then the
    types and the text. "compact" is for the tiny policy: one user message, "types|types\\ntext",
    where thinking is left to the chat template. Two lists of types never read alike
    (`listed_types`). Raises ValueError for another style.
    """
    entities, relations = listed_types(entity_types), listed_types(relation_types)
    if style == "compact":
        return [{"role": "user", "content": f"{entities}|{relations}\n{record_text}"}]
    if style != "full":
        raise ValueError(f"the prompt style must be 'full' or 'compact', found {style!r}")
    request = (
        "Extract the entities and relations of the text below.\n"
        f"Entity types: {_or_none(entities)}\n"
        f"Relation types: {_or_none(relations)}\n\n"
        f"Text:\n{record_text}"
    )
    return [
        {"role": "system", "content": _SYSTEM.format(order=_THINKING if thinking else _DIRECT)},
        {"role": "user", "content": request},
    ]


def listed_types(types: Sequence[str]) -> str:
    """The types on one line; one with a comma, a bar or a line break stands in JSON quotes.

    Example: listed_types(["person", "city, state"]) is 'person, "city, state"'.
    """
    return ", ".join(map(_quoted, types))


def read_types(option: str, names: str) -> list[str]:
    """Names between commas; one that holds a comma stands in double quotes, as in a CSV file.

    `option` names them in the ValueError that a quote without end raises.
    """
    try:
        row = next(csv.reader([names], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise ValueError(
            f"{option} must be names between commas, those with a comma in double quotes, found "
            f"{names!r}: {error}; correct it"
        ) from None
    return [name.strip() for name in row if name.strip()]


def _quoted(name: str) -> str:
    is_plain = name and not name.startswith('"') and not _SEPARATORS & set(name)
    return name if is_plain else json.dumps(name, ensure_ascii=False)


def _or_none(listed: str) -> str:
    """A type that is called none is not the absence of types."""
    return json.dumps(listed) if listed == _NONE else listed or _NONE


def encode_prompt(
    tokenizer: Any,
    record: Record,
    *,
    style: PromptStyle,
    thinking: bool,
    max_tokens: int | None,
) -> tuple[int, ...]:
    """Token ids of the whole prompt, up to where the answer begins.

    `tokenizer` is a Hugging Face tokenizer with a chat template. Raises PromptTooLong when there
    are more than `max_tokens`, and ControlInText where text or types can only be control tokens.
    """
    messages = build_messages(
        record.text, record.entity_types, record.relation_types, style=style, thinking=thinking
    )
    return encode_messages(tokenizer, messages, thinking=thinking, max_tokens=max_tokens)


def encode_messages(
    tokenizer: Any, messages: list[dict[str, str]], *, thinking: bool, max_tokens: int | None
) -> tuple[int, ...]:
    """`encode_prompt` for messages of any kind. System messages are ours, all others are data.

    Raises PromptTooLong, and ControlInText where data cannot be told from control tokens.
    """
    token_ids = tuple(encode_chat(tokenizer, messages, thinking=thinking))
    if max_tokens is not None and len(token_ids) > max_tokens:
        raise PromptTooLong(len(token_ids), max_tokens)
    return token_ids


def fitting_prompts(
    tokenizer: Any, records: Sequence[Record], config: PromptConfig
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """(index, token ids) of each record whose whole prompt fits `max_tokens`, in order.

    Raises ValueError with the place of a record whose text or types can only be control tokens.
    """
    for position, record in enumerate(records):
        try:
            token_ids = encode_prompt(
                tokenizer,
                record,
                style=config.style,
                thinking=config.thinking,
                max_tokens=config.max_tokens,
            )
        except PromptTooLong:
            continue
        except ControlInText as error:
            raise ValueError(f"record {position + 1}: {error}") from error
        yield position, token_ids


def encode_answer(
    tokenizer: Any, graph: Graph, *, thinking_text: str | None = None
) -> tuple[int, ...]:
    """Token ids of the wanted completion: reasoning if given, canonical JSON, one end token.

    Raises ValueError when the tokenizer has no end token, since stopping could not be learned, and
    for reasoning that holds a think tag, which would end it where it does not end.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer must have an end token (eos_token), found none; set one")
    pieces = [Piece(graph.to_json(), is_data=True)]
    if thinking_text is not None:
        if THINK_OPEN in thinking_text or THINK_CLOSE in thinking_text:
            raise ValueError(
                f"reasoning must hold neither {THINK_OPEN} nor {THINK_CLOSE}, found "
                f"{thinking_text[:60]!a}; remove the tag"
            )
        opened, closed = f"{THINK_OPEN}\n", f"\n{THINK_CLOSE}\n\n"
        pieces = [
            Piece(opened, is_data=False),
            Piece(thinking_text, is_data=True),
            Piece(closed, is_data=False),
            *pieces,
        ]
    return (*encode_pieces(tokenizer, pieces), tokenizer.eos_token_id)
