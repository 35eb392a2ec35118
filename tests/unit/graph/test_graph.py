"""Graph <-> plain data and canonical JSON, and the schema for constrained decoding."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.graph import Entity, Graph, GraphError, Relation

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
graphs = st.builds(
    Graph,
    st.lists(st.builds(Entity, st.integers(-9, 99), words, words), max_size=4).map(tuple),
    st.lists(st.builds(Relation, words, words, words), max_size=4).map(tuple),
)

ANN = Graph(
    (Entity(0, "Ann", "person"), Entity(1, "Caf\u00e9", "company")),
    (Relation("Ann", "Caf\u00e9", "works for"),),
)


def test_canonical_json_has_no_spaces_and_a_fixed_order_of_keys() -> None:
    assert ANN.to_json() == (
        '{"entities":[{"id":0,"text":"Ann","type":"person"},'
        '{"id":1,"text":"Caf\u00e9","type":"company"}],'
        '"relations":[{"head":"Ann","tail":"Caf\u00e9","type":"works for"}]}'
    )


@given(graphs)
def test_canonical_json_reads_back_as_the_same_graph(graph: Graph) -> None:
    assert Graph.from_dict(json.loads(graph.to_json())) == graph


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "graph must be an object"),
        ({"entities": []}, "graph must be an object with exactly the keys"),
        ({"entities": [], "relations": [], "more": 1}, "exactly the keys"),
        ({"entities": {}, "relations": []}, "graph.entities must be a list"),
        ({"entities": [7], "relations": []}, r"entities\[0\] must be an object"),
        (
            {"entities": [{"id": "0", "text": "a", "type": "b"}], "relations": []},
            r"entities\[0\].id must be an integer, found '0'",
        ),
        (
            {"entities": [{"id": True, "text": "a", "type": "b"}], "relations": []},
            r"entities\[0\].id must be an integer, found True",
        ),
        (
            {"entities": [{"id": 0, "text": None, "type": "b"}], "relations": []},
            r"entities\[0\].text must be a string",
        ),
        (
            {"entities": [], "relations": [{"head": "a", "tail": 1, "type": "b"}]},
            r"relations\[0\].tail must be a string",
        ),
        (
            {"entities": [{"id": 0, "text": "x\ud800", "type": "b"}], "relations": []},
            r"entities\[0\].text must be valid Unicode, found a lone surrogate at position 1",
        ),
    ],
)
def test_data_of_another_shape_is_refused_by_place(data: object, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Graph.from_dict(data)
