"""Prompts -> groups of completions, by one vLLM engine in this process.

Invariant: every token carries the version of the weights that wrote it, a prefix cached under
one version is never read under another, and a group leaves the engine whole or not at all.

The engine starts from random weights: only a real first sync makes it the policy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from t2g_ray.types import Completion, FloatArray, Group, IntArray, Prompt
from t2g_ray.weights import Bucket, Manifest, WeightSyncError

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.v1.engine.output_processor import RequestState


CPU_BLOCK_SIZE = 32
"""Tokens of a block of the KV cache on a CPU. A group shares the whole blocks of its prompt, and
vLLM's own 128 are more than many prompts have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What one engine needs to start. `model` is a folder or hub name."""

    model: str
    dtype: str
    max_model_len: int
    max_sequences: int
    threads: int
    gpus: float
    tensor_parallel: int
    kv_cache_gib: float
    gpu_memory_utilization: float
    seed: int
    sampler: int
    load_weights: bool = False
    """Read the folder's weights at start (serving, evaluation) instead of waiting for a sync."""
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a group is written. Temperature 0 is greedy."""

    group_size: int
    temperature: float
    max_new_tokens: int
    top_p: float = 1.0
    seed: int | None = None
    """Draw from a generator of this request's own, so that a completion does not depend on what is
    written beside it; for groups of one. None: from the engine's generator."""
    json_schema: Mapping[str, Any] | None = None
    """Restrict the output to this JSON Schema."""
    ignore_eos: bool = False
    """Write on past the end token, so that every completion has `max_new_tokens`."""


@dataclass(slots=True)
class _OpenGroup:
    prompt: Prompt
    started_s: float
    request: str
    """vLLM's own name of the group."""
    spans: list[list[tuple[int, int]]]
    """For each completion (first token, version): where a new version began."""


class GenerationEngine:
    """One vLLM engine, stepped by the caller. Not thread-safe: one thread makes and uses it,
    because OpenMP keeps a pool of threads for each thread that calls it."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.version = -1
        self.num_generated_tokens = 0
        self._open: dict[int, _OpenGroup] = {}
        self._engine = _start_vllm(spec)

    @property
    def is_busy(self) -> bool:
        """Whether any group is unfinished."""
        return bool(self._open)

    @property
    def open_prompts(self) -> list[int]:
        """Indices of the prompts being worked on."""
        return sorted(self._open)

    def add(self, prompt: Prompt, sampling: Sampling) -> None:
        """Start a group. Raises ValueError when the prompt index is already open, and vLLM's own
        error for a prompt or sampling that it refuses; the engine is then as it was."""
        if prompt.index in self._open:
            raise ValueError(f"prompt {prompt.index} must be started once, it is already open")
        if not self._open:
            self._reseed(prompt.index)
        # One request for all completions: vLLM reads and checks the prompt once.
        request = self._engine.add_request(
            str(prompt.index),
            {"prompt_token_ids": list(prompt.token_ids), "cache_salt": self._salt},
            _sampling_parameters(sampling),
        )
        spans = [[(0, self.version)] for _ in range(sampling.group_size)]
        self._open[prompt.index] = _OpenGroup(prompt, time.time(), request, spans)

    def _reseed(self, first_index: int) -> None:
        # Sampling uses one generator for the process. Seeding it whenever work starts from
        # nothing makes a synchronous step a function of (seed, version, prompts) alone, so that
        # a resumed run repeats it bit for bit.
        import torch

        key = np.random.SeedSequence(
            # Evaluation numbers its prompts below zero.
            [self.spec.seed, self.spec.sampler, self.version + 1, first_index & 0xFFFFFFFF]
        )
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))

    def step(self) -> list[Group]:
        """Write one token for every running completion; return the groups that became whole."""
        return [self._close(output) for output in self._engine.step() if output.finished]

    def _close(self, output: RequestOutput) -> Group:
        group = self._open.pop(int(output.request_id))
        completions = tuple(_completion(one, group.spans[one.index]) for one in output.outputs)
        self.num_generated_tokens += sum(len(one.token_ids) for one in completions)
        return Group(
            prompt=group.prompt,
            completions=completions,
            sampler=self.spec.sampler,
            generate_s=time.time() - group.started_s,
        )

    def abort(self, indices: Iterable[int]) -> dict[int, list[int]]:
        """Forget those of these groups that are open.

        Returns, for each one, how many tokens each of its unfinished completions had.
        """
        lengths: dict[int, list[int]] = {i: [] for i in indices if i in self._open}
        for index, state in self._running():
            if index in lengths:
                lengths[index].append(_num_written(state))
        groups = [self._open.pop(index) for index in lengths]
        self._engine.abort_request([group.request for group in groups], internal=True)
        return lengths

    def load(self, manifest: Manifest, buckets: Sequence[Bucket], *, verify: bool) -> None:
        """Replace the weights under the running groups and stamp the version afterwards.

        Raises WeightSyncError naming the tensor; the old version then stays stamped and the
        engine must not be used until a whole sync succeeded.
        """
        if len(buckets) != manifest.num_buckets:
            raise WeightSyncError(
                f"version {manifest.version} must come in {manifest.num_buckets} buckets, "
                f"found {len(buckets)}"
            )
        self._call("start_weight_update")
        for number, bucket in enumerate(buckets):
            update = {"bucket": bucket, "entries": manifest.of_bucket(number)}
            self._call("update_weights", update)
        self._call("finish_weight_update")
        if verify:
            self._call(_verify_worker, manifest)
        self._mark_version(manifest.version)

    def _mark_version(self, version: int) -> None:
        for index, state in self._running():
            span = (_num_written(state), version)
            self._open[index].spans[state.request_index].append(span)
        self.version = version
        # Those that wait for their turn, or lost it, would read prefixes of the older weights.
        for request in self._engine.engine_core.engine_core.scheduler.requests.values():
            if request.num_computed_tokens == 0:
                request.cache_salt = self._salt
                request.block_hashes.clear()
                request.update_block_hashes()

    @property
    def _salt(self) -> str:
        """Keys cached prefixes by version: an old one cannot be hit."""
        return f"v{self.version}"

    def _running(self) -> Iterator[tuple[int, RequestState]]:
        """Every unfinished completion: its prompt's index and what vLLM keeps of it."""
        for state in self._engine.output_processor.request_states.values():
            yield int(state.external_req_id), state

    def verify(self, manifest: Manifest) -> None:
        """Check all layers against a manifest; raises WeightSyncError naming the tensor."""
        self._call(_verify_worker, manifest)

    def _call(self, method: Any, *arguments: Any) -> list[Any]:
        result: list[Any] = self._engine.collective_rpc(method, args=arguments)
        return result

    def close(self) -> None:
        """Release the engine's memory and child processes."""
        self._engine.engine_core.shutdown()


def _num_written(state: RequestState) -> int:
    # Only requests without text have no detokenizer.
    return 0 if state.detokenizer is None else state.detokenizer.num_output_tokens()


def _verify_worker(worker: Any, manifest: Manifest) -> int:
    from t2g_ray.weight_engine import verify_model

    return verify_model(worker.model_runner.model, manifest)


def _completion(output: CompletionOutput, spans: list[tuple[int, int]]) -> Completion:
    token_ids: IntArray = np.asarray(output.token_ids, dtype=np.int32)
    flat: Any = output.logprobs
    logprobs: FloatArray = np.asarray(flat.logprobs, dtype=np.float32)
    if logprobs.shape != token_ids.shape:
        raise RuntimeError(
            f"the engine must report one log-prob a token, found {logprobs.size} for "
            f"{token_ids.size} tokens"
        )
    versions: IntArray = np.empty_like(token_ids)
    for first, version in spans:
        versions[first:] = version
    return Completion(
        token_ids=token_ids,
        logprobs=logprobs,
        versions=versions,
        finish_reason="stop" if output.finish_reason == "stop" else "length",
    )


def _sampling_parameters(sampling: Sampling) -> Any:
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    structured = None
    if sampling.json_schema is not None:
        structured = StructuredOutputsParams(json=dict(sampling.json_schema))
    return SamplingParams(
        n=sampling.group_size,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        max_tokens=sampling.max_new_tokens,
        ignore_eos=sampling.ignore_eos,
        # 0: the sampled token's own log-prob and no others.
        logprobs=0,
        flat_logprobs=True,
        # Text is made once, by the reward actors, from the finished ids.
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=structured,
    )


def _start_vllm(spec: EngineSpec) -> Any:
    is_cpu = spec.gpus == 0
    # In process: no serialisation between scheduler and model, and one process to watch.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if is_cpu:
        # Left alone, every engine takes a share of all memory and may bind to the same core.
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(spec.kv_cache_gib)))
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        os.environ["OMP_NUM_THREADS"] = str(spec.threads)
    from vllm.config.weight_transfer import WeightTransferConfig
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    from t2g_ray.weight_engine import BACKEND, register

    register()
    arguments: dict[str, Any] = {
        "model": spec.model,
        "dtype": spec.dtype,
        "max_model_len": spec.max_model_len,
        "max_num_seqs": spec.max_sequences,
        "max_num_batched_tokens": max(4096, spec.max_model_len),
        "tensor_parallel_size": spec.tensor_parallel,
        "load_format": "auto" if spec.load_weights else "dummy",
        "weight_transfer_config": WeightTransferConfig(backend=BACKEND),
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": True,
        "generation_config": "vllm",
        "disable_log_stats": True,
        "seed": spec.seed,
        **(
            {"enforce_eager": True, "block_size": CPU_BLOCK_SIZE}
            if is_cpu
            else {"gpu_memory_utilization": spec.gpu_memory_utilization}
        ),
        **spec.more,
    }
    return LLMEngine.from_engine_args(EngineArgs(**arguments))
