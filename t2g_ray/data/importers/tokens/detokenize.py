"""Tokens -> text as people write it, with the place of every token.

Scripts that part words by spaces get spaces; Chinese, Japanese, Thai and their like get none, nor
do the single characters of a text that is given character by character, nor what stands beside a
token that is itself a blank.

Invariant: a run of tokens is a substring of the text, so an entity given by token indices occurs in
the text by construction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from t2g_ray.data.importers.row import RowError

PLAIN = {
    "-LRB-": "(",
    "-RRB-": ")",
    "-LSB-": "[",
    "-RSB-": "]",
    "-LCB-": "{",
    "-RCB-": "}",
    "``": '"',
    "''": '"',
}
"""What the Penn Treebank writes for brackets and quotes."""

OPENING = frozenset("([{$#`")
CLOSING = frozenset([*",.;:!?)]}%", "...", "n't"])
CLITICS = ("'s", "'S", "'m", "'d", "'t", "'re", "'ve", "'ll")
UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
    "\u2e80-\u312f\u31a0-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef"
    "\U00020000-\U0003ffff"
)
"""Scripts without spaces between words: ranges of characters, with their punctuation."""
UNSPACED_CHARACTER = re.compile(f"[{UNSPACED}]")
SYLLABLE = re.compile("[\uac00-\ud7a3]")
"""Of Korean, which has spaces between its words and none inside them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenText:
    """A text and the character range of each of its tokens."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]

    def slice(self, start: int, end: int) -> str:
        """The text of tokens start to end (exclusive). Raises RowError for no such tokens."""
        if not 0 <= start < end <= len(self.starts):
            raise RowError(
                "span_out_of_range",
                f"a span must be inside the {len(self.starts)} tokens and not empty, "
                f"found {start} to {end}",
            )
        found = self.text[self.starts[start] : self.ends[end - 1]]
        return found.strip(" ") or found  # an empty token stands before the space that follows it


def detokenize(tokens: Sequence[str], *, is_hyphen_split: bool = False) -> TokenText:
    """Join tokens with the spacing of English.

    `is_hyphen_split`: the tokeniser cut words at hyphens and numbers into digits ("pre - trained",
    "1 2"); join those too.
    """
    text, starts, ends = "", list[int](), list[int]()
    is_glued, has_open_quote = True, False
    is_unspaced, is_by_character = _script(tokens)
    for index, (token, plain) in enumerate(zip(tokens, _plain(tokens), strict=True)):
        is_opening, is_closing = plain in OPENING, _joins_left(tokens, index)
        if plain == '"':
            is_opening = token[0] == "`" or (token == '"' and not has_open_quote)
            is_closing, has_open_quote = not is_opening, is_opening
        is_cut = is_hyphen_split and _is_cut_between(tokens, index)
        is_run = is_by_character or _is_run_on(text[-1:], plain[:1], is_unspaced)
        if plain and not (is_glued or is_closing or is_cut or is_run or plain.isspace()):
            text += " "
        starts.append(len(text))
        text += plain
        ends.append(len(text))
        if plain:
            is_glued = is_opening or plain.isspace()
    return TokenText(text=text, starts=tuple(starts), ends=tuple(ends))


def _script(tokens: Sequence[str]) -> tuple[bool, bool]:
    """Whether most words have no spaces between, and whether each token is one character of a text
    without spaces, or of one whose spaces are tokens."""
    words = [token for token in tokens if any(map(str.isalpha, token))]
    num_unspaced = sum(UNSPACED_CHARACTER.search(word) is not None for word in words)
    is_unspaced = 2 * num_unspaced > len(words)
    is_single = len(tokens) > 1 and all(len(token) == 1 for token in tokens)
    is_korean = len(words) > 1 and all(SYLLABLE.fullmatch(word) for word in words)
    has_blanks = any(token.isspace() for token in tokens)
    return is_unspaced, is_single and (is_unspaced or is_korean or has_blanks)


def _is_run_on(left: str, right: str, is_unspaced: bool) -> bool:
    """Whether two characters of neighbouring tokens stand together for their script."""
    found = [UNSPACED_CHARACTER.match(character) is not None for character in (left, right)]
    return all(found) or (is_unspaced and any(found))


def _plain(tokens: Sequence[str]) -> list[str]:
    """Brackets and quotes as people write them; the second half of a quote in two tokens is ""."""
    plain = [PLAIN.get(token, token) for token in tokens]
    index = 0
    while index + 1 < len(tokens):
        if (quote := tokens[index] + tokens[index + 1]) in ("``", "''"):
            plain[index : index + 2] = [PLAIN[quote], ""]
            index += 1
        index += 1
    return plain


def _joins_left(tokens: Sequence[str], index: int) -> bool:
    token, before = tokens[index], tokens[max(0, index - 2) : index]
    is_thousands = len(token) == 3 and token.isdigit() and before[-1:] == [","]
    return (
        token in CLOSING
        or PLAIN.get(token) in CLOSING
        or token == "'"
        or token.startswith(CLITICS)
        or (before[-1:] == ["O"] and token.startswith("'"))
        or (is_thousands and before[0].isdigit() and len(before[0]) <= 3)
    )


def _is_cut_between(tokens: Sequence[str], index: int) -> bool:
    """Whether a word was cut before this token: at a hyphen, or inside a number."""
    if tokens[index] == "-":
        return 0 < index < len(tokens) - 1 and _is_wordlike(tokens, index)
    if index and tokens[index - 1] == "-":
        return index >= 2 and _is_wordlike(tokens, index - 1)
    if index >= 2 and tokens[index - 1] == ".":
        return _is_digit(tokens[index - 2]) and _is_digit(tokens[index])
    return index > 0 and _is_digit(tokens[index - 1]) and _is_digit(tokens[index])


def _is_wordlike(tokens: Sequence[str], hyphen: int) -> bool:
    return tokens[hyphen - 1][-1:].isalnum() and tokens[hyphen + 1][:1].isalnum()


def _is_digit(token: str) -> bool:
    return len(token) == 1 and token.isdigit()
