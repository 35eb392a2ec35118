"""Chat messages -> the pieces that a chat template makes of them -> token ids.

Invariant: system messages are ours; the contents of all others are data, which the template frames
and which cannot frame anything.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any

from t2g_ray.prompts.control import Piece, encode_like, encode_pieces, has_control_tokens

Messages = Sequence[dict[str, str]]


def encode_chat(tokenizer: Any, messages: Messages, *, thinking: bool) -> list[int]:
    """Token ids of the messages and the opening of the answer. Raises ControlInText."""
    if not has_control_tokens(tokenizer):
        ids: list[int] = _apply(tokenizer, messages, thinking, tokenize=True)
        return ids
    mark = f"t2g{secrets.token_hex(12)}"
    marked, data = _marked(messages, mark)
    skeleton: str = _apply(tokenizer, marked, thinking, tokenize=False)
    pieces = [
        Piece(data[int(part)] if index % 2 else part, is_data=index % 2 == 1)
        for index, part in enumerate(re.split(rf"{mark}(\d+);", skeleton))
    ]
    rendered: str = _apply(tokenizer, messages, thinking, tokenize=False)
    if "".join(piece.text for piece in pieces) == rendered:
        return encode_pieces(tokenizer, pieces)
    # The template changes what it shows, so nobody can say which part is ours.
    return encode_like(tokenizer, rendered, skeleton)


def _marked(messages: Messages, mark: str) -> tuple[list[dict[str, str]], list[str]]:
    """The messages with a numbered mark in place of each text that is data, and those texts."""
    marked: list[dict[str, str]] = []
    data: list[str] = []
    for message in messages:
        content = message["content"]
        # Templates may trim a content, so blanks at its ends stay outside the mark.
        if message["role"] != "system" and (core := content.strip()):
            before, _, after = content.partition(core)
            content = f"{before}{mark}{len(data)};{after}"
            data.append(core)
        marked.append({**message, "content": content})
    return marked, data


def _apply(tokenizer: Any, messages: Messages, thinking: bool, *, tokenize: bool) -> Any:
    return tokenizer.apply_chat_template(
        list(messages),
        add_generation_prompt=True,
        tokenize=tokenize,
        return_dict=False,
        enable_thinking=thinking,
    )
