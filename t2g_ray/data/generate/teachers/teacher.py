"""Requests -> outcomes: what every teacher does, whichever model it is.

Invariants: each request has one outcome, in the order of the requests: an answer, or a failure of
its own with a reason. Whose fault a failure is, the teacher or the request, is found out by asking
the teacher a small question: a request fails only where that one is answered. Otherwise the
teacher's error is raised, so that no request is recorded as failed that could still succeed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from t2g_ray.data.generate.stages import TeacherRequest, small_question

TOO_LONG, REFUSED, FAILED = "prompt_too_long", "teacher_refused", "teacher_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherOutcome:
    """What came of one request: a text, or the reason (and message) why there is none."""

    number: int
    sample: int
    text: str = ""
    is_cut: bool = False
    """The length limit ended the text."""
    reason: str = ""
    message: str = ""

    @classmethod
    def failure(cls, request: TeacherRequest, reason: str, message: str) -> TeacherOutcome:
        return cls(number=request.number, sample=request.sample, reason=reason, message=message)


Keep = Callable[[TeacherOutcome], object]
"""Takes an answer as soon as it has come, so that nothing that fails later costs it."""


def keep_nothing(outcome: TeacherOutcome) -> None:
    """For callers that need no answer before all of them."""


class Teacher(Protocol):
    """Answers a batch of requests."""

    def answer(
        self, requests: Sequence[TeacherRequest], keep: Keep = keep_nothing
    ) -> list[TeacherOutcome]:
        """The outcomes, in order. Answers that cost money are also given to `keep` at once."""


class TeacherUnavailable(RuntimeError):
    """The teacher answers nothing at present; the message says why and what to do."""


def answer_all(
    teacher: Teacher, requests: Sequence[TeacherRequest], keep: Keep = keep_nothing
) -> list[TeacherOutcome]:
    """The outcomes of a batch. When it fails as a whole, each request is tried by itself.

    Raises what the teacher raised when it does not answer a small question either.
    """
    try:
        return teacher.answer(requests, keep)
    except TeacherUnavailable:
        raise
    except Exception as error:
        first = error
    outcomes: list[TeacherOutcome] = []
    for request in requests:
        # Boundary: one request that the teacher cannot take must not cost the others.
        try:
            outcomes += teacher.answer([request], keep)
        except TeacherUnavailable:
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            outcomes.append(TeacherOutcome.failure(request, FAILED, message))
    if all(outcome.reason == FAILED for outcome in outcomes) and not _answers(teacher, requests):
        raise first
    return outcomes


def _answers(teacher: Teacher, requests: Sequence[TeacherRequest]) -> bool:
    # Boundary: as above, for the small question.
    try:
        is_graph = requests[0].json_schema is not None
        (outcome,) = teacher.answer([small_question(is_graph=is_graph)], keep_nothing)
    except TeacherUnavailable:
        raise
    except Exception:
        return False
    return not outcome.reason
