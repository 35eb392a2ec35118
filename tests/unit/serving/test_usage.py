"""Requests -> figures that a monitoring system reads."""

from __future__ import annotations

from starlette.testclient import TestClient

from t2g_ray.serving.api import Unavailable
from tests.unit.serving.parts import BODY, FakeBackend


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
