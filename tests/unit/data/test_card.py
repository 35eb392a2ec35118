"""The card of a selection: what was kept and left out, adding up."""

from t2g_ray.data.select import REASONS, SelectOptions, select_records
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.types import Record


def record(text: str, *names: str, relation: str = "", type_: str = "person") -> Record:
    """Entities of one type, and a relation from the first to the last."""
    return Record(
        text=text,
        entity_types=("person",),
        relation_types=("knows", "likes"),
        graph=Graph(
            tuple(Entity(id_, name, type_) for id_, name in enumerate(names)),
            (Relation(names[0], names[-1], relation),) if relation else (),
        ),
    )


def people(count: int, relation: str, size: int) -> list[Record]:
    """Records of one length, in words that no other record has."""
    made = []
    for number in range(count):
        words = " ".join(f"{relation}{size:02}x{number:02}y{place:02}" for place in range(size))
        made.append(record(f"Ann Bo {words}", "Ann", "Bo", relation=relation))
    return made


def test_kept_and_rejected_add_up_on_the_card() -> None:
    records = [*people(30, "knows", 5), record("Zed is not named.", "Bo"), people(1, "knows", 5)[0]]
    selection = select_records(records, SelectOptions(max_records=20))
    card = selection.card()
    assert card["read"] == 32
    assert card["kept"] + sum(item["count"] for item in card["rejected"].values()) == 32
    assert set(card["rejected"]) == {"entity_not_in_text", "duplicate", "not_drawn"}
    assert set(card["rejected"]) <= set(REASONS)
    assert card["before"]["entities"] == 30 * 2 + 1 + 2
    assert card["after"]["types"]["relations"]["knows"] == 20
    samples = card["rejected"]["entity_not_in_text"]["samples"]
    assert samples == [{"record": 31, "found": "Bo", "text": "Zed is not named."}]
