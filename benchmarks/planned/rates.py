"""The actors of a configuration, started for some seconds -> the rates that plans are made from.

Engines and ranks are those of a run, all at once, so that what they take from each other is part of
the figures. Each side is measured with a small and a larger load, at most as large as a step's, and
the straight line through both says what lies between and beyond.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from actors.cluster.fleet import Fleet
from actors.cluster.handles import Handle, get_all
from actors.cluster.placement import connect
from actors.cluster.refusal import check_device
from actors.cluster.start import start_cluster
from actors.stages.weights import RayWeights
from actors.workers.learner import LearnerActor
from actors.workers.rollout import RolloutActor
from benchmarks.inputs.workload import completion_of, first_prompts
from benchmarks.speed.learner import Batch, shares_of, start_ranks
from t2g_ray.config import GrpoConfig, SftConfig, StageConfig, build_config
from t2g_ray.model.policy import resolve_model
from t2g_ray.model.tokenizer import load_tokenizer
from t2g_ray.planning.shapes import ModelShape, read_shape
from t2g_ray.planning.speed.lengths import Lengths
from t2g_ray.planning.speed.rates import EngineRates, Rates
from t2g_ray.planning.speed.work import forward_flops, passes_of
from t2g_ray.rollout.spec import Sampling, sampling_of
from t2g_ray.run.folder import RunDir
from t2g_ray.run.machine import usable_cores
from t2g_ray.types import Group, Prompt

MOST_GROUPS = 8
"""Of the larger load, for each engine or rank."""
LEAST_S, MOST_REPEATS = 2.0, 15
"""Steps of milliseconds are repeated, since single ones differ by half."""
NEVER = 10**9
"""Steps between verified syncs, after the first two, which are."""

Load = tuple[float, float]
"""How much was done, and the seconds that it took."""


def measure_rates(config: StageConfig, *, repeats: int = 2) -> Rates:
    """The rates of this machine for this model and these actors; takes about a minute on CPUs.

    Raises DeviceError and PlacementError where the actors cannot be started, and ValueError for a
    model whose shape is not known.
    """
    check_device(config.device)
    with tempfile.TemporaryDirectory(prefix="t2g_rates_") as folder, ExitStack() as ends:
        grpo = measured_grpo(config, Path(folder))
        connect(grpo.deadlines)
        model = resolve_model(grpo, RunDir(grpo.run_dir))
        shape = read_shape(model)
        if shape is None:
            raise ValueError(f"rates are measured for decoders of a known shape, found {model}")
        session = _Session(grpo, model, repeats)
        ranks: Sequence[Handle[LearnerActor]]
        if isinstance(config, SftConfig):
            own = grpo.learner
            ranks = start_ranks(grpo, model, own.packing, own.attention, gpus=own.gpus)
            ends.callback(_end, ranks)
            groups = session.gold_groups(MOST_GROUPS * len(ranks))
            engine = None
        else:
            cluster = ends.enter_context(closing(start_cluster(grpo, model, model)))
            ranks = cluster.learners
            publish = _publisher(grpo, ranks, cluster.fleet)
            publish()
            engine, groups = session.measure_engines(cluster.fleet)
        flops_per_s, fixed_s = session.measure_learner(config, shape, ranks, groups)
        if engine is not None:
            engine = replace(engine, sync_s=median(publish() for _ in range(repeats + 1)))
    answers = [len(one.token_ids) for group in groups for one in group.completions]
    return Rates(
        learner_flops_per_s=flops_per_s,
        learner_fixed_s=fixed_s,
        learner_crowding=_crowding(len(ranks) * config.learner.threads, grpo),
        parameters=shape.parameters,
        prompt_tokens=fmean(len(group.prompt.token_ids) for group in groups),
        answer_tokens=fmean(answers),
        longest_tokens=max(answers),
        engine=engine,
    )


def measured_grpo(config: StageConfig, folder: Path) -> GrpoConfig:
    """A configuration of GRPO with the same model and actors; SFT becomes one without its engines.

    Where engine and learner take turns on a device they are there at once while they are measured.
    """
    tree: dict[str, Any] = config.model_dump(mode="json")
    if isinstance(config, SftConfig):
        kept = ("device", "seed", "model", "data", "prompt", "learner", "deadlines")
        tree = {key: tree[key] for key in kept}
        tree["prompts_per_step"] = config.batch_size
        # SFT leaves out records that the budget has no room for.
        longest = min(config.prompt.max_tokens, config.learner.token_budget - 1)
        tree["prompt"] |= {"max_tokens": longest}
        tree["sampling"] = {"max_new_tokens": config.learner.token_budget - longest}
    elif config.learner.gpus and tree["colocate"] == "time":
        tree["colocate"] = "share"
    tree["run_dir"] = str(folder / "run")
    tree["sync"] = {**tree.get("sync", {}), "verify_every": NEVER}
    tree["max_staleness"] = 0
    return build_config(GrpoConfig, tree)


@dataclass(frozen=True, slots=True)
class _Session:
    """One configuration, and the prompts that were not asked yet."""

    config: GrpoConfig
    model: str
    repeats: int

    def measure_engines(self, fleet: Fleet) -> tuple[EngineRates, list[Group]]:
        """Rates of one engine while all of them write, and the groups that were written. The
        seconds of a sync are filled in later."""
        config = self.config
        share = min(MOST_GROUPS, -(-config.prompts_begun // len(fleet)))
        sizes = sorted({1, share})
        count = len(fleet) * (1 + (1 + self.repeats) * (share + 1))
        pairs = first_prompts(config, load_tokenizer(self.model), count)
        fresh = iter([prompt for prompt, _ in pairs])

        def ask(size: int, sampling: Sampling) -> tuple[list[Group], float]:
            asked = [[next(fresh) for _ in range(size)] for _ in fleet]
            return _write(fleet, asked, sampling)

        full = sampling_of(config)
        ask(1, full)
        one_token = replace(full, max_new_tokens=1)
        read, read_s = ask(share, one_token)
        prefill = sum(len(group.prompt.token_ids) for group in read) / len(fleet) / read_s
        points: list[tuple[float, float]] = []
        written: list[Group] = []
        for size in sizes:
            loads = []
            for _ in range(self.repeats):
                groups, seconds = ask(size, full)
                loads.append(_decoded(groups, seconds - read_s * size / share, len(fleet)))
            points.append((fmean(n for n, _ in loads), median(rate for _, rate in loads)))
            written = groups
        return (
            EngineRates(
                decode=tuple(sorted(points)),
                prefill_tokens_per_s=prefill,
                sync_s=1.0,
                crowding=_crowding(len(fleet) * config.rollout.cpus, config),
            ),
            written,
        )

    def gold_groups(self, count: int) -> list[Group]:
        """Prompts with their records' own answers, as SFT trains on them."""
        pairs = first_prompts(self.config, load_tokenizer(self.model), count)
        return [
            Group(
                prompt=prompt,
                completions=(completion_of(prompt.likely_ids),),
                sampler=0,
                generate_s=0.0,
            )
            for prompt, _ in pairs
        ]

    def measure_learner(
        self,
        config: StageConfig,
        shape: ModelShape,
        ranks: Sequence[Handle[LearnerActor]],
        groups: Sequence[Group],
    ) -> Load:
        """Operations a second of one rank, and the seconds of a step beside them."""
        passes = passes_of(config).total
        loads: list[Load] = []
        half = max(len(ranks), len(groups) // 4)
        for part in (groups, groups[:half], groups):
            batch = Batch(self.config, shares_of(self.config, part), ranks)
            is_alone = isinstance(config, SftConfig)
            seconds = median(_timed(batch, self.repeats, is_alone=is_alone))
            flops = passes * sum(_flops(group, shape, self.config) for group in part) / len(ranks)
            loads.append((flops, seconds))
        # The first batch allocates.
        return line_through(loads[1], loads[2])


def _timed(batch: Batch, repeats: int, *, is_alone: bool) -> list[float]:
    """Seconds of single steps, at least so many of them, and short ones for LEAST_S together.

    `is_alone`: as ranks take them that no driver calls, in SFT.
    """
    found: list[float] = []
    while len(found) < repeats or (sum(found) < LEAST_S and len(found) < MOST_REPEATS):
        found.append(batch.step().seconds if is_alone else batch.time_steps(1))
    return found


def line_through(small: Load, large: Load) -> Load:
    """Rate and fixed seconds of the straight line through both; without fixed ones where the
    larger load took no longer, or where they would be below 0."""
    (few, few_s), (many, many_s) = small, large
    if many <= few or many_s <= few_s:
        return many / many_s, 0.0
    rate = (many - few) / (many_s - few_s)
    fixed = many_s - many / rate
    return (rate, fixed) if fixed > 0 else (many / many_s, 0.0)


def _write(
    fleet: Fleet, asked: Sequence[Sequence[Prompt]], sampling: Sampling
) -> tuple[list[Group], float]:
    """All engines at once; seconds until the last of them is done."""
    started = time.perf_counter()
    streams = [
        handle.stream(RolloutActor.generate, prompts, sampling, -1)
        for handle, prompts in zip(fleet, asked, strict=True)
    ]
    arrived = [one for stream in streams for one in iter(stream.next, None)]
    seconds = time.perf_counter() - started
    return get_all(one for one in arrived if one is not None), seconds


def _decoded(groups: Sequence[Group], seconds: float, engines: int) -> Load:
    """Sequences that one engine wrote at a time, in the mean over its passes, and its tokens/s."""
    lengths = [len(one.token_ids) for group in groups for one in group.completions]
    of_one = sum(lengths) / engines
    return of_one / max(lengths), of_one / max(seconds, 1e-6)


def _flops(group: Group, shape: ModelShape, config: GrpoConfig) -> float:
    """Of one forward pass of the learner over the group."""
    answers = [len(one.token_ids) for one in group.completions]
    mean = Lengths(
        prompt=len(group.prompt.token_ids),
        answer=fmean(answers),
        longest=max(answers),
        source="measured",
    )
    prompts = 1 if config.learner.packing else len(answers)
    return forward_flops(shape, mean, num_prompts=prompts, num_answers=len(answers)).total


def _publisher(
    config: GrpoConfig, ranks: Sequence[Handle[LearnerActor]], fleet: Fleet
) -> Callable[[], float]:
    """A function that sends the weights once more, and returns the seconds of it."""
    weights = RayWeights(config, learners=ranks, fleet=fleet)
    versions = iter(range(1, NEVER))
    return lambda: weights.publish(next(versions)).seconds


def _crowding(threads: int, config: GrpoConfig) -> float:
    """Threads over cores, at least 1; actors on GPUs do not wait for cores."""
    return 1.0 if config.learner.gpus else max(1.0, threads / usable_cores())


def _end(ranks: Sequence[Handle[LearnerActor]]) -> None:
    for rank in ranks:
        rank.kill()
