"""`t2g bench ...`: one function a benchmark, its own options in, rows out.

What is measured is imported inside the functions, so that --help responds at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from benchmarks.app import CONFIG, MODEL, SharedOptions, bench, bench_app
from benchmarks.inputs.policy import trained_model
from benchmarks.result import ResultRow
from benchmarks.sweep.files import write_sweep

__all__ = ["bench_app"]

Runs = Annotated[int, typer.Option(min=1, help="How many times everything is repeated.")]
Steps = Annotated[int, typer.Option(min=1, help="Counted steps of a run.")]
Staleness = Annotated[str, typer.Option(help="Values of max_staleness, separated by commas.")]


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts):
        raise ValueError(f"whole numbers with commas between them must be given, found {text!r}")
    return [int(part) for part in parts]


@bench()
def rollout(
    shared: SharedOptions,
    runs: Runs = 5,
    calls: Annotated[int, typer.Option(min=1, help="Steps' worth of prompts a run.")] = 4,
) -> Sequence[ResultRow]:
    """Generated tokens a second: a rollout actor against vLLM called directly."""
    settings = shared.settings()
    from benchmarks.speed import rollout as measured

    return measured.run(settings, runs=runs, calls=calls)


@bench()
def rewards(
    shared: SharedOptions,
    runs: Runs = 5,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps of the runs that give their share; 0: no runs.")
    ] = 10,
) -> Sequence[ResultRow]:
    """Completions graded a second by one thread, and the share of a GRPO step that this is."""
    settings = shared.settings(is_trained=steps > 0)
    from benchmarks.speed import rewards as measured

    rows = measured.run(settings, runs=runs)
    if steps:
        rows += measured.rows_of_steps(settings, runs=runs, steps=steps)
    return rows


@bench(without=MODEL)
def sync(
    shared: SharedOptions,
    runs: Runs = 5,
    sizes: Annotated[
        str, typer.Option(help="Random models to send: demo, 10m, 100m, 500m, smollm2-135m.")
    ] = "demo,10m,100m,500m",
) -> Sequence[ResultRow]:
    """Learner tensors to loaded sampler: bytes a second, messages, and where the time goes."""
    settings = shared.settings(is_trained=False)
    from benchmarks.speed import sync as measured

    return measured.run(settings, runs=runs, sizes=[size.strip() for size in sizes.split(",")])


@bench(without=("policy_steps",))
def learner(
    shared: SharedOptions,
    runs: Runs = 5,
    steps: Steps = 5,
    varlen: Annotated[
        bool, typer.Option("--varlen", help="Also measure learner.attention=varlen.")
    ] = False,
) -> Sequence[ResultRow]:
    """Tokens a second of the optimiser step in each layout, padding, share of the peak."""
    settings = shared.settings(is_trained=False)
    from benchmarks.speed import learner as measured

    layouts = ["joined", "packed", *(["varlen"] if varlen else [])]
    return measured.run(settings, runs=runs, steps=steps, layouts=layouts)


@bench()
def loop(
    shared: SharedOptions,
    runs: Runs = 3,
    steps: Annotated[int, typer.Option(min=0, help="Counted steps of a run; 0: none.")] = 40,
    staleness: Staleness = "1,2",
    fixed: Annotated[
        bool, typer.Option(help="Also run with completions of one fixed length.")
    ] = True,
    f1_steps: Annotated[
        int, typer.Option(min=0, help="Steps of the runs compared at equal F1; 0: none.")
    ] = 150,
    f1_every: Annotated[int, typer.Option(min=2, help="Steps between their evaluations.")] = 10,
) -> Sequence[ResultRow]:
    """Whole GRPO runs, synchronous and asynchronous: wall-clock, idle shares, equal F1."""
    settings = shared.settings()
    from benchmarks.speed import loop as measured

    return measured.run(
        settings,
        runs=runs,
        steps=steps,
        modes=measured.modes_of(_numbers(staleness), with_fixed=fixed),
        f1_steps=f1_steps,
        f1_every=f1_every,
    )


@bench()
def peers(
    shared: SharedOptions,
    runs: Runs = 3,
    steps: Steps = 20,
    staleness: Staleness = "0,1",
    trl_threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of TRL; all cores by default.")
    ] = None,
) -> Sequence[ResultRow]:
    """Completions consumed and trained a second, against TRL's GRPOTrainer on the same work."""
    settings = shared.settings()
    from benchmarks.peers import compare as measured

    return measured.run(
        settings, runs=runs, steps=steps, staleness=_numbers(staleness), trl_threads=trl_threads
    )


@bench(without=MODEL)
def scale(
    shared: SharedOptions,
    runs: Runs = 3,
    sizes: Annotated[str, typer.Option(help="Numbers of rollout actors.")] = "1,4,16,64",
    hosts: Annotated[
        int, typer.Option(min=0, help="Processes that the actors share; 0: one for each.")
    ] = 0,
    group_s: Annotated[float, typer.Option(min=0.001, help="Seconds of a simulated group.")] = 0.5,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of an actor and a step.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Steps of a run.")] = 5,
    queued: Annotated[
        int, typer.Option(min=1, help="Steps whose prompts the actors hold: 1 + max_staleness.")
    ] = 1,
) -> Sequence[ResultRow]:
    """Up to 1,024 rollout actors of known speed: what arrives, and what the driver pays a group."""
    settings = shared.settings(is_trained=False)
    from benchmarks.scale import messages as measured

    return measured.run(
        settings,
        runs=runs,
        sizes=_numbers(sizes),
        hosts=hosts,
        group_s=group_s,
        prompts_per_actor=prompts,
        rounds=rounds,
        queued=queued,
    )


@bench(without=(*CONFIG, *MODEL))
def simulate(
    shared: SharedOptions,
    runs: Runs = 1,
    sizes: Annotated[str, typer.Option(help="Numbers of rollout actors.")] = "64,1024",
    staleness: Staleness = "0,1,2,4",
    steps: Annotated[int, typer.Option(min=3, help="Steps of a run.")] = 20,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts of an actor and a step.")] = 8,
    group_size: Annotated[int, typer.Option(min=2, help="Completions of a prompt.")] = 16,
    median: Annotated[float, typer.Option(min=1, help="Median tokens of a completion.")] = 1500.0,
    sigma: Annotated[float, typer.Option(min=0, help="Spread of their logarithm.")] = 1.0,
    limit: Annotated[int, typer.Option(min=1, help="Most tokens of a completion.")] = 28672,
    pass_s: Annotated[float, typer.Option(min=0, help="Seconds of a pass of the model.")] = 0.0045,
    sequence_s: Annotated[
        float, typer.Option(min=0, help="Seconds more of a pass for each sequence in it.")
    ] = 0.00013,
    sequences: Annotated[int, typer.Option(min=1, help="Sequences that an engine writes.")] = 256,
    train_s: Annotated[
        float, typer.Option(min=0, help="Seconds that a learner as large as the samplers trains.")
    ] = 113.2,
    turns_train_s: Annotated[
        float, typer.Option(min=0, help="The same of one that also has the samplers' devices.")
    ] = 113.8,
) -> Sequence[ResultRow]:
    """Hours of a run with heavy-tailed answers, on a virtual clock: gain of staleness, faults."""
    from benchmarks.scale.virtual import study as measured
    from benchmarks.scale.virtual.costs import EngineCosts, Lengths, World

    engine = EngineCosts(pass_s=pass_s, sequence_s=sequence_s, most_sequences=sequences)
    lengths = Lengths(median=median, sigma=sigma, limit=limit)
    plan = measured.Plan(
        actors=_numbers(sizes),
        staleness=_numbers(staleness),
        world=World(actors=1, train_s_per_token=0.0, lengths=lengths, engine=engine),
        steps=steps,
        prompts_per_actor=prompts,
        group_size=group_size,
        train_s=train_s,
        turns_train_s=turns_train_s,
    )
    return measured.run(plan, runs=runs)


@bench(finish=write_sweep)
def sweep(
    shared: SharedOptions,
    rollouts: Annotated[
        str, typer.Option(help="Numbers of rollout actors, rising, separated by commas.")
    ] = "1,2,4,8",
    runs: Runs = 1,
    steps: Steps = 10,
) -> Sequence[ResultRow]:
    """The real loop at each number of rollout actors: what they give, and where they stop paying.

    The run folder of CONFIG gets sweep.json and the page sweep.html. Example:
    t2g bench sweep --rollouts 1,2,4,8 configs/cluster_8x.yaml run_dir=/shared/sweep
    """
    numbers = _numbers(rollouts)
    settings = shared.settings_of_run()
    from benchmarks.sweep import running as measured

    return measured.run(settings, numbers, runs=runs, steps=steps)


@bench(without=CONFIG)
def serve(
    shared: SharedOptions,
    runs: Runs = 3,
    clients: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 16,
    requests: Annotated[int, typer.Option(min=1, help="Requests of each run.")] = 160,
) -> Sequence[ResultRow]:
    """Requests a second of `t2g serve`, and their latency, against vLLM called directly."""
    model = trained_model(shared.policy)
    from benchmarks.speed import serve as measured

    return measured.run(model, runs=runs, clients=clients, requests=requests)


@bench(without=CONFIG)
def against(
    shared: SharedOptions,
    commit: Annotated[str, typer.Option(help="The code to compare with; anything git names.")],
    runs: Runs = 3,
    sft_steps: Annotated[int, typer.Option(min=5, help="SFT steps of a run.")] = 60,
    grpo_steps: Annotated[int, typer.Option(min=5, help="GRPO steps of a run.")] = 20,
) -> Sequence[ResultRow]:
    """Seconds a step of the demo's stages, here and with the code of another commit."""
    model = trained_model(shared.policy)
    from benchmarks.quality import against_commit as measured

    steps = {"sft": sft_steps, "grpo": grpo_steps}
    return measured.run(commit, runs=runs, steps=steps, model=model)


@bench()
def plan(
    shared: SharedOptions,
    runs: Runs = 1,
    steps: Steps = 6,
    stages: Annotated[str, typer.Option(help="sft, grpo, or both.")] = "sft,grpo",
    zero: Annotated[str, typer.Option(help="ZeRO stages, separated by commas.")] = "0,3",
    shape: Annotated[
        str | None,
        typer.Option(help="Random weights of this shape as the policy: demo, smollm2-135m, ..."),
    ] = None,
) -> Sequence[ResultRow]:
    """Plans from rates measured here against short real runs: tokens a second."""
    settings = shared.settings(is_trained=shape is None)
    from benchmarks.planned import compare

    if shape is not None:
        folder = compare.random_policy(shape, shared.cache)
        settings = settings.model_copy(update={"model": folder})
    named = [stage for stage in compare.STAGES if stage in stages.split(",")]
    return compare.run(settings, runs=runs, steps=steps, stages=named, zero_stages=_numbers(zero))
