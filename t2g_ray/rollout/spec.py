"""What an engine and a group need -> vLLM's own names for it.

Everything that the project asks of vLLM beyond its defaults is set here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from t2g_ray.config import GrpoConfig
from t2g_ray.rollout.adapters import AdapterSlots, adapter_arguments, adapter_slots
from t2g_ray.run.device.caches import keep_compiled
from t2g_ray.run.device.check import check_process
from t2g_ray.run.timing.profiled import Profiled
from t2g_ray.run.timing.startup import IMPORTS, WITHIN, note, part
from t2g_ray.types import Prompt
from t2g_ray.vllm_private.engine import check_passes_in_turn
from t2g_ray.vllm_private.parts import check_private_parts
from t2g_ray.vllm_private.startup import compile_seconds, timed_start

CPU_BLOCK_SIZE = 32
"""Tokens of a block of the KV cache on a CPU. A group shares the full blocks of its prompt, and
many prompts are shorter than vLLM's default of 128."""


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
    draft_tokens: int = 0
    """Tokens of a likely answer that one pass of the model checks; 0: tokens are written one by
    one."""
    pass_tokens: int = 4096
    """Most tokens that one pass of the model computes, those of the oldest groups first."""
    adapters: AdapterSlots | None = None
    """Room for the adapters of several versions; None: whole weights come."""
    takes_turns: bool = False
    """The engine sleeps while a learner has its device."""
    profiled: Profiled | None = None
    """Steps whose passes are profiled by vLLM."""
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How a group is written. Temperature 0 is greedy."""

    group_size: int
    temperature: float
    max_new_tokens: int
    top_p: float = 1.0
    seed: int | None = None
    """Seed of the group's chance; completion i takes seed + i. None: the engine derives one from
    (seed of the run, engine, version, prompt)."""
    grammar: str | None = None
    """Restrict the output to this grammar (EBNF as xgrammar reads it)."""
    ignore_eos: bool = False
    """Continue past the end token, so that every completion has `max_new_tokens`."""


def seed_of(spec: EngineSpec, sampling: Sampling, prompt: Prompt, *, version: int) -> int:
    """Seed of a group's first completion.

    A function of (seed, engine, version, prompt) alone: a resumed run repeats it bit for bit, what
    is written beside a group changes nothing in it, and no two engines draw alike.
    """
    if sampling.seed is not None:
        return sampling.seed
    key = [spec.seed, spec.sampler, version + 1, prompt.index]
    if prompt.purpose == "eval":
        key.append(1)
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)
    # vLLM adds the number of the completion, and takes what fits into 63 bits.
    return int(state[0]) >> 2


def sampling_parameters(sampling: Sampling, *, seed: int) -> Any:
    """vLLM's SamplingParams for one group, whose completions draw with `seed`, `seed` + 1, ...

    A request without a seed would be at the mercy of vLLM's model runners: one draws with the
    generator of its process, the other with seeds that are the same in every engine.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

    structured = None
    if sampling.grammar is not None:
        structured = StructuredOutputsParams(grammar=sampling.grammar)
    return SamplingParams(
        n=sampling.group_size,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=seed if sampling.temperature else None,  # greedy: there is no chance
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


def engine_arguments(spec: EngineSpec) -> dict[str, Any]:
    """Sizes and precision of the engine, as vLLM's engine arguments name them."""
    hardware: dict[str, Any] = (
        {
            "gpu_memory_utilization": spec.gpu_memory_utilization,
            # vLLM's build for CPUs refuses it: there is nothing to give up.
            "enable_sleep_mode": spec.takes_turns,
        }
        if spec.gpus
        # A prompt is read in one pass: vLLM takes back what a part of one drew, which generators
        # on CPUs cannot do.
        else {
            "enforce_eager": True,
            "block_size": CPU_BLOCK_SIZE,
            "enable_chunked_prefill": False,
        }
    )
    drafting: dict[str, Any] = {}
    pass_tokens = max(spec.pass_tokens, spec.max_model_len)
    # A pass that is under way while weights change would be counted as the new weights' work.
    in_turn: dict[str, Any] = {} if spec.load_weights else {"async_scheduling": False}
    # Inside an actor vLLM would otherwise ask Ray for further ones.
    ranks = {"distributed_executor_backend": "mp"} if spec.tensor_parallel > 1 else {}
    if spec.draft_tokens:
        drafting["speculative_config"] = {
            "method": "custom_class",
            "model": "t2g_ray.rollout.vllm_drafting.NoDrafts",
            "num_speculative_tokens": spec.draft_tokens,
        }
    if spec.draft_tokens and spec.adapters:
        # With adapters vLLM wants room for a whole guess of every completion in one pass.
        room = spec.max_sequences * (spec.draft_tokens + 1)
        drafting["max_num_batched_tokens"] = max(pass_tokens, room)
        drafting["max_num_scheduled_tokens"] = pass_tokens
    return {
        "model": spec.model,
        "dtype": spec.dtype,
        "max_model_len": spec.max_model_len,
        "max_num_seqs": spec.max_sequences,
        "max_num_batched_tokens": pass_tokens,
        "tensor_parallel_size": spec.tensor_parallel,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "seed": spec.seed,
        **hardware,
        **ranks,
        **drafting,
        **in_turn,
        **(adapter_arguments(spec.model, spec.adapters) if spec.adapters else {}),
        **spec.more,
    }


def load_libraries(spec: EngineSpec) -> None:
    """Import vLLM as the engine needs it; the device stays as it is.

    Raises DeviceError where the installed set or the process has not what the spec computes on,
    and PrivatePartsMissing.
    """
    is_cpu = spec.gpus == 0
    check_process("cpu" if is_cpu else "cuda")
    keep_compiled()
    # In process: no serialisation between scheduler and model, and one process to watch.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if is_cpu:
        # By default every engine takes a share of all memory, and may bind to the same core.
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(spec.kv_cache_gib)))
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        os.environ["OMP_NUM_THREADS"] = str(spec.threads)
    if spec.tensor_parallel > 1:
        # Ranks beyond the first are processes of their own. A copy of this one would have its
        # threads' locks without their threads.
        os.environ["VLLM_WORKER_MULTIPROCESSING_METHOD"] = "spawn"
    with part(IMPORTS):
        check_private_parts("engine")
        if spec.draft_tokens:
            check_private_parts("guesses")
        if spec.adapters is not None:
            check_private_parts("adapters")
        from vllm.v1.engine.llm_engine import LLMEngine as LLMEngine


def start_vllm(spec: EngineSpec) -> Any:
    """vLLM's LLMEngine in this process, which offers the project's weight transfer.

    Raises what `load_libraries` raises, before anything is loaded, PrivatePartsMissing by a worker
    once its model is, and ValueError for an engine that takes weights and would have passes under
    way meanwhile.
    """
    load_libraries(spec)
    from vllm.config.weight_transfer import WeightTransferConfig
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.engine.llm_engine import LLMEngine

    from t2g_ray.weights.vllm_backend import BACKEND, register

    register()
    arguments: dict[str, Any] = {
        "load_format": "auto" if spec.load_weights else "dummy",
        "weight_transfer_config": WeightTransferConfig(backend=BACKEND),
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        **_plain_experts(spec, EngineArgs),
        **_profiler(spec),
        **engine_arguments(spec),
    }
    with timed_start(part):
        engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
    if compiled_s := compile_seconds(engine):
        note(f"{WITHIN}compilation", time.time() - compiled_s, time.time())
    if not spec.load_weights:
        check_passes_in_turn(engine)
    return engine


def _plain_experts(spec: EngineSpec, arguments: type) -> dict[str, Any]:
    """On GPUs, kernels for experts that read them as a checkpoint has them, where weights come:
    vLLM's others want an order in which new ones cannot be loaded. Not yet run on a GPU."""
    # Models without experts take no notice; older releases have no such argument.
    is_asked = bool(spec.gpus) and not spec.load_weights and hasattr(arguments, "moe_backend")
    return {"moe_backend": "triton"} if is_asked else {}


def _profiler(spec: EngineSpec) -> dict[str, Any]:
    """vLLM's own profiler, which writes a file for each worker of the engine."""
    if spec.profiled is None:
        return {}
    from vllm.config.profiler import ProfilerConfig

    wanted = ProfilerConfig(
        profiler="torch",
        torch_profiler_dir=str(spec.profiled.folder),
        torch_profiler_with_stack=False,
        torch_profiler_with_memory=spec.profiled.has_memory,
    )
    return {"profiler_config": wanted}


def rollout_spec(
    config: GrpoConfig, model: str, *, sampler: int = 0, load_weights: bool = False
) -> EngineSpec:
    """The engine of rollout actor number `sampler`, as the configuration sizes it."""
    rollout = config.rollout
    # An evaluation may allow longer answers than training does.
    max_new_tokens = max(config.sampling.max_new_tokens, config.eval.max_new_tokens or 0)
    return EngineSpec(
        model=model,
        dtype=rollout.dtype,
        max_model_len=config.prompt.max_tokens + max_new_tokens,
        max_sequences=rollout.max_sequences,
        threads=rollout.threads,
        gpus=rollout.gpus,
        tensor_parallel=rollout.tensor_parallel,
        kv_cache_gib=rollout.kv_cache_gib,
        gpu_memory_utilization=rollout.gpu_memory_utilization,
        seed=config.seed,
        sampler=sampler,
        load_weights=load_weights,
        draft_tokens=rollout.num_guessed,
        pass_tokens=rollout.pass_tokens,
        adapters=None if load_weights else adapter_slots(config),
        takes_turns=config.colocate == "time" and not load_weights,
        profiled=config.profiled if sampler in config.profile.engines else None,
        more=rollout.engine,
    )


def sampling_of(config: GrpoConfig) -> Sampling:
    """How the configuration's groups are written."""
    return Sampling(
        group_size=config.group_size,
        temperature=config.sampling.temperature,
        max_new_tokens=config.sampling.max_new_tokens,
        ignore_eos=config.sampling.ignore_eos,
    )
