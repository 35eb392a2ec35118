"""The embedded world: what its records promise, and what its tokenizer does to text."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from t2g_ray.graph import Relation
from t2g_ray.records.corpus import (
    ALL_TEMPLATES,
    ENTITY_TYPES,
    NAMES,
    RELATION_ENDS,
    SPLITS,
    Level,
    Split,
    generate_records,
    split_of,
)
from t2g_ray.records.corpus.templates import PASSIVE, Template

ALL_LEVELS: tuple[Level, ...] = get_args(Level)


def test_same_arguments_give_the_same_records_and_another_seed_gives_others() -> None:
    first = generate_records("train", 50, seed=3)
    assert first == generate_records("train", 50, seed=3)
    assert not {r.text for r in first} & {r.text for r in generate_records("train", 50, seed=4)}


def test_a_longer_request_starts_with_the_shorter_one() -> None:
    assert generate_records("rl", 40, seed=1)[:15] == generate_records("rl", 15, seed=1)


def test_other_processes_with_other_hash_seeds_make_the_same_world() -> None:
    code = (
        "import hashlib; from t2g_ray.records.corpus import build_tokenizer, generate_records; "
        "records = generate_records('heldout', 20, seed=5, level='hard'); "
        "state = repr(records) + build_tokenizer().backend_tokenizer.to_str(); "
        "print(hashlib.sha256(state.encode()).hexdigest())"
    )
    root = Path(__file__).parents[4]
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.untraced
def test_splits_share_no_text_for_any_seed_or_level() -> None:
    seen: dict[str, str] = {}
    for split in SPLITS:
        for level in ALL_LEVELS:
            for seed in (0, 1):
                for record in generate_records(split, 100, seed=seed, level=level):
                    assert split_of(record.text) == split
                    assert seen.setdefault(record.text, split) == split


@pytest.mark.untraced
def test_no_text_comes_twice_in_a_request() -> None:
    texts = [record.text for record in generate_records("train", 3000, seed=0, level="easy")]
    assert len(set(texts)) == 3000


@pytest.mark.untraced
def test_an_overlooking_annotator_changes_no_text_and_misses_passive_statements_alone() -> None:
    complete = generate_records("train", 1000, seed=3)
    hurried = generate_records("train", 1000, seed=3, overlooked=0.6)
    blind = generate_records("train", 1000, seed=3, overlooked=1.0)
    assert [r.text for r in hurried] == [r.text for r in complete]
    assert [r.graph.entities for r in blind] == [r.graph.entities for r in complete]
    kept, left, all_ = (
        sum(len(r.graph.relations) for r in records) for records in (hurried, blind, complete)
    )
    assert (kept - left) / (all_ - left) == pytest.approx(0.4, abs=0.05)
    for before, after in zip(complete, blind, strict=True):
        missed = set(before.graph.relations) - set(after.graph.relations)
        assert all(
            any(passive_of(relation, template) in before.text for template in PASSIVE)
            for relation in missed
        )
    plain = [r for r in complete if not any(t.phrases[0] in r.text for t in PASSIVE)]
    assert plain and all(r in blind for r in plain)


def passive_of(relation: Relation, template: Template) -> str:
    """The sentence in which the template states the relation, or one that no text holds."""
    head, tail, type_ = template.facts[0]
    if type_ != relation.type:
        return "\0"
    return template.text.format_map({head: relation.head, tail: relation.tail})


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize("split", SPLITS)
def test_gold_graphs_keep_every_promise(split: Split, level: Level) -> None:
    for record in generate_records(split, 200, seed=7, level=level):
        entities, relations = record.graph.entities, record.graph.relations
        types_by_text = {entity.text: entity.type for entity in entities}
        assert [entity.id for entity in entities] == list(range(len(entities)))
        assert len(types_by_text) == len(entities)
        places = [record.text.index(entity.text) for entity in entities]
        assert places == sorted(places)
        assert set(types_by_text.values()) <= set(record.entity_types)
        assert len(set(relations)) == len(relations)
        for relation in relations:
            assert relation.type in record.relation_types
            ends = types_by_text[relation.head], types_by_text[relation.tail]
            assert ends == RELATION_ENDS[relation.type]
            assert relation.head != relation.tail


def test_a_reasoning_states_every_fact_of_the_graph_plainly_and_changes_nothing_else() -> None:
    plain = generate_records("train", 200, seed=3, overlooked=0.5)
    thinking = generate_records("train", 200, seed=3, overlooked=0.5, thinking=True)
    assert [dataclasses.replace(record, extra={}) for record in thinking] == plain
    for record in thinking:
        facts = [
            f"{fact.head} {'is ' * (fact.type == 'based in')}{fact.type} {fact.tail}."
            for fact in record.graph.relations
        ]
        assert record.extra["thinking"] == (" ".join(facts) or "No further details were given.")


@pytest.mark.untraced
def test_wanted_types_select_the_gold_of_a_known_record() -> None:
    record = next(
        record
        for record in generate_records("train", 2000, seed=0)
        if record.graph.relations and len(record.entity_types) == 2
    )
    unwanted = set(ENTITY_TYPES) - set(record.entity_types)
    mentioned = {n for type_ in ENTITY_TYPES for n in NAMES[type_] if n in record.text}
    wanted_names = {n for type_ in record.entity_types for n in NAMES[type_]}
    assert {entity.text for entity in record.graph.entities} == mentioned & wanted_names
    assert not {entity.type for entity in record.graph.entities} & unwanted


@pytest.mark.untraced
@pytest.mark.parametrize("level", ALL_LEVELS)
def test_a_level_has_records_without_relations_and_without_entities(level: Level) -> None:
    records = generate_records("train", 1000, seed=0, level=level)
    without_relations = sum(not record.graph.relations for record in records)
    without_entities = sum(not record.graph.entities for record in records)
    assert 50 < without_relations < 400
    assert 1 <= without_entities < 100


@pytest.mark.untraced
def test_harder_levels_have_longer_texts() -> None:
    mean_chars = {
        level: sum(len(r.text) for r in generate_records("train", 300, seed=0, level=level)) / 300
        for level in ALL_LEVELS
    }
    assert mean_chars["easy"] < mean_chars["medium"] < mean_chars["hard"]


@pytest.mark.untraced
def test_every_type_and_every_template_is_used() -> None:
    records = generate_records("train", 3000, seed=0, level="hard")
    relations = Counter(r.type for record in records for r in record.graph.relations)
    entities = Counter(e.type for record in records for e in record.graph.entities)
    assert set(relations) == set(RELATION_ENDS)
    assert set(entities) == set(ENTITY_TYPES)
    texts = "\n".join(record.text for record in records)
    for template in ALL_TEMPLATES:
        assert all(phrase in texts for phrase in template.phrases), template.text


def test_an_unknown_split_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"heldout_names.*'test'"):
        generate_records("test", 3, seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="count >= 0"):
        generate_records("train", -1, seed=0)
