"""The policy that a run started from, frozen: micro-batches -> log-probs without gradient.

Invariant: a resumed run measures its KL to the very weights that the first run did; a digest in
every checkpoint holds it to that.
"""

from __future__ import annotations

import torch
import xxhash

from t2g_ray.batching import MicroBatch
from t2g_ray.logprobs import TokenLogProbs
from t2g_ray.packed_attention import enable_packing
from t2g_ray.weights import bytes_of, digest_of


class Reference:
    """A whole copy of the starting policy on each learner rank, reading the rows that it reads."""

    def __init__(
        self, model: str, *, dtype: torch.dtype, device: torch.device, is_packed: bool
    ) -> None:
        from t2g_ray.policy import load_policy

        policy, _ = load_policy(model, dtype=dtype)
        digests = (digest_of(bytes_of(p.detach())) for p in policy.parameters())
        self.digest = xxhash.xxh3_64_hexdigest("".join(digests).encode())
        if is_packed:
            enable_packing(policy)  # as it was for the same model on this rank
        policy.eval()
        self._module = TokenLogProbs(policy).requires_grad_(False).to(device)

    @torch.no_grad()
    def logprobs(self, micro: MicroBatch, temperature: float) -> torch.Tensor:
        """Of the micro-batch's trained tokens, [K]."""
        logprobs: torch.Tensor = self._module(micro, temperature)[0]
        return logprobs

    def check_same(self, digest: str | None, where: object) -> None:
        """Raises ValueError when a checkpoint was written under another starting policy."""
        if digest != self.digest:
            raise ValueError(
                "a resumed run must take its KL to the policy that it started from, found "
                f"{digest or 'no KL'} in {where} and {self.digest} in `model`; restore `model`, or "
                "set algorithm.kl_coef to 0"
            )
