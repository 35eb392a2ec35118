"""Micro F1 of graded completions equals scikit-learn's, on the same keys made in another way.

scikit-learn sees an indicator matrix: a row a record, a column a key. Keys are multisets here, so
the second copy of a key is a column of its own.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from scipy.sparse import csr_matrix

from t2g_ray.config.rewards import PRESETS
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.graph.counts import Counts
from t2g_ray.records.corpus import generate_records
from t2g_ray.records.jsonl import load_records
from t2g_ray.rewards.completion import score_completion
from t2g_ray.types import Record

REFERENCE = Path(__file__).parents[3] / ".venv" / "reference"
EMPTY = Graph((), ())
WRITTEN = [
    Record(text="It rained.", entity_types=("city",), relation_types=("in",), graph=EMPTY),
    Record(
        text="Cafe\u0301 Anna, Caf\u00e9 Bob.",
        entity_types=("cafe", "b_c"),
        relation_types=("next to",),
        graph=Graph(
            (
                Entity(0, "Cafe\u0301 Anna", "cafe"),
                Entity(1, " Caf\u00e9 Bob", "cafe"),
                Entity(2, "a", "b_c"),
                Entity(3, "a_b", "c"),
            ),
            (
                Relation("Cafe\u0301 Anna", "Caf\u00e9 Bob", "next to"),
                Relation("Caf\u00e9 Bob", "Cafe\u0301 Anna", "next to"),
            ),
        ),
    ),
]


@pytest.fixture(autouse=True)
def reference_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here alone: transformers imports scikit-learn wherever it finds it, which takes a second."""
    monkeypatch.syspath_prepend(str(REFERENCE))


def data_sets() -> Iterator[Any]:
    yield pytest.param([*WRITTEN, *generate_records("train", 300, seed=2)], id="embedded")
    folder = os.environ.get("T2G_TEST_DATA")
    if folder is None:
        reason = "set T2G_TEST_DATA to a folder of JSONL records to compare on them too"
        yield pytest.param(None, id="T2G_TEST_DATA", marks=pytest.mark.skip(reason=reason))
        return
    paths = sorted(Path(folder).glob("**/train.jsonl"))
    assert paths, f"T2G_TEST_DATA must be a folder with train.jsonl files below it, found {folder}"
    yield from (pytest.param(path, id=path.parent.name) for path in paths)


def corrupt(graph: Graph, random: Random) -> str:
    """A completion that is right in part: items lost, altered, swapped, invented and repeated."""
    entities, relations = [], []
    for entity in graph.entities:
        fate = random.random()
        text = entity.text + " Inc" if fate < 0.1 else f" {entity.text}\t" if fate < 0.2 else None
        type_ = "other" if 0.2 <= fate < 0.3 else entity.type
        if fate < 0.9:
            entities += [Entity(entity.id, text or entity.text, type_)] * random.choice([1, 1, 3])
    for relation in graph.relations:
        fate = random.random()
        ends = (relation.tail, relation.head) if fate < 0.1 else (relation.head, relation.tail)
        type_ = "other" if 0.1 <= fate < 0.2 else relation.type
        if fate < 0.8:
            relations += [Relation(*ends, type_)] * random.choice([1, 1, 2])
    if random.random() < 0.2:
        entities.append(Entity(99, "Invented", "other"))
        relations.append(Relation("Invented", "Things", "other"))
    random.shuffle(entities)
    text = Graph(tuple(entities), tuple(relations)).to_json()
    return text[:-5] if random.random() < 0.05 else text  # cut short: no graph at all


def keys_of(items: Sequence[dict[str, Any]], fields: Sequence[str]) -> list[tuple[Any, ...]]:
    """Own forms of the keys, numbered copy by copy."""
    seen: Counter[tuple[str, ...]] = Counter()
    keys = []
    for item in items:
        key = tuple(unicodedata.normalize("NFC", item[field]).strip() for field in fields)
        seen[key] += 1
        keys.append((*key, seen[key]))
    return keys


def reference_f1(gold: list[list[Any]], predicted: list[list[Any]]) -> float:
    from sklearn.metrics import f1_score

    columns = {key: i for i, key in enumerate({k for row in gold + predicted for k in row})}

    def indicator(rows: list[list[Any]]) -> csr_matrix:
        indices = [columns[key] for row in rows for key in row]
        starts = [0]
        for row in rows:
            starts.append(starts[-1] + len(row))
        shape = (len(rows), len(columns) + 2)  # scikit-learn needs two columns
        return csr_matrix(([1] * len(indices), indices, starts), shape=shape)

    value: float = f1_score(indicator(gold), indicator(predicted), average="micro", zero_division=1)
    return value


def graph_of(completion: str) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(completion)
    except json.JSONDecodeError:
        return EMPTY.to_dict()
    return value


@pytest.mark.parametrize("source", data_sets())
def test_micro_f1_is_that_of_scikit_learn(source: Path | list[Record]) -> None:
    records = load_records(source) if isinstance(source, Path) else source
    random = Random(0)
    completions = [corrupt(record.graph, random) for record in records]
    rewards = [
        score_completion(text, record, PRESETS["f1"])
        for text, record in zip(completions, records, strict=True)
    ]
    for part, fields in (("entities", ("text", "type")), ("relations", ("head", "tail", "type"))):
        ours = sum((Counts(*getattr(reward, part)) for reward in rewards), Counts())
        gold = [keys_of(record.graph.to_dict()[part], fields) for record in records]
        predicted = [keys_of(graph_of(text)[part], fields) for text in completions]
        assert 0.3 < ours.f1 < 0.95  # neither hopeless nor trivial
        assert ours.f1 == pytest.approx(reference_f1(gold, predicted), abs=1e-9)


def test_records_with_nothing_to_find_agree_too() -> None:
    silent = [score_completion(EMPTY.to_json(), WRITTEN[0], PRESETS["f1"])] * 3
    ours = sum((Counts(*reward.entities) for reward in silent), Counts())
    assert ours == Counts(0, 0, 0)
    assert ours.f1 == reference_f1([[], [], []], [[], [], []]) == 1.0
    # One guess where nothing is makes an error; the silent rows beside it add none.
    guess = Graph((Entity(0, "It", "city"),), ()).to_json()
    ours += Counts(*score_completion(guess, WRITTEN[0], PRESETS["f1"]).entities)
    assert ours == Counts(0, 1, 0)
    assert ours.f1 == reference_f1([[], [], [], []], [[], [], [], [("It", "city", 1)]]) == 0.0
