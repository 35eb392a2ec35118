"""What each token sees through the padded calls, against the definition; and how much is padded."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.model import packing
from t2g_ray.model.packing import MAX_WASTE, Packing, Segment, pack


@st.composite
def rows(draw: st.DrawFn) -> list[Segment]:
    """Prompts, each with the completions that continue it."""
    lengths = st.integers(1, 9)
    segments: list[Segment] = []
    start = 0
    for _ in range(draw(st.integers(1, 5))):
        prompt = Segment(start=start, length=draw(lengths))
        segments.append(prompt)
        start += prompt.length
        for length in draw(st.lists(lengths, max_size=4)):
            segments.append(
                Segment(
                    start=start,
                    length=length,
                    prefix_start=prompt.start,
                    prefix_length=prompt.length,
                )
            )
            start += length
    return segments


def seen_by_token(packed: Packing) -> list[list[int]]:
    """Places of the row whose keys each token's query meets."""
    seen: list[list[int]] = []
    for call in packed.calls:
        for row, queries in enumerate(call.queries):
            for step in range(len(queries)):
                if call.mask is None:
                    seen.append(call.keys[row, : step + 1].tolist())
                else:
                    seen.append(call.keys[row][call.mask[row, 0, step]].tolist())
    return [seen[place] for place in packed.restore.tolist()]


@settings(deadline=None, max_examples=100)
@given(segments=rows(), call_pairs=st.sampled_from([0, packing.CALL_PAIRS]))
def test_a_token_sees_its_prefix_and_its_segment_up_to_itself(
    segments: list[Segment], call_pairs: int
) -> None:
    with patch.object(packing, "CALL_PAIRS", call_pairs):
        packed = pack(segments)
    expected, positions = [], []
    for segment in segments:
        prefix = [segment.prefix_start + i for i in range(segment.prefix_length)]
        for step in range(segment.length):
            expected.append(prefix + [segment.start + i for i in range(step + 1)])
            positions.append(segment.prefix_length + step)
    assert seen_by_token(packed) == expected
    assert packed.position_ids.tolist() == [positions]


@settings(deadline=None, max_examples=100)
@given(segments=rows(), call_pairs=st.sampled_from([0, 20, packing.CALL_PAIRS]))
def test_no_call_pads_more_than_it_may(segments: list[Segment], call_pairs: int) -> None:
    with patch.object(packing, "CALL_PAIRS", call_pairs):
        calls = pack(segments).calls
    real = sum(segment.num_pairs for segment in segments)
    limit = max(call_pairs, MAX_WASTE * real)
    assert sum(call.num_pairs for call in calls) <= real + limit * len(calls)


def test_a_small_batch_takes_one_call_for_prompts_and_one_for_completions() -> None:
    prefix = {"prefix_start": 0, "prefix_length": 20}
    segments = [Segment(start=0, length=20)]
    segments += [Segment(start=20, length=30, **prefix), Segment(start=50, length=2, **prefix)]
    assert len(pack(segments).calls) == 2


def test_padding_is_counted_by_hand() -> None:
    prompt, others = Segment(start=0, length=4), {"prefix_start": 0, "prefix_length": 4}
    segments = [
        prompt,
        Segment(start=4, length=40, **others),
        Segment(start=44, length=39, **others),
    ]
    assert [segment.num_pairs for segment in segments] == [16, 40 * 44, 39 * 43]
    causal, masked = pack(segments).calls
    assert (causal.num_pairs, causal.mask) == (16, None)
    # 2 x 40 x 44 has 83 pairs more than the two need.
    assert masked.num_pairs == 2 * 40 * 44


def test_segments_of_unlike_length_get_calls_of_their_own() -> None:
    segments = [Segment(start=0, length=200), Segment(start=200, length=20)]
    assert [tuple(call.queries.shape) for call in pack(segments).calls] == [(1, 20), (1, 200)]


@pytest.mark.parametrize("has_prefix", [True, False])
def test_a_plan_on_the_same_device_is_equal(has_prefix: bool) -> None:
    segments = [Segment(start=0, length=2)]
    if has_prefix:
        segments.append(Segment(start=2, length=1, prefix_start=0, prefix_length=2))
    packed = pack(segments)
    moved = packed.to(torch.device("cpu"))
    assert torch.equal(moved.restore, packed.restore)
    assert len(moved.calls) == len(packed.calls)
    assert (moved.calls[-1].mask is None) == (not has_prefix)
