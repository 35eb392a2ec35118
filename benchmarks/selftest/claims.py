"""The findings of docs/gpu.md that a check can decide -> confirmed, refuted or not touched.

Invariant: a claim about GPUs is never decided by a run on CPUs, and one whose check was skipped
stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.selftest.outcome import ClaimOutcome, ClaimStatus, Outcome
from t2g_ray.run.device.installed import Device


@dataclass(frozen=True, slots=True)
class Claim:
    """A row of the table in docs/gpu.md, by its number there."""

    id: str
    says: str
    by: str
    """Name of the check."""
    needs_gpu: bool = True


CLAIMS = (
    Claim("gpu-1", "the set of packages for this device imports whole", "environment"),
    Claim("gpu-2", "learner and engine compute on the device asked for", "parity", needs_gpu=False),
    Claim("gpu-3", "the supervised stage trains on GPUs", "sft"),
    Claim(
        "gpu-5", "engines on several devices are proved whole", "tensor_parallel", needs_gpu=False
    ),
    Claim("gpu-7", "the default precisions agree to the gate's tolerance", "parity"),
    Claim("gpu-8", "learner and engine by shares lie on one GPU", "sync_ipc"),
    Claim("gpu-13", "two engines never draw alike, and each repeats itself", "seeds"),
    Claim("gpu-14", "an engine starts beside a learner on one GPU", "colocation"),
    Claim("gpu-16", "tokens carry the version that wrote them, in asynchronous runs", "loop_async"),
    Claim("gpu-19", "the learner's attention agrees with the engine's", "parity"),
    Claim("gpu-20", "weights go from GPU to GPU and every tensor is proved", "sync_broadcast"),
    Claim("gpu-22", "the engine sleeps while the learner trains, and wakes up whole", "colocation"),
    Claim("gpu-24", "driver, GPU and packages fit each other", "environment"),
)


def claims_after(outcomes: Sequence[Outcome], device: Device) -> tuple[ClaimOutcome, ...]:
    """Every claim with what these outcomes say of it."""
    verdicts = {outcome.name: outcome.verdict for outcome in outcomes}

    def status(claim: Claim) -> ClaimStatus:
        verdict = verdicts.get(claim.by)
        if (claim.needs_gpu and device == "cpu") or verdict in (None, "skipped"):
            return "not touched"
        return "confirmed" if verdict == "passed" else "refuted"

    return tuple(ClaimOutcome(one.id, one.says, status(one), one.by) for one in CLAIMS)
