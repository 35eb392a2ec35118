"""A kernel on its device -> whether it computes what the definition says, gradients included.

Not yet run on a GPU with any other kernel than the definition itself.
"""

from __future__ import annotations

import torch

from t2g_ray.model.attention.choice import no_kernel
from t2g_ray.model.attention.kernel import Kernel, Lengths
from t2g_ray.model.attention.merged import Ragged, Shared, merged_attention
from t2g_ray.model.attention.reference import ReferenceKernel
from t2g_ray.model.probe import TOLERANCE, relative_difference

NAMES = ("output", "gradient of queries", "gradient of keys", "gradient of values")
PROMPT, ANSWERS, ALONE = 70, (130, 1), 3
"""Lengths of the row that is computed: more than a kernel's block, less, and one token."""


def check_kernel(
    kernel: Kernel,
    device: torch.device,
    dtype: torch.dtype,
    *,
    heads: tuple[int, int],
    size: int,
) -> None:
    """Read a row of a prompt with two answers, and of a text alone, on `device`.

    `heads` are those of queries and of keys, `size` is that of a head. Raises NoKernelError where
    rounding to `dtype` does not explain a difference from the definition.
    """
    ragged = _row(device)
    generator = torch.Generator().manual_seed(0)
    num_tokens = PROMPT + sum(ANSWERS) + ALONE
    shapes = [(num_tokens, number, size) for number in (heads[0], heads[1], heads[1], heads[0])]
    *inputs, slopes = (
        torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes
    )

    def computed(by: Kernel, dtype: torch.dtype) -> list[torch.Tensor]:
        q, k, v = (x.detach().to(dtype).requires_grad_() for x in inputs)
        with torch.enable_grad():
            out = merged_attention(q, k, v, ragged, by, size**-0.5)
            gradients = torch.autograd.grad(out, (q, k, v), slopes.to(dtype))
        return [out.detach(), *gradients]

    wide = torch.promote_types(dtype, torch.float32)
    results = zip(NAMES, computed(kernel, dtype), computed(ReferenceKernel(), wide), strict=True)
    for name, found, expected in results:
        difference = relative_difference(found.to(wide), expected)
        if not difference <= TOLERANCE[dtype]:
            raise no_kernel(
                f"the {name} of {type(kernel).__name__} differs by {difference:.2g} of its size"
            )


def _row(device: torch.device) -> Ragged:
    lengths = (PROMPT, *ANSWERS, ALONE)
    end = PROMPT + sum(ANSWERS)
    return Ragged(
        own=Lengths.of(lengths, lengths, is_causal=True, device=device),
        shared=Shared(
            queries=torch.arange(PROMPT, end, device=device),
            keys=torch.arange(PROMPT, device=device),
            lengths=Lengths.of([sum(ANSWERS)], [PROMPT], is_causal=False, device=device),
        ),
    )
