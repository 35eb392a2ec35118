"""An OpenAI-compatible endpoint as the teacher, against a small server on this machine."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest

from t2g_ray.data.generate.config import TeacherConfig
from t2g_ray.data.generate.stages import TeacherRequest, TeacherStage
from t2g_ray.data.generate.teachers import endpoint
from t2g_ray.data.generate.teachers.endpoint import EndpointTeacher, check_endpoint
from t2g_ray.data.generate.teachers.start import check_teacher, start_teacher
from t2g_ray.data.generate.teachers.teacher import TeacherOutcome, TeacherUnavailable
from t2g_ray.graph.constrained import graph_json_schema
from t2g_ray.records.corpus import generate_records

Reply = tuple[int, Any] | Callable[["_Handler"], object]
RECORDS = generate_records("train", 3, seed=0)
REQUESTS = [
    request
    for number, record in enumerate(RECORDS)
    for request in TeacherStage(name="graph", samples=2, seed=0).requests(number, record)
]


class Server:
    """Answers every POST by `reply`, and remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.models: Reply = (200, {"object": "list", "data": []})
        self.reply: Callable[[dict[str, Any]], Reply] = lambda body: (200, completion("{}"))
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Server

    def do_GET(self) -> None:
        self._reply(self.owner.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.owner.asked.append(body)
        self.owner.keys.add(self.headers["Authorization"])
        self._reply(self.owner.reply(body))

    def _reply(self, reply: Reply) -> None:
        if callable(reply):
            reply(self)
        else:
            self._send(*reply)

    def _send(self, status: int, value: Any, **headers: str) -> None:
        self.send_bytes(status, json.dumps(value).encode(), "application/json", headers)

    def send_bytes(
        self, status: int, data: bytes, kind: str, headers: Mapping[str, str], *, more: int = 0
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) + more))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def completion(text: str, finish_reason: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.01)


def config(server: Server, **more: Any) -> TeacherConfig:
    return TeacherConfig(model="big", base_url=server.url, max_new_tokens=99, **more)


def test_answers_come_in_the_order_of_the_requests_with_schema_seed_and_key(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    graphs = {record.text: record.graph.to_json() for record in RECORDS}

    def reply(body: dict[str, Any]) -> Reply:
        return 200, completion(graphs[body["messages"][-1]["content"].partition("Text:\n")[2]])

    server.reply = reply
    settings = config(server, api_key_env="MY_KEY", temperature=0.5, top_p=0.8)
    check_teacher(settings)
    teacher = start_teacher(settings)
    assert isinstance(teacher, EndpointTeacher)
    outcomes = teacher.answer(REQUESTS)
    assert [(o.number, o.sample, o.text) for o in outcomes] == [
        (number, sample, record.graph.to_json())
        for number, record in enumerate(RECORDS)
        for sample in (0, 1)
    ]
    assert server.keys == {"Bearer secret"}
    first = next(body for body in server.asked if body["seed"] == REQUESTS[0].seed)
    assert (first["model"], first["max_tokens"]) == ("big", 99)
    assert (first["temperature"], first["top_p"]) == (0.5, 0.8)
    assert first["response_format"]["json_schema"]["schema"] == graph_json_schema(
        RECORDS[0].entity_types, RECORDS[0].relation_types
    )


def test_a_refused_request_fails_alone_and_a_cut_answer_is_marked(server: Server) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if body["seed"] == REQUESTS[2].seed:
            return 400, {"error": {"message": "too many tokens"}}
        return 200, completion("{", "length" if body["seed"] == REQUESTS[3].seed else "stop")

    server.reply = reply
    outcomes = EndpointTeacher(config(server)).answer(REQUESTS)
    assert [outcome.reason for outcome in outcomes] == ["", "", "teacher_refused", "", "", ""]
    assert "too many tokens" in outcomes[2].message
    assert [outcome.is_cut for outcome in outcomes] == [False, False, False, True, False, False]


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "put the key into the environment variable OPENAI_API_KEY"),
        (404, "check that it knows the model big"),
        (503, "check the address, and that the server runs"),
    ],
)
def test_an_endpoint_that_answers_nothing_fails_the_batch_and_no_request(
    server: Server, status: int, advice: str
) -> None:
    server.reply = lambda body: (status, {"error": {"message": "no"}})
    with pytest.raises(TeacherUnavailable, match=advice):
        EndpointTeacher(config(server)).answer(REQUESTS)


def body_of(status: int, data: bytes, kind: str, **headers: str) -> Reply:
    return lambda handler: handler.send_bytes(status, data, kind, headers)


def truncated(handler: _Handler) -> None:
    data = json.dumps(completion("{}")).encode()
    handler.send_bytes(200, data[:-9], "application/json", {}, more=9)
    handler.close_connection = True


def hang_up(handler: _Handler) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def drip(handler: _Handler) -> None:
    """A byte in every tenth of a second: no pause is long."""
    with suppress(OSError):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)


def drip_headers(handler: _Handler) -> None:
    with suppress(OSError):
        for _ in range(100):
            handler.wfile.write(b"H")
            handler.wfile.flush()
            time.sleep(0.1)


def without_choices(**more: Any) -> Reply:
    return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", **more}


ODD: dict[str, Reply] = {
    "a page": body_of(200, b"<html>Bad gateway</html>", "text/html"),
    "a page that calls itself JSON": body_of(200, b"<html>no</html>", "application/json"),
    "half a body": truncated,
    "half a body of the announced length": body_of(
        200, json.dumps(completion("{}")).encode()[:-9], "application/json"
    ),
    "an empty body": body_of(200, b"", "application/json"),
    "an error object": without_choices(error={"message": "overloaded", "code": 502}),
    "an error and no more": (200, {"error": {"message": "overloaded"}}),
    "no choices": without_choices(choices=[]),
    "choices of null": without_choices(choices=None),
    "a choice of another kind": without_choices(choices=["{}"]),
    "no message": without_choices(choices=[{"index": 0, "finish_reason": "stop"}]),
    "no content": (200, completion(None)),  # type: ignore[arg-type]
    "a text that was given up": (200, completion('{"ent', "abort")),
    "an error inside the choice": (200, completion("", "error")),
    "a lone surrogate": (200, completion("\ud800")),
    "a list": (200, [1]),
    "a number": (200, 1),
    "a broken encoding": body_of(200, b"\x1f", "application/json", **{"Content-Encoding": "gzip"}),
    "too many requests": (429, {"error": {"message": "slow down"}}),
    "a wait in seconds": body_of(429, b"{}", "application/json", **{"Retry-After": "0.1"}),
    "a wait of a date": body_of(
        503, b"{}", "application/json", **{"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}
    ),
    "a wait of nonsense": body_of(503, b"{}", "application/json", **{"Retry-After": "soon"}),
    "an internal error": (500, {"error": {"message": "oops"}}),
    "a bad gateway": body_of(502, b"<html>Bad gateway</html>", "text/html"),
    "a request timeout": (408, {}),
    "a status of no standard": (529, {"error": {"message": "overloaded"}}),
    "a closed connection": hang_up,
    "a drip": drip,
    "a drip of headers": drip_headers,
}
REFUSALS: dict[str, Reply] = {
    "a bad request": (400, {"error": {"message": "too many tokens"}}),
    "too much": (413, {"error": {"message": "too large"}}),
    "a schema": (422, {"error": {"message": "schema"}}),
    "a flagged text": (403, {"error": {"message": "flagged"}}),
    "the law": (451, {}),
    "the model's own words": without_choices(
        choices=[{"index": 0, "finish_reason": "stop", "message": {"refusal": "I cannot."}}]
    ),
    "a filter": (200, completion("", "content_filter")),
    "another place": body_of(302, b"", "text/html"),
}


ALL = {**ODD, **REFUSALS}


def one_for_each(kinds: Mapping[str, Reply]) -> dict[str, TeacherRequest]:
    """A request of its own for each kind of reply; its seed is the place of the kind in ALL."""
    return {
        name: replace(REQUESTS[0], number=n, seed=n) for n, name in enumerate(ALL) if name in kinds
    }


def test_what_may_pass_is_tried_again(server: Server) -> None:
    requests, seen = one_for_each(ODD), Counter[int]()

    def reply(body: dict[str, Any]) -> Reply:
        seen[body["seed"]] += 1
        kind = list(ALL)[body["seed"]]
        return ALL[kind] if seen[body["seed"]] == 1 else (200, completion("{}"))

    server.reply = reply
    teacher = EndpointTeacher(config(server, timeout_s=2, parallel_requests=99))
    outcomes = dict(zip(requests, teacher.answer([*requests.values()]), strict=True))
    assert {name: o.reason for name, o in outcomes.items() if o.text != "{}"} == {}
    assert set(seen.values()) == {2}


def test_a_text_that_never_gets_an_answer_is_given_up_alone(server: Server) -> None:
    bad, good = one_for_each(ALL), [replace(r, number=99 + r.number) for r in REQUESTS]
    by_seed = {request.seed: ALL[name] for name, request in bad.items()}
    by_seed[0] = lambda handler: handler._send(200, completion("yes"))  # the small question
    bad["a page"] = replace(bad["a page"], seed=99)
    by_seed[99] = ALL["a page"]
    server.reply = lambda body: by_seed.get(body["seed"], (200, completion("{}")))
    kept: list[TeacherOutcome] = []
    started = time.monotonic()
    teacher = EndpointTeacher(config(server, timeout_s=1, give_up_s=4, parallel_requests=99))
    outcomes = teacher.answer([*bad.values(), *good], kept.append)
    assert time.monotonic() - started < 8, "each has a deadline in all"
    assert outcomes[len(bad) :] == sorted(kept, key=lambda o: (o.number, o.sample))
    assert {o.text for o in kept} == {"{}"}
    found = {name: o.reason for name, o in zip(bad, outcomes, strict=False)}
    assert found == {
        **dict.fromkeys(ODD, "teacher_failed"),
        **dict.fromkeys(REFUSALS, "teacher_refused"),
    }
    assert all(outcome.message for outcome in outcomes[: len(bad)])
    tries = Counter(body["seed"] for body in server.asked)
    assert {tries[bad[name].seed] for name in REFUSALS} == {1}


@pytest.mark.parametrize(
    "name",
    ["a page", "half a body", "an error object", "a drip", "too many requests", "a bad request"],
)
def test_an_endpoint_that_answers_nothing_any_more_costs_no_answer_and_no_text(
    server: Server, name: str
) -> None:
    good = {request.seed for request in REQUESTS[:3]}
    server.reply = lambda body: (200, completion("{}")) if body["seed"] in good else ALL[name]
    kept: list[TeacherOutcome] = []
    teacher = EndpointTeacher(config(server, timeout_s=0.5, give_up_s=1.0, parallel_requests=2))
    with pytest.raises(TeacherUnavailable, match=r"the endpoint http://\S+ must answer, found "):
        teacher.answer(REQUESTS, kept.append)
    assert sorted((o.number, o.sample) for o in kept) == [(0, 0), (0, 1), (1, 0)]


def test_the_wait_that_an_endpoint_asks_for_is_kept_and_is_no_try(server: Server) -> None:
    times: list[float] = []

    def reply(body: dict[str, Any]) -> Reply:
        times.append(time.monotonic())
        if len(times) <= endpoint.MAX_TRIES + 2:
            return body_of(429, b"{}", "application/json", **{"Retry-After": "0.2"})
        return 200, completion("{}")

    server.reply = reply
    (outcome,) = EndpointTeacher(config(server)).answer(REQUESTS[:1])
    assert outcome.text == "{}"
    assert all(second - first >= 0.2 for first, second in pairwise(times))


def test_a_longer_wait_than_a_question_may_take_is_not_begun(server: Server) -> None:
    server.reply = lambda body: body_of(429, b"{}", "application/json", **{"Retry-After": "3600"})
    started = time.monotonic()
    with pytest.raises(TeacherUnavailable):
        EndpointTeacher(config(server)).answer(REQUESTS)
    assert time.monotonic() - started < 5


def test_a_spent_budget_is_not_waited_for(server: Server) -> None:
    error = {"error": {"message": "pay", "code": "insufficient_quota"}}
    server.reply = lambda body: (429, error)
    with pytest.raises(TeacherUnavailable, match="pay"):
        EndpointTeacher(config(server, parallel_requests=1)).answer(REQUESTS)
    assert len(server.asked) == 2, "the first text, and the small question"


def test_the_check_before_a_run_has_a_deadline_in_all(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "CHECK_TIMEOUT_S", 0.5)
    server.models = drip_headers
    with pytest.raises(ValueError, match=r"found no list of models within 0\.5 s"):
        check_endpoint(config(server))


def test_an_unreachable_endpoint_and_a_refused_key_are_errors_before_the_run(
    server: Server,
) -> None:
    server.models = (401, {"error": {"message": "no"}})
    with pytest.raises(ValueError, match="put the key into the environment variable"):
        check_endpoint(config(server))
    server.models = (404, {})  # answers, and lists no models
    check_endpoint(config(server))
    server.close()
    with pytest.raises(ValueError, match=r"the endpoint http://127\.0\.0\.1:\d+/v1 must answer"):
        check_endpoint(config(server))
