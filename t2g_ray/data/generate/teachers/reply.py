"""One exchange with an endpoint -> a text, or why there is none and whether another try may help.

Invariant: what leaves here as a text was said by the model, whole or cut by the length limit. A
page of HTML, half a body, an error in place of an answer and an answer without a choice are none.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import openai

from t2g_ray.data.generate.teachers.teacher import FAILED, REFUSED

MAY_PASS = (408, 409, 425, 429)
"""Besides 500 and above: statuses that say nothing about the next try."""
SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model said."""

    text: str
    is_cut: bool


class NoAnswer(Exception):
    """One try without an answer. `may_pass`: another one may have one, after `wait_s` seconds
    where the endpoint said how many; `is_counted`: it is one of the tries that a text has."""

    def __init__(
        self,
        message: str,
        *,
        may_pass: bool,
        wait_s: float | None = None,
        is_counted: bool = True,
        advice: str = "check the address, and that the server runs",
    ) -> None:
        super().__init__(message)
        self.may_pass, self.wait_s, self.is_counted = may_pass, wait_s, is_counted
        self.advice = advice

    @property
    def reason(self) -> str:
        """Why a text is given up, should it be this one's fault."""
        return FAILED if self.may_pass else REFUSED


def read_reply(body: str) -> Reply:
    """The text in the body of a reply with status 200; raises NoAnswer."""
    try:
        value = json.loads(body)
    except ValueError:
        raise _odd("JSON", body) from None
    if not isinstance(value, dict):
        raise _odd("a JSON object", body)
    choices = value.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if value.get("error") or not isinstance(choice, dict) or not isinstance(message, dict):
        raise _odd("choices with a message", body)
    ended, text = choice.get("finish_reason"), message.get("content")
    if message.get("refusal") or ended == "content_filter":
        raise NoAnswer(str(message.get("refusal") or "its content filter"), may_pass=False)
    if not isinstance(text, str) or ended in ("error", "abort", "cancelled"):
        raise _odd("a text that the model finished", body)
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise _odd("a text of Unicode characters", body)
    return Reply(text=text, is_cut=ended == "length")


def _odd(wanted: str, body: str) -> NoAnswer:
    return NoAnswer(f"a reply must hold {wanted}, found {body[:SHOWN_CHARS]!r}", may_pass=True)


def no_answer(error: openai.OpenAIError, config_advice: Mapping[int, str]) -> NoAnswer:
    """What an error of the client says about the next try.

    `config_advice` says what to do about a status.
    """
    if not isinstance(error, openai.APIStatusError):
        cause = error.__cause__
        detail = f"{error} ({cause})" if cause is not None and str(cause) else str(error)
        return NoAnswer(detail, may_pass=isinstance(error, openai.APIConnectionError))
    status, wait_s = error.status_code, wait_asked_for(error.response.headers)
    is_spent = _code(error) == "insufficient_quota"
    more: dict[str, Any] = {}
    if status in config_advice:
        more = {"advice": config_advice[status]}
    return NoAnswer(
        str(error)[: 2 * SHOWN_CHARS],
        may_pass=(status in MAY_PASS or status >= 500) and not is_spent,
        wait_s=wait_s,
        # Who is told to wait was not told that anything is wrong with the question.
        is_counted=status != 429 and wait_s is None,
        **more,
    )


def _code(error: openai.APIStatusError) -> object:
    return error.body.get("code") if isinstance(error.body, dict) else None


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """Seconds until the time that Retry-After names, as seconds or as a date; None without it."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
