"""GRPO runs whose versions are adapters: parity at every step, few bytes, resumes and newcomers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.grpo import run_grpo
from t2g_ray.run.folder import RunDir
from t2g_ray.run.metrics import read_metrics
from tests.integration.parts import grpo_config

pytest.importorskip("peft")

LORA = {"rank": 4, "alpha": 8}
ADAPTER = {"lora": {**LORA, "sync": "adapter"}, "optimizer": {"lr": 1e-2}}
MERGED = {"lora": LORA, "optimizer": {"lr": 1e-2}}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=6, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def run(folder: Path, model: Path, **tree: Any) -> RunDir:
    return run_grpo(grpo_config(folder, model, data={"heldout": "none"}, **tree))


def test_a_run_that_sends_adapters_trains_as_one_that_sends_merged_weights(
    wavering_model: Path, tmp_path: Path
) -> None:
    runs = {
        name: read_metrics(run(tmp_path / name, wavering_model, steps=3, learner=learner).metrics)
        for name, learner in (("merged", MERGED), ("adapter", ADAPTER))
    }
    merged, adapter = runs["merged"], runs["adapter"]
    for ours, theirs in zip(adapter, merged, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert ours["mismatch/current_difference"] < 1e-5
        assert ours["tokens/current"] == ours["tokens/trained"]
    assert [line["sync/verified"] for line in adapter] == [1, 0, 0]
    # No frozen weights after the first version, which a line of metrics does not have.
    assert 3 * adapter[1]["sync/mib"] < merged[1]["sync/mib"]


@pytest.mark.parametrize("transport", ["store", "broadcast", "ipc"])
def test_groups_of_several_versions_are_written_beside_each_other(
    wavering_model: Path, tmp_path: Path, transport: str
) -> None:
    done = run(
        tmp_path / "run",
        wavering_model,
        steps=6,
        max_staleness=1,
        learner={**ADAPTER, "zero_stage": 3, "ranks": 2} if transport == "broadcast" else ADAPTER,
        rollout={"actors": 2},
        sync={"transport": transport, "bucket_mib": 0.05, "verify_every": 2},
    )
    lines = read_metrics(done.metrics)
    assert [line["step"] for line in lines] == list(range(1, 7))
    assert max(line["staleness/max"] or 0 for line in lines) == 1
    assert all((line["mismatch/current_difference"] or 0) < 1e-5 for line in lines)
