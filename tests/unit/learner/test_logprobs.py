"""Chunked log-probs against torch's own, and what is kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from t2g_ray.learner.logprobs import check_head, chunk_tokens, chunked_logprobs


def inputs(num_tokens: int, num_words: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    hidden = 0.5 * torch.randn(num_tokens, 8, generator=generator, dtype=dtype)
    weight = torch.randn(num_words, 8, generator=generator, dtype=dtype)
    targets = torch.randint(num_words, (num_tokens,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def mib(elements: int) -> float:
    return 4 * elements / 2**20


def gradients(value: torch.Tensor, *leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
    scale = torch.linspace(-1, 2, len(value))
    return torch.autograd.grad((value * scale).sum(), leaves)


@pytest.mark.parametrize("chunk_elements", [1, 3 * 29, 1 << 20])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.3])
def test_chunks_equal_the_whole_softmax_and_its_gradients(
    chunk_elements: int, temperature: float
) -> None:
    hidden, weight, targets = inputs(11, 29, torch.float32)
    found, entropies = chunked_logprobs(
        hidden, weight, targets, temperature=temperature, chunk_mib=mib(chunk_elements)
    )
    log_p = torch.log_softmax(hidden @ weight.T / temperature, dim=-1)
    expected = log_p.gather(-1, targets[:, None])[:, 0]
    # Log-probs reach -8, where one unit in the last place of fp32 is 1e-6.
    assert torch.allclose(found, expected, rtol=0, atol=5e-6)
    assert torch.allclose(entropies, -(log_p.exp() * log_p).sum(-1), rtol=0, atol=5e-6)
    for mine, theirs in zip(
        gradients(found, hidden, weight), gradients(expected, hidden, weight), strict=True
    ):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_gradients_agree_with_finite_differences() -> None:
    hidden, weight, targets = inputs(4, 7, torch.float32)

    def value(h: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return chunked_logprobs(h, w, targets, temperature=0.8)[0]

    # The softmax is computed in fp32 whatever comes in, so the step must be a large one.
    with pytest.warns(UserWarning, match="not a double precision"):
        assert torch.autograd.gradcheck(value, (hidden, weight), eps=1e-2, atol=1e-2, rtol=1e-2)


def test_bf16_weights_get_bf16_gradients_and_fp32_logprobs() -> None:
    hidden, weight, targets = inputs(5, 9, torch.bfloat16)
    found, entropies = chunked_logprobs(hidden, weight, targets, temperature=1.0)
    assert (found.dtype, entropies.dtype) == (torch.float32, torch.float32)
    assert [g.dtype for g in gradients(found, hidden, weight)] == [torch.bfloat16] * 2


@pytest.mark.parametrize("chunk_elements", [1, 3 * 29, 1 << 20])
def test_the_gradient_of_the_entropy_is_that_of_the_whole_softmax(
    chunk_elements: int,
) -> None:
    hidden, weight, targets = inputs(11, 29, torch.float32)
    found, entropies = chunked_logprobs(
        hidden, weight, targets, temperature=0.8, chunk_mib=mib(chunk_elements)
    )
    log_p = torch.log_softmax(hidden @ weight.T / 0.8, dim=-1)
    expected = log_p.gather(-1, targets[:, None])[:, 0] - 2 * (log_p.exp() * log_p).sum(-1)
    ours = gradients(found + 2 * entropies, hidden, weight)
    for mine, theirs in zip(ours, gradients(expected, hidden, weight), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-7)])
def test_the_size_of_a_chunk_changes_results_by_rounding_alone(
    dtype: torch.dtype, tolerance: float
) -> None:
    hidden, weight, targets = inputs(64, 29, dtype)
    results = []
    for chunk in (1, 7, 64):
        found, entropies = chunked_logprobs(
            hidden, weight, targets, temperature=0.9, chunk_mib=mib(chunk * 29)
        )
        results.append((found, entropies, *gradients(found - entropies, hidden, weight)))
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            # Rows of a gradient differ in size, so a difference is measured against the largest.
            assert (mine - theirs).abs().max() <= tolerance * theirs.abs().max()


def test_the_gradient_of_the_vocabulary_is_added_up_in_fp32_over_chunks_of_bf16() -> None:
    # 1,000 equal gradients: a sum kept in bf16 stops growing at 256 times one of them.
    hidden = torch.ones(1000, 1, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.zeros(1000, dtype=torch.long)
    found, _ = chunked_logprobs(hidden, weight, targets, temperature=1.0, chunk_mib=mib(2))
    (gradient,) = torch.autograd.grad(found.sum(), weight)
    assert gradient.flatten().tolist() == [500.0, -500.0]


def test_a_chunk_holds_the_tokens_whose_logits_fit() -> None:
    assert [chunk_tokens(151_936, mib) for mib in (64, 512, 1024)] == [110, 883, 1766]
    assert chunk_tokens(151_936, 0.1) == 1


class LargestTensor(TorchDispatchMode):
    """Remembers the largest result of any operation, in elements."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.largest = max([self.largest, *sizes])
        return result


@contextmanager
def saved_elements() -> Iterator[list[int]]:
    sizes: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def test_no_tensor_of_tokens_times_vocabulary_is_ever_made() -> None:
    num_tokens, num_words = 64, 300
    hidden, weight, targets = inputs(num_tokens, num_words, torch.float32)
    with LargestTensor() as seen, saved_elements() as saved:
        found, _ = chunked_logprobs(
            hidden, weight, targets, temperature=1.0, chunk_mib=mib(4 * num_words)
        )
        gradients(found, hidden, weight)
    # The largest is the vocabulary matrix itself; the logits of all tokens would be 19,200.
    assert seen.largest == weight.numel() == 2400
    assert max(saved) <= weight.numel()
    # The plain way is seen by the same measurement.
    with LargestTensor() as plain:
        torch.log_softmax(hidden @ weight.T, dim=-1)
    assert plain.largest == num_tokens * num_words


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Gemma2", {"final_logit_softcapping": 30.0, "head_dim": 8}),
        ("Cohere", {"logit_scale": 0.0625}),
        ("Phi", {}),  # its head has a bias
    ],
)
def test_a_model_whose_logits_are_not_states_times_weights_is_refused(
    name: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=rf"found a difference of .* in {name}ForCausalLM"):
        check_head(tiny_model(name, settings))


@pytest.mark.parametrize("name", ["Qwen2", "Qwen3", "Llama"])
def test_a_model_with_a_plain_head_is_taken(name: str) -> None:
    check_head(tiny_model(name, {}))


def tiny_model(name: str, settings: dict[str, Any]) -> Any:
    config = getattr(transformers, f"{name}Config")(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
        **settings,
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    bias = getattr(model.lm_head, "bias", None)
    if bias is not None:
        torch.nn.init.normal_(bias)
    return model.eval()
