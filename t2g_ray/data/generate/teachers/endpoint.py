"""Requests -> answers, by an OpenAI-compatible endpoint.

What may pass is tried again, for `give_up_s` at most: a limit of the rate for as long as that
takes, anything else MAX_TRIES times. What remains is the request's fault where the endpoint
answers a small question, and is recorded with its reason; otherwise the endpoint is unavailable.

Invariant: an answer reaches `keep` before another request can fail, and an endpoint that became
unavailable is asked nothing new, but what it was asked before may still be answered.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from typing import Any

import openai

from t2g_ray.data.generate.config import TeacherConfig
from t2g_ray.data.generate.stages import TeacherRequest, small_question
from t2g_ray.data.generate.teachers.reply import NoAnswer, Reply, no_answer, read_reply
from t2g_ray.data.generate.teachers.teacher import (
    Keep,
    TeacherOutcome,
    TeacherUnavailable,
    keep_nothing,
)

NO_KEY = "none"
CHECK_TIMEOUT_S = 10.0
MAX_TRIES = 5
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
"""Waits double from the first to this one, where the endpoint names none."""


class EndpointTeacher:
    """Keeps up to `parallel_requests` requests open."""

    def __init__(self, config: TeacherConfig) -> None:
        self._config = config

    def answer(
        self, requests: Sequence[TeacherRequest], keep: Keep = keep_nothing
    ) -> list[TeacherOutcome]:
        """Raises TeacherUnavailable; answers that came were given to `keep`."""
        return asyncio.run(_answer(self._config, requests, keep))


async def _answer(
    config: TeacherConfig, requests: Sequence[TeacherRequest], keep: Keep
) -> list[TeacherOutcome]:
    async with _client(config) as client:
        batch = _Batch(config, client, keep)
        outcomes = await asyncio.gather(*(batch.outcome_of(request) for request in requests))
    if batch.failure is not None:
        raise batch.failure
    return [outcome for outcome in outcomes if outcome is not None]


class _Batch:
    """The requests of one call, and what is known of the endpoint meanwhile."""

    def __init__(self, config: TeacherConfig, client: openai.AsyncOpenAI, keep: Keep) -> None:
        self._config, self._client, self._keep = config, client, keep
        self._places = asyncio.Semaphore(config.parallel_requests)
        self._probing = asyncio.Lock()
        self._answered_s = 0.0
        """When the last answer came."""
        self._is_gone = asyncio.Event()
        self.failure: TeacherUnavailable | None = None
        """Why the endpoint is unavailable, once it is."""

    async def outcome_of(self, request: TeacherRequest) -> TeacherOutcome | None:
        """None when the endpoint became unavailable first."""
        async with self._places:
            end_s = time.monotonic() + self._config.give_up_s
            num_tries = num_waits = 0
            while not self._is_gone.is_set():
                began_s = time.monotonic()
                try:
                    reply = await self._try(request, min(self._config.timeout_s, end_s - began_s))
                except NoAnswer as error:
                    num_tries += error.is_counted
                    wait_s = _wait_s(error, num_waits)
                    is_last = num_tries == MAX_TRIES or time.monotonic() + wait_s >= end_s
                    if not error.may_pass or is_last:
                        return await self._given_up(request, error, began_s)
                    num_waits += 1
                    await self._wait(wait_s)
                    continue
                outcome = TeacherOutcome(
                    number=request.number,
                    sample=request.sample,
                    text=reply.text,
                    is_cut=reply.is_cut,
                )
                self._keep(outcome)
                return outcome
        return None

    async def _try(self, request: TeacherRequest, timeout_s: float) -> Reply:
        try:
            # The client's own limit is one of every pause, which a slow drip never reaches.
            async with asyncio.timeout(timeout_s):
                create = self._client.chat.completions.with_raw_response.create
                response = await create(**_arguments(self._config, request))
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout_s:.3g} s", may_pass=True) from None
        except openai.OpenAIError as error:
            raise no_answer(error, _advice(self._config)) from None
        reply = read_reply(response.text)
        self._answered_s = time.monotonic()
        return reply

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._is_gone.wait(), seconds)
        except TimeoutError:
            return

    async def _given_up(
        self, request: TeacherRequest, error: NoAnswer, began_s: float
    ) -> TeacherOutcome | None:
        """The request's own failure, where the endpoint has answered since its last try began."""
        async with self._probing:
            if self._answered_s < began_s and not self._is_gone.is_set():
                try:
                    await self._try(
                        small_question(is_graph=request.json_schema is not None),
                        self._config.timeout_s,
                    )
                except NoAnswer:
                    self.failure = TeacherUnavailable(_explain(self._config, error))
                    self._is_gone.set()
        if self._is_gone.is_set():
            return None
        return TeacherOutcome.failure(request, error.reason, str(error))


def _wait_s(error: NoAnswer, num_waits: int) -> float:
    """Seconds until the next try: those asked for, else doubling and never the same for all."""
    own_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(num_waits, 9)) * random.uniform(
        0.75, 1.25
    )
    return own_s if error.wait_s is None else error.wait_s + 0.1 * own_s


def _arguments(config: TeacherConfig, request: TeacherRequest) -> dict[str, Any]:
    form: dict[str, Any] = {}
    if request.json_schema is not None:
        schema = {"name": "graph", "schema": dict(request.json_schema), "strict": True}
        form = {"response_format": {"type": "json_schema", "json_schema": schema}}
    return {
        "model": config.model,
        "messages": list(request.messages),
        "temperature": config.temperature,
        "top_p": config.top_p,
        "max_tokens": config.answer_tokens,
        "seed": request.seed,
        **form,
    }


def check_endpoint(config: TeacherConfig) -> None:
    """Raises ValueError for an endpoint that cannot be reached or refuses the key."""
    asyncio.run(_check(config))


async def _check(config: TeacherConfig) -> None:
    try:
        async with _client(config) as client, asyncio.timeout(CHECK_TIMEOUT_S):
            await client.models.with_raw_response.list()
    except TimeoutError:
        late = NoAnswer(f"no list of models within {CHECK_TIMEOUT_S:g} s", may_pass=True)
        raise ValueError(_explain(config, late)) from None
    except openai.APIStatusError as error:
        if error.status_code not in (404, 405):  # it answers, and lists no models
            raise ValueError(_explain(config, no_answer(error, _advice(config)))) from None
    except openai.OpenAIError as error:
        raise ValueError(_explain(config, no_answer(error, _advice(config)))) from None


def _client(config: TeacherConfig) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=config.base_url,
        api_key=os.environ.get(config.api_key_env) or NO_KEY,
        timeout=config.timeout_s,
        max_retries=0,  # which knows no limit in all
    )


def _advice(config: TeacherConfig) -> dict[int, str]:
    key = f"put the key into the environment variable {config.api_key_env}"
    return {401: key, 403: key, 404: f"check that it knows the model {config.model}"}


def _explain(config: TeacherConfig, error: NoAnswer) -> str:
    return f"the endpoint {config.base_url} must answer, found {error}; {error.advice}"
