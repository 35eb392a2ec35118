"""Pieces of a text, ours and those of others -> token ids in which only ours are control tokens.

A tokenizer reads the string of a control token (`<|im_end|>`) as that token, whoever wrote it. So
a text could end its own turn and begin one of the system, and a gold answer could end itself.

Invariants: a control token in the ids comes from one piece of ours; whatever holds no such string
gets exactly the ids that the tokenizer gives it; what can be neither is refused.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORDS = re.compile(r"[\w\s\u2581'-]+")
"""Added tokens of this form are words and blanks that somebody put into the vocabulary."""
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
"""Some vocabularies spell what they lack in bytes, which are data, special or not."""


class ControlInText(ValueError):
    """A text holds the string of a control token, and this tokenizer can read it in no other way.

    Carries the string.
    """

    def __init__(self, string: str) -> None:
        super().__init__(string)
        self.string = string

    def __str__(self) -> str:
        return (
            f"a text must be readable as text, found {self.string!a}, which this model's tokenizer "
            "reads as a control token; change it, for instance by a blank in it"
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of what is encoded together. `is_data`: it came from a user, a record or a model."""

    text: str
    is_data: bool


def control_tokens(tokenizer: Any) -> Mapping[int, str]:
    """Id -> string of the tokens that steer a model: all special and added ones, but for words."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {
        number: token.content
        for number, token in added.items()
        if not _BYTE.fullmatch(token.content)
        and (token.special or not _WORDS.fullmatch(token.content))
    }


def encode_pieces(tokenizer: Any, pieces: Sequence[Piece]) -> list[int]:
    """Token ids of all pieces, encoded as one text. Raises ControlInText."""
    text = "".join(piece.text for piece in pieces)
    control = _control_of(tokenizer)
    if not control:
        return list(tokenizer.encode(text, add_special_tokens=False))
    if not getattr(tokenizer, "is_fast", False):
        return _encode_slowly(tokenizer, pieces, text, control)
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = read["input_ids"]
    forged = _forged(tokenizer, ids, read["offset_mapping"], pieces, control)
    return ids if forged is None else _encode_apart(tokenizer, pieces, control, forged)


def encode_like(tokenizer: Any, text: str, skeleton: str) -> list[int]:
    """Token ids of a text that must have the control tokens of the skeleton, in their order.

    Raises ControlInText where it has others.
    """
    control = _control_of(tokenizer)
    ids, wanted = (
        list(tokenizer.encode(one, add_special_tokens=False)) for one in (text, skeleton)
    )
    found = _steering(tokenizer, ids, control)
    if found != _steering(tokenizer, wanted, control):
        raise ControlInText(next(iter(control[number] for number in found), "one"))
    return ids


def has_control_tokens(tokenizer: Any) -> bool:
    """False for a tokenizer that turns every string into text."""
    return bool(_control_of(tokenizer))


_known: WeakKeyDictionary[Any, tuple[int, Mapping[int, str]]] = WeakKeyDictionary()


def _control_of(tokenizer: Any) -> Mapping[int, str]:
    """`control_tokens`, found once for a vocabulary."""
    if not hasattr(tokenizer, "added_tokens_decoder"):
        return {}
    size, control = _known.get(tokenizer, (-1, {}))
    if size != len(tokenizer):
        control = control_tokens(tokenizer)
        _known[tokenizer] = len(tokenizer), control
    return control


def _forged(
    tokenizer: Any,
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    pieces: Sequence[Piece],
    control: Mapping[int, str],
) -> str | None:
    """The first control token with a character outside the pieces of ours, or across two."""
    spans = list(_own_spans(pieces))
    text = "".join(piece.text for piece in pieces)
    for number, (start, end) in zip(ids, offsets, strict=True):
        if number not in control:
            continue
        # What no piece of the vocabulary fits is unknown, and not the word for it.
        is_unknown = number == tokenizer.unk_token_id and text[start:end] != control[number]
        if not is_unknown and not any(first <= start and end <= last for first, last in spans):
            return control[number]
    return None


def _own_spans(pieces: Sequence[Piece]) -> Iterator[tuple[int, int]]:
    start = 0
    for piece in pieces:
        end = start + len(piece.text)
        if not piece.is_data:
            yield start, end
        start = end


def _encode_slowly(
    tokenizer: Any, pieces: Sequence[Piece], text: str, control: Mapping[int, str]
) -> list[int]:
    """For tokenizers that give no offsets: refuse every string that could be read wrongly."""
    spans = list(_own_spans(pieces))
    for match in _pattern(control).finditer(text):
        if not any(first <= match.start() and match.end() <= last for first, last in spans):
            raise ControlInText(match[0])
    return list(tokenizer.encode(text, add_special_tokens=False))


def _pattern(control: Mapping[int, str]) -> re.Pattern[str]:
    longest_first = sorted(control.values(), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)))


def _encode_apart(
    tokenizer: Any, pieces: Sequence[Piece], control: Mapping[int, str], forged: str
) -> list[int]:
    """Encode with a copy of the tokenizer whose control tokens have names that nobody can know."""
    names = {string: f"t2g{secrets.token_hex(12)}" for string in control.values()}
    pattern = _pattern(control)
    renamed = "".join(
        piece.text if piece.is_data else pattern.sub(lambda match: names[match[0]], piece.text)
        for piece in pieces
    )
    wanted = [
        number
        for piece in pieces
        if not piece.is_data
        for number in tokenizer.encode(piece.text, add_special_tokens=False)
    ]
    # Boundary: a vocabulary that cannot be renamed is that of a text that cannot be read.
    try:
        ids: list[int] = _renamed(tokenizer, names).encode(renamed, add_special_tokens=False).ids
    except Exception as error:
        raise ControlInText(forged) from error
    if _steering(tokenizer, ids, control) != _steering(tokenizer, wanted, control):
        raise ControlInText(forged)
    return ids


def _steering(tokenizer: Any, ids: Sequence[int], control: Mapping[int, str]) -> list[int]:
    """The control tokens among ids. What is unknown to the vocabulary is none."""
    return [number for number in ids if number in control and number != tokenizer.unk_token_id]


def _renamed(tokenizer: Any, names: Mapping[str, str]) -> Tokenizer:
    """The same tokenizer, with the same ids, where control tokens have other strings."""
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state.update(truncation=None, padding=None, post_processor=None)
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(key, key): number for key, number in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(key, key), score] for key, score in model["vocab"]]
    if model.get("unk_token"):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if model.get("merges"):
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        kept = [pair for pair in pairs if not {*pair, "".join(pair)} & names.keys()]
        model["merges"] = kept
    return Tokenizer.from_str(json.dumps(state))
