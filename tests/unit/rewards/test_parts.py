"""Parts by hand, presets and specifications, and the grader's boundary."""

import logging
import math
import pickle

import pytest

from t2g_ray.config import RewardSpec
from t2g_ray.config.rewards import PART_NAMES, PENALTIES, PRESETS, Shaping, preset
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.rewards.completion import grade, score_completion
from t2g_ray.rewards.parts import PARTS
from t2g_ray.types import Record

GOLD = Graph(
    (
        Entity(0, "Ann Lee", "person"),
        Entity(1, "Bob", "person"),
        Entity(2, "Acme", "company"),
        Entity(3, "Rome", "city"),
    ),
    (
        Relation("Ann Lee", "Acme", "works for"),
        Relation("Bob", "Acme", "works for"),
        Relation("Acme", "Rome", "based in"),
    ),
)
RECORD = Record(
    text="Ann Lee and Bob work for Acme in Rome.",
    entity_types=("person", "company", "city"),
    relation_types=("works for", "based in"),
    graph=GOLD,
)
NOTHING = Record(
    text="It rained.",
    entity_types=("person",),
    relation_types=("works for",),
    graph=Graph((), ()),
)
EMPTY = Graph((), ()).to_json()
PARTIAL = Graph(GOLD.entities[:3], GOLD.relations[:2])
EVERY_SCORE = RewardSpec(dict.fromkeys(sorted(set(PARTS) - PENALTIES), 1.0))


def parts(text: str, record: Record = RECORD, *, thinking: bool = False) -> dict[str, float]:
    return dict(score_completion(text, record, EVERY_SCORE, thinking=thinking).parts)


def test_the_gold_graph_earns_every_part_in_full() -> None:
    assert set(parts(GOLD.to_json()).values()) == {1.0}
    assert set(parts(f"<think>Ann</think>\n{GOLD.to_json()}", thinking=True).values()) == {1.0}


def test_the_total_is_the_weighted_sum_of_the_parts() -> None:
    spec = RewardSpec({"f1_entities": 2.0, "f1_relations": 3.0, "json": 0.5})
    reward = score_completion(PARTIAL.to_json(), RECORD, spec)
    # 3 of 4 entities: 6/7; 2 of 3 relations: 4/5.
    assert reward.parts == pytest.approx({"f1_entities": 6 / 7, "f1_relations": 0.8, "json": 1.0})
    assert reward.total == pytest.approx(2 * 6 / 7 + 3 * 0.8 + 0.5)
    assert (reward.tag, reward.parse) == ("score", "ok")
    assert (reward.entities, reward.relations) == ((3, 0, 1), (2, 0, 1))


def test_a_failed_parse_earns_zero_in_every_part_and_says_why() -> None:
    reward = score_completion(GOLD.to_json()[:-2], RECORD, EVERY_SCORE)
    assert (reward.total, reward.tag, reward.parse) == (0.0, "invalid_output", "truncated")
    assert set(reward.parts.values()) == {0.0}
    assert (reward.entities, reward.relations) == ((0, 0, 4), (0, 0, 3))


def test_schema_counts_items_that_obey_the_request() -> None:
    graph = Graph(
        (
            Entity(0, "Ann Lee", "person"),
            Entity(0, "Bob", "person"),  # id taken
            Entity(2, "Acme", "robot"),  # type not wanted
            Entity(3, "Ann Lee", "person"),  # copy
        ),
        (
            Relation("Ann Lee", "Acme", "works for"),
            Relation("Ann Lee", "Zed", "works for"),  # tail not listed
            Relation("Ann Lee", "Acme", "owns"),  # type not wanted
            Relation("Ann Lee", "Acme", "works for"),  # copy
        ),
    )
    # 6 of the 8 break it, and the gold has 7 items.
    assert parts(graph.to_json())["schema"] == pytest.approx(1 - 6 / 7)


@pytest.mark.parametrize("num_junk", [1, 5, 50])
@pytest.mark.parametrize("part", ["schema", "grounding", "f1_entities", "f1_relations", "json"])
def test_harmless_junk_raises_no_part_of_a_faulty_answer(part: str, num_junk: int) -> None:
    faulty = Graph(GOLD.entities[:2], (Relation("Ann Lee", "Zed", "works for"),))
    ungrounded = Graph((*GOLD.entities[:2], Entity(2, "Nobody", "person")), faulty.relations)
    junk = tuple(Entity(10 + i, RECORD.text[: i + 1], "city") for i in range(num_junk))
    for graph in (faulty, ungrounded):
        padded = Graph(graph.entities + junk, graph.relations)
        assert parts(padded.to_json())[part] <= parts(graph.to_json())[part]


def test_without_gold_relations_their_f1_is_that_of_the_whole_graph() -> None:
    record = Record(
        text=RECORD.text,
        entity_types=RECORD.entity_types,
        relation_types=RECORD.relation_types,
        graph=Graph(GOLD.entities, ()),
    )
    junk = parts(Graph((Entity(0, "Zed", "person"),), ()).to_json(), record)
    spurious = parts(Graph(GOLD.entities, GOLD.relations[:1]).to_json(), record)
    most = parts(Graph(GOLD.entities[:3], ()).to_json(), record)
    assert (junk["f1_relations"], junk["soft_relations"]) == (0.0, 0.0)
    assert spurious["f1_relations"] == pytest.approx(2 * 4 / (5 + 4))
    assert most["f1_relations"] == pytest.approx(2 * 3 / (3 + 4))
    assert parts(EMPTY, record)["f1_relations"] == 0.0
    assert parts(record.graph.to_json(), record)["f1_relations"] == 1.0


@pytest.mark.parametrize("part", sorted(set(PARTS) - PENALTIES - {"json", "format"}))
def test_nothing_is_worth_something_only_where_there_is_nothing(part: str) -> None:
    assert parts(EMPTY, NOTHING)[part] == 1.0
    assert parts(EMPTY)[part] == 0.0
    only_relations = Graph((), (Relation("It", "It", "works for"),)).to_json()
    assert parts(only_relations, NOTHING)[part] == 0.0


def test_grounding_is_the_share_of_entities_that_stand_in_the_text() -> None:
    entities = tuple(Entity(i, t, "person") for i, t in enumerate(["Bob", "bob", "Zed", " "]))
    assert parts(Graph(entities, ()).to_json())["grounding"] == 0.25


def test_format_is_weighed_only_when_thinking() -> None:
    text = f"<think>Ann</think>{GOLD.to_json()}"
    assert "format" not in parts(text)
    assert parts(text, thinking=True)["format"] == 1.0
    assert parts(GOLD.to_json(), thinking=True)["format"] == 0.0


def test_text_around_the_graph_dilutes_the_json_part() -> None:
    padding = "x" * len(GOLD.to_json())
    assert parts(padding + GOLD.to_json())["json"] == 0.5


def test_beta_and_power_shape_the_f1_parts_alone() -> None:
    weights = {"f1_entities": 1.0, "f1_relations": 1.0, "soft_relations": 1.0, "json": 1.0}
    spec = RewardSpec(weights, Shaping(beta=2.0, power=0.5), level="record")
    reward = score_completion(PARTIAL.to_json(), RECORD, spec)
    # Precision 1; recall 3/4 and 2/3: F2 = 5PR / (4P + R). Nothing is left that could be near.
    entities, relations = 5 * (3 / 4) / (4 + 3 / 4), 5 * (2 / 3) / (4 + 2 / 3)
    assert reward.parts == pytest.approx(
        {
            "f1_entities": entities**0.5,
            "f1_relations": relations**0.5,
            "soft_relations": relations**0.5,
            "json": 1.0,
        }
    )
    assert (reward.entities, reward.relations) == ((3, 0, 1), (2, 0, 1))


def test_copies_cost_their_share_of_the_items() -> None:
    spec = RewardSpec({"json": 1.0, "duplicates": 0.5})
    graph = Graph(PARTIAL.entities, PARTIAL.relations[:1] * 4)  # 3 entities, 1 relation, 3 copies
    reward = score_completion(graph.to_json(), RECORD, spec)
    assert reward.parts == {"json": 1.0, "duplicates": pytest.approx(-3 / 7)}
    assert reward.total == pytest.approx(1 - 0.5 * 3 / 7)
    assert score_completion(GOLD.to_json(), RECORD, spec).parts["duplicates"] == 0.0


@pytest.mark.parametrize(
    ("num_tokens", "expected"), [(0, 0.0), (80, 0.0), (85, -0.25), (99, -0.95), (100, -1.0)]
)
def test_the_overlong_penalty_falls_in_a_straight_line(num_tokens: int, expected: float) -> None:
    # Equation 13 of DAPO with L_max 100 and L_cache 20.
    spec = RewardSpec({"json": 1.0, "overlong": 2.0}, Shaping(max_new_tokens=100))
    for text, json_valid in ((GOLD.to_json(), 1.0), ('{"entities":[{"id":', 0.0)):
        reward = score_completion(text, RECORD, spec, num_tokens=num_tokens)
        assert reward.parts == {"json": json_valid, "overlong": pytest.approx(expected)}
        assert reward.total == pytest.approx(json_valid + 2 * expected)


def test_the_overlong_penalty_needs_to_know_the_limit() -> None:
    with pytest.raises(ValueError, match="needs max_new_tokens, found None"):
        score_completion(EMPTY, NOTHING, RewardSpec({"overlong": 1.0}), num_tokens=3)


@pytest.mark.parametrize("value", [0.5, -1.5, math.nan])
def test_a_penalty_outside_its_range_is_a_fault_of_the_grader(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "duplicates", lambda *_: value)
    with pytest.raises(ValueError, match=r"the reward part duplicates must lie in \[-1, 0\]"):
        score_completion(EMPTY, NOTHING, RewardSpec({"duplicates": 1.0}))


def test_silence_earns_everything_where_nothing_is_and_only_json_elsewhere() -> None:
    assert set(parts(EMPTY, NOTHING).values()) == {1.0}
    silent = parts(f"<think>Hm</think>{EMPTY}", thinking=True)
    assert silent.pop("json") == 1.0
    assert set(silent.values()) == {0.0}


@pytest.mark.parametrize("name", PRESETS)
def test_gold_earns_the_most_and_f1_weighs_most_in_every_preset(name: str) -> None:
    weights = PRESETS[name].weights
    f1 = weights["f1_entities"] + weights["f1_relations"]
    assert f1 > sum(weights.values()) / 2
    in_full = sum(weight for part, weight in weights.items() if part != "format")
    assert score_completion(GOLD.to_json(), RECORD, PRESETS[name]).total == pytest.approx(in_full)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "at least one part"),
        ({"f1_entites": 1.0}, "unknown reward part 'f1_entites'; use \\['f1_entities'\\]"),
        ({"json": math.nan}, "finite and above 0, found nan"),
        ({"json": -1.0}, "finite and above 0, found -1.0"),
    ],
)
def test_a_reward_with_bad_weights_is_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardSpec(weights)


def test_an_unknown_preset_is_refused_with_the_names_there_are() -> None:
    assert preset("f1") is PRESETS["f1"]
    with pytest.raises(ValueError, match=r"unknown reward preset 'best'; use one of \['default'"):
        preset("best")


def test_presets_travel_between_processes() -> None:
    assert pickle.loads(pickle.dumps(PRESETS)) == PRESETS


def _broken(*_: object) -> float:
    raise ZeroDivisionError("a bug in a part")


def test_a_bug_inside_a_part_is_let_out_and_tagged_only_at_the_boundary(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(PARTS, "json", _broken)
    with pytest.raises(ZeroDivisionError):
        score_completion(EMPTY, NOTHING, PRESETS["default"])
    with caplog.at_level(logging.ERROR):
        reward = grade(EMPTY, NOTHING, PRESETS["default"])
    assert (reward.tag, reward.total, reward.parts) == ("grader_error", 0.0, {})
    assert "a bug in a part" in caplog.text


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.5, -0.1])
def test_a_part_outside_its_range_is_a_fault_of_the_grader(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PARTS, "json", lambda *_: value)
    with pytest.raises(ValueError, match=r"the reward part json must lie in \[0, 1\]"):
        score_completion(EMPTY, NOTHING, PRESETS["default"])


def test_the_boundary_passes_a_good_score_through() -> None:
    text = GOLD.to_json()
    expected = score_completion(text, RECORD, PRESETS["default"])
    assert grade(text, RECORD, PRESETS["default"]) == expected


def test_every_part_that_a_configuration_may_name_has_its_function() -> None:
    assert tuple(PARTS) == PART_NAMES
