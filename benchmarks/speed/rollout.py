"""Generated tokens a second: the product's rollout actor against vLLM called directly.

Both write the same prompts with the same sampling and log-probs, one step's share of a run at a
time, each engine in a process of its own with the same threads. They take turns, so that other load
on the machine affects both. A third engine is the actor as in a run, with guesses at the answers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from actors.cluster.handles import Handle, get_all, start_alone
from actors.cluster.placement import connect
from actors.cluster.refusal import check_device
from actors.workers.rollout import RolloutActor
from benchmarks.inputs.workload import first_prompts
from benchmarks.result import ResultRow, check_count, make_row, ratio_row, turns
from t2g_ray.config import GrpoConfig
from t2g_ray.model.policy import resolve_model
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.rollout.spec import EngineSpec, Sampling, engine_arguments, rollout_spec, sampling_of
from t2g_ray.run.folder import RunDir
from t2g_ray.types import Prompt


class BareVllm:
    """vLLM's own LLM class, with the engine settings of a rollout actor on the same hardware."""

    def __init__(self, spec: EngineSpec) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, round(spec.kv_cache_gib)))
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        from vllm import LLM

        self._llm = LLM(**engine_arguments(spec))

    def generate(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> tuple[int, float]:
        """Tokens written, and the seconds from the call to the last one."""
        from vllm import SamplingParams

        parameters = SamplingParams(
            n=sampling.group_size,
            temperature=sampling.temperature,
            max_tokens=sampling.max_new_tokens,
            ignore_eos=sampling.ignore_eos,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
        )
        inputs: Any = [{"prompt_token_ids": list(ids)} for ids in prompts]
        started = time.perf_counter()
        outputs = self._llm.generate(inputs, parameters, use_tqdm=False)
        seconds = time.perf_counter() - started
        completions = [one for output in outputs for one in output.outputs]
        check_count("completions", len(completions), len(prompts) * sampling.group_size)
        return sum(len(one.token_ids) for one in completions), seconds

    def num_threads(self) -> int:
        """Threads that PyTorch computes with here."""
        return num_threads()


def run(config: GrpoConfig, *, runs: int, calls: int = 4) -> list[ResultRow]:
    """Speed of one rollout actor and of bare vLLM, `calls` steps of prompts in each run.

    The rows with guesses are left out where the configuration allows none (GPUs).
    """
    check_device(config.device)
    connect()
    model = resolve_model(config, RunDir(config.run_dir))
    prompts_per_call = config.prompts_per_step
    first = first_prompts(config, load_tokenizer(model), (runs + 1) * calls * prompts_per_call)
    prompts = [prompt for prompt, _ in first]
    parts = [prompts[i : i + prompts_per_call] for i in range(0, len(prompts), prompts_per_call)]
    actors, bare = _start(config, model)
    sampling = sampling_of(config)
    rates: dict[str, list[float]] = {name: [] for name in ("vllm", *actors)}
    try:
        # The first round warms all up and is not counted.
        for number in range(runs + 1):
            mine = parts[number * calls : (number + 1) * calls]
            for name in turns(list(rates), number):
                if name == "vllm":
                    rate = _rate([_time_bare(bare, part, sampling) for part in mine])
                else:
                    rate = _rate([_time_actor(actors[name], part, sampling) for part in mine])
                if number:
                    rates[name].append(rate)
        _check_threads(actors, bare)
    finally:
        for actor in actors.values():
            actor.kill()
        bare.kill()
    return rows_of(rates)


def rows_of(rates: Mapping[str, Sequence[float]]) -> list[ResultRow]:
    """Tokens a second of each side in each run -> a row for each side, and over vLLM's."""
    rows = [make_row(f"generated_tokens_per_s/{n}", r, "tokens/s") for n, r in rates.items()]
    others = [name for name in rates if name != "vllm"]
    return [*rows, *(ratio_row(f"{n}_over_vllm", rates[n], rates["vllm"]) for n in others)]


def _check_threads(actors: Mapping[str, Handle[RolloutActor]], bare: Handle[BareVllm]) -> None:
    """Raises ValueError unless all sides compute with equally many threads."""
    calls = [actor.call(RolloutActor.call, num_threads) for actor in actors.values()]
    found = get_all([*calls, bare.call(BareVllm.num_threads)])
    if len(set(found)) > 1:
        raise ValueError(f"all sides must compute with as many threads, found {found}")


def num_threads(engine: object = None) -> int:
    """Threads that PyTorch computes with in this process."""
    import torch

    return torch.get_num_threads()


def _start(
    config: GrpoConfig, model: str
) -> tuple[dict[str, Handle[RolloutActor]], Handle[BareVllm]]:
    rollout = config.rollout
    # On GPUs both share the devices: they never work at the same time.
    share = config.model_copy(
        update={
            "rollout": rollout.model_copy(
                update={"gpu_memory_utilization": rollout.gpu_memory_utilization / 2}
            )
        }
    )
    spec = rollout_spec(share, model, load_weights=True)
    plain = replace(spec, draft_tokens=0)
    specs = {"actor": plain, **({"guesses": spec} if spec.draft_tokens else {})}
    threads, gpus = rollout.threads, rollout.gpus / 2
    actors = {
        name: start_alone(
            RolloutActor, one, name=name, threads=threads, gpus=gpus, max_concurrency=4
        )
        for name, one in specs.items()
    }
    if gpus:
        # vLLM counts what others take from its GPU while it starts as memory of its own.
        for actor in actors.values():
            actor.wait_until_ready()
    return actors, start_alone(BareVllm, plain, name="vllm", threads=threads, gpus=gpus)


def _time_actor(
    actor: Handle[RolloutActor], prompts: Sequence[Prompt], sampling: Sampling
) -> tuple[int, float]:
    started = time.perf_counter()
    stream = actor.stream(RolloutActor.generate, prompts, sampling, -1)
    arrived = list(iter(stream.next, None))
    seconds = time.perf_counter() - started
    groups = get_all(group for group in arrived if group is not None)
    completions = [completion for group in groups for completion in group.completions]
    check_count("completions", len(completions), len(prompts) * sampling.group_size)
    return sum(len(completion.token_ids) for completion in completions), seconds


def _time_bare(
    bare: Handle[BareVllm], prompts: Sequence[Prompt], sampling: Sampling
) -> tuple[int, float]:
    ids = [prompt.token_ids for prompt in prompts]
    return get_all([bare.call(BareVllm.generate, ids, sampling)])[0]


def _rate(calls: Sequence[tuple[int, float]]) -> float:
    return sum(tokens for tokens, _ in calls) / sum(seconds for _, seconds in calls)
