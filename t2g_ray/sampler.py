"""Requests from many callers -> one engine on one thread -> groups as they finish.

The thread alternates between its inbox and `engine.step()`, so new weights are applied between
two tokens of the running completions: they keep their place and go on with the new policy.

Invariant: a prompt that asks for version v starts under a version of at least v. It is held back
until then, whatever the order in which calls arrive.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from t2g_ray.engine import EngineSpec, GenerationEngine, Sampling
from t2g_ray.trace import Span, Tracer
from t2g_ray.types import Group, Prompt
from t2g_ray.weights import ByteArray, Manifest


class SamplerStopped(RuntimeError):
    """The engine's thread ended; the message holds the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    prompt: Prompt
    sampling: Sampling
    min_version: int
    out: queue.SimpleQueue[Group | BaseException]


class SamplerThread:
    """Owns the engine. All methods may be called from any thread."""

    def __init__(
        self, spec: EngineSpec, *, start: Callable[[EngineSpec], Any] = GenerationEngine
    ) -> None:
        self._tracer = Tracer(f"rollout/{spec.sampler}")
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._held: list[_Request] = []
        self._outs: dict[int, queue.SimpleQueue[Group | BaseException]] = {}
        self._end: BaseException | None = None
        """Why the thread ended; set under the lock, so that no message comes after it."""
        self._lock = threading.Lock()
        self._is_closed = False
        self._version = -1
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(spec, start, ready), name="sampler", daemon=True
        )
        self._thread.start()
        ready.result()

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, min_version: int
    ) -> Iterator[Group]:
        """Start a group for each prompt; yield the groups in the order in which they finish."""
        out: queue.SimpleQueue[Group | BaseException] = queue.SimpleQueue()
        requests = [
            _Request(prompt=prompt, sampling=sampling, min_version=min_version, out=out)
            for prompt in prompts
        ]
        # One message for all of them: a synchronous step then always runs as the same batch.
        self._post(lambda: self._held.extend(requests))
        for _ in requests:
            item = out.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def load(self, manifest: Manifest, buckets: Sequence[ByteArray], *, verify: bool) -> float:
        """Apply weights under the running groups; returns the seconds it took them to load."""
        return float(self._call(lambda engine: self._load(engine, manifest, buckets, verify)))

    def _load(
        self,
        engine: GenerationEngine,
        manifest: Manifest,
        buckets: Sequence[ByteArray],
        verify: bool,
    ) -> float:
        started = time.time()
        with self._tracer.span("load", step=manifest.version):
            engine.load(manifest, buckets, verify=verify)
        self._version = engine.version
        return time.time() - started

    def call(self, function: Callable[[Any], Any]) -> Any:
        """Run `function(engine)` on the engine's thread between two steps."""
        return self._call(function)

    def drain_spans(self) -> list[Span]:
        """Spans up to now since the last call; one under way is cut here and goes on after."""
        self._call(lambda engine: None)
        return self._tracer.drain()

    def close(self) -> None:
        """End the thread and release the engine; callers still waiting get SamplerStopped."""
        with suppress(SamplerStopped):
            self._post(self._stop)
        self._thread.join()

    def _stop(self) -> None:
        self._is_closed = True

    def _post(self, command: Callable[[], None]) -> None:
        with self._lock:
            self._check_running()
            self._inbox.put(command)

    def _check_running(self) -> None:
        if self._end is not None:
            raise SamplerStopped(
                f"the sampler must run, found it ended by {type(self._end).__name__}: {self._end}"
            )

    def _call(self, function: Callable[[Any], Any]) -> Any:
        future: Future[Any] = Future()

        def command() -> None:
            # Boundary: a failed call is its caller's, the thread goes on.
            try:
                self._check_running()
                future.set_result(function(self._engine))
            except Exception as error:
                future.set_exception(error)

        self._post(command)
        return future.result()

    def _run(
        self, spec: EngineSpec, start: Callable[[EngineSpec], Any], ready: Future[None]
    ) -> None:
        # Boundary: whatever ends this thread is handed to every waiting caller.
        try:
            self._engine: Any = start(spec)
            ready.set_result(None)
            while not self._is_closed:
                self._read_inbox()
                self._admit()
                if self._engine.is_busy:
                    self._work()
            self._engine.close()
            self._tell_waiting(SamplerStopped("it was closed"))
        except BaseException as error:
            if ready.done():
                self._tell_waiting(error)
            else:
                ready.set_exception(error)

    def _tell_waiting(self, end: BaseException) -> None:
        with self._lock:
            self._end = end
        # Calls that came too late are refused; prompts join those that are held.
        while not self._inbox.empty():
            self._inbox.get()()
        for out in [*self._outs.values(), *(request.out for request in self._held)]:
            out.put(SamplerStopped(f"{type(end).__name__}: {end}"))

    def _read_inbox(self) -> None:
        if not self._engine.is_busy and not self._is_closed:
            self._inbox.get()()
        while not self._inbox.empty():
            self._inbox.get()()

    def _admit(self) -> None:
        waiting: list[_Request] = []
        for request in self._held:
            if request.min_version > self._version:
                waiting.append(request)
                continue
            self._outs[request.prompt.index] = request.out
            self._engine.add(request.prompt, request.sampling)
        self._held = waiting

    def _work(self) -> None:
        # One span from the first token to the next moment without work or with new messages.
        started, num_before = time.time(), self._engine.num_generated_tokens
        while self._engine.is_busy and self._inbox.empty():
            for group in self._engine.step():
                self._outs.pop(group.prompt.index).put(group)
        self._tracer.add(
            Span(
                name="generate",
                start_s=started,
                end_s=time.time(),
                actor=self._tracer.actor,
                step=self._version,
                args={"tokens": self._engine.num_generated_tokens - num_before},
            )
        )
