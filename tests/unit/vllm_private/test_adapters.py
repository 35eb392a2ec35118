"""Slots of adapters, with layers that are shared by two workers as vLLM shares them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from t2g_ray.vllm_private.adapters import (
    AdapterRefused,
    Pair,
    held_pairs,
    holds_adapters,
    install_adapter,
    installed,
    probe_products,
    remove_adapters,
    without_slots,
)
from t2g_ray.weights.manifest import left_probe, right_probe

SLOT_RANK = 8
QKV, OUT = "layers.0.qkv_proj", "layers.0.o_proj"
Q, K, V = ("layers.0.q_proj", "layers.0.k_proj", "layers.0.v_proj")
SIZES = {Q: (16, 12), K: (4, 12), V: (4, 12), OUT: (12, 16)}
"""Outputs and inputs."""

pytestmark = pytest.mark.slow  # the import of vLLM takes seconds


class Punica:
    """What the CPU's kernels compute for the adapter that was set."""

    index = -1

    def add_lora_linear(
        self, y: Any, x: Any, a_stacked: Any, b_stacked: Any, scale: float, slices: Sequence[int]
    ) -> None:
        parts = [
            b[self.index, 0] @ (a[self.index, 0] @ x[0])
            for a, b in zip(a_stacked, b_stacked, strict=True)
        ]
        y[0] += scale * torch.cat(parts)


class Shared(nn.Module):
    """A layer with slots, one of `tp_size` workers' shares of it."""

    def __init__(
        self, punica: Punica, tp_rank: int, tp_size: int, slices: Any, inputs: int
    ) -> None:
        super().__init__()
        self.base_layer = nn.Linear(inputs, sum(slices))
        self.punica_wrapper, self.tp_rank, self.tp_size = punica, tp_rank, tp_size
        self.output_slices, self.n_slices = slices, len(slices)
        self.lora_a_stacked = [torch.zeros(2, 1, SLOT_RANK, inputs) for _ in slices]
        self.lora_b_stacked = [torch.zeros(2, 1, rows, SLOT_RANK) for rows in slices]

    def set_lora(self, index: int, a: Any, b: Any) -> None:
        if self.tp_size > 1:
            a, b = self.slice_lora_a(a), self.slice_lora_b(b)
        parts = zip(*((a, b) if isinstance(a, list) else ([a], [b])), strict=True)
        for place, (one, other) in enumerate(parts):
            if one is not None:
                self.lora_a_stacked[place][index, 0, : one.shape[0]] = one
                self.lora_b_stacked[place][index, 0, :, : other.shape[1]] = other

    def slice_lora_a(self, a: Any) -> Any:
        raise NotImplementedError

    slice_lora_b = slice_lora_a


def qkv(punica: Punica, tp_rank: int, tp_size: int) -> Any:
    """16 query rows are cut; the 4 rows of one key and value head are on every worker."""
    from vllm.lora.layers.column_parallel_linear import MergedQKVParallelLinearWithLoRA as Real

    layer: Any = Shared(punica, tp_rank, tp_size, (16 // tp_size, 4, 4), 12)
    layer.output_ids = (tp_rank, 0, 0)
    layer.slice_lora_a = lambda a: Real.slice_lora_a(layer, a)
    layer.slice_lora_b = lambda b: Real.slice_lora_b(layer, b)
    return layer


def out(punica: Punica, tp_rank: int, tp_size: int) -> Any:
    """Columns are cut, and the workers' products added up."""
    from vllm.lora.layers.row_parallel_linear import RowParallelLinearWithLoRA as Real

    layer: Any = Shared(punica, tp_rank, tp_size, (12,), 16 // tp_size)
    layer.input_size = 16 // tp_size
    layer.slice_lora_a = lambda a: Real.slice_lora_a(layer, a)
    layer.slice_lora_b = lambda b: Real.slice_lora_b(layer, b)
    return layer


class Manager:
    """vLLM's manager of adapters, as far as it is used, with two slots."""

    lora_slots = 2

    def __init__(self, modules: dict[str, Any], punica: Punica) -> None:
        self.modules, self.punica = modules, punica
        self.packed_modules = {QKV: [Q, K, V]}
        self.lora_index_to_id: list[int | None] = [None, None]
        self.held: dict[int, Any] = {}

    def list_adapters(self) -> dict[int, Any]:
        return dict(self.held)

    def add_adapter(self, adapter: Any) -> None:
        from vllm.lora.lora_weights import PackedLoRALayerWeights

        for name, parts in self.packed_modules.items():
            found = [adapter.loras.pop(part, None) for part in parts]
            if any(found):
                adapter.loras[name] = PackedLoRALayerWeights.pack(found)
        self.held[adapter.id] = adapter

    def activate_adapter(self, number: int) -> None:
        index = self.lora_index_to_id.index(None)
        self.lora_index_to_id[index] = number
        for name, layer in self.modules.items():
            if (weights := self.held[number].get_lora(name)) is not None:
                layer.set_lora(index, weights.lora_a, weights.lora_b)

    def remove_adapter(self, number: int) -> None:
        if self.held.pop(number, None) is not None:
            self.lora_index_to_id[self.lora_index_to_id.index(number)] = None

    def set_adapter_mapping(self, mapping: Any) -> None:
        self.punica.index = self.lora_index_to_id.index(mapping.index_mapping[0])


def model_of(tp_rank: int = 0, tp_size: int = 1) -> Any:
    punica = Punica()
    layers = {"qkv_proj": qkv(punica, tp_rank, tp_size), "o_proj": out(punica, tp_rank, tp_size)}
    model: Any = nn.ModuleDict({"layers": nn.ModuleDict({"0": nn.ModuleDict(layers)})})
    named = {f"layers.0.{name}": layer for name, layer in layers.items()}
    model.lora_manager = Manager(named, punica)
    return model


def pairs_of(names: Sequence[str] = (Q, K, V, OUT), rank: int = 3) -> dict[str, Pair]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: (
            torch.randn(rank, SIZES[name][1], generator=generator),
            torch.randn(SIZES[name][0], rank, generator=generator),
        )
        for name in names
    }


@pytest.mark.parametrize("tp_size", [1, 2])
def test_shares_of_all_workers_add_up_to_the_product_of_each_layer(tp_size: int) -> None:
    pairs = pairs_of()
    left = {name: left_probe(SIZES[name][0]) for name in pairs}
    right = {name: right_probe(SIZES[name][1]) for name in pairs}
    sums = dict.fromkeys(pairs, 0.0)
    for tp_rank in range(tp_size):
        model = model_of(tp_rank, tp_size)
        install_adapter(model, 5, pairs)
        for name, found in probe_products(model, 5, left, right).items():
            sums[name] += found
    for name, (a, b) in pairs.items():
        expected = float(left[name] @ (b @ (a @ right[name])))
        assert sums[name] == pytest.approx(expected, rel=1e-4), name


@pytest.mark.parametrize("tp_rank", [0, 1])
def test_a_workers_share_is_what_vllm_puts_into_its_slot(tp_rank: int) -> None:
    model = model_of(tp_rank, 2)
    pairs = pairs_of()
    install_adapter(model, 5, pairs)
    held = {pair.layer: pair for pair in held_pairs(model, 5)}
    assert held.keys() == pairs.keys()
    for name, pair in held.items():
        assert all(torch.equal(x, y) for x, y in zip(pair.arrived, pairs[name], strict=True))
        assert pair.worker == tp_rank
        for share, slot in zip(pair.share, pair.slot, strict=True):
            assert torch.equal(slot[: share.shape[0], : share.shape[1]], share)
    assert [len(held[name].share[1]) for name in (Q, K, V, OUT)] == [8, 4, 4, 12]
    assert held[OUT].share[0].shape == (3, 8)


def test_a_part_of_a_stacked_layer_is_held_alone() -> None:
    model = model_of()
    install_adapter(model, 1, pairs_of([V]))
    assert [pair.layer for pair in held_pairs(model, 1)] == [V]
    found = probe_products(model, 1, {V: left_probe(4)}, {V: right_probe(12)})
    assert found.keys() == {V}
    assert list(held_pairs(model, 2)) == []


def test_slots_are_given_back_and_none_is_taken_from_another() -> None:
    model = model_of()
    for number in (1, 2):
        install_adapter(model, number, pairs_of([OUT]))
    with pytest.raises(AdapterRefused, match=r"one of 2 slots .* taken by \[1, 2\]"):
        install_adapter(model, 3, pairs_of([OUT]))
    install_adapter(model, 2, pairs_of([V]))
    remove_adapters(model, keep=[2])
    assert installed(model) == [2]
    install_adapter(model, 3, pairs_of([OUT]))
    assert installed(model) == [2, 3]


def test_a_layer_without_slots_is_named() -> None:
    pairs = {"layers.0.gate": pairs_of([OUT])[OUT]}
    with pytest.raises(AdapterRefused, match=r"found none of layers\.0\.gate; .*=merged"):
        install_adapter(model_of(), 1, pairs)


def test_without_its_slots_a_model_has_its_own_names() -> None:
    model = model_of()
    wrapped = [name for name, _ in model.named_parameters()]
    assert f"{QKV}.base_layer.weight" in wrapped
    with pytest.raises(KeyError, match="inside"), without_slots(model):
        assert [name for name, _ in model.named_parameters()] == [
            name.replace(".base_layer", "") for name in wrapped
        ]
        raise KeyError("inside")
    assert [name for name, _ in model.named_parameters()] == wrapped


def test_a_model_that_was_started_without_slots_is_left_alone() -> None:
    plain: Any = SimpleNamespace()
    assert not holds_adapters(plain)
    with without_slots(plain):
        pass
