"""An engine's share of a device, by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.rollout.sizing import (
    GIB,
    HEADROOM,
    NoRoom,
    check_learner_fits,
    engine_share,
    sequence_bytes,
)


def share(free: float, *, limit: float = 0.9, weights: float = 3, longest: float = 1) -> float:
    return engine_share(
        total=80 * GIB,
        free=int(free * GIB),
        weights=int(weights * GIB),
        longest=int(longest * GIB),
        limit=limit,
    )


def test_an_engine_gets_what_the_learner_leaves_less_what_its_process_needs() -> None:
    assert share(41) == 0.5  # 41 - 1 of 80
    assert share(21) == 0.25
    assert share(80) == 0.9  # the limit
    assert share(41, limit=0.3) == 0.3


def test_a_size_that_leaves_no_block_is_refused_with_what_to_change() -> None:
    assert share(5.1) == pytest.approx(4.1 / 80, abs=1e-4)
    with pytest.raises(NoRoom, match=r"3\.00 GiB \+ 1\.00 GiB, found 4\.00 GiB of 80\.00 GiB"):
        share(5)
    with pytest.raises(NoRoom, match=r"leaves 0\.50 GiB.*found 0\.00|found 0\.00.*leaves 0\.50"):
        share(0.5)
    with pytest.raises(NoRoom, match=r"gpu_memory_utilization=0\.04 allows 3\.20 GiB; lower"):
        share(41, limit=0.04)


@given(st.integers(1, 200 * GIB), st.floats(0, 1), st.floats(0.01, 1), st.integers(0, 8 * GIB))
def test_a_share_never_promises_more_than_is_free(
    total: int, free_share: float, limit: float, weights: int
) -> None:
    free = int(total * free_share)
    try:
        found = engine_share(total=total, free=free, weights=weights, longest=0, limit=limit)
    except NoRoom:
        assert min(free - HEADROOM, limit * total) <= weights + 1
        return
    assert found * total <= free - HEADROOM + 1e-6 * total
    assert found <= limit


def test_a_learner_that_does_not_fit_beside_a_sleeping_engine_is_refused() -> None:
    def fits(free: int, held: int, peak: int) -> None:
        check_learner_fits(total=80 * GIB, free=free * GIB, held=held * GIB, peak=peak * GIB)

    fits(60, 4, 64)
    with pytest.raises(NoRoom, match=r"64\.00 GiB, found 63\.00 GiB of 80\.00 GiB"):
        fits(59, 4, 64)


def config(**named: object) -> SimpleNamespace:
    text = SimpleNamespace(num_hidden_layers=24, num_attention_heads=14, hidden_size=896, **named)
    return SimpleNamespace(get_text_config=lambda: text)


def test_the_keys_and_values_of_a_sequence_follow_the_model() -> None:
    per_token = 2 * 24 * 64 * 2
    assert sequence_bytes(config(), tokens=10, number_bytes=2) == 10 * 14 * per_token
    grouped = config(num_key_value_heads=2, head_dim=128)
    assert sequence_bytes(grouped, tokens=10, number_bytes=2) == 10 * 2 * 2 * per_token
    assert sequence_bytes(config(kv_lora_rank=512), tokens=10, number_bytes=2) == 0
