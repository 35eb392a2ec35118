"""Hidden states and a vocabulary matrix -> log-probs and entropies of chosen tokens.

Invariant: no tensor of K x V is kept for the backward pass. Logits are computed for a chunk of
tokens at a time, and again when the chunk's gradient is needed, so peak memory grows with the
chunk, not with the batch. Axes: K trained tokens, D hidden size, V vocabulary; H is an entropy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from t2g_ray.learner.batching import MicroBatch
from t2g_ray.model.files.sharded import whole
from t2g_ray.model.probe import TOLERANCE, relative_difference

CHUNK_MIB = 64
"""Logits computed at a time, in fp32."""


class _ChunkedLogProb(torch.autograd.Function):
    """log softmax(h W^T / temperature)[target] and the entropy of that softmax, fp32 [K]."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        scale: float,
        chunk: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logprobs, entropies = [], []
        for h, target in zip(hidden.split(chunk), targets.split(chunk), strict=True):
            log_p = torch.log_softmax((h @ weight.T).float() * scale, dim=-1)
            logprobs.append(log_p.gather(-1, target[:, None])[:, 0])
            entropies.append(-(log_p.exp() * log_p).sum(-1))
        ctx.save_for_backward(hidden, weight, targets)
        ctx.scale, ctx.chunk = scale, chunk
        # The gradient of an output that no loss uses is then None, and costs nothing.
        ctx.set_materialize_grads(False)
        return torch.cat(logprobs), torch.cat(entropies)

    @staticmethod
    def backward(
        ctx: Any, grad: torch.Tensor | None, grad_entropy: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, targets = ctx.saved_tensors
        if grad is None:
            grad = torch.zeros(len(targets), device=targets.device)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, hidden.shape[0], ctx.chunk):
            part = slice(start, start + ctx.chunk)
            h, target, g = hidden[part], targets[part], grad[part]
            # d log p[target] / d logits = onehot(target) - p
            d_logits = torch.softmax((h @ weight.T).float() * ctx.scale, dim=-1).neg_()
            d_logits[torch.arange(len(target), device=target.device), target] += 1.0
            d_logits.mul_((g * ctx.scale)[:, None])
            if grad_entropy is not None:
                slopes = _entropy_slopes((h @ weight.T).float() * ctx.scale)
                d_logits += slopes.mul_((grad_entropy[part] * ctx.scale)[:, None])
            d_typed = d_logits.to(weight.dtype)
            grad_hidden[part] = d_typed @ weight
            grad_weight += (d_typed.T @ h).float()
        return grad_hidden, grad_weight.to(weight.dtype), None, None, None


def _entropy_slopes(logits: torch.Tensor) -> torch.Tensor:
    """d H / d logits = -p (log p + H) of each row."""
    log_p = torch.log_softmax(logits, dim=-1)
    p = log_p.exp()
    log_p.mul_(p)  # now p log p, whose sum is -H
    return p.mul_(log_p.sum(-1, keepdim=True)).sub_(log_p)


def chunk_tokens(vocabulary: int, chunk_mib: float) -> int:
    """Tokens whose logits take this many MiB in fp32, at least one."""
    return max(1, int(chunk_mib * 2**20) // (4 * vocabulary))


def chunked_logprobs(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float,
    chunk_mib: float = CHUNK_MIB,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies, [K] each, in nats, of the distribution at this temperature.

    `hidden` [K, D], `weight` [V, D], `targets` [K]. The size of a chunk changes results by
    rounding alone.
    """
    apply: Any = _ChunkedLogProb.apply
    chunk = chunk_tokens(weight.shape[0], chunk_mib)
    logprobs, entropies = apply(hidden, weight, targets, 1.0 / temperature, chunk)
    return logprobs, entropies


class TokenLogProbs(nn.Module):
    """A causal language model seen as a function from micro-batches to token log-probs.

    The one module that the learner trains, so that DeepSpeed sees a plain forward.
    """

    def __init__(self, policy: PreTrainedModel, *, chunk_mib: float = CHUNK_MIB) -> None:
        super().__init__()
        self.policy = policy
        self._chunk_mib = chunk_mib

    def forward(self, micro: MicroBatch, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probs and entropies of the micro-batch's trained tokens, [K] each.

        A packed micro-batch needs a policy that `enable_packing` has switched, a padded one needs a
        policy that it has not.
        """
        # Without a packing, padding follows the tokens and attention is causal: no mask is needed.
        packing: dict[str, Any] = {}
        if micro.packing is not None:
            packing = {"packing": micro.packing, "position_ids": micro.packing.position_ids}
        states = self.policy.base_model(input_ids=micro.token_ids, use_cache=False, **packing)
        hidden = states.last_hidden_state.flatten(0, 1)[micro.predictor]
        head = self.policy.get_output_embeddings()
        return chunked_logprobs(
            hidden,
            head.weight,
            micro.targets,
            temperature=temperature,
            chunk_mib=self._chunk_mib,
        )


@torch.no_grad()
def check_head(policy: PreTrainedModel) -> None:
    """Raises ValueError for a model whose logits are not its last states times its head's weights.

    Caps, scales and biases of logits would otherwise be ignored in silence. To be called before
    `enable_packing`.
    """
    config = policy.config.get_text_config()
    ids = torch.arange(8, device=policy.device)[None] % config.vocab_size
    states = policy.base_model(input_ids=ids, use_cache=False).last_hidden_state
    expected = policy(input_ids=ids, use_cache=False).logits.float()
    head = policy.get_output_embeddings()
    with whole(head.parameters()):
        found = (states @ head.weight.T).float()
    difference = relative_difference(found, expected)
    # A cap shows only in large logits.
    is_capped = getattr(config, "final_logit_softcapping", None) is not None
    if is_capped or not difference <= TOLERANCE[states.dtype]:
        raise ValueError(
            "a model's logits must be its last hidden states times its head's weights, found a "
            f"difference of {difference:.2g} of their size in {type(policy).__name__}: it caps, "
            "scales or shifts them, which the learner does not compute; choose another model"
        )
