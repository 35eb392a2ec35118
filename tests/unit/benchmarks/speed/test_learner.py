"""What a learner's step computes, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.speed.learner import Work, rows_of_layout, step_flops
from t2g_ray.learner.batching import collate
from t2g_ray.types import Sample


def test_flops_count_what_is_computed_once_and_no_padding() -> None:
    def sample(length: int) -> Sample:
        ids = np.arange(length, dtype=np.int32)
        return Sample(
            group=0,
            prompt_ids=(1, 2, 3, 4),
            completion_ids=ids,
            sampler_logprobs=np.zeros(length, dtype=np.float32),
            versions=ids,
            advantage=1.0,
        )

    samples = [sample(2), sample(6)]
    # Linear: 6 x (10 x tokens + 100 x 8 trained), where the last token of a completion is not
    # computed. Attention: 12 x 1 x pairs, where n tokens after p others have n x (p + n / 2).
    packed = 6 * (10 * 10 + 100 * 8) + 12 * (8 + 1 * 4.5 + 5 * 6.5)
    joined = 6 * (10 * 14 + 100 * 8) + 12 * (5 * 2.5 + 9 * 4.5)
    assert step_flops(collate(samples, is_packed=True), (10, 100, 1)) == packed
    assert step_flops(collate(samples, is_packed=False), (10, 100, 1)) == joined


def test_rows_of_a_layout_are_of_each_run_and_packed_rows_have_no_padding_to_show() -> None:
    works = [
        Work(num_tokens=100, computed=50, slots=50, attention_padding=0.2, flops=1e9),
        Work(num_tokens=200, computed=60, slots=80, attention_padding=0.1, flops=4e9),
    ]
    rows = {row.metric: row for row in rows_of_layout("packed", works, [0.5, 1.0], [2e10, 1e10])}
    assert rows["tokens_per_s/packed"].values == (200.0, 200.0)
    assert rows["mfu/packed"].values == pytest.approx((0.1, 0.4))
    assert rows["attention_padding_share/packed"].values == (0.2, 0.1)
    assert "padding_share/packed" not in rows
    joined = {row.metric: row for row in rows_of_layout("joined", works, [0.5, 1.0], [2e10, 1e10])}
    assert joined["padding_share/joined"].values == (0.0, 0.25)


def test_a_run_without_its_work_or_its_peak_is_refused() -> None:
    work = Work(num_tokens=1, computed=1, slots=1, attention_padding=0.0, flops=1.0)
    for works, seconds, peaks in (([work], [1.0, 1.0], [1.0]), ([work], [1.0], []), ([], [], [])):
        with pytest.raises(ValueError, match=r"zip|needs a finite value"):
            rows_of_layout("joined", works, seconds, peaks)
