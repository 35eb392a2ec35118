"""What each token sees through the padded calls, against the definition; and how much is padded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from unittest.mock import patch

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from t2g_ray.model import packing
from t2g_ray.model.packing import MAX_WASTE, Packing, Segment

META = torch.device("meta")


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


def pack(segments: Sequence[Segment]) -> Packing:
    return Packing(segments=tuple(segments))


def seen_by_token(packed: Packing) -> list[list[int]]:
    """Places of the row whose keys each token's query meets."""
    seen: list[list[int]] = []
    for call in packed.padded.calls:
        for row, queries in enumerate(call.queries):
            for step in range(len(queries)):
                if call.mask is None:
                    seen.append(call.keys[row, : step + 1].tolist())
                else:
                    seen.append(call.keys[row][call.mask[row, 0, step]].tolist())
    return [seen[place] for place in packed.padded.restore.tolist()]


def seen_without_padding(packed: Packing) -> list[list[int]]:
    """The same through the plan without padding."""
    ragged, num_tokens = packed.ragged, packed.position_ids.numel()
    row = torch.arange(num_tokens)
    seen: list[list[int]] = [[] for _ in range(num_tokens)]
    parts = [(ragged.own, row, row)]
    if ragged.shared is not None:
        parts.insert(0, (ragged.shared.lengths, ragged.shared.queries, ragged.shared.keys))
    for lengths, queries, keys in parts:
        query_spans, key_spans = spans(lengths.query_offsets), spans(lengths.key_offsets)
        assert lengths.max_queries == max(stop - start for start, stop in query_spans)
        assert lengths.max_keys == max(stop - start for start, stop in key_spans)
        for (first, last), (start, stop) in zip(query_spans, key_spans, strict=True):
            for step, token in enumerate(queries[first:last].tolist()):
                end = start + step + 1 if lengths.is_causal else stop
                seen[token] += keys[start:end].tolist()
    return seen


def spans(offsets: torch.Tensor) -> list[tuple[int, int]]:
    return list(pairwise(offsets.tolist()))


@settings(deadline=None, max_examples=100)
@given(segments=rows(), call_pairs=st.sampled_from([0, packing.CALL_PAIRS]))
def test_a_token_sees_its_prefix_and_its_segment_up_to_itself(
    segments: list[Segment], call_pairs: int
) -> None:
    with patch.object(packing, "CALL_PAIRS", call_pairs):
        packed = pack(segments)
        seen = seen_by_token(packed)
    expected, positions = [], []
    for segment in segments:
        prefix = [segment.prefix_start + i for i in range(segment.prefix_length)]
        for step in range(segment.length):
            expected.append(prefix + [segment.start + i for i in range(step + 1)])
            positions.append(segment.prefix_length + step)
    assert seen == expected
    assert seen_without_padding(packed) == expected
    assert packed.position_ids.tolist() == [positions]


@settings(deadline=None, max_examples=100)
@given(segments=rows(), call_pairs=st.sampled_from([0, 20, packing.CALL_PAIRS]))
def test_no_call_pads_more_than_it_may(segments: list[Segment], call_pairs: int) -> None:
    with patch.object(packing, "CALL_PAIRS", call_pairs):
        calls = pack(segments).padded.calls
    real = sum(segment.num_pairs for segment in segments)
    limit = max(call_pairs, MAX_WASTE * real)
    assert sum(call.num_pairs for call in calls) <= real + limit * len(calls)


def test_a_small_batch_takes_one_call_for_prompts_and_one_for_completions() -> None:
    prefix = {"prefix_start": 0, "prefix_length": 20}
    segments = [Segment(start=0, length=20)]
    segments += [Segment(start=20, length=30, **prefix), Segment(start=50, length=2, **prefix)]
    assert len(pack(segments).padded.calls) == 2


def test_padding_is_counted_by_hand() -> None:
    prompt, others = Segment(start=0, length=4), {"prefix_start": 0, "prefix_length": 4}
    segments = [
        prompt,
        Segment(start=4, length=40, **others),
        Segment(start=44, length=39, **others),
    ]
    assert [segment.num_pairs for segment in segments] == [16, 40 * 44, 39 * 43]
    causal, masked = pack(segments).padded.calls
    assert (causal.num_pairs, causal.mask) == (16, None)
    # 2 x 40 x 44 has 83 pairs more than the two need.
    assert masked.num_pairs == 2 * 40 * 44


def test_segments_of_unlike_length_get_calls_of_their_own() -> None:
    segments = [Segment(start=0, length=200), Segment(start=200, length=20)]
    assert [tuple(call.queries.shape) for call in pack(segments).padded.calls] == [
        (1, 20),
        (1, 200),
    ]


def test_a_plan_is_made_once_for_all_layers_and_updates() -> None:
    packed = pack([Segment(start=0, length=2)])
    assert packed.padded is packed.padded
    assert packed.ragged is packed.ragged
    assert packed.position_ids is packed.position_ids
    assert packed.to(torch.device("cpu")) is packed


def test_a_row_on_another_device_makes_its_plans_there() -> None:
    prefix = {"prefix_start": 0, "prefix_length": 2}
    moved = pack([Segment(start=0, length=2), Segment(start=2, length=1, **prefix)]).to(META)
    assert moved.ragged.shared is not None
    plans = [moved.position_ids, moved.ragged.own.key_offsets, moved.ragged.shared.queries]
    assert {plan.device for plan in plans} == {META}
