"""What a body may weigh before anything reads it."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.testclient import TestClient

from t2g_ray.serving.schema import (
    MAX_BODY_BYTES,
)


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
