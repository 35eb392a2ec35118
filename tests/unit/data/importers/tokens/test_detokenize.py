"""Tokens, tags and names of a source -> text, spans and forms of a text."""

import pytest

from t2g_ray.data.importers.tokens.detokenize import detokenize


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["(", "a", ")", ",", "b", "!"], "(a), b!"),
        (["-LRB-", "a", "-RRB-", "b"], "(a) b"),
        (["``", "Hi", "''", "she", "said"], '"Hi" she said'),
        (["`", "`", "Hi", "'", "'", "."], '"Hi".'),
        (['"', "Hi", '"', "and", '"', "ho", '"'], '"Hi" and "ho"'),
        (["Ann", "'s", "cats", "'", "food", "is", "n't", "in", "$", "5", "%"],
         "Ann's cats' food isn't in $5%"),
        (["O", "'Neil", "paid", "3", ",", "400"], "O'Neil paid 3,400"),
        (["", "a", "", "b"], "a b"),
        ([*"\u5317\u4eac19\u5e74\u3002"], "\u5317\u4eac19\u5e74\u3002"),
        (["\u5317\u4eac", "\u5927\u5b66", "APEC", "1995", "\u5e74"],
         "\u5317\u4eac\u5927\u5b66APEC 1995\u5e74"),
        (["saw", "\u5317\u4eac", "in", "May"], "saw \u5317\u4eac in May"),
        (["\u0e2a\u0e27", "\u0e31\u0e2a"], "\u0e2a\u0e27\u0e31\u0e2a"),
        (["\u6771\u4eac", "\u306b", "\u3044\u308b"], "\u6771\u4eac\u306b\u3044\u308b"),
        ([*"\ub300\ud55c \uad6d"], "\ub300\ud55c \uad6d"),
        (["\ub300\ud55c", "\uad6d\uc5b4"], "\ub300\ud55c \uad6d\uc5b4"),
        (["a", "\u00a0", "b", " ", "c"], "a\u00a0b c"),
    ],
)  # fmt: skip
def test_tokens_are_joined_as_people_write(tokens: list[str], text: str) -> None:
    joined = detokenize(tokens)
    assert joined.text == text
    for start, end, token in zip(joined.starts, joined.ends, tokens, strict=True):
        assert joined.text[start:end] in (token, "(", ")", '"', "")


def test_words_cut_at_hyphens_and_into_digits_are_joined_on_request() -> None:
    text = "pre - trained , at 2 . 5 or [ 1 2 ] - maybe"
    joined = detokenize(text.split(), is_hyphen_split=True)
    assert joined.text == "pre-trained, at 2.5 or [12] - maybe"
