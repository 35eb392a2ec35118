"""What leaves for host memory between a forward and a backward pass, and that it comes back."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from transformers import PreTrainedModel

from t2g_ray.learner.memory import activations
from t2g_ray.learner.memory.activations import kept_on_host
from t2g_ray.model.policy import build_tiny_policy
from t2g_ray.records.corpus import build_tokenizer

IDS = torch.arange(300, 320)[None]


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """Shapes of what went to the host."""
    shapes, to_host = list[torch.Size](), activations._to_host

    def watched(tensor: torch.Tensor) -> object:
        result = to_host(tensor)
        if isinstance(result, tuple):
            assert result[1].data_ptr() != tensor.data_ptr()
            shapes.append(tensor.shape)
        return result

    monkeypatch.setattr(activations, "_to_host", watched)
    return shapes


def gradients(policy: PreTrainedModel, *, is_kept: bool) -> list[torch.Tensor]:
    policy.zero_grad()
    with kept_on_host() if is_kept else nullcontext():
        loss = policy(input_ids=IDS, labels=IDS).loss
    loss.backward()
    return [p.grad.clone() for p in policy.parameters() if p.grad is not None]


@pytest.mark.parametrize("is_checkpointed", [True, False])
def test_gradients_are_the_same_bit_for_bit(is_checkpointed: bool) -> None:
    policy = build_tiny_policy(build_tokenizer(), seed=0).train()
    if is_checkpointed:
        policy.gradient_checkpointing_enable()
    plain, kept = (gradients(policy, is_kept=is_kept) for is_kept in (False, True))
    assert len(plain) > 20
    assert all(torch.equal(*pair) for pair in zip(plain, kept, strict=True))


def test_inputs_of_checkpointed_layers_leave_and_weights_stay(copied: list[torch.Size]) -> None:
    policy = build_tiny_policy(build_tokenizer(), seed=0).train()
    policy.gradient_checkpointing_enable()
    gradients(policy, is_kept=True)
    states = (1, IDS.shape[1], policy.config.hidden_size)
    assert copied.count(torch.Size(states)) >= policy.config.num_hidden_layers
    weights = {parameter.shape for parameter in policy.parameters() if parameter.ndim == 2}
    assert not weights & set(copied)
