"""Tokens, tags and names of a source -> text, spans and forms of a text."""

import pytest

from t2g_ray.data.importers.row import RowError
from t2g_ray.data.importers.texts.surface import mend, plain_name, surface
from t2g_ray.data.importers.tokens.detokenize import detokenize
from t2g_ray.data.importers.tokens.tags import spans_of


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


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ("B-A I-A O B-A B-A", [(0, 2, "A"), (3, 4, "A"), (4, 5, "A")]),
        ("I-A I-A I-B O", [(0, 2, "A"), (2, 3, "B")]),
        ("U-A B-B L-B U-B", [(0, 1, "A"), (1, 3, "B"), (3, 4, "B")]),
        ("S-A B-B E-B I-B", [(0, 1, "A"), (1, 3, "B"), (3, 4, "B")]),
    ],
)
def test_tags_of_every_scheme_become_spans(tags: str, spans: list[tuple[int, int, str]]) -> None:
    assert spans_of(tags.split()) == spans


@pytest.mark.parametrize("tag", ["X-A", "B", "B-", "", "A"])
def test_an_unknown_tag_is_an_error(tag: str) -> None:
    with pytest.raises(RowError, match="a tag must be O or like B-Type"):
        spans_of([tag])


def test_names_of_a_knowledge_base_find_their_form_in_the_text() -> None:
    assert plain_name('"Orbit_Mills"@en') == "Orbit Mills"
    assert plain_name('"5.2"^^xsd:double') == "5.2"
    assert surface("Red Fort", "the red fort stands") == "red fort"
    assert surface("Rome", "a romeo") is None


@pytest.mark.parametrize(
    ("broken", "mended"),
    [
        ("caf\u00c3\u00a9", "caf\u00e9"),
        ("it\u00e2\u20ac\u2122s", "it\u2019s"),
        ("caf\u00e9 \u00e0 la", "caf\u00e9 \u00e0 la"),
        ("na\u00efve \u00ab\u00e9\u00bb", "na\u00efve \u00ab\u00e9\u00bb"),
    ],
)
def test_only_text_that_decodes_again_is_mended(broken: str, mended: str) -> None:
    assert mend(broken) == mended
