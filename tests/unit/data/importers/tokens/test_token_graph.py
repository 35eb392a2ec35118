"""A graph by positions of tokens -> the same graph by names."""

from __future__ import annotations

import pytest

from t2g_ray.data.importers.row import RowError
from t2g_ray.data.importers.tokens.token_graph import STOP_CUT, token_draft, token_relations

TOKENS = ["Ada", "Stone", "joined", "Orbit", "."]
SPANS = [(0, 2, "person"), (3, 4, "company")]


def test_spans_become_names_and_links_join_them() -> None:
    draft = token_draft("row 1", TOKENS, SPANS, [(0, 1, "joined")])
    person, company = ("Ada Stone", "person"), ("Orbit", "company")
    assert (draft.text, draft.entities) == ("Ada Stone joined Orbit.", (person, company))
    assert draft.relations == ((0, 1, "joined"),)
    assert draft.notes == ()


def test_a_relation_that_repeats_the_spans_of_its_ends_is_a_link() -> None:
    assert token_relations([[3, 4, 0, 2, "hired"]], SPANS) == [(1, 0, "hired")]


def test_an_end_that_is_no_span_of_an_entity_is_named() -> None:
    with pytest.raises(RowError, match=r"an end of hired .* found \(1, 2\)"):
        token_relations([[3, 4, 1, 2, "hired"]], SPANS)


def test_an_index_that_no_span_has_is_an_error() -> None:
    with pytest.raises(RowError, match="head of a relation"):
        token_draft("row 1", TOKENS, SPANS, [(2, 0, "joined")])


def test_a_stray_full_stop_is_cut_where_the_name_stands_without_it_too() -> None:
    tokens = ["Orbit", "hired", "Orbit", "."]
    both = token_draft("row 1", tokens, [(0, 1, "company"), (2, 4, "company")], [])
    assert (both.entities, both.notes) == ((("Orbit", "company"),) * 2, (STOP_CUT,))
    alone = token_draft("row 1", tokens, [(2, 4, "company")], [])
    assert (alone.entities, alone.notes) == ((("Orbit.", "company"),), ())
