"""Do weights arrive whole on each way, is each fault on it noticed by name, is nothing kept?"""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.selftest.outcome import Figure
from benchmarks.selftest.running import CheckFailed
from benchmarks.selftest.subjects.pair import Pair
from t2g_ray.types import SyncReport
from t2g_ray.weights.manifest import MIB

SLACK_MIB = {"cpu": 24.0, "cuda": 2.0}
"""What a process may take beside its weights: resident memory moves, torch's own count does not."""
MOST_SYNCS = 200


def transport(pair: Pair, name: str) -> list[Figure]:
    """A sync over this way with all tensors verified; then one tensor spoilt where it can be."""
    sent = pair.publish(name)
    _must_be_verified(sent)
    tensor = pair.tensor_to_spoil()
    pair.spoil_after_load(tensor)
    _must_name(tensor, lambda: pair.publish(name), "a tensor that lost its values after its load")
    _must_be_verified(pair.publish(name))
    pair.spoil_in_transit(tensor)
    _must_name(tensor, lambda: pair.publish(name), "one byte that changed on its way")
    return [
        Figure("sync_s", sent.seconds, "s"),
        Figure("sync_gb_per_s", sent.num_bytes / 1e9 / sent.seconds, "GB/s"),
        Figure("weights_mib", sent.num_bytes / MIB, "MiB"),
        Figure("buckets", sent.num_buckets, "count"),
    ]


def shards(pair: Pair) -> list[Figure]:
    """Every worker of an engine on several devices is proved: a fault on the last one is named."""
    sent = pair.publish()
    _must_be_verified(sent)
    tensor, rank = pair.tensor_to_spoil(), pair.config.rollout.tensor_parallel - 1
    pair.spoil_after_load(tensor, rank)
    message = _must_name(tensor, pair.publish, f"a tensor that worker {rank} lost after its load")
    if f"rank {rank}" not in message:
        raise CheckFailed(f"the failed sync must name rank {rank}, found {message!r}")
    _must_be_verified(pair.publish())
    return [Figure("workers", rank + 1, "count"), Figure("sync_s", sent.seconds, "s")]


def _must_be_verified(sent: SyncReport) -> None:
    if not sent.is_verified:
        raise CheckFailed("every tensor of this sync must be verified, found that none was")


def _must_name(tensor: str, sync: Callable[[], object], fault: str) -> str:
    try:
        sync()
    except Exception as error:  # boundary: what a sync raises is what is looked at
        cause = getattr(error, "cause", None) or error
        if tensor not in str(cause):
            raise CheckFailed(
                f"a sync with {fault} must fail by the name of {tensor}, found "
                f"{type(cause).__name__}: {cause}"
            ) from error
        return str(cause)
    raise CheckFailed(f"a sync with {fault} must fail, found that {tensor} went unnoticed")


def memory(pair: Pair) -> list[Figure]:
    """Syncs leave no copy of the weights behind; what each process held at most, by device."""
    size_mib = pair.publish("ipc").num_bytes / MIB
    pair.publish("ipc")
    before = pair.memory()
    # So many that a copy of each would be three times what memory moves by itself.
    count = min(MOST_SYNCS, max(6, math.ceil(3 * max(SLACK_MIB.values()) / size_mib)))
    for _ in range(count):
        pair.publish("ipc")
    after = pair.memory()
    figures = [Figure("weights_mib", size_mib, "MiB")]
    for actor, use in after.items():
        kind = use.device.partition(":")[0]
        grown = use.now - before[actor].now
        limit = max(SLACK_MIB[kind], size_mib * count / 2)
        if grown > limit:
            raise CheckFailed(
                f"{actor} must keep no weights of earlier syncs, found {grown:.0f} MiB more on "
                f"{use.device} after {count} syncs of {size_mib:.0f} MiB"
            )
        figures.append(Figure(f"peak_mib/{actor}/{use.device}", use.peak, "MiB"))
        figures.append(Figure(f"growth_mib/{actor}", grown, "MiB"))
    return figures
