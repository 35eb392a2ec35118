"""Greedy answers in the order of the records, with an engine that finishes out of order."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from t2g_ray.config import PromptConfig
from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.graph.constrained import close_graph, graph_grammar
from t2g_ray.graph.parsing import Parsed, parse_completion
from t2g_ray.prompts.messages import encode_answer
from t2g_ray.records.corpus import build_tokenizer, generate_records
from t2g_ray.rollout.greedy import generate_texts
from t2g_ray.rollout.spec import Sampling
from t2g_ray.types import Completion, Group, Prompt, Record

TOKENIZER = build_tokenizer()
COMPACT = PromptConfig(style="compact")


@dataclass
class Spec:
    max_model_len: int


@dataclass
class LastFirstEngine:
    """Answers each prompt with its gold graph, cut at the limit, the last prompt first."""

    spec: Spec
    records: Sequence[Record] = tuple(generate_records("heldout", 5, seed=0))
    asked: list[tuple[Prompt, Sampling]] = field(default_factory=list)
    open: list[tuple[Prompt, Sampling]] = field(default_factory=list)

    @property
    def is_busy(self) -> bool:
        return bool(self.open)

    def add(self, prompt: Prompt, sampling: Sampling) -> None:
        self.asked.append((prompt, sampling))
        self.open.append((prompt, sampling))

    def step(self) -> list[Group]:
        prompt, sampling = self.open.pop()
        ids = encode_answer(TOKENIZER, self.records[prompt.index].graph)
        token_ids = np.asarray(ids[: sampling.max_new_tokens], dtype=np.int32)
        completion = Completion(
            token_ids=token_ids,
            logprobs=np.zeros(len(token_ids), dtype=np.float32),
            versions=np.zeros_like(token_ids),
            finish_reason="stop" if len(token_ids) == len(ids) else "length",
        )
        return [Group(prompt=prompt, completions=(completion,), sampler=0, generate_s=0.0)]


def generate(engine: LastFirstEngine, max_new_tokens: int, **options: Any) -> Any:
    records = generate_records("heldout", 5, seed=0)
    return records, generate_texts(
        engine,  # type: ignore[arg-type]
        TOKENIZER,
        records,
        COMPACT,
        max_new_tokens,
        **options,
    )


def test_texts_stand_in_the_order_of_the_records() -> None:
    records, generated = generate(LastFirstEngine(Spec(1000)), 300)
    assert list(generated.texts) == [record.graph.to_json() for record in records]
    assert generated.lengths == tuple(len(encode_answer(TOKENIZER, r.graph)) for r in records)
    assert (generated.num_too_long, generated.num_cut) == (0, 0)


def test_sampling_is_greedy_and_each_record_has_the_grammar_of_its_types() -> None:
    engine = LastFirstEngine(Spec(1000))
    records, _ = generate(engine, 300, is_constrained=True)
    for record, (_, sampling) in zip(records, engine.asked, strict=True):
        assert (sampling.group_size, sampling.temperature) == (1, 0.0)
        assert sampling.grammar == graph_grammar(record.entity_types, record.relation_types)


def test_a_prompt_that_does_not_fit_is_an_empty_answer_and_counted() -> None:
    full = LastFirstEngine(Spec(1000))
    generate(full, 300)
    sizes = sorted(len(prompt.token_ids) for prompt, _ in full.asked)
    assert sizes[-2] < sizes[-1]
    engine = LastFirstEngine(Spec(sizes[-2] + 300))  # the longest prompt has no room
    records, generated = generate(engine, 300)
    assert generated.num_too_long == 1
    assert len(generated.texts) == len(records)
    assert [len(text) == 0 for text in generated.texts] == [n == 0 for n in generated.lengths]
    assert list(generated.texts).count("") == 1


def test_cut_answers_are_counted_and_under_constraint_keep_their_whole_items() -> None:
    _, free = generate(LastFirstEngine(Spec(1000)), 6)
    assert free.num_cut > 0
    assert not all(isinstance(parse_completion(text), Parsed) for text in free.texts)
    _, held = generate(LastFirstEngine(Spec(1000)), 6, is_constrained=True)
    assert all(isinstance(parse_completion(text), Parsed) for text in held.texts)
    assert free.num_closed == 0
    assert held.num_closed == held.num_cut > 0


def test_a_graph_cut_anywhere_keeps_exactly_its_whole_items() -> None:
    graph = Graph(
        (Entity(0, 'A "}],', "person"), Entity(1, "B{}", "company")),
        (Relation('A "}],', "B{}", "works for"), Relation("B{}", "B{}", "owns")),
    )
    text = graph.to_json()
    ends = [text.index(item) + len(item) for item in ('"person"}', '"company"}')]
    ends += [text.index(item) + len(item) for item in ('"works for"}', '"owns"}')]
    for length in range(len(text) + 1):
        closed = parse_completion(close_graph(text[:length]))
        assert isinstance(closed, Parsed)
        num_whole = sum(end <= length for end in ends)
        assert closed.graph.entities == graph.entities[: min(2, num_whole)]
        assert closed.graph.relations == graph.relations[: max(0, num_whole - 2)]
