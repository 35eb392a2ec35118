"""Requests of any kind: each is answered rightly, or refused with its place and reason.

The engine is made up; reading, checking, prompting and answering are those of the server.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from t2g_ray.model.policy import build_tiny_policy, save_policy
from t2g_ray.prompts.messages import build_messages
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.serving.api import build_app
from t2g_ray.serving.extractor import Extractor, ExtractorSpec
from t2g_ray.serving.schema import (
    MAX_TEXT_CHARS,
    MAX_TEXTS,
    MAX_TYPE_CHARS,
    MAX_TYPES,
    ExtractRequest,
    ExtractResponse,
    Health,
)
from tests.unit.serving.parts import GRAPH, FakeEngine

TOKENIZER = build_tokenizer()
JSON = {"content-type": "application/json"}
KEYS = {"text", "texts", "entity_types", "relation_types", "thinking", "constrained"}


class EngineBackend:
    """The server without Ray: the extractor answers in this process."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor

    async def extract(self, request: ExtractRequest) -> ExtractResponse:
        return await asyncio.to_thread(self._extractor.extract, request)

    async def health(self) -> Health:
        return Health(healthy=True, seconds_since_answer=0.0)


class Service:
    """A client, and the engine whose prompts it can look at."""

    def __init__(self, model: str) -> None:
        self.engines: list[FakeEngine] = []
        spec = ExtractorSpec(model=model, max_prompt_tokens=600, max_new_tokens=40, num_threads=1)
        self.extractor = Extractor(spec, start=self._start)
        self.client = TestClient(
            build_app(EngineBackend(self.extractor)), raise_server_exceptions=False
        )

    def _start(self, spec: Any) -> FakeEngine:
        self.engines.append(FakeEngine(spec))
        return self.engines[-1]

    def post(self, content: bytes) -> tuple[int, dict[str, Any], list[str]]:
        """Status, answer, and the prompts that the engine got, as text."""
        asked = self.engines[0].asked
        asked.clear()
        reply = self.client.post("/extract", content=content, headers=JSON)
        prompts = [TOKENIZER.decode(list(prompt.token_ids)) for prompt, _ in asked]
        return reply.status_code, reply.json(), prompts


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("served")
    save_policy(build_tiny_policy(TOKENIZER, seed=0), TOKENIZER, folder)
    (folder / "t2g.json").write_text('{"style": "compact", "thinking": false}', encoding="utf-8")
    made = Service(str(folder))
    yield made
    made.extractor.close()


ODD = st.sampled_from(
    [
        *("", " ", "\n", "\x00", "a\x00b", "\ud800", "\u202e", "\u2028", "\ufeff", "e\u0301", "C#"),
        *("<|end|>", "<|system|>", "a<|assistant|>b", "a, b", "a|b", '"', "\\", "{}", "none"),
        *("x" * 64, "x" * 65, "x" * 3000, "x" * MAX_TEXT_CHARS, "x" * (MAX_TEXT_CHARS + 1)),
        *("Chen works for Jentek.", "\u5317\u4eac", "\U0001f600"),
    ]
)
NO_STRING = st.sampled_from([None, True, 0, 1.5, [], {}, ["a"], {"a": "b"}, 10**400])
STRING = st.one_of(ODD, st.text(max_size=12))
VALUE = st.one_of(STRING, STRING, NO_STRING)
NAMES = st.one_of(
    st.lists(STRING, max_size=4),
    st.lists(VALUE, max_size=3),
    st.sampled_from(
        [["a", "a"], [str(n) for n in range(64)], [str(n) for n in range(65)], "person", None, {}]
    ),
)
FLAG = st.sampled_from([True, False, None, 0, 1, "no", "true", []])
BODY = st.fixed_dictionaries(
    {},
    optional={
        "text": VALUE,
        "texts": st.one_of(st.lists(VALUE, max_size=3), st.just(["a"] * (MAX_TEXTS + 1)), VALUE),
        "entity_types": NAMES,
        "relation_types": NAMES,
        "thinking": FLAG,
        "constrained": FLAG,
        "colour": VALUE,
    },
)
VISIBLE = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)
NAME = st.one_of(
    VISIBLE, st.sampled_from(["a, b", "a|b", '"', "\\", "none", "<|end|>", "e\u0301", "works for"])
)
TEXT = st.one_of(
    st.text(min_size=1, max_size=30),
    VISIBLE,
    st.sampled_from(["Chen works for Jentek.", "<|end|>"]),
)
GOOD = st.fixed_dictionaries(
    {
        "texts": st.lists(TEXT, min_size=1, max_size=3),
        "entity_types": st.lists(NAME, min_size=1, max_size=3, unique=True),
    },
    optional={
        "relation_types": st.lists(NAME, max_size=3, unique=True),
        "constrained": st.booleans(),
        "thinking": st.sampled_from([None, False]),
    },
).map(lambda body: {**body, "text": body.pop("texts")[0]} if len(body["texts"]) == 1 else body)


def is_text(value: object) -> bool:
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_TEXT_CHARS:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


def are_types(value: object, least: int) -> bool:
    return (
        isinstance(value, list)
        and least <= len(value) <= MAX_TYPES
        and all(
            isinstance(name, str)
            and 0 < len(name) <= MAX_TYPE_CHARS
            and name == name.strip()
            and name.isprintable()
            for name in value
        )
        and len(set(value)) == len(value)
    )


def is_right(body: dict[str, Any]) -> bool:
    """Whether docs/serving.md lets a request pass, written down a second time."""
    text, texts = body.get("text"), body.get("texts")
    constrained = body.get("constrained", True)
    return (
        body.keys() <= KEYS
        and (text is None) != (texts is None)
        and (text is None or is_text(text))
        and (
            texts is None
            or (
                isinstance(texts, list) and 0 < len(texts) <= MAX_TEXTS and all(map(is_text, texts))
            )
        )
        and are_types(body.get("entity_types"), 1)
        and are_types(body.get("relation_types", []), 0)
        and (body.get("thinking") is None or isinstance(body["thinking"], bool))
        and isinstance(constrained, bool)
        and not (body.get("thinking") and constrained)
    )


def check(service: Service, body: dict[str, Any]) -> None:
    status, answer, prompts = service.post(json.dumps(body).encode())
    if status == 200:
        assert is_right(body), body
        texts = [body["text"]] if body.get("text") is not None else body["texts"]
        assert len(answer["answers"]) == len(texts)
        wanted = []
        for text, one in zip(texts, answer["answers"], strict=True):
            assert [entity["text"] for entity in one["graph"]["entities"]] == [
                entity.text for entity in GRAPH.entities
            ]
            for entity in one["graph"]["entities"]:
                for span in entity["spans"]:
                    assert text[span["start"] : span["end"]] == entity["text"]
            [message] = build_messages(
                text.strip(),
                body["entity_types"],
                body.get("relation_types", []),
                style="compact",
                thinking=False,
            )
            wanted.append(f"<|user|>{message['content']}<|assistant|>")
        # The engine read what the client wrote, character by character, in no other order.
        assert sorted(prompts) == sorted(wanted)
    else:
        assert (status, prompts) == (422, [])
        faults = answer["error"]["faults"]
        assert faults
        assert all(fault["field"] and fault["message"] for fault in faults)
        if is_right(body):
            assert all("must fit in" in fault["message"] for fault in faults), faults


QUICK = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=150, **QUICK)
@given(body=st.one_of(BODY, GOOD))
def test_a_request_is_answered_rightly_or_refused_with_place_and_reason(
    service: Service, body: dict[str, Any]
) -> None:
    check(service, body)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, **QUICK)
@given(body=st.one_of(BODY, GOOD))
def test_twenty_thousand_requests_are_answered_rightly_or_refused(
    service: Service, body: dict[str, Any]
) -> None:
    check(service, body)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"text": "a", "text": "b", "entity_types": ["c"]}', "found 'text' twice"),
        (b'{"text": "a", "entity_types": ["c"], "entity_types": ["d"]}', "'entity_types' twice"),
        (b'{"text": NaN, "entity_types": ["c"]}', "must be finite, found NaN"),
        (b'{"text": "a", "entity_types": [-Infinity]}', "must be finite, found -Infinity"),
        (b"[" * 200_000, "nest too deep"),
        (b'{"text": "\xff", "entity_types": ["c"]}', "can't decode byte 0xff"),
        ('{"text": "a"}'.encode("utf-16"), "can't decode byte"),
        (b'{"text": "a"', "the body must be JSON"),
        (b"", "Field required"),
    ],
)
def test_a_body_that_is_no_single_json_is_refused_with_the_reason(
    service: Service, content: bytes, told: str
) -> None:
    status, answer, prompts = service.post(content)
    assert (status, prompts) == (422, [])
    [fault] = answer["error"]["faults"]
    assert fault["field"] == "body"
    assert told in fault["message"]


def test_a_body_of_many_keys_is_refused_in_no_time(service: Service) -> None:
    keys = ",".join(f'"{number}":0' for number in range(200_000))
    started = time.process_time()
    status, answer, _ = service.post(f'{{{keys},"199999":0}}'.encode())
    assert time.process_time() - started < 5.0
    assert (status, "'199999' twice" in str(answer)) == (422, True)
