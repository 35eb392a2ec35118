"""The service without a cluster: requests, offsets, answers, HTTP, figures and pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from t2g_ray.graph.constrained import graph_grammar
from t2g_ray.model.policy import build_tiny_policy, save_policy
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.rollout.sampler import SamplerStopped
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.serving.extractor import Extractor, ExtractorSpec, RequestRefused
from t2g_ray.types import Completion, FinishReason, Group, Prompt
from tests.unit.serving.parts import GRAPH, request

# Requests


# Offsets


# Answers


# The extractor, with an engine that writes what it is told


class FakeEngine:
    """Finishes every group at the next step with the same text."""

    text = GRAPH.to_json()
    finish_reason: FinishReason = "stop"
    num_tokens: int | None = None
    failure: Exception | None = None
    gate: threading.Event | None = None

    def __init__(self, spec: EngineSpec) -> None:
        self.spec, self.version, self.num_generated_tokens, self.num_passes = spec, -1, 0, 0
        self.asked: list[tuple[Prompt, Sampling]] = []
        self._open: list[Prompt] = []
        self._tokenizer = build_tokenizer()

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    def add(self, prompt: Prompt, sampling: Sampling) -> None:
        self.asked.append((prompt, sampling))
        self._open.append(prompt)

    def step(self) -> list[Group]:
        if self.gate is not None:
            self.gate.wait(10)
        if self.failure is not None:
            raise self.failure
        ids = self._tokenizer.encode(self.text, add_special_tokens=False)[: self.num_tokens]
        completion = Completion(
            token_ids=np.array(ids, np.int32),
            logprobs=np.zeros(len(ids), np.float32),
            versions=np.full(len(ids), -1, np.int32),
            finish_reason=self.finish_reason,
        )
        done, self._open = self._open, []
        # The last one first: callers must not rely on the order in which groups finish.
        return [
            Group(prompt=prompt, completions=(completion,), sampler=0, generate_s=0.25)
            for prompt in reversed(done)
        ]

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = build_tokenizer()
    save_policy(build_tiny_policy(tokenizer, seed=0), tokenizer, folder)
    settings = '{"style": "compact", "thinking": true, "max_new_tokens": 100}'
    (folder / "t2g.json").write_text(settings, encoding="utf-8")
    return str(folder)


@pytest.fixture
def engines() -> list[FakeEngine]:
    return []


@pytest.fixture
def extractor(model: str, engines: list[FakeEngine]) -> Iterator[Extractor]:
    def start(spec: EngineSpec) -> FakeEngine:
        engines.append(FakeEngine(spec))
        return engines[-1]

    made = Extractor(
        ExtractorSpec(model=model, max_prompt_tokens=60, max_new_tokens=None, num_threads=1),
        start=start,
    )
    yield made
    made.close()


def test_answers_come_in_the_order_of_the_texts(extractor: Extractor) -> None:
    response = extractor.extract(request(text=None, texts=["Chen left.", "Jentek won."]))
    starts = [
        [entity.start for entity in answer.graph.entities]
        for answer in response.answers
        if answer.graph is not None
    ]
    assert starts == [[0, None], [None, 0]]


def test_constrained_requests_carry_a_grammar_of_their_own_types_and_never_think(
    extractor: Extractor, engines: list[FakeEngine]
) -> None:
    extractor.extract(request())
    extractor.extract(request(constrained=False, entity_types=["city"]))
    (closed_prompt, closed), (free_prompt, free) = engines[0].asked
    assert closed.grammar == graph_grammar(["person", "company"], ["works for"])
    assert free.grammar is None
    assert (closed.temperature, closed.max_new_tokens, closed.group_size) == (0.0, 100, 1)
    tokenizer = build_tokenizer()
    assert "<think>" not in tokenizer.decode(list(closed_prompt.token_ids))
    assert closed_prompt.index != free_prompt.index


def test_offsets_are_those_of_the_text_as_sent(extractor: Extractor) -> None:
    [answer] = extractor.extract(request(text="\n  Chen left. ")).answers
    assert answer.graph is not None
    assert (answer.graph.entities[0].start, answer.graph.entities[0].end) == (3, 7)


def test_tokens_and_times_are_reported(extractor: Extractor, engines: list[FakeEngine]) -> None:
    response = extractor.extract(request())
    [answer] = response.answers
    num_written = len(build_tokenizer().encode(GRAPH.to_json(), add_special_tokens=False))
    assert answer.tokens.prompt == len(engines[0].asked[0][0].token_ids)
    assert answer.tokens.generated == num_written
    assert answer.timing_ms.generate == 250.0
    assert response.total_ms > 0


def test_a_prompt_that_does_not_fit_is_refused_by_its_place(
    extractor: Extractor, engines: list[FakeEngine]
) -> None:
    with pytest.raises(RequestRefused, match=r"texts\.1: .* 60 tokens .* found \d+"):
        extractor.extract(request(text=None, texts=["Chen", "Chen " * 80]))
    assert engines[0].asked == []


def test_an_engine_that_gives_up_is_no_answer(
    extractor: Extractor, engines: list[FakeEngine]
) -> None:
    engines[0].finish_reason, engines[0].num_tokens = "length", 0
    with pytest.raises(RuntimeError, match="gave up after 0"):
        extractor.extract(request())


def test_health_asks_for_a_token_and_then_trusts_it_for_a_while(
    extractor: Extractor, engines: list[FakeEngine]
) -> None:
    assert extractor.health(max_age_s=60, timeout_s=10).healthy
    found = extractor.health(max_age_s=60, timeout_s=10)
    assert found.healthy
    assert found.seconds_since_answer is not None
    [(_, sampling)] = engines[0].asked
    assert sampling.max_new_tokens == 1


def test_a_stuck_engine_is_unhealthy_and_probed_once(
    extractor: Extractor, engines: list[FakeEngine]
) -> None:
    engines[0].gate = threading.Event()
    for _ in range(3):
        found = extractor.health(max_age_s=60, timeout_s=0.05)
        assert not found.healthy
        assert found.message == "no token came out within 0.05 s"
    engines[0].gate.set()
    assert extractor.health(max_age_s=60, timeout_s=10).healthy
    assert len(engines[0].asked) == 1


def test_an_engine_that_ended_is_unhealthy_however_fresh_its_last_answer(
    extractor: Extractor, engines: list[FakeEngine]
) -> None:
    extractor.extract(request())
    engines[0].failure = RuntimeError("out of memory")
    with pytest.raises(SamplerStopped, match="out of memory"):
        extractor.extract(request())
    found = extractor.health(max_age_s=60, timeout_s=10)
    assert not found.healthy
    assert "out of memory" in str(found.message)


# HTTP, with a backend that answers what it is told


# Pages
