"""Prompts -> groups of completions, by one vLLM engine in this process.

Invariant: every token carries the version of the weights that wrote it, a prefix cached under
one version is never read under another, and a group leaves the engine whole or not at all.

The engine starts from random weights: only a real first sync makes it the policy.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from t2g_ray.types import Completion, FloatArray, Group, IntArray, Prompt
from t2g_ray.weights import ByteArray, Manifest, WeightSyncError

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput


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
    json_schema: Mapping[str, Any] | None = None
    """Restrict the output to this JSON Schema."""
    ignore_eos: bool = False
    """Write on past the end token, so that every completion has `max_new_tokens`."""


@dataclass(slots=True)
class _OpenGroup:
    prompt: Prompt
    started_s: float
    spans: list[list[tuple[int, int]]]
    """For each completion (first token, version): where a new version began."""
    done: dict[int, Completion]


class GenerationEngine:
    """One vLLM engine, stepped by the caller. Not thread-safe: one thread makes and uses it,
    because OpenMP keeps a pool of threads for each thread that calls it."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.version = -1
        self.num_generated_tokens = 0
        self._open: dict[int, _OpenGroup] = {}
        # Our request id -> (prompt index, member, vLLM's own id).
        self._requests: dict[str, tuple[int, int, str]] = {}
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
        """Start a group. Raises ValueError when the prompt index is already open."""
        if prompt.index in self._open:
            raise ValueError(f"prompt {prompt.index} must be started once, it is already open")
        if not self._open:
            self._reseed(prompt.index)
        size = sampling.group_size
        first = [(0, self.version)]
        self._open[prompt.index] = _OpenGroup(
            prompt, time.time(), [list(first) for _ in range(size)], {}
        )
        parameters = _sampling_parameters(sampling)
        for member in range(size):
            name = f"{prompt.index}-{member}"
            request = self._engine.add_request(
                name,
                # The salt keys cached prefixes by version: an old one cannot be hit.
                {"prompt_token_ids": list(prompt.token_ids), "cache_salt": f"v{self.version}"},
                parameters,
            )
            self._requests[name] = (prompt.index, member, request)

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
        finished: list[Group] = []
        for output in self._engine.step():
            if not output.finished:
                continue
            group = self._close(output)
            if group is not None:
                finished.append(group)
        return finished

    def _close(self, output: RequestOutput) -> Group | None:
        index, member, _ = self._requests.pop(output.request_id)
        group = self._open[index]
        completion = _completion(output.outputs[0], group.spans[member])
        self.num_generated_tokens += len(completion.token_ids)
        group.done[member] = completion
        if len(group.done) < len(group.spans):
            return None
        del self._open[index]
        return Group(
            prompt=group.prompt,
            completions=tuple(group.done[i] for i in range(len(group.spans))),
            sampler=self.spec.sampler,
            generate_s=time.time() - group.started_s,
        )

    def abort_all(self) -> list[int]:
        """Forget all open groups; returns their prompt indices."""
        self._engine.abort_request([r for _, _, r in self._requests.values()], internal=True)
        while self._engine.has_unfinished_requests():
            self._engine.step()
        indices = sorted(self._open)
        self._open.clear()
        self._requests.clear()
        return indices

    def load(self, manifest: Manifest, buckets: Sequence[ByteArray], *, verify: bool) -> None:
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
        for number, data in enumerate(buckets):
            entries = tuple(entry for entry in manifest.entries if entry.bucket == number)
            self._call("update_weights", {"data": data, "entries": entries})
        self._call("finish_weight_update")
        if verify:
            self._call(_verify_worker, manifest)
        self._mark_version(manifest.version)

    def _mark_version(self, version: int) -> None:
        states = self._engine.output_processor.request_states
        for index, member, request in self._requests.values():
            num_written = len(states[request].detokenizer.output_token_ids)
            self._open[index].spans[member].append((num_written, version))
        self.version = version

    def verify(self, manifest: Manifest) -> None:
        """Check all layers against a manifest; raises WeightSyncError naming the tensor."""
        self._call(_verify_worker, manifest)

    def _call(self, method: Any, *arguments: Any) -> list[Any]:
        result: list[Any] = self._engine.collective_rpc(method, args=arguments)
        return result

    def close(self) -> None:
        """Release the engine's memory and child processes."""
        self._engine.engine_core.shutdown()


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
        temperature=sampling.temperature,
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
            {"enforce_eager": True}
            if is_cpu
            else {"gpu_memory_utilization": spec.gpu_memory_utilization}
        ),
        **spec.more,
    }
    return LLMEngine.from_engine_args(EngineArgs(**arguments))
