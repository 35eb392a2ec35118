"""The proof of an adapter, on a model of one layer without vLLM: see the integration tests for
real engines."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from t2g_ray.vllm_private.adapters import AdapterRefused, HeldPair
from t2g_ray.weights import adapters as module
from t2g_ray.weights.adapters import (
    LayerProduct,
    adapter_tensors,
    check_adapter,
    check_products,
    check_slots,
    install,
    is_of_adapter,
    number_of,
)
from t2g_ray.weights.manifest import MIB, TensorEntry, WeightSyncError, pack_buckets, right_probe

A, B = torch.arange(8.0).view(2, 4), torch.arange(6.0).view(3, 2)


def sent(layer: str = "mlp.up_proj") -> dict[str, torch.Tensor]:
    return dict(adapter_tensors(layer, A, B, B @ (A @ right_probe(4))))


def entries_of(tensors: dict[str, torch.Tensor]) -> list[TensorEntry]:
    packed = pack_buckets(tensors.items(), bucket_bytes=MIB)
    return [entry for _, part in packed for entry in part]


class Held:
    """What an engine holds; a test changes it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.arrived = (A.clone(), B.clone())
        self.slot = (torch.zeros(4, 4), torch.zeros(3, 4))
        self.slot[0][:2], self.slot[1][:, :2] = A, B
        self.layer, self.product = "mlp.up_proj", self.expected
        patch.setattr(module, "held_pairs", lambda *_: [self.pair()])
        patch.setattr(module, "probe_products", lambda *_, **__: {self.layer: self.product})
        patch.setattr(module, "installed", lambda *_: [5])

    def pair(self) -> HeldPair:
        return HeldPair(
            layer=self.layer, worker=1, arrived=self.arrived, share=self.arrived, slot=self.slot
        )

    @property
    def expected(self) -> float:
        return float(sent()["mlp.up_proj.lora_sketch"][0])

    def check(self) -> None:
        tensors = sent()
        check_products([check_adapter(None, 4, entries_of(tensors), tensors)])


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(monkeypatch)


def test_what_was_sent_passes(held: Held) -> None:
    held.check()


def test_a_layer_sends_two_matrices_and_a_sketch_that_bear_its_name() -> None:
    names = ["mlp.up_proj.lora_A.weight", "mlp.up_proj.lora_B.weight", "mlp.up_proj.lora_sketch"]
    assert list(sent()) == names
    assert all(is_of_adapter(name) for name in names)
    assert not is_of_adapter("mlp.up_proj.weight")
    sketch, scale = sent()[names[2]].tolist()
    assert abs(sketch) <= scale


def test_an_older_matrix_is_named(held: Held) -> None:
    held.arrived = (A, B + 1)
    with pytest.raises(WeightSyncError, match=r"up_proj\.lora_B\.weight must have digest .* of an"):
        held.check()


@pytest.mark.parametrize(("part", "name"), [(0, "lora_A"), (1, "lora_B")])
def test_another_number_in_a_slot_is_named_with_the_worker(
    held: Held, part: int, name: str
) -> None:
    held.slot[part][0, 0] += 1e-3
    with pytest.raises(WeightSyncError, match=rf"worker 1 must compute .*up_proj\.{name}\.weight"):
        held.check()


def test_what_is_left_of_a_larger_adapter_is_seen(held: Held) -> None:
    held.slot[1][0, 3] = 1.0
    with pytest.raises(WeightSyncError, match=r"worker 1 .*lora_B\.weight of version 4"):
        held.check()


def test_a_slot_of_another_number_format_is_seen(held: Held) -> None:
    held.slot = (held.slot[0].bfloat16(), held.slot[1])
    with pytest.raises(WeightSyncError, match=r"worker 1 .*lora_A\.weight"):
        held.check()


def test_a_layer_that_the_engine_lacks_and_one_that_was_not_sent_are_named(held: Held) -> None:
    held.layer = "mlp.down_proj"
    with pytest.raises(WeightSyncError, match=r"up_proj\.lora_A.* slot .* \(.* version 4\)"):
        held.check()


@pytest.mark.parametrize("factor", [0.5, -1.0, math.nan])
def test_a_layer_that_adds_something_else_is_named(held: Held, factor: float) -> None:
    held.product *= factor
    with pytest.raises(WeightSyncError, match=r"adapter of layer mlp\.up_proj must add"):
        held.check()


def test_shares_of_workers_are_added_up() -> None:
    def share(found: float) -> LayerProduct:
        return LayerProduct("layer", found, sketch=3.0, scale=3.0, tolerance=1e-5)

    check_products([[share(1.0)], [share(2.0)]])
    with pytest.raises(WeightSyncError, match="found 2"):
        check_products([[share(1.0)], [share(1.0)]])


def test_a_version_needs_all_tensors_of_a_layer_and_at_least_one_layer() -> None:
    tensors = sent()
    del tensors["mlp.up_proj.lora_B.weight"]
    with pytest.raises(WeightSyncError, match=r"found no mlp\.up_proj\.lora_B\.weight in version"):
        install(None, 4, tensors)
    with pytest.raises(WeightSyncError, match="version 4 must come with adapters, found none"):
        install(None, 4, {})


def test_what_the_engine_refuses_is_said_with_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[Any] = []

    def refuse(_: Any, number: int, pairs: Any) -> None:
        numbers.append((number, list(pairs)))
        raise AdapterRefused("no slot")

    monkeypatch.setattr(module, "install_adapter", refuse)
    with pytest.raises(WeightSyncError, match="adapter of version 0: no slot"):
        install(None, 0, sent())
    # vLLM takes 0 for "no adapter".
    assert numbers == [(number_of(0), ["mlp.up_proj"])] == [(1, ["mlp.up_proj"])]


def test_an_engine_without_slots_is_told_what_to_set() -> None:
    with pytest.raises(WeightSyncError, match=r"tensor x\.lora_B.* the same learner\.lora\.sync"):
        check_slots(object(), "x.lora_B.weight")
