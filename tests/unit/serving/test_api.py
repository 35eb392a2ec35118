"""Requests over HTTP, with a backend that answers what it is told."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from t2g_ray.serving.api import MAX_FAULTS, Unavailable
from t2g_ray.serving.extractor import RequestRefused
from t2g_ray.serving.schema import (
    Health,
)
from tests.unit.serving.parts import BODY, FakeBackend


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


def test_the_api_document_names_the_error_body_and_no_model_of_the_framework(
    client: TestClient,
) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/extract", "/health", "/metrics"}
    assert "ErrorResponse" in document["components"]["schemas"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
