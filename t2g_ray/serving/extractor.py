"""Requests -> answers, by one model on one engine in this process.

Invariant: whatever could end the engine's thread is refused before it gets there, because that
thread serves all callers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

from t2g_ray.graph import Graph
from t2g_ray.graph.constrained import graph_grammar
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.prompts.control import ControlInText
from t2g_ray.prompts.messages import PromptTooLong, encode_prompt
from t2g_ray.prompts.settings import PromptSettings, read_prompt_settings
from t2g_ray.rollout.greedy import local_spec
from t2g_ray.rollout.sampler import SamplerStopped, SamplerThread
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.serving.answer import to_answer
from t2g_ray.serving.failures import noted
from t2g_ray.serving.schema import (
    ExtractedAnswer,
    ExtractRequest,
    ExtractResponse,
    Health,
    Timing,
    Tokens,
)
from t2g_ray.types import Group, Prompt, Record

_NO_GRAPH = Graph((), ())


class RequestRefused(ValueError):
    """The request must be changed. Carries the field at fault and what must hold."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(field, message)
        self.field = field
        self.message = message

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractorSpec:
    """One model as it is served. `None` means as the model's folder says."""

    model: str
    max_prompt_tokens: int
    max_new_tokens: int | None
    num_threads: int | None
    """Threads of the engine; None takes all cores."""


def check_served_model(spec: ExtractorSpec) -> None:
    """Raises ValueError for a model that cannot be served, before anything is started."""
    load_tokenizer(spec.model)
    _engine_of(spec)


def _engine_of(spec: ExtractorSpec) -> tuple[PromptSettings, EngineSpec]:
    own = read_prompt_settings(spec.model)
    engine = local_spec(
        spec.model,
        max_prompt_tokens=spec.max_prompt_tokens,
        max_new_tokens=spec.max_new_tokens or own.max_new_tokens,
    )
    return own, replace(engine, threads=spec.num_threads or engine.threads)


class Extractor:
    """Owns the engine and the tokenizer. All methods block and may be called from any thread."""

    def __init__(
        self,
        spec: ExtractorSpec,
        *,
        tokenizer: Any = None,
        start: Callable[[EngineSpec], Any] | None = None,
    ) -> None:
        self._own, engine = _engine_of(spec)
        self._max_new_tokens = spec.max_new_tokens or self._own.max_new_tokens
        # Clients need to tell models apart, not where they lie.
        self._model = Path(spec.model).resolve().name if Path(spec.model).exists() else spec.model
        self._max_prompt_tokens = engine.max_model_len - self._max_new_tokens
        self._tokenizer = tokenizer or load_tokenizer(spec.model)
        self._sampler = (
            SamplerThread(engine) if start is None else SamplerThread(engine, start=start)
        )
        self._numbers = count()
        self._answered_s: float | None = None
        self._prober = ThreadPoolExecutor(1, thread_name_prefix="probe")
        self._probe: Future[None] | None = None
        self._probe_lock = Lock()

    def extract(self, request: ExtractRequest) -> ExtractResponse:
        """Answer all texts of a request; they run side by side with those of other requests.

        Raises RequestRefused for a text whose prompt does not fit, SamplerStopped when the
        engine ended.
        """
        started = time.perf_counter()
        thinking = self._is_thinking(request)
        text_of: dict[Prompt, str] = {}
        for place, text in enumerate(request.all_texts):
            field = f"texts.{place}" if request.texts else "text"
            text_of[self._prompt(text, request, thinking, field)] = text
        sampling = Sampling(
            group_size=1,
            temperature=0.0,
            max_new_tokens=self._max_new_tokens,
            grammar=graph_grammar(request.entity_types, request.relation_types)
            if request.constrained
            else None,
        )
        answers: dict[Prompt, ExtractedAnswer] = {}
        for group in self._groups(list(text_of), sampling):
            waited_s = time.perf_counter() - started - group.generate_s
            text = text_of[group.prompt]
            answers[group.prompt] = self._answer(text, group, request, thinking, waited_s)
        return ExtractResponse(
            model=self._model,
            answers=[answers[prompt] for prompt in text_of],
            total_ms=_milliseconds(time.perf_counter() - started),
        )

    def _groups(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[Group]:
        try:
            for group in self._sampler.generate(prompts, sampling, min_version=-1):
                self._answered_s = time.monotonic()
                yield group
        except SamplerStopped:
            # What came out before says nothing about an engine that has ended.
            self._answered_s = None
            raise

    def _is_thinking(self, request: ExtractRequest) -> bool:
        if request.constrained:
            return False
        return self._own.thinking if request.thinking is None else request.thinking

    def _prompt(self, text: str, request: ExtractRequest, thinking: bool, field: str) -> Prompt:
        record = Record(
            text=text,
            entity_types=tuple(request.entity_types),
            relation_types=tuple(request.relation_types),
            graph=_NO_GRAPH,
        )
        try:
            token_ids = encode_prompt(
                self._tokenizer,
                # Training texts have no blanks around them; offsets stay those of the request.
                replace(record, text=text.strip()),
                style=self._own.style,
                thinking=thinking,
                max_tokens=self._max_prompt_tokens,
            )
        except PromptTooLong as error:
            raise RequestRefused(
                field,
                f"text and types must fit in {error.max_tokens} tokens of this model, found "
                f"{error.num_tokens}; cut the text into parts",
            ) from None
        except ControlInText as error:
            raise RequestRefused(field, str(error)) from None
        return Prompt(index=next(self._numbers), token_ids=token_ids, purpose="eval")

    def _answer(
        self, text: str, group: Group, request: ExtractRequest, thinking: bool, waited_s: float
    ) -> ExtractedAnswer:
        completion = group.completions[0]
        token_ids = completion.token_ids.tolist()
        if completion.finish_reason == "length" and len(token_ids) < self._max_new_tokens:
            raise RuntimeError(
                f"the engine must write an end or {self._max_new_tokens} tokens, it gave up after "
                f"{len(token_ids)}; its log says why"
            )
        return to_answer(
            text,
            self._tokenizer.decode(token_ids, skip_special_tokens=True),
            is_constrained=request.constrained,
            thinking=thinking,
            tokens=Tokens(prompt=len(group.prompt.token_ids), generated=len(token_ids)),
            timing=Timing(
                queue=_milliseconds(max(0.0, waited_s)), generate=_milliseconds(group.generate_s)
            ),
        )

    def health(self, *, max_age_s: float, timeout_s: float) -> Health:
        """Whether the engine answered in the last `max_age_s`, or writes a token within
        `timeout_s`.

        A probe that hangs is waited for again, so that they never pile up.
        """
        age_s = self._age_s()
        if age_s is not None and age_s <= max_age_s:
            return Health(healthy=True, seconds_since_answer=age_s)
        with self._probe_lock:
            if self._probe is None or self._probe.done():
                self._probe = self._prober.submit(self._write_one_token)
            probe = self._probe
        # Boundary: an engine that fails in any way is unhealthy, and the reason is the answer.
        try:
            probe.result(timeout_s)
        except FutureTimeout:
            return self._unhealthy(f"no token came out within {timeout_s:g} s")
        except Exception as error:
            return self._unhealthy(noted("the engine failed", error))
        return Health(healthy=True, seconds_since_answer=self._age_s())

    def _age_s(self) -> float | None:
        return None if self._answered_s is None else time.monotonic() - self._answered_s

    def _unhealthy(self, message: str) -> Health:
        return Health(healthy=False, seconds_since_answer=self._age_s(), message=message)

    def _write_one_token(self) -> None:
        record = Record(text="a", entity_types=("a",), relation_types=(), graph=_NO_GRAPH)
        token_ids = encode_prompt(
            self._tokenizer, record, style="compact", thinking=False, max_tokens=None
        )
        prompt = Prompt(index=next(self._numbers), token_ids=token_ids, purpose="eval")
        sampling = Sampling(group_size=1, temperature=0.0, max_new_tokens=1)
        for _ in self._groups([prompt], sampling):
            pass

    def close(self) -> None:
        """End the engine's thread and release its memory."""
        self._sampler.close()
        self._prober.shutdown(wait=False)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
