"""Texts -> which of them are the same or nearly the same.

Identical: equal but for spacing, case and Unicode form. Near: rapidfuzz.fuzz.ratio is at least
MIN_RATIO, and at least MIN_SHARED_WORDS of the distinct words of both are shared (Jaccard). Scripts
without blanks between words are compared by pairs of neighbouring characters instead, and so are
words of more than MAX_WORD_CHARS; then MIN_SHARED_PAIRS is enough, since one changed character
changes two pairs.

Invariant: every pair that is near by this definition is found. A look-up takes time in proportion
to the places where its words are used, counted in one pass over arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import regex
from rapidfuzz import fuzz, process

from t2g_ray.graph.composed import composed

MIN_RATIO = 90.0
MIN_SHARED_WORDS = 0.7
MIN_SHARED_PAIRS = 0.5
MAX_WORD_CHARS = 30
WORD = regex.compile(r"\w+")
# Letters between which a line may be broken anywhere (Unicode line breaking): ideographs, kana,
# Thai, Lao, Khmer, Burmese, Javanese, Balinese and others. Blanks between them mean nothing.
UNSPACED = regex.compile(
    r"[\p{lb=ID}\p{lb=CJ}\p{lb=SA}\p{lb=AK}\p{lb=AP}\p{lb=AS}\u3005\u303b]", regex.V1
)
NEIGHBOUR = rf"[{UNSPACED.pattern}\u3001-\u303f\uff01-\uff0f\uff1a-\uff20]"
INNER_BLANKS = regex.compile(rf"(?<={NEIGHBOUR}\p{{M}}*)\s+(?={NEIGHBOUR})", regex.V1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarText:
    """The text that another one repeats, and how much of it (0 to 100)."""

    index: int
    ratio: float
    is_identical: bool


def plain_text(text: str) -> str:
    """One form for texts that differ in spacing, case and Unicode form only."""
    plain = " ".join(composed(text).casefold().split())
    return plain if plain.isascii() else INNER_BLANKS.sub("", plain)


def units_of(plain: str) -> frozenset[str]:
    """What a text is compared by: words, and pairs of characters where words cannot be told."""
    return frozenset(_units(plain)) or frozenset([plain])


def _units(plain: str) -> Iterator[str]:
    for word in WORD.findall(plain):
        if len(word) > 1 and is_read_by_pairs(word):
            yield from (word[start : start + 2] for start in range(len(word) - 1))
        else:
            yield word


def is_read_by_pairs(text: str) -> bool:
    """Whether a word is none that blanks set apart."""
    return len(text) > MAX_WORD_CHARS or not (text.isascii() or UNSPACED.search(text) is None)


class TextIndex:
    """Texts by their index in `texts`, to be looked up among those that were added so far."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._plain = [plain_text(text) for text in texts]
        self._words = [units_of(text) for text in self._plain]
        self._min_shared = np.array([_min_shared(text) for text in self._plain])
        self._num_words = np.array([len(words) for words in self._words], dtype=np.int64)
        self._uses = _uses(self._words)
        self._is_added = np.zeros(len(texts), dtype=np.bool_)
        self._first: dict[str, int] = {}

    def add(self, index: int) -> None:
        """Let later look-ups find this text; of identical ones they find the first."""
        if self._first.setdefault(self._plain[index], index) == index:
            self._is_added[index] = True

    def find(self, index: int) -> SimilarText | None:
        """The added text that is identical to this one, else the nearest, else None."""
        plain = self._plain[index]
        if plain in self._first:
            return SimilarText(index=self._first[plain], ratio=100.0, is_identical=True)
        candidates = self._sharing_words(index)
        if not candidates:
            return None
        choices = [self._plain[candidate] for candidate in candidates]
        best = process.extractOne(plain, choices, scorer=fuzz.ratio, score_cutoff=MIN_RATIO)
        if best is None:
            return None
        _, ratio, best_index = best
        return SimilarText(index=candidates[best_index], ratio=ratio, is_identical=False)

    def _sharing_words(self, index: int) -> list[int]:
        """Added texts that share enough words with this one."""
        if not self._is_added.any():
            return []
        uses = np.concatenate([self._uses[word] for word in self._words[index]])
        num_shared = np.bincount(uses, minlength=len(self._plain))
        num_in_either = self._num_words + self._num_words[index] - num_shared
        min_shared = np.minimum(self._min_shared, self._min_shared[index])
        is_near = (num_shared >= min_shared * num_in_either) & self._is_added
        return [int(candidate) for candidate in np.flatnonzero(is_near)]


def _min_shared(plain: str) -> float:
    has_pairs = any(is_read_by_pairs(word) for word in WORD.findall(plain))
    return MIN_SHARED_PAIRS if has_pairs else MIN_SHARED_WORDS


def _uses(words: Sequence[frozenset[str]]) -> dict[str, npt.NDArray[np.int32]]:
    """Word -> the texts that have it."""
    uses: dict[str, list[int]] = {}
    for index, own in enumerate(words):
        for word in own:
            uses.setdefault(word, []).append(index)
    return {word: np.array(indices, dtype=np.int32) for word, indices in uses.items()}
