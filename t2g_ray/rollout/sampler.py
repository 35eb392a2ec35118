"""Requests from many callers -> one engine on one thread -> groups as they finish.

The thread alternates between its inbox and `engine.step()`, so new weights are applied between
two tokens of the running completions: they keep their place and go on with the new policy.

Invariants: a prompt that asks for version v starts under a version of at least v. It is held back
until then, whatever the order in which calls arrive. A call that fails, fails alone; a load that
fails takes the groups under way with it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from t2g_ray.rollout.engine import GenerationEngine
from t2g_ray.rollout.spec import EngineSpec, Sampling
from t2g_ray.run.trace import Span, Tracer
from t2g_ray.types import Group, Prompt
from t2g_ray.weights.channels import SharedBucket
from t2g_ray.weights.manifest import Bucket, Manifest, WeightSyncError


class SamplerStopped(RuntimeError):
    """The engine's thread ended; the message holds the reason."""


class PromptRefused(ValueError):
    """The engine cannot write a group as requested; the message holds the reason."""


Result = TypeVar("Result")
_Out = queue.SimpleQueue[Group | BaseException | None]
"""What a call waits for: a group, its own failure, or None for a group that was aborted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupRequest:
    prompt: Prompt
    sampling: Sampling
    min_version: int
    out: _Out


class SamplerThread:
    """Owns the engine. All methods may be called from any thread."""

    def __init__(
        self, spec: EngineSpec, *, start: Callable[[EngineSpec], Any] = GenerationEngine
    ) -> None:
        self._tracer = Tracer(f"rollout/{spec.sampler}")
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._held: list[_GroupRequest] = []
        self._outs: dict[str, _Out] = {}
        """Key of an open prompt -> where its group goes."""
        self._end: BaseException | None = None
        """Why the thread ended; set under the lock, so that no message comes after it."""
        self._lock = threading.Lock()
        self._is_closed = False
        self._version = -1
        self._working_since_s: float | None = None
        """Start of the work that no span covers yet; None while the engine has nothing to do."""
        self._traced = 0, 0
        """Tokens and passes that earlier spans already report."""
        self._trace_lock = threading.Lock()
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._run, args=(spec, start, ready), name="sampler", daemon=True
        )
        self._thread.start()
        ready.result()

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, *, min_version: int
    ) -> Iterator[Group]:
        """Start a group for each prompt; yield the groups in the order in which they finish.

        Aborted groups are left out. Raises PromptRefused, and forgets all groups of this call,
        where the engine refuses one of them; SamplerStopped when the thread ends.
        """
        out: _Out = queue.SimpleQueue()
        requests = [
            _GroupRequest(prompt=prompt, sampling=sampling, min_version=min_version, out=out)
            for prompt in prompts
        ]
        # One message for all of them: a synchronous step then always runs as the same batch.
        self._post(lambda: self._held.extend(requests))
        for _ in requests:
            item = out.get()
            if isinstance(item, BaseException):
                raise item
            if item is not None:
                yield item

    def abort(self, keys: Iterable[str]) -> dict[str, list[int]]:
        """Forget the groups of these prompts, those held back included.

        Returns, for each group that was not finished, how many tokens each of its unfinished
        completions had.
        """
        wanted = frozenset(keys)
        return self._call(lambda engine: self._abort(wanted))

    def _abort(self, keys: frozenset[str]) -> dict[str, list[int]]:
        held = [request for request in self._held if request.prompt.key in keys]
        self._held = [request for request in self._held if request.prompt.key not in keys]
        lengths: dict[str, list[int]] = self._engine.abort(keys)
        for out in [*(self._outs.pop(key) for key in lengths), *(one.out for one in held)]:
            out.put(None)
        return lengths | {request.prompt.key: [] for request in held}

    def load(
        self, manifest: Manifest, buckets: Sequence[Bucket | SharedBucket], *, verify: bool
    ) -> float:
        """Apply weights under the running groups; returns the seconds that loading took."""
        return self._update(manifest.version, lambda e: e.load(manifest, buckets, verify=verify))

    def receive(self, version: int, *, verify: bool) -> float:
        """Like `load`, with weights that come over the link."""
        return self._update(version, lambda e: e.receive(version, verify=verify))

    def _update(self, version: int, load: Callable[[GenerationEngine], None]) -> float:
        def between_tokens(engine: GenerationEngine) -> float:
            started = time.time()
            with self._tracer.span("load", step=version):
                try:
                    load(engine)
                except Exception as error:
                    self._give_up_open(error)
                    raise
            self._version = engine.version
            return time.time() - started

        return self._call(between_tokens)

    def _give_up_open(self, error: Exception) -> None:
        # What they have was written by the old version, and nothing can continue it.
        self._engine.abort(list(self._outs))
        outs, self._outs = self._outs, {}
        for out in outs.values():
            out.put(
                WeightSyncError(
                    f"the weights of {self._tracer.actor} must be replaced whole while it writes, "
                    f"found {error}"
                )
            )

    def call(self, function: Callable[[GenerationEngine], Result]) -> Result:
        """Run `function(engine)` on the engine's thread between two steps."""
        return self._call(function)

    def call_traced(self, name: str, function: Callable[[GenerationEngine], Result]) -> Result:
        """`call`, as a span of this name."""

        def traced(engine: GenerationEngine) -> Result:
            with self._tracer.span(name, step=self._version):
                return function(engine)

        return self._call(traced)

    def drain_spans(self) -> list[Span]:
        """Spans since the last call; work that is going on is split in two here."""
        # Asking the engine's thread would wait for its step to end.
        with self._trace_lock:
            self._trace_work()
        return self._tracer.drain()

    def _trace_work(self) -> None:
        if self._working_since_s is None:
            return
        now_s = max(time.time(), self._working_since_s)  # clocks are sometimes set back
        counts = self._engine.num_generated_tokens, self._engine.num_passes
        tokens, passes = (now - old for now, old in zip(counts, self._traced, strict=True))
        self._tracer.add(
            Span(
                name="generate",
                start_s=self._working_since_s,
                end_s=now_s,
                actor=self._tracer.actor,
                step=self._version,
                args={"tokens": tokens, "passes": passes},
            )
        )
        self._working_since_s, self._traced = now_s, counts

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

    def _call(self, function: Callable[[GenerationEngine], Result]) -> Result:
        future: Future[Result] = Future()

        def command() -> None:
            # Boundary: a failed call concerns its caller alone; the thread goes on.
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
        # Late calls find the thread ended; late prompts join those that are held back.
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
        ready = [request for request in self._held if request.min_version <= self._version]
        self._held = [request for request in self._held if request.min_version > self._version]
        refused: set[_Out] = set()
        for request in ready:
            if request.out in refused:
                continue
            # Boundary: what the engine refuses fails its own call.
            try:
                self._engine.add(request.prompt, request.sampling)
            except Exception as error:
                refused.add(request.out)
                self._refuse(request, error)
            else:
                self._outs[request.prompt.key] = request.out

    def _refuse(self, request: _GroupRequest, error: Exception) -> None:
        # Nobody waits for the rest of the call.
        keys = [key for key, out in self._outs.items() if out is request.out]
        for key in self._engine.abort(keys):
            del self._outs[key]
        reason = PromptRefused(
            f"{self._tracer.actor} must be able to write prompt {request.prompt.key} "
            f"({len(request.prompt.token_ids)} tokens) with {request.sampling}, found "
            f"{type(error).__name__}: {error}"
        )
        reason.__cause__ = error
        request.out.put(reason)

    def _work(self) -> None:
        # One span from the first token to the next moment without work or with new messages.
        with self._trace_lock:
            self._working_since_s = time.time()
        while self._engine.is_busy and self._inbox.empty():
            for group in self._engine.step():
                self._outs.pop(group.prompt.key).put(group)
        with self._trace_lock:
            self._trace_work()
            self._working_since_s = None
