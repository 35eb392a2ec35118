"""Two graphs -> drawings that can be compared at a glance."""

from __future__ import annotations

import re

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.report.graph_diff import compare_graphs
from t2g_ray.report.plots.drawing import MAX_NODES, draw_both
from tests.unit.report.graphs import GOLD, PREDICTED


def test_both_drawings_place_a_text_at_the_same_point() -> None:
    def places(svg: str) -> dict[str, str]:
        return {
            name: at for at, name in re.findall(r'class="name" (x="[^"]*" y="[^"]*")>([^<]*)', svg)
        }

    gold, predicted = draw_both(*compare_graphs(GOLD, PREDICTED))
    assert places(gold).keys() == {"Ann", "Acme", "Rome"}
    assert places(gold) == places(predicted)  # Rome is an end there, though not an entity
    assert "not an entity" in predicted and "not an entity" not in gold
    assert 'class="edge missed"' in gold and 'class="edge wrong"' in predicted
    assert draw_both(*compare_graphs(GOLD, PREDICTED)) == (gold, predicted)


def test_empty_single_looped_and_huge_graphs_are_drawn() -> None:
    empty = Graph((), ())
    assert "empty graph" in draw_both(*compare_graphs(empty, empty))[0]
    loop = Graph((Entity(0, "A", "t"),), (Relation("A", "A", "r"),))
    assert draw_both(*compare_graphs(loop, empty))[0].count('class="edge') == 1
    many = Graph(tuple(Entity(i, f"n{i}", "t") for i in range(500)), ())
    assert draw_both(*compare_graphs(many, empty))[0].count("<rect") == MAX_NODES


def test_parallel_and_opposite_relations_get_different_curves() -> None:
    ends = ("A", "B")
    graph = Graph(
        (Entity(0, "A", "t"), Entity(1, "B", "t")),
        (Relation(*ends, "r"), Relation(*ends, "s"), Relation(*ends[::-1], "r")),
    )
    svg = draw_both(*compare_graphs(graph, graph))[0]
    middles = re.findall(r" Q([-\d.,]+) ", svg)
    assert len(set(middles)) == 3
