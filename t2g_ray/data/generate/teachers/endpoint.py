"""Requests -> answers, by an OpenAI-compatible endpoint.

Invariant: an endpoint that is gone, refuses the key or does not know the model fails the batch,
which is asked again in the next run. Only a request that the endpoint itself refuses (too long, a
schema it cannot take) is recorded as failed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from t2g_ray.data.generate.config import TeacherConfig
from t2g_ray.data.generate.stages import TeacherRequest
from t2g_ray.data.generate.teachers.teacher import REFUSED, TeacherOutcome, TeacherUnavailable

NO_KEY = "none"
CHECK_TIMEOUT_S = 10.0
MAX_RETRIES = 4
"""The client waits longer each time, as the endpoint asks for where it does."""


class EndpointTeacher:
    """Keeps up to `parallel_requests` requests open."""

    def __init__(self, config: TeacherConfig) -> None:
        self._config = config
        self._client = _client(config)
        self._pool = ThreadPoolExecutor(config.parallel_requests)

    def answer(self, requests: Sequence[TeacherRequest]) -> list[TeacherOutcome]:
        """Raises TeacherUnavailable; no request is then counted as failed."""
        futures = [self._pool.submit(self._ask, request) for request in requests]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _ask(self, request: TeacherRequest) -> TeacherOutcome:
        try:
            answer = self._client.chat.completions.create(**self._arguments(request))
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return TeacherOutcome.failure(request, REFUSED, str(error))
        except openai.OpenAIError as error:
            raise TeacherUnavailable(_explain(self._config, error)) from None
        if not answer.choices:
            return TeacherOutcome.failure(request, REFUSED, "the answer holds no choice")
        choice = answer.choices[0]
        return TeacherOutcome(
            number=request.number,
            sample=request.sample,
            text=choice.message.content or "",
            is_cut=choice.finish_reason == "length",
        )

    def _arguments(self, request: TeacherRequest) -> dict[str, Any]:
        form: dict[str, Any] = {}
        if request.json_schema is not None:
            schema = {"name": "graph", "schema": dict(request.json_schema), "strict": True}
            form = {"response_format": {"type": "json_schema", "json_schema": schema}}
        return {
            "model": self._config.model,
            "messages": list(request.messages),
            "temperature": self._config.temperature,
            "top_p": self._config.top_p,
            "max_tokens": self._config.answer_tokens,
            "seed": request.seed,
            **form,
        }


def check_endpoint(config: TeacherConfig) -> None:
    """Raises ValueError for an endpoint that cannot be reached or refuses the key."""
    try:
        _client(config).with_options(timeout=CHECK_TIMEOUT_S, max_retries=0).models.list()
    except (openai.NotFoundError, openai.APIResponseValidationError):
        return  # it answers, and lists no models
    except openai.APIStatusError as error:
        if error.status_code == 405:
            return
        raise ValueError(_explain(config, error)) from None
    except openai.OpenAIError as error:
        raise ValueError(_explain(config, error)) from None


def _client(config: TeacherConfig) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=config.base_url,
        api_key=os.environ.get(config.api_key_env) or NO_KEY,
        timeout=config.timeout_s,
        max_retries=MAX_RETRIES,
    )


def _explain(config: TeacherConfig, error: openai.OpenAIError) -> str:
    advice = "check the address, and that the server runs"
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        advice = f"put the key into the environment variable {config.api_key_env}"
    elif isinstance(error, openai.NotFoundError):
        advice = f"check that it knows the model {config.model}"
    return f"the endpoint {config.base_url} must answer, found {error}; {advice}"
