"""The policy that a run started from, frozen: micro-batches -> log-probs without gradient.

Invariant: a resumed run measures its KL to the same weights as the first run, and puts its adapters
beside them; a digest in every checkpoint checks it.
"""

from __future__ import annotations

import torch
import xxhash
from torch import nn

from t2g_ray.config import LearnerConfig
from t2g_ray.learner.batching import MicroBatch
from t2g_ray.learner.logprobs import TokenLogProbs
from t2g_ray.model.packed_attention import enable_packing
from t2g_ray.weights.manifest import bytes_of, digest_of


class ReferencePolicy:
    """A whole copy of the starting policy on each learner rank, which reads rows of the same
    layout."""

    def __init__(
        self,
        model: str,
        config: LearnerConfig,
        *,
        dtype: torch.dtype,
        device: torch.device,
        is_packed: bool,
    ) -> None:
        from t2g_ray.model.policy import load_policy

        policy, _ = load_policy(model, dtype=dtype)
        if is_packed:
            # As it was for the same model on this rank.
            enable_packing(policy, config.attention, device)
        policy.eval()
        module = TokenLogProbs(policy, chunk_mib=config.head_chunk_mib)
        self._module = module.requires_grad_(False).to(device)

    def tensors(self) -> list[torch.Tensor]:
        """What of the policy this rank holds."""
        return [getattr(p, "ds_tensor", p) for p in self._module.parameters()]

    @torch.no_grad()
    def logprobs(self, micro: MicroBatch, temperature: float) -> torch.Tensor:
        """Log-probs of the micro-batch's trained tokens, [K]."""
        logprobs: torch.Tensor = self._module(micro, temperature)[0]
        return logprobs


def digest_of_policy(policy: nn.Module) -> str:
    """One digest of all weights."""
    digests = (digest_of(bytes_of(p.detach())) for p in policy.parameters())
    return xxhash.xxh3_64_hexdigest("".join(digests).encode())


def check_same_start(found: str | None, own: str | None, where: object) -> None:
    """Raises ValueError when a checkpoint was written under another starting policy.

    `own` is None where nothing depends on it: without KL and with all weights in the checkpoints.
    """
    if own is not None and found != own:
        raise ValueError(
            "a resumed run with KL or adapters must have the policy that it started from, found "
            f"{found or 'none'} in {where} and {own} in `model`; restore `model`, or start a new "
            "run"
        )
