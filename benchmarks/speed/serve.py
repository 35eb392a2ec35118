"""Requests a second of `t2g serve` against vLLM called directly with the same prompts.

Both hold their answers to the JSON Schema of each request's types and keep the same number of
requests in flight. They take turns, so that other load on the machine affects both; clients, server
and engines share it, as they do where a service runs beside its users.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt

from actors.cluster.handles import Handle, get_all, start_alone
from actors.serve import ServeSettings, start_server, stop_server, url_of
from benchmarks.result import ResultRow, make_row, ratio_row, turns
from benchmarks.speed.rollout import BareVllm
from t2g_ray.graph.constrained import graph_grammar
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.prompts.messages import encode_prompt
from t2g_ray.prompts.settings import read_prompt_settings
from t2g_ray.records.corpus import generate_records
from t2g_ray.rollout.greedy import local_spec
from t2g_ray.types import Record

PORT = 8765


class BareAnswers(BareVllm):
    """vLLM's own LLM class, held to one grammar a prompt."""

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        grammars: Sequence[str],
        max_new_tokens: int,
    ) -> float:
        """Seconds to answer all prompts."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        parameters = [
            SamplingParams(
                temperature=0.0,
                max_tokens=max_new_tokens,
                structured_outputs=StructuredOutputsParams(grammar=grammar),
            )
            for grammar in grammars
        ]
        inputs: Any = [{"prompt_token_ids": list(ids)} for ids in prompts]
        started = time.perf_counter()
        self._llm.generate(inputs, parameters, use_tqdm=False)
        return time.perf_counter() - started


def run(model: str, *, runs: int, clients: int, requests: int) -> list[ResultRow]:
    """Speed of both sides over `runs` rounds of `requests` each; times as the clients see them."""
    records = generate_records("heldout", (runs + 1) * requests, seed=0)
    settings = ServeSettings(model=model, port=PORT, max_ongoing=clients)
    start_server(settings)
    bare: Handle[BareAnswers] | None = None
    rates: dict[str, list[float]] = {"server": [], "vllm": []}
    times_ms = []
    try:
        bare = _start_bare(settings, clients)
        # The first round warms both up and is not counted.
        for number in range(runs + 1):
            part = records[number * requests : (number + 1) * requests]
            for side in turns(list(rates), number):
                if side == "server":
                    seconds, each = _ask_server(f"{url_of(settings)}/extract", part, clients)
                    times_ms.append(1000 * each)
                else:
                    seconds = _ask_bare(bare, model, part)
                rates[side].append(requests / seconds)
    finally:
        if bare is not None:
            bare.kill()
        stop_server()
    return rows_of({side: each[1:] for side, each in rates.items()}, times_ms[1:])


def rows_of(
    rates: Mapping[str, Sequence[float]], times_ms: Sequence[npt.NDArray[np.float64]]
) -> list[ResultRow]:
    """Requests a second of both sides in each run, and the times of each run's requests."""
    return [
        *(make_row(f"requests_per_s/{side}", each, "requests/s") for side, each in rates.items()),
        ratio_row("server_over_vllm", rates["server"], rates["vllm"]),
        *(
            make_row(f"latency_ms/p{q}", [float(np.percentile(one, q)) for one in times_ms], "ms")
            for q in (50, 99)
        ),
    ]


def _start_bare(settings: ServeSettings, clients: int) -> Handle[BareAnswers]:
    own = read_prompt_settings(settings.model)
    spec = local_spec(
        settings.model,
        max_prompt_tokens=settings.max_prompt_tokens,
        max_new_tokens=own.max_new_tokens,
    )
    # As many threads as the one replica has.
    spec = replace(spec, threads=max(1, spec.threads - 1), max_sequences=clients)
    return start_alone(BareAnswers, spec, name="vllm", threads=spec.threads)


def _ask_bare(bare: Handle[BareAnswers], model: str, records: Sequence[Record]) -> float:
    own, tokenizer = read_prompt_settings(model), load_tokenizer(model)
    prompts = [
        encode_prompt(tokenizer, record, style=own.style, thinking=False, max_tokens=None)
        for record in records
    ]
    grammars = [graph_grammar(record.entity_types, record.relation_types) for record in records]
    return get_all([bare.call(BareAnswers.answer, prompts, grammars, own.max_new_tokens)])[0]


def _ask_server(
    url: str, records: Sequence[Record], clients: int
) -> tuple[float, npt.NDArray[np.float64]]:
    """Seconds for all requests, and those of each one."""
    bodies = [
        {
            "text": record.text,
            "entity_types": record.entity_types,
            "relation_types": record.relation_types,
        }
        for record in records
    ]
    with httpx.Client(timeout=600, limits=httpx.Limits(max_connections=clients)) as client:

        def ask(body: dict[str, Any]) -> float:
            started = time.perf_counter()
            answer = client.post(url, json=body).raise_for_status()
            seconds = time.perf_counter() - started
            # An answer without a graph has cost less than one with it.
            if [one["graph"] is None for one in answer.json()["answers"]] != [False]:
                raise ValueError(f"every answer must hold one graph, found {answer.text[:200]}")
            return seconds

        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as threads:
            each = list(threads.map(ask, bodies))
        return time.perf_counter() - started, np.array(each)
