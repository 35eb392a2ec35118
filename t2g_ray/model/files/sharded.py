"""Folder or name of a model -> the model in parts, a part on each rank, as ZeRO-3 trains it.

Invariant: no rank ever holds the whole model. Tensors are read one at a time and split as they
come; where all of a tensor is needed, it is gathered for as long as it is used. Reading and
gathering are collective: all ranks do the same in the same order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def is_split(parameter: torch.Tensor) -> bool:
    """True where this rank holds a part of the parameter, by ZeRO-3."""
    return hasattr(parameter, "ds_id")


def whole_shape(parameter: torch.Tensor) -> torch.Size:
    """The shape of the whole parameter, also where this rank holds a part."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def whole(parameters: Iterable[nn.Parameter]) -> AbstractContextManager[None]:
    """Inside the block the parameters hold all of their elements; collective where split."""
    split = [parameter for parameter in parameters if is_split(parameter)]
    if not split:
        return nullcontext()
    import deepspeed

    gathered: AbstractContextManager[None] = deepspeed.zero.GatheredParameters(split)
    return gathered


def read_sharded(model: str | Path, *, dtype: torch.dtype) -> PreTrainedModel:
    """Read a causal language model in parts; collective over the ranks of torch.distributed.

    transformers' own loader reads it, so names, ties and conversions are those of any other model;
    each parameter is split over the ranks when the loader sets it. Raises OSError without
    safetensors, whose tensors alone can be read one at a time, and ValueError where the model ties
    tensors that differ.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(model, trust_remote_code=False), trust_remote_code=False
        )
    slices = _slices(model)
    _check_ties(empty, slices)
    # Otherwise the loader reads ahead, as many tensors as the disk gives before one is split.
    one_at_a_time = mock.patch.dict(os.environ, {"HF_DEACTIVATE_ASYNC_LOAD": "1"})
    with one_at_a_time, _splitting():
        policy: PreTrainedModel = type(empty).from_pretrained(
            None, config=empty.config, state_dict=slices, dtype=dtype
        )
    with suppress(OSError):  # a model that comes without one has that of its class
        policy.generation_config = GenerationConfig.from_pretrained(model)
    _move_buffers(policy)
    return policy


class _Alone(nn.Module):
    """One parameter on its way into a model."""

    def __init__(self, parameter: nn.Parameter) -> None:
        super().__init__()
        self.parameter = parameter


@contextmanager
def _splitting() -> Iterator[None]:
    """Inside the block each parameter that any module gets is split over the ranks."""
    import deepspeed

    def split(module: nn.Module, _: str, parameter: nn.Parameter | None) -> None:
        if parameter is None or parameter.is_meta or is_split(parameter):
            return
        if not isinstance(module, _Alone):
            deepspeed.zero.Init(module=_Alone(parameter), dtype=parameter.dtype)

    handle = register_module_parameter_registration_hook(split)
    try:
        yield
    finally:
        handle.remove()


def _slices(model: str | Path) -> Mapping[str, Any]:
    """What each tensor of the files is read by, when it is asked for.

    By reading and not by mapping, because pages of a mapped file stay in memory until it is closed.
    """
    from safetensors import safe_open

    files: list[Any] = [safe_open(p, framework="pt", backend="pread") for p in _files(model)]
    return {name: file.get_slice(name) for file in files for name in file.offset_keys()}


def _check_ties(empty: PreTrainedModel, slices: Mapping[str, Any]) -> None:
    # transformers compares what it ties and leaves apart what differs. Parts cannot be compared.
    for target, source in empty.all_tied_weights_keys.items():
        if not {target, source} <= slices.keys():
            continue
        if not torch.equal(slices[target][:], slices[source][:]):
            raise ValueError(
                f"a model that ties {target} to {source} must hold the same values in both, found "
                "two sets of values; set tie_word_embeddings to false in its config.json, or "
                "choose a learner.zero_stage below 3"
            )


def _files(model: str | Path) -> list[Path]:
    from transformers.utils.hub import cached_file

    def find(name: str) -> str | None:
        found: str | None = cached_file(
            str(model), name, _raise_exceptions_for_missing_entries=False
        )
        return found

    if (index := find(INDEX)) is not None:
        named = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()
        found = [find(name) for name in sorted(set(named))]
    else:
        found = [find(WEIGHTS)]
    if None in found:
        raise OSError(
            f"learner.zero_stage=3 must read a model from safetensors, found no {WEIGHTS} and no "
            "complete set of files with an index; read the model and write it again by "
            "save_pretrained, or choose another learner.zero_stage"
        )
    return [Path(path) for path in found if path is not None]


def _move_buffers(policy: nn.Module) -> None:
    # DeepSpeed moves a model to its device only where nothing of it is split yet.
    device = next(policy.parameters()).device
    for module in policy.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))


@contextmanager
def layer_by_layer(policy: nn.Module) -> Iterator[None]:
    """Inside the block a split policy computes: each layer is whole for as long as it does.

    For the few passes before DeepSpeed has an engine around the policy; the ranks must compute
    alike. A policy that is not split computes as always.
    """
    gathered: dict[nn.Module, AbstractContextManager[None]] = {}

    def gather(module: nn.Module, _: Any) -> None:
        gathered[module] = whole(units[module])
        gathered[module].__enter__()

    def split(module: nn.Module, _: Any, __: Any) -> None:
        if module in gathered:
            gathered.pop(module).__exit__(None, None, None)

    units = dict(_units(policy)) if any(map(is_split, policy.parameters())) else {}
    handles = [module.register_forward_pre_hook(gather) for module in units]
    # Also where a layer raises: a probe may try what a model cannot compute.
    handles += [module.register_forward_hook(split, always_call=True) for module in units]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _units(module: nn.Module) -> Iterator[tuple[nn.Module, list[nn.Parameter]]]:
    """The layers, each with all that is below it, and every other module with its own."""
    own = list(module.parameters(recurse=False))
    if own:
        yield module, own
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            for layer in child:
                yield layer, list(layer.parameters())
        else:
            yield from _units(child)
