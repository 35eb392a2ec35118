"""The card of a selection: what was kept and left out, adding up."""

from t2g_ray.data.select import REASONS, SelectOptions, select_records
from tests.unit.data.parts import people
from tests.unit.data.parts import plain_record as record


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
