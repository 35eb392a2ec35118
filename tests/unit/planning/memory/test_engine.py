"""Planned memory of an engine, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.planning.memory.engine import EngineMemory
from t2g_ray.planning.memory.held import GIB
from t2g_ray.planning.shapes import PUBLISHED

SEVEN_B = PUBLISHED["Qwen/Qwen2.5-7B"]


def engine(device: str = "cuda", **tree: Any) -> EngineMemory:
    settings = {
        "run_dir": "x",
        "device": device,
        "prompt": {"max_tokens": 1000},
        "sampling": {"max_new_tokens": 24},
        **tree,
    }
    return EngineMemory(build_config(GrpoConfig, settings), SEVEN_B)


def test_keys_and_values_of_a_token_are_two_numbers_a_layer_and_key_width() -> None:
    assert engine().token_bytes == 2 * 28 * 512 * 2
    four = engine(rollout={"tensor_parallel": 4})
    assert four.token_bytes == engine().token_bytes  # a head of keys for each of the four
    eight = engine(rollout={"tensor_parallel": 8})
    assert eight.token_bytes == 2 * engine().token_bytes


def test_the_cache_is_what_weights_pass_and_graphs_leave_of_the_room() -> None:
    one = engine()
    footprint, room = one.on_card(70 * GIB)
    held = footprint["writing"].device
    taken = sum(held[name] for name in ("engine weights", "largest pass", "CUDA graphs"))
    assert held["engine weights"] == 2 * SEVEN_B.parameters
    assert room.num_bytes == held["KV cache"] == 70 * GIB - taken
    assert room.sequences == room.num_bytes // (1024 * one.token_bytes)


def test_a_cache_holds_one_longest_sequence_also_where_there_is_no_room() -> None:
    one = engine()
    _, room = one.on_card(GIB)
    assert room.num_bytes == 1024 * one.token_bytes
    assert room.sequences == 1


def test_workers_share_weights_and_cache() -> None:
    footprint, room = engine(rollout={"tensor_parallel": 2}).on_card(40 * GIB)
    held = footprint["writing"].device
    assert held["engine weights"] == SEVEN_B.parameters
    assert room.num_bytes == 2 * held["KV cache"]


def test_a_sleeping_engine_keeps_its_context_and_graphs() -> None:
    footprint, _ = engine(colocate="time").on_card(40 * GIB)
    assert footprint["computing"].device.keys() == {"context", "CUDA graphs"}
    assert "KV cache" not in footprint["handing over"].device


def test_a_cache_on_a_cpu_has_the_size_that_is_set_in_whole_gib() -> None:
    footprint, room = engine("cpu", rollout={"kv_cache_gib": 3.6}).on_cpu()
    assert footprint["starting"].host["KV cache"] == room.num_bytes == 4 * GIB


@pytest.mark.parametrize(("transport", "number"), [("broadcast", 152_064 * 3584 * 2), ("ipc", 0)])
def test_a_bucket_on_its_way_holds_one_tensor_at_least(transport: str, number: int) -> None:
    share = {"colocate": "share"} if transport == "ipc" else {}
    assert engine(sync={"transport": transport}, **share).received == number
