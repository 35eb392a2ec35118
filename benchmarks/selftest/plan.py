"""A session -> its checks, the important ones first, and about how long each of them takes.

What a check looks at is imported when it runs: on a machine where a package is broken, the first
check can still say which one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.selftest.outcome import Figure
from benchmarks.selftest.running import Check, CheckFailed
from benchmarks.selftest.session import Session
from t2g_ray.config import SftConfig, build_config

Figures = Sequence[Figure]

GPU_SLOWNESS = 3.0
"""Larger models, and engines that compile when they start."""
COUNTED_STEPS = 2
GPU_COMPLETION_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Row:
    """A check before it knows what it will run on."""

    name: str
    expected_s: float
    """On two cores, with the smallest model."""
    work: Callable[[Session], Figures]
    shows: str
    advice: str


def checks_of(session: Session, only: Sequence[str] = ()) -> list[Check]:
    """The checks of these names, or all of them, in the order of ROWS.

    Raises ValueError for a name that no check has.
    """
    names = [row.name for row in ROWS]
    if unknown := sorted(set(only) - set(names)):
        raise ValueError(f"checks must be among {', '.join(names)}, found {', '.join(unknown)}")
    factor = GPU_SLOWNESS if session.hardware.device == "cuda" else 1.0
    return [
        Check(
            name=row.name,
            shows=row.shows,
            work=partial(row.work, session),
            expected_s=factor * row.expected_s,
            advice=row.advice,
        )
        for row in ROWS
        if not only or row.name in only
    ]


def environment(session: Session) -> Figures:
    """What `t2g doctor` finds; a note is none that ends in failure."""
    found = session.findings()
    missing = [one for one in found if one.status == "missing"]
    if missing:
        raise CheckFailed("; ".join(f"{one.name}: {one.found} ({one.advice})" for one in missing))
    return [
        Figure("findings", len(found), "count"),
        Figure("notes", sum(one.status == "note" for one in found), "count"),
        Figure("gpus", session.hardware.num_gpus, "count"),
        Figure("gpu_memory", session.hardware.gpu_gib, "GiB"),
    ]


def parity(session: Session) -> Figures:
    from benchmarks.selftest.checks import agreement

    return agreement.parity(session.pair(), session.hardware.device)


def seeds(session: Session) -> Figures:
    from benchmarks.selftest.checks import agreement

    return agreement.seeds(session.pair())


def sync(name: str, session: Session) -> Figures:
    from benchmarks.selftest.checks import arrival

    return arrival.transport(session.pair(), name)


def broadcast(session: Session) -> Figures:
    """Between two devices. The last fault leaves a sender behind that nobody hears: both end."""
    from benchmarks.selftest.checks import arrival

    if session.hardware.device == "cpu":
        try:
            return arrival.transport(session.pair(), "broadcast")
        finally:
            session.free_devices()
    session.needs_gpus(2, "NCCL needs a GPU for each process")
    pair = session.new_pair(session.apart())
    try:
        return arrival.transport(pair, "broadcast")
    finally:
        pair.close()


def memory(session: Session) -> Figures:
    from benchmarks.selftest.checks import arrival

    return arrival.memory(session.pair())


def loop(max_staleness: int, session: Session) -> Figures:
    from benchmarks.selftest.checks import runs

    session.free_devices()
    apart = session.hardware.num_gpus > 1
    make = session.apart if apart else session.config
    return runs.loop(make(max_staleness=max_staleness), steps=COUNTED_STEPS)


def tensor_parallel(session: Session) -> Figures:
    from benchmarks.selftest.checks import agreement, arrival

    session.free_devices()
    pair = session.new_pair(session.spread())
    try:
        agreed = agreement.parity(pair, session.hardware.device)
        return [*agreed, *arrival.shards(pair)]
    finally:
        pair.close()


def colocation(session: Session) -> Figures:
    from benchmarks.selftest.checks import runs

    session.free_devices()
    return runs.turns(session.config(colocate="time"), steps=COUNTED_STEPS)


def sft(session: Session) -> Figures:
    from benchmarks.selftest.checks import runs

    session.free_devices()
    grpo = session.config()
    tree = {
        "device": session.hardware.device,
        "run_dir": str(session.work / "sft"),
        "model": session.model,
        "steps": 6,
        "batch_size": 8,
        "data": {"train_records": 64, "heldout": "none"},
        "prompt": grpo.prompt.model_dump(),
        "learner": {"optimizer": {"lr": grpo.learner.optimizer.lr}, "token_budget": 4096},
        "checkpoint": {"every": 0},
    }
    return runs.sft(build_config(SftConfig, tree))


def rollout_speed(session: Session) -> Figures:
    from benchmarks.selftest.checks import speed

    session.free_devices()
    return speed.rollout_speed(session.alone(), calls=2)


def rates(session: Session) -> Figures:
    from benchmarks.selftest.checks import speed

    session.free_devices()
    apart = session.hardware.num_gpus > 1
    return speed.rates(session.apart() if apart else session.config())


def learner_speed(session: Session) -> Figures:
    from benchmarks.selftest.checks import speed

    session.free_devices()
    is_gpu = session.hardware.device == "cuda"
    return speed.learner_speed(
        session.alone(),
        steps=3,
        card=session.hardware.gpu_name,
        completion_tokens=GPU_COMPLETION_TOKENS if is_gpu else None,
    )


REPORT_IT = "report selftest.json"
ROWS = (
    Row(
        "environment",
        15,
        environment,
        "packages, driver, memory and connections are there",
        "t2g doctor shows each finding and what to do about it",
    ),
    Row(
        "parity",
        25,
        parity,
        "learner and engine give the same log-probs to the same tokens",
        f"do not train in these precisions: {REPORT_IT}, and try float32 on both sides",
    ),
    Row(
        "sync_store",
        8,
        partial(sync, "store"),
        "weights arrive through the object store, each tensor proved and each fault named",
        f"do not use sync.transport=store here: {REPORT_IT}",
    ),
    Row(
        "sync_ipc",
        8,
        partial(sync, "ipc"),
        "weights arrive by shared memory of one device, each tensor proved and each fault named",
        f"do not use sync.transport=ipc here, store works everywhere: {REPORT_IT}",
    ),
    Row(
        "seeds",
        5,
        seeds,
        "an engine repeats itself, and two engines never draw alike",
        f"runs would not repeat, or all engines write the same: {REPORT_IT}",
    ),
    Row(
        "memory",
        8,
        memory,
        "syncs leave no copies of the weights behind",
        f"long runs would end without memory: {REPORT_IT}",
    ),
    Row(
        "sync_broadcast",
        10,
        broadcast,
        "weights arrive from device to device, each tensor proved and each fault named",
        "use sync.transport=store; NCCL_DEBUG=INFO shows what NCCL lacks",
    ),
    Row(
        "loop_sync",
        20,
        partial(loop, 0),
        "a synchronous run trains, with every invariant of the loop held",
        "the message names the invariant and the setting to look at",
    ),
    Row(
        "loop_async",
        20,
        partial(loop, 1),
        "an asynchronous run trains, with no group older than it may be",
        "train with max_staleness=0 until this passes",
    ),
    Row(
        "colocation",
        25,
        colocation,
        "learner and engine use one device in turns, and the engine wakes up whole",
        "use colocate=share, or colocate=off with a GPU for each",
    ),
    Row(
        "learner_speed",
        20,
        learner_speed,
        "the learner trains, and its share of the peak can be one",
        "t2g bench learner measures it alone",
    ),
    Row(
        "rollout_speed",
        30,
        rollout_speed,
        "the engine writes, beside vLLM by itself on the same prompts",
        "t2g bench rollout measures it alone",
    ),
    Row(
        "rates",
        30,
        rates,
        "an engine, a learner and a sync have rates that `t2g plan --rates` plans from",
        "t2g plan then goes by a table of cards",
    ),
    Row(
        "tensor_parallel",
        45,
        tensor_parallel,
        "every worker of an engine on two devices is proved by itself",
        f"use rollout.tensor_parallel=1: {REPORT_IT}",
    ),
    Row(
        "sft",
        15,
        sft,
        "the supervised stage trains on this device",
        "the message says what failed; only the learner is at work here",
    ),
)
