"""vLLM's engine -> the completions that it is writing, in the project's words.

Invariant: nothing is kept between calls; a result describes the moment of its call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.engine.output_processor import RequestState
    from vllm.v1.request import Request


@dataclass(frozen=True, slots=True)
class RunningCompletion:
    """An unfinished completion. Example: RunningCompletion(group="7", member=0, num_written=12)."""

    group: str
    """The name that its request was added under."""
    member: int
    num_written: int


@dataclass(frozen=True, slots=True)
class BegunCompletion:
    """An unfinished completion that has at least one token, so that a guess can follow it."""

    group: str
    token_ids: Sequence[int]
    max_tokens: int
    _request: Request

    def offer_guess(self, token_ids: list[int]) -> None:
        """Let the next pass check whether the completion goes on like this."""
        self._request.spec_token_ids = token_ids


def running_completions(engine: LLMEngine) -> Iterator[RunningCompletion]:
    """Every unfinished completion."""
    for state in _states(engine).values():
        detokenizer = state.detokenizer
        # Pooling requests alone have none.
        num_written = 0 if detokenizer is None else detokenizer.num_output_tokens()
        yield RunningCompletion(state.external_req_id, state.request_index, num_written)


def num_running(engine: LLMEngine) -> int:
    """How many completions are unfinished."""
    return len(_states(engine))


def begun_completions(engine: LLMEngine) -> Iterator[BegunCompletion]:
    """Those unfinished completions to which a guess can be offered."""
    requests = _requests(engine)
    for name, state in _states(engine).items():
        request = requests[name]
        if request.num_output_tokens:
            yield BegunCompletion(
                state.external_req_id, request.output_token_ids, request.max_tokens, request
            )


def rekey_waiting_requests(engine: LLMEngine, rekey: Callable[[str], str]) -> None:
    """Change, by `rekey`, the salt of all requests that have read nothing yet or were preempted:
    none of them will hit a prefix that was cached under its old salt."""
    for request in _requests(engine).values():
        if request.num_computed_tokens == 0:
            # vLLM's hashes depend on the salt and are computed only once.
            request.cache_salt = rekey(request.cache_salt or "")
            request.block_hashes.clear()
            request.update_block_hashes()


def check_passes_in_turn(engine: LLMEngine) -> None:
    """Raises ValueError where passes may be under way between two steps of the engine.

    Their tokens are written by the weights of before and come out after newer ones were loaded, so
    no count of written tokens says which version wrote which.
    """
    if _core(engine).batch_queue is not None:
        raise ValueError(
            "an engine that takes weights must finish each pass before it begins another, found "
            "asynchronous scheduling or several pipeline stages; leave async_scheduling and "
            "pipeline_parallel_size out of rollout.engine"
        )


def vocabulary_size(engine: LLMEngine) -> int:
    """Width of a row of logits."""
    return engine.vllm_config.model_config.get_vocab_size()


def shut_down(engine: LLMEngine) -> None:
    """Release memory and child processes."""
    engine.engine_core.shutdown()


def _states(engine: LLMEngine) -> Mapping[str, RequestState]:
    return engine.output_processor.request_states


def _requests(engine: LLMEngine) -> Mapping[str, Request]:
    requests: Mapping[str, Request] = _core(engine).scheduler.requests
    return requests


def _core(engine: LLMEngine) -> Any:
    # Any: that the engine runs in this process is not part of its type.
    client: Any = engine.engine_core
    return client.engine_core
