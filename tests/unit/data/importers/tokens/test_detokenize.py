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
