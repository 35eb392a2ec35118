"""The service without a cluster: requests, offsets, answers, HTTP, figures and pages."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.testclient import TestClient

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.model.policy import build_tiny_policy, save_policy
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.rollout.sampler import SamplerStopped
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.serving.answer import to_answer
from t2g_ray.serving.api import MAX_FAULTS, Unavailable, build_app
from t2g_ray.serving.extractor import Extractor, ExtractorSpec, RequestRefused
from t2g_ray.serving.offsets import MAX_SPANS, find_spans
from t2g_ray.serving.schema import (
    MAX_BODY_BYTES,
    MAX_TEXT_CHARS,
    MAX_TEXTS,
    MAX_TYPE_CHARS,
    MAX_TYPES,
    ExtractedAnswer,
    ExtractRequest,
    ExtractResponse,
    Health,
    TextSpan,
    Timing,
    Tokens,
)
from t2g_ray.types import Completion, FinishReason, Group, Prompt

TEXT = "Chen works for Jentek."
BODY = {"text": TEXT, "entity_types": ["person", "company"], "relation_types": ["works for"]}
GRAPH = Graph(
    (Entity(0, "Chen", "person"), Entity(1, "Jentek", "company")),
    (Relation("Chen", "Jentek", "works for"),),
)


def request(**changes: Any) -> ExtractRequest:
    return ExtractRequest.model_validate({**BODY, **changes})


def answered(completion: str, *, text: str = TEXT, is_constrained: bool = True) -> ExtractedAnswer:
    return to_answer(
        text,
        completion,
        is_constrained=is_constrained,
        thinking=False,
        tokens=Tokens(prompt=5, generated=7),
        timing=Timing(queue=1.0, generate=2.0),
    )


# Requests


def test_a_request_takes_one_text_or_several() -> None:
    assert request().all_texts == [TEXT]
    assert request(text=None, texts=["a", "b"]).all_texts == ["a", "b"]


def test_a_request_is_constrained_and_needs_no_relation_types() -> None:
    small = ExtractRequest.model_validate({"text": "a", "entity_types": ["b"]})
    assert (small.constrained, small.relation_types, small.thinking) == (True, [], None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": None}, "found neither"),
        ({"texts": ["a"]}, "found both"),
        ({"text": " \n"}, "more than blanks"),
        ({"text": "a" * (MAX_TEXT_CHARS + 1)}, "at most 20000 characters"),
        ({"text": None, "texts": ["a"] * (MAX_TEXTS + 1)}, "at most 32 items"),
        ({"text": None, "texts": []}, "at least 1 item"),
        ({"text": "\ud800"}, "valid string"),
        ({"entity_types": []}, "at least 1 item"),
        ({"entity_types": ["a", "a"]}, "named once"),
        ({"entity_types": ["a\nb"]}, "printable"),
        ({"entity_types": [" a"]}, "without blanks"),
        ({"entity_types": [""]}, "at least 1 character"),
        ({"entity_types": ["a" * (MAX_TYPE_CHARS + 1)]}, "at most 64 characters"),
        ({"entity_types": "person"}, "valid list"),
        ({"relation_types": [f"r{i}" for i in range(MAX_TYPES + 1)]}, "at most 64 items"),
        ({"thinking": True}, "no room for reasoning"),
        ({"temperature": 1}, "not permitted"),
    ],
)
def test_what_a_request_must_hold_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(told)):
        request(**changes)


def test_a_free_answer_may_think() -> None:
    assert request(thinking=True, constrained=False).thinking is True


# Offsets


def test_all_places_of_a_mention_are_found_from_left_to_right() -> None:
    assert find_spans("Ann met Ann.", "Ann") == [
        TextSpan(start=0, end=3),
        TextSpan(start=8, end=11),
    ]


def test_a_whole_word_is_preferred_to_a_part_of_one() -> None:
    assert find_spans("Anna met Ann.", "Ann") == [TextSpan(start=9, end=12)]
    assert find_spans("Annas car", "Ann") == [TextSpan(start=0, end=3)]
    assert find_spans("C++11 and C++", "C++") == [
        TextSpan(start=0, end=3),
        TextSpan(start=10, end=13),
    ]


def test_what_does_not_occur_has_no_place() -> None:
    assert find_spans("Ann", "ann") == find_spans("Ann", "") == find_spans("", "Ann") == []


def test_offsets_count_code_points() -> None:
    assert find_spans("\U0001f600 Zoe\u0301 lives", "lives") == [TextSpan(start=7, end=12)]


def test_the_number_of_places_is_bounded() -> None:
    assert len(find_spans("a " * 1000, "a")) == len(find_spans("ab" * 1000, "a")) == MAX_SPANS


@given(st.text("ab \u00e9", max_size=40), st.text("ab \u00e9", min_size=1, max_size=3))
def test_every_place_holds_the_mention_and_none_overlap(text: str, mention: str) -> None:
    spans = find_spans(text, mention)
    assert bool(spans) == (mention in text)
    assert all(text[span.start : span.end] == mention for span in spans)
    assert all(left.end <= right.start for left, right in pairwise(spans))


# Answers


def test_a_graph_is_answered_with_the_places_of_its_entities() -> None:
    answer = answered(GRAPH.to_json())
    assert (answer.parse, answer.message) == ("ok", None)
    assert answer.graph is not None
    chen, jentek = answer.graph.entities
    assert (chen.id, chen.text, chen.type, chen.start, chen.end) == (0, "Chen", "person", 0, 4)
    assert jentek.spans == [TextSpan(start=15, end=21)]
    [relation] = answer.graph.relations
    assert (relation.head, relation.tail, relation.type) == ("Chen", "Jentek", "works for")


def test_an_entity_that_stands_nowhere_has_no_offsets() -> None:
    answer = answered(GRAPH.to_json(), text="Nobody.")
    assert answer.graph is not None
    assert [(e.start, e.end, e.spans) for e in answer.graph.entities] == [(None, None, [])] * 2


@pytest.mark.parametrize(
    ("num_chars", "num_entities", "num_relations"),
    [(0, 0, 0), (50, 0, 0), (51, 1, 0), (92, 1, 0), (93, 2, 0), (-3, 2, 0), (-2, 2, 1)],
)
def test_a_constrained_answer_that_was_cut_keeps_its_whole_items(
    num_chars: int, num_entities: int, num_relations: int
) -> None:
    answer = answered(GRAPH.to_json()[:num_chars])
    assert answer.parse == "cut"
    assert answer.message is not None
    assert answer.graph is not None
    assert (len(answer.graph.entities), len(answer.graph.relations)) == (
        num_entities,
        num_relations,
    )


def test_a_free_answer_without_a_graph_names_the_failure() -> None:
    answer = answered("I do not know.", is_constrained=False)
    assert (answer.graph, answer.parse) == (None, "no_json")
    assert answered(GRAPH.to_json()[:40], is_constrained=False).parse == "truncated"


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


def test_constrained_requests_carry_a_schema_of_their_own_types_and_never_think(
    extractor: Extractor, engines: list[FakeEngine]
) -> None:
    extractor.extract(request())
    extractor.extract(request(constrained=False, entity_types=["city"]))
    (closed_prompt, closed), (free_prompt, free) = engines[0].asked
    assert closed.json_schema is not None
    item = closed.json_schema["properties"]["entities"]["items"]
    assert item["properties"]["type"]["enum"] == ["person", "company"]
    assert free.json_schema is None
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


class FakeBackend:
    """Answers every text with the same graph, or raises."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.health_now = Health(healthy=True, seconds_since_answer=1.0)

    async def extract(self, request: ExtractRequest) -> ExtractResponse:
        if self.failure is not None:
            raise self.failure
        answers = [answered(GRAPH.to_json(), text=text) for text in request.all_texts]
        return ExtractResponse(model="m", answers=answers, total_ms=1.0)

    async def health(self) -> Health:
        return self.health_now


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def client(backend: FakeBackend) -> TestClient:
    return TestClient(build_app(backend), raise_server_exceptions=False)


def test_extract_answers_in_json(client: TestClient) -> None:
    reply = client.post("/extract", json=BODY)
    assert reply.status_code == 200
    assert reply.headers["x-content-type-options"] == "nosniff"
    [answer] = reply.json()["answers"]
    assert answer["graph"]["entities"][0] == {
        "id": 0,
        "text": "Chen",
        "type": "person",
        "start": 0,
        "end": 4,
        "spans": [{"start": 0, "end": 4}],
    }
    assert answer["tokens"] == {"prompt": 5, "generated": 7}


def test_faults_of_a_request_are_named_by_their_place(client: TestClient) -> None:
    reply = client.post("/extract", json={**BODY, "entity_types": ["a\x00"], "colour": 1})
    assert reply.status_code == 422
    faults = {fault["field"]: fault["message"] for fault in reply.json()["error"]["faults"]}
    assert faults == {
        "entity_types": "a type must be printable and without blanks at its ends, found 'a\\x00'",
        "colour": "Extra inputs are not permitted",
    }


@pytest.mark.parametrize(
    "content", [b"{", b"\xff", b"[]", b"null", b'{"text": NaN}', b'{"\\ud800": "\\udfff"}', b""]
)
def test_whatever_is_sent_gets_an_error_in_json(client: TestClient, content: bytes) -> None:
    reply = client.post("/extract", content=content, headers={"content-type": "application/json"})
    assert reply.status_code in (400, 422)
    assert reply.json()["error"]["status"] == reply.status_code


def test_a_thousand_faults_make_a_short_error(client: TestClient) -> None:
    reply = client.post("/extract", json={**BODY, **{"k" * 300 + str(i): 1 for i in range(1000)}})
    assert len(reply.json()["error"]["faults"]) == MAX_FAULTS
    assert len(reply.content) < 20_000


def test_a_body_beyond_the_limit_is_refused_with_and_without_a_declared_length(
    client: TestClient,
) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 1):
            yield b" " * 65536

    kind = {"content-type": "application/json"}
    for content in (b" " * (MAX_BODY_BYTES + 1), chunks()):
        reply = client.post("/extract", content=content, headers=kind)
        assert reply.status_code == 413
        assert f"at most {MAX_BODY_BYTES} bytes" in reply.json()["error"]["message"]


def test_a_form_of_another_site_cannot_ask(client: TestClient) -> None:
    # Browsers send this type across sites without asking the server first.
    reply = client.post("/extract", content=b"{}", headers={"content-type": "text/plain"})
    assert reply.status_code == 422


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (RequestRefused("text", "too long"), 422),
        (Unavailable("too many requests wait"), 503),
        (RuntimeError("secret"), 500),
    ],
)
def test_failures_of_the_backend_have_a_status(
    client: TestClient, backend: FakeBackend, failure: Exception, status: int
) -> None:
    backend.failure = failure
    reply = client.post("/extract", json=BODY)
    assert reply.status_code == reply.json()["error"]["status"] == status
    assert "secret" not in reply.text


def test_unknown_paths_and_methods_get_errors_in_json(client: TestClient) -> None:
    assert client.get("/nothing").json()["error"]["status"] == 404
    assert client.get("/extract").json()["error"]["status"] == 405


def test_health_is_what_the_backend_says(client: TestClient, backend: FakeBackend) -> None:
    assert client.get("/health").status_code == 200
    backend.health_now = Health(healthy=False, seconds_since_answer=None, message="stuck")
    reply = client.get("/health")
    assert (reply.status_code, reply.json()["message"]) == (503, "stuck")


def test_figures_count_requests_texts_tokens_and_errors(
    client: TestClient, backend: FakeBackend
) -> None:
    client.post("/extract", json={**BODY, "text": None, "texts": ["a", "b"]})
    client.post("/extract", json={})
    backend.failure = Unavailable("later")
    client.post("/extract", json=BODY)
    client.get("/health")
    reply = client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    values = dict(line.rsplit(" ", 1) for line in reply.text.splitlines() if line[0] != "#")
    assert values['t2g_requests_total{status="200"}'] == "1.0"
    assert values['t2g_requests_total{status="422"}'] == "1.0"
    assert values['t2g_requests_total{status="503"}'] == "1.0"
    assert values["t2g_errors_total"] == "2.0"
    assert values["t2g_request_seconds_count"] == "3.0"
    assert values["t2g_requests_in_flight"] == "0.0"
    assert values['t2g_answers_total{parse="ok"}'] == "2.0"
    assert values['t2g_tokens_total{kind="prompt"}'] == "10.0"
    assert values['t2g_tokens_total{kind="generated"}'] == "14.0"


# Pages


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_name_no_other_host_and_run_only_their_own_code(
    client: TestClient, path: str
) -> None:
    reply = client.get(path)
    assert reply.status_code == 200
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == len(re.findall(r"<script>|<style>", reply.text)) == 2
    hosts = set(re.findall(r"https?://[^\s\"'<>]+", reply.text))
    assert hosts <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\son\w+=|\sstyle=|<script \w|<link rel=.stylesheet", reply.text)


def test_every_field_of_the_page_has_a_label(client: TestClient) -> None:
    html = client.get("/").text
    labelled = set(re.findall(r'<label for="([\w-]+)"', html))
    fields = set(re.findall(r'<(?:textarea|input type="text") id="([\w-]+)"', html))
    assert fields == labelled == {"text", "entity-types", "relation-types"}


def test_the_api_document_names_the_error_body_and_no_model_of_the_framework(
    client: TestClient,
) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/extract", "/health", "/metrics"}
    assert "ErrorResponse" in document["components"]["schemas"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
