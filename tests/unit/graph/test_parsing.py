"""Completion text -> graph or named failure, in bounded time on any text."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.graph.parsing import MAX_CHARS, Parsed, ParseFailure, parse_completion

ANSWER = Graph((Entity(0, "Ann", "person"),), (Relation("Ann", "Acme", "works for"),))
JSON = ANSWER.to_json()
OTHER = Graph((), ()).to_json()
WIDE = '{"entities":[' + "[]" * 5000


def parsed(text: str, *, thinking: bool = False) -> Parsed:
    outcome = parse_completion(text, thinking=thinking)
    assert isinstance(outcome, Parsed), outcome
    return outcome


def failed(text: str) -> ParseFailure:
    outcome = parse_completion(text)
    assert isinstance(outcome, ParseFailure), outcome
    return outcome


def test_a_bare_graph_parses_with_nothing_outside() -> None:
    outcome = parsed(f"\n{JSON}\n")
    assert outcome.graph == ANSWER
    assert (outcome.kind, outcome.outside_chars, outcome.graph_chars) == ("ok", 0, len(JSON))
    assert outcome.reasoning is None
    assert not outcome.think_ok


def test_spaces_inside_and_another_order_of_keys_are_accepted() -> None:
    graph = ANSWER.to_dict()
    text = json.dumps({"relations": graph["relations"], "entities": graph["entities"]}, indent=1)
    assert parsed(text).graph == ANSWER


@pytest.mark.parametrize(
    ("text", "num_outside"),
    [
        (f"```json\n{JSON}\n```", 10),
        (f"Sure: {JSON}", 5),
        (f"{{oops}} {{ }} {JSON}", 10),
        (f"{JSON}}}", 1),
        (f'{{"a": {JSON}', 5),
        (f"{JSON}{OTHER}", len(OTHER)),
        (f'{{"nodes":[]}}{JSON}', 12),
        (f"[{JSON}]", 2),
    ],
)
def test_text_around_the_first_graph_is_counted(text: str, num_outside: int) -> None:
    outcome = parsed(text)
    assert outcome.graph == ANSWER
    assert outcome.outside_chars == num_outside


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("no graph here }", "no_json"),
        ("<think>{}</think>", "no_json"),
        (f"<think>{JSON}", "no_json"),
        (f"{JSON}</think>", "no_json"),
        (JSON[:-1], "truncated"),
        (JSON[:20], "truncated"),
        ('{"entities":[{"id":0,"text":"\\u00', "truncated"),
        ('{"entities":[,]}', "invalid_json"),
        ('{"entities":[{"id":0,"text":"\\x"}]}', "invalid_json"),
        ('{"entities":[{"id":NaN,"text":"a","type":"b"}],"relations":[]}', "invalid_json"),
        ('{"entities":[],"relations":[],"x":-Infinity}', "invalid_json"),
        ('{"entities":[{"id":' + "9" * 5000 + "}]}", "invalid_json"),
        ('{"entities":[],"relations":[],"entities":[]}', "duplicate_key"),
        ('{"entities":[{"id":0,"id":1,"text":"a","type":"b"}],"relations":[]}', "duplicate_key"),
        ('{"entities":[{"id":0.0,"text":"a","type":"b"}],"relations":[]}', "wrong_shape"),
        ('{"entities":[{"id":0,"text":"\\ud800","type":"b"}],"relations":[]}', "wrong_shape"),
        (f'{{"graph":{JSON}}}', "wrong_shape"),
        ("{}", "wrong_shape"),
        ('{"a":' * 10_000, "too_deep"),
        ('{"a":' + "[" * 10_000 + "]" * 10_000 + "}", "too_deep"),
        (JSON + " " * MAX_CHARS, "too_long"),
    ],
)
def test_each_failure_has_its_name(text: str, kind: str) -> None:
    outcome = failed(text)
    assert outcome.kind == kind
    assert outcome.message
    assert outcome.graph is None
    assert outcome.outside_chars == len(text.strip())


def test_brackets_inside_strings_are_not_depth() -> None:
    text = Graph((Entity(0, "[" * 500, "person"),), ()).to_json()
    assert parsed(text).graph.entities[0].text == "[" * 500


def test_a_graph_of_many_items_is_not_deep() -> None:
    graph = Graph(tuple(Entity(index, "Ann", "person") for index in range(200)), ())
    assert parsed(graph.to_json()).graph == graph


@pytest.mark.parametrize(
    ("text", "reasoning", "think_ok"),
    [
        (f"<think>Ann works</think>\n{JSON}", "Ann works", True),
        (f"<think>say {OTHER}</think>{JSON}", f"say {OTHER}", True),
        (f"<think> \n</think>{JSON}", " \n", False),
        (f"<think></think>{JSON}", "", False),
        (f"say {OTHER}</think>{JSON}", f"say {OTHER}", False),
        (f"<think>a</think><think>b</think>{JSON}", "b", False),
        (f"<think>a</think>{JSON}<think>b</think>", "a", False),
        (f"{JSON}<think>b</think>", None, False),
        (f"</think>{JSON}<think>", "", False),
    ],
)
def test_reasoning_is_kept_apart_and_judged(
    text: str, reasoning: str | None, think_ok: bool
) -> None:
    outcome = parsed(text, thinking=True)
    assert outcome.graph == ANSWER
    assert (outcome.reasoning, outcome.think_ok) == (reasoning, think_ok)


def test_tags_inside_the_strings_of_the_graph_are_text() -> None:
    graph = Graph((Entity(0, "</think>", "tag"), Entity(1, "<think>", "tag")), ())
    outcome = parsed(f"<think>x</think>{graph.to_json()}", thinking=True)
    assert outcome.graph == graph


def test_reasoning_is_outside_text_only_when_it_was_not_asked_for() -> None:
    text = f"<think>Ann</think> ok {JSON}"
    assert parsed(text, thinking=True).outside_chars == len("ok")
    assert parsed(text).outside_chars == len("<think>Ann</think> ok")


fragments = st.sampled_from(
    [
        *'{}[]",: \\',
        "<think>",
        "</think>",
        '"entities"',
        '"relations"',
        JSON,
        OTHER,
        "NaN",
        "\ud800",
    ]
)


@given(st.one_of(st.text(), st.lists(fragments).map("".join)), st.booleans())
def test_no_text_makes_the_parser_raise(text: str, thinking: bool) -> None:
    outcome = parse_completion(text, thinking=thinking)
    assert isinstance(outcome, Parsed | ParseFailure)
    if isinstance(outcome, Parsed):
        assert 0 <= outcome.outside_chars <= len(text) - outcome.graph_chars


@given(st.integers(0, len(JSON) - 1))
def test_no_true_beginning_of_a_graph_is_taken_for_a_graph(num_chars: int) -> None:
    assert failed(JSON[:num_chars]).kind == ("truncated" if num_chars else "empty")


@pytest.mark.untraced
@pytest.mark.parametrize(
    "unit",
    ['{"', '{"a":', "{}", "<think>", "</think>", "{ ", '{"\\', "[", '"{', '{"a[', WIDE],
    ids=lambda unit: unit[:12],
)
def test_a_megabyte_of_anything_is_answered_in_seconds(unit: str) -> None:
    text = (unit * (MAX_CHARS // len(unit) + 1))[:MAX_CHARS]
    start = time.perf_counter()
    failed(text)
    assert time.perf_counter() - start < 5


def test_a_large_object_with_one_repeated_key_is_answered_in_seconds() -> None:
    keys = ",".join(f'"k{index}":1' for index in range(80_000))
    start = time.perf_counter()
    assert failed(f'{{{keys},"k79999":1}}').kind == "duplicate_key"
    assert time.perf_counter() - start < 5
