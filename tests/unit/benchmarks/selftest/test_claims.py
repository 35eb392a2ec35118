"""Claims are decided by their checks, and those about GPUs by GPUs alone."""

from __future__ import annotations

import pytest

from benchmarks.selftest.claims import CLAIMS, claims_after
from benchmarks.selftest.outcome import Outcome, Verdict
from benchmarks.selftest.plan import ROWS
from t2g_ray.run.device.installed import Device


def outcomes(verdict: Verdict) -> list[Outcome]:
    found = "" if verdict == "passed" else "why"
    return [
        Outcome(name=row.name, shows=row.shows, verdict=verdict, seconds=0.0, found=found)
        for row in ROWS
    ]


def test_each_claim_has_an_id_of_its_own_and_a_check_that_exists() -> None:
    ids = [claim.id for claim in CLAIMS]
    assert len(set(ids)) == len(ids)
    assert {claim.by for claim in CLAIMS} <= {row.name for row in ROWS}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("verdict", "status"),
    [("passed", "confirmed"), ("failed", "refuted"), ("skipped", "not touched")],
)
def test_a_verdict_decides_what_this_device_can_decide(
    device: Device, verdict: Verdict, status: str
) -> None:
    needs_gpu = {claim.id: claim.needs_gpu for claim in CLAIMS}
    assert {True, False} == set(needs_gpu.values())
    for found in claims_after(outcomes(verdict), device):
        is_touched = device == "cuda" or not needs_gpu[found.id]
        assert found.status == (status if is_touched else "not touched")


def test_a_check_that_was_not_asked_for_touches_nothing() -> None:
    assert {found.status for found in claims_after([], "cuda")} == {"not touched"}
