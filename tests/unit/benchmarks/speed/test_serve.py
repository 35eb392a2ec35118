"""Requests a second: the server over vLLM; and an answer without a graph is no answer."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.speed import serve
from benchmarks.speed.serve import rows_of
from t2g_ray.records.corpus import generate_records


def test_the_server_is_over_vllm_and_latencies_are_of_each_run() -> None:
    times = [np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])]
    rows = {row.metric: row for row in rows_of({"server": [5.0, 8.0], "vllm": [10.0, 8.0]}, times)}
    assert rows["server_over_vllm"].values == (0.5, 1.0)
    assert rows["latency_ms/p50"].values == (2.0, 4.0)
    assert rows["latency_ms/p99"].runs == 2


GRAPH = {"entities": [], "relations": []}


@pytest.mark.parametrize(
    "answers",
    [
        [{"graph": None, "parse": "no_json"}],
        [],
        [{"graph": GRAPH}, {"graph": GRAPH}],
        [{"graph": GRAPH}, {"graph": None}],
    ],
    ids=str,
)
def test_only_one_graph_for_one_text_counts_as_answered(
    monkeypatch: pytest.MonkeyPatch, answers: list[Any]
) -> None:
    records = generate_records("heldout", 2, seed=0)
    found: list[Any] = [{"graph": GRAPH}]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"answers": found})

    class Client(httpx.Client):
        def __init__(self, **_: Any) -> None:
            super().__init__(transport=httpx.MockTransport(answer))

    monkeypatch.setattr(serve.httpx, "Client", Client)
    seconds, each = serve._ask_server("http://127.0.0.1/extract", records, 2)
    assert seconds > 0 and len(each) == 2
    found[:] = answers
    with pytest.raises(ValueError, match="every answer must hold one graph"):
        serve._ask_server("http://127.0.0.1/extract", records, 2)


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
def test_a_request_that_fails_is_no_fast_request(
    monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    class Client(httpx.Client):
        def __init__(self, **_: Any) -> None:
            super().__init__(transport=httpx.MockTransport(lambda _: httpx.Response(status)))

    monkeypatch.setattr(serve.httpx, "Client", Client)
    with pytest.raises(httpx.HTTPStatusError):
        serve._ask_server("http://127.0.0.1/extract", generate_records("heldout", 1, seed=0), 1)
