"""Faults of an earlier pipeline for the same task, each of which must be impossible here."""

import pytest

from t2g_ray.config.rewards import PRESETS
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.graph.counts import Counts, score_graph
from t2g_ray.prompts.messages import PromptTooLong, build_messages, encode_prompt
from t2g_ray.rewards.completion import grade, score_completion
from t2g_ray.rewards.parts import PARTS
from t2g_ray.types import Record

DEFAULT = PRESETS["default"]
GOLD = Graph(
    (Entity(0, "Ann", "person"), Entity(1, "Acme", "company")),
    (Relation("Ann", "Acme", "works for"),),
)
RECORD = Record(
    text="Ann works for Acme.",
    entity_types=("person", "company"),
    relation_types=("works for",),
    graph=GOLD,
)
EMPTY = Graph((), ())


def total(text: str, record: Record = RECORD, *, thinking: bool = False) -> float:
    return score_completion(text, record, DEFAULT, thinking=thinking).total


def test_braces_inside_strings_do_not_end_the_graph() -> None:
    graph = Graph((Entity(0, "}{ \\", "person"), Entity(1, '"]}', "company")), ())
    record = Record(
        text='Set }{ \\ and "]} apart.',
        entity_types=("person", "company"),
        relation_types=(),
        graph=graph,
    )
    assert score_completion(graph.to_json(), record, PRESETS["f1"]).total == 2.0


@pytest.mark.parametrize("stray", ["}", "{", "}}{", '{"', "{}"])
def test_a_stray_brace_before_or_after_the_graph_leaves_its_f1_whole(stray: str) -> None:
    for text in (stray + GOLD.to_json(), GOLD.to_json() + stray):
        assert score_completion(text, RECORD, PRESETS["f1"]).total == 2.0


def test_json_inside_the_reasoning_neither_answers_nor_spoils_the_answer() -> None:
    reasoning = f"<think>Perhaps {EMPTY.to_json()} or {{</think>"
    reward = score_completion(reasoning + GOLD.to_json(), RECORD, DEFAULT, thinking=True)
    assert reward.total == pytest.approx(sum(DEFAULT.weights.values()))
    only = score_completion(f"<think>{GOLD.to_json()}</think>", RECORD, DEFAULT, thinking=True)
    assert (only.tag, only.total) == ("invalid_output", 0.0)


def test_a_correct_nothing_here_earns_the_full_reward() -> None:
    nothing = Record(
        text="It rained.", entity_types=("person",), relation_types=("works for",), graph=EMPTY
    )
    in_full = sum(weight for name, weight in DEFAULT.weights.items() if name != "format")
    assert total(EMPTY.to_json(), nothing) == pytest.approx(in_full)
    assert score_graph(EMPTY, EMPTY).relations.f1 == 1.0


def test_near_misses_of_different_worth_do_not_tie() -> None:
    def answer(text: str) -> str:
        return Graph((Entity(0, text, "company"),), ()).to_json()

    record = Record(
        text="He joined Acme Steel Works.",
        entity_types=("company",),
        relation_types=(),
        graph=Graph((Entity(0, "Acme Steel Works", "company"),), ()),
    )
    rewards_in_order = [total(answer(t), record) for t in ("He", "Acme", "Acme Steel")]
    exact = [score_completion(answer(t), record, PRESETS["f1"]).total for t in ("Acme", "He")]
    assert exact[0] == exact[1]
    assert rewards_in_order == sorted(set(rewards_in_order))
    assert rewards_in_order[-1] < total(answer("Acme Steel Works"), record)


def test_an_underscore_cannot_make_two_different_items_equal() -> None:
    gold = Graph((Entity(0, "a", "b_c"),), (Relation("a", "b_c", "d"),))
    shifted = Graph((Entity(0, "a_b", "c"),), (Relation("a_b", "c", "d"),))
    for mode in ("exact", "relaxed"):
        counts = score_graph(gold, shifted, mode)
        assert counts.entities == counts.relations == Counts(0, 1, 1)


def test_copies_are_false_positives() -> None:
    copies = Graph(GOLD.entities[:1] * 50, GOLD.relations * 50)
    counts = score_graph(GOLD, copies)
    assert counts.entities == Counts(1, 49, 1)
    assert counts.relations == Counts(1, 49, 0)
    twice = Graph(GOLD.entities, GOLD.relations * 2)
    assert total(twice.to_json()) < total(GOLD.to_json())


def test_prose_around_the_graph_costs_more_the_longer_it_is() -> None:
    answers = [GOLD.to_json() + " And so on." * repeats for repeats in (0, 1, 10, 100)]
    totals = [total(answer) for answer in answers]
    assert totals == sorted(set(totals), reverse=True)


@pytest.mark.parametrize(
    ("graph", "part"),
    [
        (Graph((Entity(0, "Ann", "person"), Entity(0, "Acme", "company")), ()), "schema"),
        (Graph(GOLD.entities, (Relation("Ann", "Rome", "works for"),)), "schema"),
        (Graph((Entity(0, "Ann", "robot"),), ()), "schema"),
        (Graph(GOLD.entities, (Relation("Ann", "Acme", "owns"),)), "schema"),
        (Graph((Entity(0, "Zed", "person"),), ()), "grounding"),
    ],
    ids=["repeated id", "end not listed", "entity type", "relation type", "not in the text"],
)
def test_ids_ends_types_and_grounding_are_checked(graph: Graph, part: str) -> None:
    assert score_completion(graph.to_json(), RECORD, DEFAULT).parts[part] < 1.0


@pytest.mark.parametrize(
    "tags", ["</think><think>", "<think></think>", "<think>a", "a</think>", "<think> </think>"]
)
def test_tags_that_are_not_one_filled_reasoning_earn_no_format(tags: str) -> None:
    for text in (tags + GOLD.to_json(), GOLD.to_json() + tags):
        reward = score_completion(text, RECORD, DEFAULT, thinking=True)
        assert reward.parts["format"] == 0.0


def test_tags_with_an_empty_graph_earn_almost_nothing() -> None:
    lazy = total(f"<think>Hm.</think>{EMPTY.to_json()}", thinking=True)
    assert lazy <= 0.05 * sum(DEFAULT.weights.values())
    assert total("</think><think>", thinking=True) == 0.0


def test_a_fault_of_the_scorer_is_never_a_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> float:
        raise KeyError("text")

    monkeypatch.setitem(PARTS, "f1_entities", broken)
    with pytest.raises(KeyError):
        total(GOLD.to_json())
    assert grade(GOLD.to_json(), RECORD, DEFAULT).tag == "grader_error"


class WordTokenizer:
    """One id a word."""

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> list[int]:
        return [len(word) for message in messages for word in message["content"].split()]


def test_a_long_prompt_is_refused_rather_than_cut() -> None:
    record = Record(text="word " * 500, entity_types=("a",), relation_types=("b",), graph=EMPTY)
    with pytest.raises(PromptTooLong, match=r"must fit in 256 tokens, found \d+"):
        encode_prompt(WordTokenizer(), record, style="full", thinking=False, max_tokens=256)


def test_every_prompt_names_the_wanted_types() -> None:
    for style in ("full", "compact"):
        for thinking in (False, True):
            messages = build_messages(
                "Hi.",
                ["river", "lake"],
                ["flows into"],
                style=style,
                thinking=thinking,
            )
            content = messages[-1]["content"]
            assert all(name in content for name in ("river", "lake", "flows into"))
