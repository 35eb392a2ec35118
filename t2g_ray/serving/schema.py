"""What a client sends and what it gets, as pydantic models that the OpenAPI page shows.

Invariant: a request that passes here can be turned into prompts and a grammar; only the model's
own context can still refuse it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from t2g_ray.graph.parsing import FailureKind

MAX_TEXT_CHARS = 20_000
MAX_TEXTS = 32
MAX_TYPES = 64
MAX_TYPE_CHARS = 64
MAX_BODY_BYTES = 4 * 2**20

ParseKind = Literal["ok", "cut", FailureKind]


def _check_text(text: str) -> str:
    if not text.strip():
        raise ValueError("a text must hold more than blanks")
    return text


def _check_types(names: list[str]) -> list[str]:
    for name in names:
        # A type is on one line of the prompt and in the grammar of the answer.
        if name != name.strip() or not name.isprintable():
            raise ValueError(
                f"a type must be printable and without blanks at its ends, found {name!a}"
            )
    if len(set(names)) < len(names):
        raise ValueError("each type must be named once")
    return names


RequestText = Annotated[
    str, Field(min_length=1, max_length=MAX_TEXT_CHARS), AfterValidator(_check_text)
]
TypeName = Annotated[str, Field(min_length=1, max_length=MAX_TYPE_CHARS)]


class ExtractRequest(BaseModel):
    """One text or several, and the types wanted in all of them."""

    model_config = ConfigDict(
        extra="forbid",
        # "no" is no boolean, and 1 no text.
        strict=True,
        json_schema_extra={
            "example": {
                "text": "Chen works for Jentek. Jentek is based in Seoul.",
                "entity_types": ["person", "company", "city"],
                "relation_types": ["works for", "based in"],
            }
        },
    )

    text: RequestText | None = Field(None, description="One text; give this or texts.")
    texts: list[RequestText] | None = Field(
        None, min_length=1, max_length=MAX_TEXTS, description="Several texts, answered in order."
    )
    entity_types: Annotated[
        list[TypeName],
        Field(min_length=1, max_length=MAX_TYPES, description="Types of entities to find."),
        AfterValidator(_check_types),
    ]
    relation_types: Annotated[
        list[TypeName],
        Field(max_length=MAX_TYPES, description="Types of relations to find; none by default."),
        AfterValidator(_check_types),
    ] = []
    thinking: bool | None = Field(
        None,
        description="Let the model reason first, which needs constrained=false. Null: as trained "
        "where the answer is free, else not.",
    )
    constrained: bool = Field(
        True,
        description="Hold the answer to the JSON Schema of these types: it is a graph always.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.text is None) == (self.texts is None):
            found = "neither" if self.text is None else "both"
            raise ValueError(f"give text or texts, found {found}")
        if self.thinking and self.constrained:
            raise ValueError(
                "a constrained answer has no room for reasoning; set constrained to false, or "
                "leave thinking out"
            )
        return self

    @property
    def all_texts(self) -> list[str]:
        """The texts in order, one or several."""
        return [self.text] if self.text is not None else self.texts or []


class TextSpan(BaseModel):
    """A place in the text: characters (Unicode code points) from `start` up to before `end`."""

    start: int
    end: int


class AnsweredEntity(BaseModel):
    """An entity and where its text occurs. start and end are null where it occurs nowhere."""

    id: int
    text: str
    type: str
    start: int | None = Field(description="Start of the first place, in code points.")
    end: int | None = Field(description="End of the first place, not included.")
    spans: list[TextSpan] = Field(description="All places, whole words before parts of words.")


class AnsweredRelation(BaseModel):
    """A directed relation between entity texts."""

    head: str
    tail: str
    type: str


class AnsweredGraph(BaseModel):
    """Entities and relations in the order in which the model wrote them."""

    entities: list[AnsweredEntity]
    relations: list[AnsweredRelation]


class Tokens(BaseModel):
    """Counts of one answer, its end token included."""

    prompt: int
    generated: int


class Timing(BaseModel):
    """Milliseconds: before the engine took the prompt, and from then to the last token."""

    queue: float
    generate: float


class ExtractedAnswer(BaseModel):
    """The result for one text."""

    graph: AnsweredGraph | None = Field(description="Null only where parse names a failure.")
    parse: ParseKind = Field(
        description="ok; cut: the length limit was reached, and the graph holds what was whole by "
        "then (constrained answers only); else why the answer is no graph."
    )
    message: str | None = Field(description="In words, where parse is not ok.")
    tokens: Tokens
    timing_ms: Timing


class ExtractResponse(BaseModel):
    """Answers in the order of the texts."""

    model: str = Field(description="Name of the model's folder, or its hub name.")
    answers: list[ExtractedAnswer]
    total_ms: float = Field(description="Milliseconds the whole request took behind the server.")


class Health(BaseModel):
    """Whether the engine answers, shown by its last answer and not by an open port."""

    healthy: bool
    seconds_since_answer: float | None = Field(description="Null before the first answer.")
    message: str | None = None


class RequestFault(BaseModel):
    """One thing to correct: where in the request, and what must hold."""

    field: str
    message: str


class ErrorBody(BaseModel):
    """What went wrong; `faults` says where, for a request that must be changed."""

    status: int
    message: str
    faults: list[RequestFault] = []


class ErrorResponse(BaseModel):
    """The body of every answer with a status of 400 or above."""

    error: ErrorBody
