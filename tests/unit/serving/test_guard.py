"""What stands before the application: hosts, bodies, headers, and answers to faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from t2g_ray.serving.api import Unavailable, build_app
from t2g_ray.serving.extractor import RequestRefused
from t2g_ray.serving.guard import SECURITY_HEADERS, is_local
from t2g_ray.serving.schema import MAX_BODY_BYTES
from tests.unit.serving.parts import BODY, FakeBackend


@pytest.fixture
def local(backend: FakeBackend) -> TestClient:
    """A server on the loopback interface, known as mybox too."""
    app = build_app(backend, local_names=("mybox",))
    return TestClient(app, raise_server_exceptions=False)


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


@pytest.mark.parametrize("length", ["9" * 5000, f"0{MAX_BODY_BYTES + 1}"])
def test_a_declared_length_of_any_size_is_refused_before_a_byte_is_read(
    client: TestClient, length: str
) -> None:
    kind = {"content-type": "application/json", "content-length": length}
    assert client.post("/extract", content=b"{}", headers=kind).status_code == 413


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST:1",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.3.2.1",
        "[::1]:8000",
        "mybox:8000",
    ],
)
def test_a_local_server_answers_to_its_own_names(local: TestClient, host: str) -> None:
    assert local.post("/extract", json=BODY, headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil@localhost",
        "localhost:8000:1",
        "localhost:x",
        "192.168.0.7:8000",
        "[::2]",
        "2130706433",
        "",
        " ",
    ],
)
@pytest.mark.parametrize("path", ["/", "/extract", "/health", "/metrics", "/docs", "/openapi.json"])
def test_a_local_server_answers_to_no_other_name(local: TestClient, host: str, path: str) -> None:
    for method in ("GET", "POST"):
        reply = local.request(method, path, headers={"host": host})
        assert reply.status_code == reply.json()["error"]["status"] == 421
        assert "localhost or 127.0.0.1" in reply.json()["error"]["message"]


def test_a_server_that_others_reach_answers_to_any_name(client: TestClient) -> None:
    assert client.get("/", headers={"host": "graphs.example"}).status_code == 200


def test_names_are_compared_whole() -> None:
    assert is_local("mybox", ("MyBox",))
    assert not is_local("mybox.example", ("mybox",))
    assert not is_local("mybox", ())


def test_every_answer_has_the_security_headers(client: TestClient, backend: FakeBackend) -> None:
    replies = [client.get(path) for path in ("/", "/docs", "/health", "/metrics", "/openapi.json")]
    replies += [client.get("/nothing"), client.get("/extract"), client.post("/extract", json=BODY)]
    replies += [client.post("/extract", content=b"{"), client.post("/extract", json={})]
    replies += [client.options("/extract"), client.head("/"), client.get("/..%2f")]
    for failure in (RuntimeError("a"), Unavailable("b"), RequestRefused("text", "c"), KeyError(1)):
        backend.failure = failure
        replies.append(client.post("/extract", json=BODY))
    for reply in replies:
        missing = {name for name in SECURITY_HEADERS if name not in reply.headers}
        assert not missing, reply.request.url
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    statuses = {reply.status_code for reply in replies}
    assert statuses >= {200, 404, 405, 422, 500, 503}


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("secret"),
        KeyError("secret"),
        OSError(2, "secret", "/secret/model"),
        MemoryError("secret"),
        ValueError("secret"),
    ],
)
def test_a_fault_tells_its_id_alone_and_the_log_has_the_rest(
    client: TestClient,
    backend: FakeBackend,
    failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend.failure = failure
    reply = client.post("/extract", json=BODY)
    message = reply.json()["error"]["message"]
    assert reply.status_code == 500
    assert message.startswith("the server failed; the server's log has the reason under ")
    assert "secret" not in reply.text
    assert type(failure).__name__ not in reply.text
    assert message[-8:] in caplog.text
    assert "secret" in caplog.text
    assert 't2g_requests_total{status="500"} 1.0' in client.get("/metrics").text
