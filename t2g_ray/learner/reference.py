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
from t2g_ray.learner.optim import frozen_config
from t2g_ray.model.files.sharded import layer_by_layer, whole
from t2g_ray.model.packed_attention import enable_packing
from t2g_ray.weights.manifest import bytes_of, digest_of


class ReferencePolicy:
    """The starting policy once more, which reads rows of the same layout.

    A whole copy on each learner rank, or under ZeRO-3 a part on each; then making one and calling
    it are collective.
    """

    def __init__(
        self, model: str, learner: LearnerConfig, *, device: torch.device, is_packed: bool
    ) -> None:
        from t2g_ray.model.policy import load_policy

        is_sharded = learner.zero_stage == 3
        policy, _ = load_policy(model, getattr(torch, learner.dtype), is_sharded=is_sharded)
        with layer_by_layer(policy):
            if is_packed:
                # As it was for the same model on this rank.
                enable_packing(policy, learner.attention, device)
        policy.eval()
        module = TokenLogProbs(policy, chunk_mib=learner.head_chunk_mib).requires_grad_(False)
        self._module = _with_gathers(module, learner) if is_sharded else module.to(device)

    def tensors(self) -> list[torch.Tensor]:
        """What of the policy this rank holds."""
        return [getattr(p, "ds_tensor", p) for p in self._module.parameters()]

    @torch.no_grad()
    def logprobs(self, micro: MicroBatch, temperature: float) -> torch.Tensor:
        """Log-probs of the micro-batch's trained tokens, [K]."""
        logprobs: torch.Tensor = self._module(micro, temperature)[0]
        return logprobs


def _with_gathers(module: nn.Module, learner: LearnerConfig) -> nn.Module:
    """An engine without an optimiser: DeepSpeed then gathers each layer when it computes."""
    import deepspeed

    engine: nn.Module = deepspeed.initialize(
        model=module, config=frozen_config(learner), dist_init_required=False
    )[0]
    engine.eval()
    return engine


def digest_of_policy(policy: nn.Module) -> str:
    """One digest of all weights; collective under ZeRO-3."""
    digests = list[str]()
    for parameter in policy.parameters():
        with whole([parameter]):
            digests.append(digest_of(bytes_of(parameter.detach())))
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
