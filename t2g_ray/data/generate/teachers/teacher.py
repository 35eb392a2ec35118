"""Requests -> outcomes: what every teacher does, whichever model it is.

Invariant: each request has one outcome, in the order of the requests: an answer, or a failure of
its own with a reason. A failure that is not the fault of a request (an endpoint that is gone) is
raised instead, so that no request is recorded as failed that could still succeed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from t2g_ray.data.generate.stages import TeacherRequest

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


class Teacher(Protocol):
    """Answers a batch of requests."""

    def answer(self, requests: Sequence[TeacherRequest]) -> list[TeacherOutcome]: ...


class TeacherUnavailable(RuntimeError):
    """The teacher answers nothing at present; the message says why and what to do."""


def answer_all(teacher: Teacher, requests: Sequence[TeacherRequest]) -> list[TeacherOutcome]:
    """The outcomes of a batch. When it fails as a whole, each request is tried by itself.

    Raises what the teacher raised when no request succeeds alone either.
    """
    try:
        return teacher.answer(requests)
    except TeacherUnavailable:
        raise
    except Exception as error:
        if len(requests) == 1:
            raise
        first = error
    outcomes: list[TeacherOutcome] = []
    for request in requests:
        # Boundary: one request that the teacher cannot take must not cost the others.
        try:
            outcomes += teacher.answer([request])
        except TeacherUnavailable:
            raise
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            outcomes.append(TeacherOutcome.failure(request, FAILED, message))
    if all(outcome.reason == FAILED for outcome in outcomes):
        raise first
    return outcomes
