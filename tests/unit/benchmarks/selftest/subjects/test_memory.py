"""Memory of this very process."""

from __future__ import annotations

import pytest
import torch

from benchmarks.selftest.subjects.memory import memory_use


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts what is allocated on a GPU there")
def test_a_large_array_shows_while_it_is_held_and_stays_in_the_peak() -> None:
    before = memory_use()
    held = torch.ones(64 * 2**20 // 4)
    during = memory_use()
    assert during.now - before.now > 48
    del held
    after = memory_use()
    assert after.device == "cpu"
    assert after.peak >= during.now - 16
    assert after.now < during.now
