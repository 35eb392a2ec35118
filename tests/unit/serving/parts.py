"""What several tests of the service build alike."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.records.corpus import build_tokenizer
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.serving.answer import to_answer
from t2g_ray.serving.schema import (
    ExtractedAnswer,
    ExtractRequest,
    ExtractResponse,
    Health,
    Timing,
    Tokens,
)
from t2g_ray.types import Completion, FinishReason, Group, Prompt

TEXT = "Chen works for Jentek."

BODY = {"text": TEXT, "entity_types": ["person", "company"], "relation_types": ["works for"]}

GRAPH = Graph(
    (Entity(0, "Chen", "person"), Entity(1, "Jentek", "company")),
    (Relation("Chen", "Jentek", "works for"),),
)


def request(**changes: Any) -> ExtractRequest:
    return ExtractRequest.model_validate({**BODY, **changes})


def answered(completion: str, *, text: str = TEXT, is_constrained: bool = True) -> ExtractedAnswer:
    return to_answer(
        text,
        completion,
        is_constrained=is_constrained,
        thinking=False,
        tokens=Tokens(prompt=5, generated=7),
        timing=Timing(queue=1.0, generate=2.0),
    )


class FakeBackend:
    """Answers every text with the same graph, or raises."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.health_now = Health(healthy=True, seconds_since_answer=1.0)

    async def extract(self, request: ExtractRequest) -> ExtractResponse:
        if self.failure is not None:
            raise self.failure
        answers = [answered(GRAPH.to_json(), text=text) for text in request.all_texts]
        return ExtractResponse(model="m", answers=answers, total_ms=1.0)

    async def health(self) -> Health:
        return self.health_now


class FakeEngine:
    """Finishes every group at the next step with the same text."""

    text = GRAPH.to_json()
    finish_reason: FinishReason = "stop"
    num_tokens: int | None = None
    failure: Exception | None = None
    gate: threading.Event | None = None

    def __init__(self, spec: EngineSpec) -> None:
        self.spec, self.version, self.num_generated_tokens, self.num_passes = spec, -1, 0, 0
        self.asked: list[tuple[Prompt, Sampling]] = []
        self._open: list[Prompt] = []
        self._tokenizer = build_tokenizer()

    @property
    def is_busy(self) -> bool:
        return bool(self._open)

    def add(self, prompt: Prompt, sampling: Sampling) -> None:
        self.asked.append((prompt, sampling))
        self._open.append(prompt)

    def step(self) -> list[Group]:
        if self.gate is not None:
            self.gate.wait(10)
        if self.failure is not None:
            raise self.failure
        ids = self._tokenizer.encode(self.text, add_special_tokens=False)[: self.num_tokens]
        completion = Completion(
            token_ids=np.array(ids, np.int32),
            logprobs=np.zeros(len(ids), np.float32),
            versions=np.full(len(ids), -1, np.int32),
            finish_reason=self.finish_reason,
        )
        done, self._open = self._open, []
        # The last one first: callers must not rely on the order in which groups finish.
        return [
            Group(prompt=prompt, completions=(completion,), sampler=0, generate_s=0.25)
            for prompt in reversed(done)
        ]

    def close(self) -> None:
        pass
