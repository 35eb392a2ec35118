"""What a learner's step computes, counted by hand."""

from __future__ import annotations

import numpy as np

from benchmarks.speed.learner import step_flops
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
