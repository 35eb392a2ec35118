"""Gold and predicted graph -> a status for every item, and marks in the text."""

from __future__ import annotations

import re

from t2g_ray.graph import Entity, Graph
from t2g_ray.report.graph_diff import compare_graphs, marked_text
from tests.unit.report.graphs import GOLD, PREDICTED, TEXT


def test_every_item_of_both_graphs_gets_its_status() -> None:
    gold, predicted = compare_graphs(GOLD, PREDICTED)
    assert gold.entities == {
        ("Ann", "person"): "match",
        ("Acme", "company"): "missed",
        ("Rome", "city"): "missed",
    }
    assert predicted.entities == {("Ann", "person"): "match", ("Acme", "city"): "wrong"}
    assert gold.relations == {
        ("Ann", "Acme", "works for"): "match",
        ("Acme", "Rome", "based in"): "missed",
    }
    assert predicted.relations == {
        ("Ann", "Acme", "works for"): "match",
        ("Rome", "Acme", "based in"): "wrong",
    }


def test_mentions_are_marked_as_whole_words_and_absent_ones_listed() -> None:
    gold, predicted = compare_graphs(
        GOLD, Graph((Entity(0, "Ann", "person"), Entity(1, "Bo", "x")), ())
    )
    marked, absent = marked_text(TEXT, gold, predicted)
    assert marked == (
        '<mark class="match">Ann<small>\u2713 person</small></mark> works for '
        '<mark class="missed">Acme<small>\u2013 company</small></mark> in '
        '<mark class="missed">Rome<small>\u2013 city</small></mark>, not for Acmes.'
    )
    assert absent == ["Bo"]


def test_longer_mentions_win_and_texts_without_spaces_are_marked_too() -> None:
    def marks(text: str, *mentions: str) -> list[str]:
        graph = Graph(tuple(Entity(i, m, "t") for i, m in enumerate(mentions)), ())
        return re.findall(
            r"<mark[^>]*>([^<]*)", marked_text(text, *compare_graphs(graph, graph))[0]
        )

    assert marks("New York is in York", "York", "New York") == ["New York", "York"]
    assert marks("\u5317\u4eac\u662f\u9996\u90fd", "\u5317\u4eac") == ["\u5317\u4eac"]
    assert marks("nothing here") == []
