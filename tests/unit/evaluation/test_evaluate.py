"""Held-out figures by hand, and intervals where the distribution is known."""

import pytest

from t2g_ray.evaluation.evaluate import EvalResult, evaluate_texts
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.graph.counts import Counts
from t2g_ray.types import Record

FULL = Graph(
    (Entity(0, "Ann", "person"), Entity(1, "Acme", "company")),
    (Relation("Ann", "Acme", "works for"),),
)
EMPTY = Graph((), ())
LOWER = FULL.to_json().replace("Ann", "ann")


def record(graph: Graph) -> Record:
    return Record(
        text="Ann works for Acme.",
        entity_types=("person", "company"),
        relation_types=("works for",),
        graph=graph,
    )


@pytest.fixture
def result() -> EvalResult:
    # Right; one entity in lower case (and with it the relation); no JSON; a right silence.
    records = [record(FULL), record(FULL), record(FULL), record(EMPTY)]
    texts = [FULL.to_json(), LOWER, "sorry", EMPTY.to_json()]
    return evaluate_texts(records, texts, thinking=False, lengths=[30, 30, 2, 8])


def test_figures_by_hand(result: EvalResult) -> None:
    assert result.figures() == pytest.approx(
        {
            "records": 4,
            "f1/entities": 2 * 3 / (2 * 3 + 1 + 3),  # tp 3, fp 1, fn 3
            "f1/relations": 2 * 1 / (2 * 1 + 1 + 2),  # tp 1, fp 1, fn 2
            "f1_relaxed/entities": 2 * 4 / (2 * 4 + 0 + 2),
            "f1_relaxed/relations": 2 * 2 / (2 * 2 + 0 + 1),
            # person: tp 1, fp 1, fn 2; company: tp 2, fn 1
            "f1_macro/entities": (2 * 1 / (2 * 1 + 1 + 2) + 2 * 2 / (2 * 2 + 0 + 1)) / 2,
            "f1_macro/relations": 2 * 1 / (2 * 1 + 1 + 2),
            "f1_strict/relations": 2 * 1 / (2 * 1 + 1 + 2),
            "precision/entities": 3 / 4,
            "precision/relations": 1 / 2,
            "recall/entities": 3 / 6,
            "recall/relations": 1 / 3,
            "json_valid_rate": 3 / 4,
            "completion_length/mean": 70 / 4,
        }
    )


def test_parse_kinds_and_types_are_counted(result: EvalResult) -> None:
    assert result.parse_kinds == {"ok": 3, "no_json": 1}
    person = result.type_table()["entities"]["person"]
    assert (person["tp"], person["fp"], person["fn"]) == (1, 1, 2)
    assert person["precision"] == 1 / 2
    assert person["recall"] == pytest.approx(1 / 3)


def test_the_line_of_evals_holds_its_place_and_the_figures(result: EvalResult) -> None:
    line = result.line(step=50, version=51, split="heldout")
    assert (line["step"], line["policy_version"], line["split"]) == (50, 51, "heldout")
    assert line["f1/entities"] == pytest.approx(0.6)


def test_reasoning_is_no_answer() -> None:
    text = f"<think>{FULL.to_json()}</think>{EMPTY.to_json()}"
    result = evaluate_texts([record(FULL)], [text], thinking=True)
    assert result.exact.entities == Counts(0, 0, 2)
    assert result.mean_tokens is None
    assert "completion_length/mean" not in result.figures()


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "b", "c"]])
def test_texts_must_match_the_records(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="one text"):
        evaluate_texts([record(FULL), record(FULL)], texts, thinking=False)


def test_no_records_are_refused() -> None:
    with pytest.raises(ValueError, match="found 0 records"):
        evaluate_texts([], [], thinking=False)


def test_the_interval_of_one_evaluation_is_that_of_the_binomial_distribution() -> None:
    # 50 of 100 entities are found: a resample finds k ~ Binomial(100, 0.5), whose 2.5 % and
    # 97.5 % quantiles are 40 and 60, and F1 = 2k / (2k + (100 - k)).
    right, missed = record(Graph((Entity(0, "Ann", "person"),), ())), EMPTY.to_json()
    texts = [right.graph.to_json()] * 50 + [missed] * 50
    result = evaluate_texts([right] * 100, texts, thinking=False)
    low, high = result.intervals(seed=1, samples=4000)["f1/entities"]
    assert low == pytest.approx(80 / 140, abs=0.015)
    assert high == pytest.approx(120 / 160, abs=0.015)


def test_records_become_lines_with_their_counts(result: EvalResult) -> None:
    lines = result.record_lines(["a", "b", "c", "d"])
    assert lines[1] == {
        "index": 1,
        "completion": "b",
        "entities": (1, 1, 1),
        "relations": (0, 1, 1),
    }
