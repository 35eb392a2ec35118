"""How many versions an engine holds, and when one has no room."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t2g_ray.config import GrpoConfig, LoraConfig, build_config
from t2g_ray.rollout.adapters import (
    AdapterSlots,
    adapter_arguments,
    adapter_slots,
    request_of,
    versions_in_use,
)
from t2g_ray.weights.manifest import WeightSyncError


def slots_of(**lora: Any) -> AdapterSlots | None:
    tree = {"run_dir": "x", "max_staleness": 2, "learner": {"lora": lora}}
    return adapter_slots(build_config(GrpoConfig, tree))


def test_only_runs_that_send_adapters_alone_have_slots() -> None:
    assert slots_of() is None
    assert slots_of(rank=4) is None
    found = slots_of(rank=4, sync="adapter")
    assert found is not None and found.number == 4 and found.lora.rank == 4


def test_slots_have_the_next_rank_that_vllm_knows() -> None:
    def rank(asked: int) -> int:
        lora = LoraConfig(rank=asked, targets=["q_proj"])
        arguments = adapter_arguments("no model is read", AdapterSlots(lora=lora, number=3))
        assert arguments["max_loras"] == 3 and arguments["lora_target_modules"] == ["q_proj"]
        found: int = arguments["max_lora_rank"]
        return found

    assert [rank(asked) for asked in (1, 2, 8, 9, 200, 512)] == [1, 8, 8, 16, 256, 512]


@given(st.sets(st.integers(0, 9)), st.integers(0, 9), st.integers(1, 5))
def test_versions_in_use_stay_and_fit_with_the_new_one(
    open_versions: set[int], version: int, number: int
) -> None:
    slots = AdapterSlots(lora=LoraConfig(rank=1), number=number)
    others = open_versions - {version}
    if len(others) + 1 > number:
        with pytest.raises(WeightSyncError, match=f"version {version} comes, found"):
            versions_in_use(open_versions, version, slots)
    else:
        assert versions_in_use(open_versions, version, slots) == others


@pytest.mark.slow  # the import of vLLM takes seconds
def test_a_request_names_its_version_and_no_folder_that_could_be_read() -> None:
    first, second = request_of(0), request_of(1)
    # 0 means "no adapter" to vLLM.
    assert [first.lora_int_id, second.lora_int_id] == [1, 2]
    assert first.lora_name != second.lora_name
    assert "version-1" in second.lora_path
