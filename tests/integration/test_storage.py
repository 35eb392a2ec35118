"""Two nodes that have the same path, and not the same storage: mount points of their own."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.util import list_named_actors

from actors.cluster.devices import PlacementError
from actors.cluster.placement import cluster_nodes
from actors.cluster.start import Cluster, start_newcomer
from actors.cluster.storage.proof import prove_storage
from actors.grpo import run_grpo
from actors.sft import run_sft
from t2g_ray.config import Deadline, SftConfig, build_config
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import read_metrics
from t2g_ray.run.storage.remote import Remote
from tests.integration.parts import grpo_config

RAY = Path(sys.executable).parent / "ray"
HAS_MOUNTS = subprocess.run(
    ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True
)
SOON = Deadline("start_s", 60)

pytestmark = [
    pytest.mark.timeout(200),
    pytest.mark.skipif(
        HAS_MOUNTS.returncode != 0, reason="mount points of a process of its own need root"
    ),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path that both nodes have: on the second one another file system is mounted there."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def second(shared: Path) -> Iterator[str]:
    """A cluster of two nodes, this process being the driver on the first; the other's id."""
    ray.init("local", num_cpus=2, log_to_driver=False, logging_level=logging.ERROR)
    (first,) = cluster_nodes()
    address = ray.get_runtime_context().gcs_address
    start = f"'{RAY}' start --address={address} --num-cpus=2 --disable-usage-stats --block"
    start += """ --resources='{"learner": 1}'"""
    mounted = f"mount -t tmpfs none '{shared}' && exec {start}"
    starter = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", mounted],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    end_s = time.monotonic() + 60
    try:
        while len(nodes := cluster_nodes()) < 2:
            assert time.monotonic() < end_s, "the second node must join"
            time.sleep(0.2)
        yield next(node.id for node in nodes if node.id != first.id)
    finally:
        for child in psutil.Process(starter.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        starter.kill()
        starter.wait()


def test_a_folder_that_both_nodes_share_passes_and_is_left_empty(
    second: str, tmp_path: Path
) -> None:
    prove_storage(str(tmp_path), cluster_nodes(), SOON)
    assert list(tmp_path.iterdir()) == []


def test_a_node_with_another_folder_of_that_name_is_refused_by_name_within_ten_seconds(
    second: str, shared: Path
) -> None:
    started_s = time.monotonic()
    with pytest.raises(PlacementError) as refused:
        prove_storage(str(shared), cluster_nodes(), SOON)
    assert time.monotonic() - started_s < 10
    words = str(refused.value)
    assert f"(id {second[:8]}): it does not see what this process writes there" in words
    assert words.count("(id ") == 1, "the node of this process has it"
    assert "mount one file system there" in words
    assert list(shared.iterdir()) == []


def test_memory_of_one_process_is_refused_by_every_node(second: str) -> None:
    with pytest.raises(PlacementError) as refused:
        prove_storage("memory://run", cluster_nodes(), SOON)
    assert str(refused.value).count("(id ") == 2


def test_both_stages_refuse_it_before_an_engine_starts_and_leave_no_run_folder(
    second: str, shared: Path, wavering_model: Path
) -> None:
    run = shared / "run"
    grpo = grpo_config(run, wavering_model, steps=1)
    sft = build_config(SftConfig, {"run_dir": str(run), "steps": 1, "data": {"train_records": 16}})
    started_s = time.monotonic()
    for stage in (partial(run_grpo, grpo), partial(run_sft, sft)):
        with pytest.raises(PlacementError, match=second[:8]):
            stage()
        assert list(shared.iterdir()) == [], "the corrected command finds it as it was"
    assert time.monotonic() - started_s < 40
    named: Any = list_named_actors  # which has no annotations
    assert not named(all_namespaces=True)


def test_a_newcomer_of_a_live_run_is_refused_where_it_might_come_to_such_a_node(
    second: str, shared: Path, wavering_model: Path
) -> None:
    first = next(node.id for node in cluster_nodes() if node.id != second)
    config = grpo_config(shared, wavering_model, steps=1)
    with pytest.raises(PlacementError, match=second[:8]):
        start_newcomer(Cluster(config.deadlines, ready_nodes={first}), config, "none", 1)


@pytest.mark.long
def test_a_run_at_a_url_needs_no_shared_folder(
    second: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learner has a disk of its own: it fetches the model, uploads checkpoints and the trained
    model, and fetches the checkpoint that it goes on from."""
    monkeypatch.setenv("T2G_STAGE", str(shared / "stage"))
    url = f"file://{tmp_path}/kept"
    more = {"steps": 2, "checkpoint": {"every": 1}, "resume": "auto"}
    run = run_grpo(grpo_config(url, "embedded", **more))
    report = json.loads(run.report_json.read_text())
    assert report["placement"]["learner/0"] == second
    names = Remote(url).names()
    state = "checkpoints/step_000002/learner/state/mp_rank_00_model_states.pt"
    assert {state, "checkpoints/step_000002/COMPLETE", "model/model.safetensors"} <= names.keys()
    assert not list(run.path.rglob("*.pt")), "no rank has written here"
    assert (run.model / "model.safetensors").stat().st_size == names["model/model.safetensors"]

    again = run_grpo(grpo_config(url, "embedded", **{**more, "steps": 3}))
    assert [line["step"] for line in read_json_lines(again.resumes)] == [2]
    assert [line["step"] for line in read_metrics(again.metrics)] == [1, 2, 3]
    assert "checkpoints/step_000003/COMPLETE" in Remote(url).names()
