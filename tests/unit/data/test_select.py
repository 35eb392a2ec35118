"""What is kept, what is left out and why, the balanced draw, the card, and the data commands."""

from collections import Counter

from t2g_ray.data.select import SelectOptions, select_records
from tests.unit.data.parts import people
from tests.unit.data.parts import plain_record as record


def test_each_record_is_kept_or_left_out_for_its_first_reason() -> None:
    records = [
        record("Ann met Bo at the old mill in the rain.", "Ann", "Bo", relation="knows"),
        record("Ann met Bo again.", "Ann", "Cy"),
        record("Ann and Bo are robots.", "Ann", type_="robot"),
        record("Ann and Bo hate it.", "Ann", "Bo", relation="hates"),
        record("Ann.", "Ann"),
        record("Nobody was there that day."),
        record("Bo slept through a whole week of heavy rain and then went out again.", "Bo"),
        record("ann met Bo  at the old mill in the rain.", "Bo"),
        record("Ann met Bo at the old mills in the rain.", "Ann"),
        record("Di is held out.", "Di"),
        record("Ed is alone here.", "Ed"),
    ]
    options = SelectOptions(min_chars=10, max_chars=50, min_entities=1)
    selection = select_records(records, options, held_out=["di is held out."])
    assert selection.kept == [records[0], records[10]]
    assert [(item.number, item.reason) for item in selection.rejected] == [
        (2, "entity_not_in_text"),
        (3, "entity_type_outside_schema"),
        (4, "relation_type_outside_schema"),
        (5, "text_too_short"),
        (6, "too_few_entities"),
        (7, "text_too_long"),
        (8, "duplicate"),
        (9, "near_duplicate"),
        (10, "in_held_out_data"),
    ]
    assert [item.found for item in selection.rejected][:4] == ["Cy", "robot", "hates", "4"]


def test_a_rejected_record_does_not_hide_a_later_one_of_the_same_text() -> None:
    text = "Ann met Bo at the old mill."
    bad, good = record(text, "Zed"), record(text, "Ann")
    assert select_records([bad, good], SelectOptions()).kept == [good]


def test_near_duplicates_stay_on_request_and_identical_texts_never() -> None:
    text = "Ann met Bo at the old mill in the rain."
    records = [record(text), record(text.replace("mill", "mills")), record(text)]
    selection = select_records(records, SelectOptions(remove_near=False))
    assert selection.kept == records[:2]
    near_held_out = select_records(records[1:2], SelectOptions(remove_near=False), held_out=[text])
    assert near_held_out.kept == []


def test_the_draw_gives_rare_types_and_all_lengths_their_turn() -> None:
    records = [*people(40, "knows", 5), *people(40, "knows", 20), *people(8, "likes", 5)]
    options = SelectOptions(max_records=24, seed=7)
    selection = select_records(records, options)
    drawn = Counter((r.graph.relations[0].type, len(r.text) > 100) for r in selection.kept)
    assert sum(drawn.values()) == 24
    assert drawn["likes", False] == 8
    assert drawn["knows", False] == drawn["knows", True] == 8
    assert Counter(item.reason for item in selection.rejected) == {"not_drawn": 64}
    assert [records.index(r) for r in selection.kept] == sorted(
        records.index(r) for r in selection.kept
    )


def test_a_seed_draws_the_same_records_and_another_seed_others() -> None:
    records = people(50, "knows", 6)
    first, again, other = (
        select_records(records, SelectOptions(max_records=10, seed=seed)).kept for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_nothing_is_drawn_when_no_more_is_left_than_wanted() -> None:
    records = people(5, "knows", 6)
    assert select_records(records, SelectOptions(max_records=5)).kept == records
