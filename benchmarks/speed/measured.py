"""A learner rank -> what its hardware and its model are capable of."""

from __future__ import annotations

import time

from actors.workers.learner import LearnerActor
from t2g_ray.model.files.sharded import whole_shape
from t2g_ray.model.heads import heads_of

MATMUL_SIZES = {"cpu": 2048, "cuda": 8192}
"""Rows of the square matrices whose product gives the peak: a GPU needs large ones to be busy."""


class MeasuredLearner(LearnerActor):
    """A learner rank that can also say what its hardware and its model are capable of."""

    def peak_flops_per_s(self, repeats: int = 5) -> float:
        """The best of `repeats` matrix products in the dtype of the model."""
        import torch

        parameter = next(self._learner.policy.parameters())
        device, best = self._learner.device, 0.0
        size = MATMUL_SIZES[device.type]
        left = torch.randn((size, size), dtype=parameter.dtype, device=device)
        for _ in range(repeats):
            started = time.perf_counter()
            float((left @ left)[0, 0])  # reading a value waits for the device
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
        return best

    def is_packed(self) -> bool:
        """Whether the model reads packed rows."""
        return self._learner.is_packed

    def shape(self) -> tuple[int, int, int]:
        """Parameters of the layers, parameters of the head, and layers x width of attention."""
        config = self._learner.policy.config
        head = config.vocab_size * config.hidden_size
        num_tied = head if config.tie_word_embeddings else 2 * head
        num_all = sum(whole_shape(p).numel() for p in self._learner.policy.parameters())
        heads = heads_of(config)
        assert heads is not None  # of decoders that a learner trains
        width = config.num_hidden_layers * heads.queries * heads.size
        return num_all - num_tied, head, width
