"""What an exception said stays in the log; a client gets an id."""

from __future__ import annotations

import pytest

from t2g_ray.serving.failures import noted


def test_the_log_has_the_reason_under_the_id_that_the_client_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    try:
        raise RuntimeError("no file /secret/model")
    except RuntimeError as error:
        told, again = noted("the engine failed", error), noted("the engine failed", error)
    assert told.startswith("the engine failed; ")
    assert "secret" not in told
    assert told != again
    for each in (told, again):
        assert f"[{each[-8:]}]" in caplog.text
    assert "no file /secret/model" in caplog.text
