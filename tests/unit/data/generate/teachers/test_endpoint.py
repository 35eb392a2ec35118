"""An OpenAI-compatible endpoint as the teacher, against a small server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from t2g_ray.data.generate.config import TeacherConfig
from t2g_ray.data.generate.stages import TeacherStage
from t2g_ray.data.generate.teachers import endpoint
from t2g_ray.data.generate.teachers.endpoint import EndpointTeacher, check_endpoint
from t2g_ray.data.generate.teachers.start import check_teacher, start_teacher
from t2g_ray.data.generate.teachers.teacher import TeacherUnavailable
from t2g_ray.graph.constrained import graph_json_schema
from t2g_ray.records.corpus import generate_records

Reply = tuple[int, Any]
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
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Server

    def do_GET(self) -> None:
        self._send(*self.owner.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.owner.asked.append(body)
        self.owner.keys.add(self.headers["Authorization"])
        self._send(*self.owner.reply(body))

    def _send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
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
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "MAX_RETRIES", 0)


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
