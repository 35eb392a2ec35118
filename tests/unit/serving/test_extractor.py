"""The service without a cluster: requests, offsets, answers, HTTP, figures and pages."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from t2g_ray.graph.constrained import graph_grammar
from t2g_ray.model.policy import build_tiny_policy, save_policy
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.rollout.sampler import SamplerStopped
from t2g_ray.rollout.spec import EngineSpec
from t2g_ray.serving.extractor import Extractor, ExtractorSpec, RequestRefused
from tests.unit.serving.parts import GRAPH, FakeEngine, request


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
    extractor: Extractor, engines: list[FakeEngine], caplog: pytest.LogCaptureFixture
) -> None:
    extractor.extract(request())
    engines[0].failure = RuntimeError("out of memory")
    with pytest.raises(SamplerStopped, match="out of memory"):
        extractor.extract(request())
    found = extractor.health(max_age_s=60, timeout_s=10)
    assert not found.healthy
    # Clients read this; what the engine said is in the log, under the id that they are told.
    assert re.fullmatch(
        r"the engine failed; the server's log has the reason under [0-9a-f]{8}", str(found.message)
    )
    assert "out of memory" in caplog.text
    assert str(found.message)[-8:] in caplog.text


def test_clients_are_told_the_name_of_the_model_and_not_where_it_lies(
    extractor: Extractor, model: str
) -> None:
    reply = extractor.extract(request()).model_dump_json()
    assert extractor.extract(request()).model == Path(model).name
    assert model not in reply
    assert str(Path(model).parent) not in reply
