"""What several tests of the service build alike."""

from __future__ import annotations

from typing import Any

from t2g_ray.graph import Entity, Graph, Relation
from t2g_ray.serving.answer import to_answer
from t2g_ray.serving.schema import (
    ExtractedAnswer,
    ExtractRequest,
    ExtractResponse,
    Health,
    Timing,
    Tokens,
)

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
