"""Low-rank adapters beside frozen matrices -> the tensors of the same model without adapters.

Hu et al. 2021, "LoRA", section 4.1: W = W0 + alpha / rank x B A, where only A and B are trained and
B starts at 0. Invariants: names and shapes of the tensors are those of the original model, so that
samplers, evaluation and serving read a trained model like any other; and they hold all that the
adapters add, whatever the precision of the model.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from t2g_ray.config import LoraConfig

_ADAPTER = "default"


def add_adapters(policy: PreTrainedModel, lora: LoraConfig, *, seed: int) -> None:
    """Freeze `policy` and put adapters beside its linear layers, the head left out.

    Raises ValueError when `lora.targets` names no layer of this model, or peft is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise ValueError(
            "learner.lora needs the package peft, found none; pip install 't2g-ray[peft]'"
        )
    import peft

    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=lora.targets or "all-linear",
        task_type=peft.TaskType.CAUSAL_LM,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, policy, adapter_name=_ADAPTER)


def without_adapters(policy: nn.Module) -> AbstractContextManager[Any]:
    """Inside the block, the policy computes as it did before it had adapters."""
    from peft.helpers import rescale_adapter_scale

    manager: AbstractContextManager[Any] = rescale_adapter_scale(policy, 0.0)
    return manager


@dataclass(frozen=True, slots=True)
class PlainTensor:
    """One tensor of the model without adapters, and what it is computed from."""

    name: str
    parameter: nn.Parameter
    layer: Any = None
    """The peft layer around `parameter`, where it has an adapter."""

    @property
    def parts(self) -> list[nn.Parameter]:
        """All parameters that `value` reads: what ZeRO-3 must gather."""
        if self.layer is None:
            return [self.parameter]
        adapters = (self.layer.lora_A[_ADAPTER].weight, self.layer.lora_B[_ADAPTER].weight)
        return [self.parameter, *adapters]

    @torch.no_grad()
    def change(self) -> torch.Tensor | None:
        """What the adapter adds, in fp32; None without one.

        In bf16 most of what a few steps learn would be rounded away, here or in the sum.
        """
        if self.layer is None:
            return None
        _, a, b = self.parts
        added: torch.Tensor = (b.float() @ a.float()) * self.layer.scaling[_ADAPTER]
        return added.T if self.layer.fan_in_fan_out else added

    @torch.no_grad()
    def value(self) -> torch.Tensor:
        """The parameter itself, or a new tensor with its adapter added, in fp32."""
        change = self.change()
        return self.parameter.detach() if change is None else self.parameter.float() + change


def plain_tensors(policy: nn.Module, *, is_merged: bool = True) -> Iterator[PlainTensor]:
    """Every tensor of the model without adapters, in the model's order; with what its adapter adds,
    or as it was before it had one."""
    for name, parameter in policy.named_parameters():
        path, _, kind = name.rpartition(".")
        if ".lora_" in name:
            continue
        if not path.endswith(".base_layer"):
            yield PlainTensor(name, parameter)
            continue
        path = path.removesuffix(".base_layer")
        layer = policy.get_submodule(path) if is_merged and kind == "weight" else None
        yield PlainTensor(f"{path}.{kind}", parameter, layer)


@dataclass(frozen=True, slots=True)
class Adapter:
    """The two matrices beside one frozen one, [outputs, inputs]."""

    layer: str
    """The model's name of the layer without adapters."""
    module: Any
    """The peft layer."""

    @property
    def parts(self) -> list[nn.Parameter]:
        """All parameters that it is made of: what ZeRO-3 must gather."""
        return [self.module.lora_A[_ADAPTER].weight, self.module.lora_B[_ADAPTER].weight]

    @torch.no_grad()
    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """A [rank, inputs] and alpha / rank x B [outputs, rank], in fp32: new tensors, whose
        product is what the adapter adds."""
        a, b = self.parts
        return a.detach().float().clone(), b.float() * self.module.scaling[_ADAPTER]

    @torch.no_grad()
    def product(self, probe: torch.Tensor) -> torch.Tensor:
        """What the policy's own layer adds to its output for the input `probe`: [outputs], fp32."""
        a, b = self.parts
        product: torch.Tensor = b.float() @ (a.float() @ probe.to(a.device))
        product *= self.module.scaling[_ADAPTER]
        return product


def adapters_of(policy: nn.Module) -> Iterator[Adapter]:
    """Every adapter, in the model's order."""
    for path, module in policy.named_modules():
        if hasattr(module, "lora_A"):
            yield Adapter(path, module)


def adapted_names(model: str, lora: LoraConfig) -> list[str]:
    """Last parts of the names of the layers that `add_adapters` gives an adapter, such as `q_proj`.

    `model` is a folder or hub name; its weights are not read.
    """
    if lora.targets:
        return sorted({target.rpartition(".")[2] for target in lora.targets})
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    with torch.device("meta"):
        policy = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    head = policy.get_output_embeddings()
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in policy.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        }
    )
