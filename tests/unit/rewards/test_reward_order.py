"""No trick reaches an honest answer: every preset, several records, with and without thinking.

Where all pairs of entities are related, the reward of a partial answer is the higher one only if
wrong pairs are many: with P pairs and R gold relations, F1 of all pairs is 2R / (R + P) beside
whole entities, and half of the answer has 2/3 + 2/3; so P must be above 5R, as it is here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import pytest

from t2g_ray.algorithm.micro_f1 import f1_values
from t2g_ray.config import RewardSpec
from t2g_ray.config.rewards import PRESETS, Shaping, preset
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.graph.counts import Counts, GraphCounts
from t2g_ray.records.corpus import generate_records
from t2g_ray.rewards.completion import score_completion
from t2g_ray.types import Record

WRITTEN = Record(
    text="Ann Lee and Bob work for Acme in Rome.",
    entity_types=("person", "company", "city"),
    relation_types=("works for", "based in"),
    graph=Graph(
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
    ),
)
FREE_TYPES = Record(
    text="Das M\u00fcnchner Caf\u00e9 \u201e\u00d6l & S\u00f6hne\u201c (gegr. 1890) "
    "geh\u00f6rt {J\u00f6rg} bzw. \\Anna\\.",
    entity_types=("Caf\u00e9", "Ort", "Person", "Jahr"),
    relation_types=("geh\u00f6rt", "liegt in", "gegr\u00fcndet"),
    graph=Graph(
        (
            Entity(4, "\u201e\u00d6l & S\u00f6hne\u201c", "Caf\u00e9"),
            Entity(1, "M\u00fcnchner", "Ort"),
            Entity(7, "{J\u00f6rg}", "Person"),
            Entity(2, "\\Anna\\", "Person"),
            Entity(9, "1890", "Jahr"),
        ),
        (
            Relation("\u201e\u00d6l & S\u00f6hne\u201c", "{J\u00f6rg}", "geh\u00f6rt"),
            Relation("\u201e\u00d6l & S\u00f6hne\u201c", "\\Anna\\", "geh\u00f6rt"),
            Relation("\u201e\u00d6l & S\u00f6hne\u201c", "M\u00fcnchner", "liegt in"),
            Relation("\u201e\u00d6l & S\u00f6hne\u201c", "1890", "gegr\u00fcndet"),
        ),
    ),
)
NO_RELATIONS = Record(
    text="Ann Lee met Bob in Rome and Cyd in Oslo.",
    entity_types=("person", "city"),
    relation_types=("works for",),
    graph=Graph(
        tuple(
            Entity(i, text, type_)
            for i, (text, type_) in enumerate(
                [("Ann Lee", "person"), ("Bob", "person"), ("Rome", "city"), ("Cyd", "person")]
            )
        ),
        (),
    ),
)


def pairs_of(graph: Graph, relation_types: tuple[str, ...]) -> tuple[Relation, ...]:
    texts = dict.fromkeys(entity.text for entity in graph.entities)
    return tuple(
        Relation(head, tail, type_)
        for head in texts
        for tail in texts
        if head != tail
        for type_ in relation_types
    )


def embedded(count: int) -> list[Record]:
    """Records of the embedded world with enough wrong pairs, and relations to be wrong about."""
    rich = (
        record
        for record in generate_records("train", 400, seed=7, level="hard")
        if len(record.graph.relations) >= 2
        and len(pairs_of(record.graph, record.relation_types)) > 5 * len(record.graph.relations)
    )
    return [next(rich) for _ in range(count)]


SPECS = {
    **PRESETS,
    "square root": RewardSpec(PRESETS["default"].weights, Shaping(power=0.5), level="record"),
    "precision": RewardSpec(PRESETS["default"].weights, Shaping(beta=0.5)),
    "penalties": RewardSpec(
        {**PRESETS["default"].weights, "duplicates": 0.5, "overlong": 0.5},
        Shaping(max_new_tokens=1000),
    ),
}
"""The presets, and what the configuration can make of the default."""

RECORDS = [WRITTEN, FREE_TYPES, NO_RELATIONS, *embedded(5)]


def half(graph: Graph) -> Graph:
    """An honest partial answer: the first half of the entities and of the relations."""
    return Graph(
        graph.entities[: math.ceil(len(graph.entities) / 2)],
        graph.relations[: math.ceil(len(graph.relations) / 2)],
    )


def wrong_graph(record: Record) -> Graph:
    """Well formed, wanted types only, and nothing of it is in the text."""
    first, second = "Zzyzx", "Qwghlm"
    return Graph(
        (Entity(0, first, record.entity_types[0]), Entity(1, second, record.entity_types[-1])),
        (Relation(first, second, record.relation_types[0]),),
    )


def tricks(record: Record) -> dict[str, str]:
    gold, partial = record.graph, half(record.graph)
    type_ = record.entity_types[0]
    words = tuple(Entity(i, word, type_) for i, word in enumerate(record.text.split()))
    empty = Graph((), ()).to_json()
    graphs = {
        "the partial answer twice": Graph(partial.entities * 2, partial.relations * 2),
        "triples and entities fifty times": Graph(gold.entities * 50, gold.relations * 50),
        "the text as one entity": Graph((Entity(0, record.text, type_),), ()),
        "every word an entity": Graph(words, ()),
        "valid JSON with a wrong graph": wrong_graph(record),
    }
    if gold.relations:
        pairs = pairs_of(gold, record.relation_types)
        graphs["every pair related"] = Graph(gold.entities, pairs)
        graphs["triples ten times"] = Graph(partial.entities, partial.relations * 10)
    return {
        "an empty graph": empty,
        "the text copied": record.text,
        "the text copied into the reasoning": f"<think>{record.text}</think>",
        "valid JSON of another shape": '{"answer":"Ann Lee"}',
        "nothing": "",
        "tags only": "<think>Ann</think>",
        "empty tags": "<think></think>",
        "tags the wrong way round": "</think><think>",
        "tags and an empty graph": f"<think>Ann</think>{empty}",
        "the answer inside the reasoning": f"<think>{partial.to_json()}</think>",
        **{name: graph.to_json() for name, graph in graphs.items()},
    }


def total(text: str, record: Record, spec: RewardSpec, thinking: bool) -> float:
    return score_completion(text, record, spec, thinking=thinking).total


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("record", RECORDS, ids=[record.text[:20] for record in RECORDS])
def test_every_trick_scores_below_an_honest_partial_answer(
    record: Record, name: str, thinking: bool
) -> None:
    spec = SPECS[name]
    reasoning = "<think>I look for names.</think>" if thinking else ""
    honest = total(reasoning + half(record.graph).to_json(), record, spec, thinking)
    for trick, text in tricks(record).items():
        # With thinking on, a trick does not forgo what the format earns.
        written = text if "think>" in text else reasoning + text
        assert total(written, record, spec, thinking) < honest, trick


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("record", RECORDS, ids=[record.text[:20] for record in RECORDS])
def test_one_right_entity_beats_silence_and_noise(
    record: Record, name: str, thinking: bool
) -> None:
    spec = SPECS[name]
    reasoning = "<think>I look for names.</think>" if thinking else ""
    one = Graph(record.graph.entities[:1], ()).to_json()
    honest = total(reasoning + one, record, spec, thinking)
    for noise in (Graph((), ()).to_json(), wrong_graph(record).to_json(), record.text, ""):
        assert total(reasoning + noise, record, spec, thinking) < honest


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("record", RECORDS, ids=[record.text[:20] for record in RECORDS])
def test_each_further_right_item_earns_more_up_to_the_gold_graph(record: Record, name: str) -> None:
    gold = record.graph
    answers = [Graph(gold.entities[:n], ()) for n in range(1, len(gold.entities) + 1)]
    answers += [Graph(gold.entities, gold.relations[:n]) for n in range(len(gold.relations) + 1)]
    totals = [total(graph.to_json(), record, SPECS[name], False) for graph in answers]
    distinct = list(dict.fromkeys(totals))
    assert distinct == sorted(distinct)
    assert len(distinct) == len(gold.entities) + len(gold.relations)


@pytest.mark.parametrize("name", SPECS)
def test_where_nothing_is_to_find_silence_beats_every_guess(name: str) -> None:
    record = Record(
        text="It rained.",
        entity_types=("person",),
        relation_types=("knows",),
        graph=Graph((), ()),
    )
    silence = total(Graph((), ()).to_json(), record, SPECS[name], False)
    guesses = [
        wrong_graph(record).to_json(),
        Graph((Entity(0, "It", "person"),), ()).to_json(),
        record.text,
        "",
    ]
    assert all(total(guess, record, SPECS[name], False) < silence for guess in guesses)


# All small graphs: how many of the gold entities and relations are right, and how many are wrong.
GOLD_SIZES = [(1, 0), (2, 0), (5, 0), (2, 1), (3, 2), (4, 3)]
LEVELS = (0.05, 0.3, 0.6, 0.95)
"""Micro F1 of the rest of a batch."""
Answered = tuple[int, int, int, int]


def small_record(num_entities: int, num_relations: int) -> Record:
    names = [f"Name{i}" for i in range(num_entities)]
    pairs = [(names[i], names[(i + 1) % num_entities]) for i in range(num_relations)]
    return Record(
        text=" ".join([*names, "Junk0", "Junk1"]),
        entity_types=("person",),
        relation_types=("knows",),
        graph=Graph(
            tuple(Entity(i, name, "person") for i, name in enumerate(names)),
            tuple(Relation(head, tail, "knows") for head, tail in pairs),
        ),
    )


def answer_to(gold: Graph, answered: Answered) -> str:
    """Wrong items obey the request, and are near nothing that is right."""
    right_entities, wrong_entities, right_relations, wrong_relations = answered
    names = [entity.text for entity in gold.entities[:right_entities]]
    names += [f"Junk{i}" for i in range(wrong_entities)]
    entities = tuple(Entity(i, name, "person") for i, name in enumerate(names))
    junk = names[right_entities:]
    wrong = [Relation(head, tail, "knows") for head in junk for tail in junk][:wrong_relations]
    return Graph(entities, (*gold.relations[:right_relations], *wrong)).to_json()


def all_answers(num_entities: int, num_relations: int) -> list[Answered]:
    """All with at most two wrong items of a kind, where wrong relations have wrong ends, but for
    relations without any entity."""
    sizes = range(num_entities + 1), range(3), range(num_relations + 1), range(3)
    return [
        (right, wrong, relations, wrong_relations)
        for right, wrong, relations, wrong_relations in itertools.product(*sizes)
        if wrong_relations <= wrong**2 and (right or wrong or not relations)
    ]


def in_a_batch(text: str, record: Record, spec: RewardSpec, level: float) -> float:
    """The reward beside 100 completions whose micro F1 is `level`."""
    own = score_completion(text, record, spec)
    tp = round(100 * level)
    rest = [Counts(1, 0, 0)] * tp + [Counts(0, 1, 1)] * (100 - tp)
    counts = [GraphCounts(Counts(*own.entities), Counts(*own.relations))]
    counts += [GraphCounts(one, one) for one in rest]
    values = f1_values(
        spec, counts, [own.near, *[(0.0, 0.0)] * 100], [own.tag == "score", *[True] * 100]
    )
    return spec.without_f1(own.parts) + sum(spec.weights[n] * v[0] for n, v in values.items())


def rewards_of(
    record: Record, answers: Sequence[Answered], spec: RewardSpec
) -> Iterator[dict[Answered, float]]:
    """At the level of the record, and in batches of several levels."""
    texts = {answered: answer_to(record.graph, answered) for answered in answers}
    yield {answered: total(text, record, spec, False) for answered, text in texts.items()}
    for level in LEVELS:
        yield {answered: in_a_batch(text, record, spec, level) for answered, text in texts.items()}


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("sizes", GOLD_SIZES)
def test_more_that_is_right_and_less_that_is_wrong_always_earns_more(
    sizes: tuple[int, int], name: str
) -> None:
    """One further right item, or one wrong one less, among all answers of a small graph but the
    empty one, which has no part in the tie-breakers."""
    record = small_record(*sizes)
    answers = all_answers(*sizes)
    for rewards in rewards_of(record, answers, preset(name)):
        for answered in answers:
            for place, step in ((0, 1), (1, -1), (2, 1), (3, -1)):
                better = list(answered)
                better[place] += step
                other = rewards.get(tuple(better))  # type: ignore[call-overload]
                if other is not None and sum(answered) and sum(better):
                    assert other > rewards[answered] - 1e-9, (answered, better)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("sizes", GOLD_SIZES)
def test_junk_and_silence_earn_less_than_every_answer_that_is_half_right(
    sizes: tuple[int, int], name: str
) -> None:
    record = small_record(*sizes)
    answers = all_answers(*sizes)
    for rewards in rewards_of(record, answers, preset(name)):
        worthless = max(r for a, r in rewards.items() if not a[0] and not a[2])
        half_right = {
            a: r
            for a, r in rewards.items()
            if a[0] + a[2] >= sum(sizes) / 2 and a[1] + a[3] <= (a[0] + a[2]) / 2
        }
        assert half_right
        assert worthless < min(half_right.values()), min(half_right, key=half_right.__getitem__)
