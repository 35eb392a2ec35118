"""The service over HTTP, with a backend that answers what it is told."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from t2g_ray.serving.api import build_app
from tests.unit.serving.parts import FakeBackend


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def client(backend: FakeBackend) -> TestClient:
    return TestClient(build_app(backend), raise_server_exceptions=False)
