"""Whole runs on real Ray, vLLM and DeepSpeed: complete, repeatable, and stopped by bad input.

Whole runs go through `actors.stages.trainer` and `actors.stages.evaluation`.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.grpo import run_grpo
from actors.watch.gauges import FIGURES, figure_name
from t2g_ray.config import ConfigError, GrpoConfig, load_config
from t2g_ray.graph import Entity, Graph
from t2g_ray.grpo.metric_keys import missing_keys
from t2g_ray.records.corpus import generate_records
from t2g_ray.records.jsonl import write_records
from t2g_ray.run.device.check import DeviceError
from t2g_ray.run.folder import RunDir
from t2g_ray.run.jsonlines import read_json_lines
from t2g_ray.run.metrics import MetricsLine, read_metrics
from t2g_ray.run.trackers.state import num_faults
from t2g_ray.types import Record
from t2g_ray.weights.manifest import MIB
from tests.integration.parts import grpo_config
from tests.unit.run.trackers.parts import NAMES, REFERENCE, points_in, tracked_run

STEPS = 4
TWO_RANKS = {"ranks": 2, "token_budget": 256}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One Ray for all runs of this file."""
    ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 500},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def scraped() -> dict[str, str]:
    """What Prometheus would read at the nodes, while runs go on: name -> the last sample of it."""
    return {}


@pytest.fixture(scope="module")
def straight(
    wavering_model: Path, tmp_path_factory: pytest.TempPathFactory, scraped: dict[str, str]
) -> RunDir:
    """One sampler, one learner rank, from the first step to the last, watched by trackers."""
    with pytest.MonkeyPatch.context() as monkeypatch, scraping(scraped):
        watched = watch(monkeypatch)
        folder = tmp_path_factory.mktemp("grpo") / "straight"
        return run_grpo(grpo_config(folder, wavering_model, **watched))


def watch(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The settings of a run that shows in every tracker which is installed here."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(REFERENCE)])
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    names = [name for name in NAMES if find_spec(name)]
    return {"trackers": names, "tracking": {"offline": True, "project": f"grpo-{os.getpid()}"}}


@contextmanager
def scraping(samples: dict[str, str]) -> Iterator[None]:
    """Read what the node exports, as Prometheus does, while the block runs."""
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    is_over = threading.Event()

    def read() -> None:
        is_last = False
        while not is_last:
            is_last = is_over.wait(1)
            text = httpx.get(address, timeout=10).text
            for line in text.splitlines():
                if line.startswith("ray_t2g_"):
                    samples[line.partition("{")[0]] = line

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
        time.sleep(2)  # the last step reaches the agent
    finally:
        is_over.set()
        thread.join()


def lines_of(run: RunDir) -> list[MetricsLine]:
    return read_metrics(run.metrics)


def column(run: RunDir, key: str) -> list[float]:
    return [float(line[key] or 0.0) for line in lines_of(run)]


def weights(run: RunDir) -> bytes:
    return (run.model / "model.safetensors").read_bytes()


def actors_of(run_dir: Path) -> list[str]:
    """Names of the actors of one run that are still there."""
    named = ray.util.list_named_actors(all_namespaces=True)
    return [a["name"] for a in named if a["namespace"] == f"t2g:{run_dir.resolve()}"]


def test_a_run_trains_and_leaves_a_whole_folder(straight: RunDir, wavering_model: Path) -> None:
    lines = lines_of(straight)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [missing_keys(line) for line in lines] == [[]] * STEPS
    assert sum(column(straight, "groups/trained")) >= STEPS
    assert all(value < 1e-5 for value in column(straight, "mismatch/logprob_difference"))
    assert column(straight, "staleness/max") == [0.0] * STEPS
    assert load_config(GrpoConfig, straight.config).steps == STEPS
    names = {path.name for path in straight.path.iterdir()}
    assert {"samples.jsonl", "ledger.jsonl", "evals.jsonl", "report.html", "model"} <= names
    assert [p.name for p in sorted(straight.checkpoints.iterdir())] == [
        "step_000002",
        "step_000004",
    ]
    before = AutoModelForCausalLM.from_pretrained(wavering_model).state_dict()
    after = AutoModelForCausalLM.from_pretrained(straight.model).state_dict()
    assert before.keys() == after.keys()
    assert not any(torch.equal(before[name], after[name]) for name in before)
    assert AutoTokenizer.from_pretrained(straight.model).eos_token_id is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_tracker_holds_every_key_of_every_step(
    name: str, straight: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(GrpoConfig, straight.config)
    if name not in config.trackers:
        pytest.skip(f"{name} of requirements/reference.txt is not installed")
    watch(monkeypatch)
    points = points_in(name, tracked_run(straight.path, project=config.tracking.project))
    for line in read_json_lines(straight.metrics):
        for key, value in line.items():
            assert dict(points[key])[line["step"]] == pytest.approx(value, rel=1e-5, abs=1e-6), key
    assert {"eval/heldout/f1/entities", "eval/heldout/json_valid_rate"} <= points.keys()
    assert num_faults(straight) == 0


def test_prometheus_reads_every_figure_of_the_steps_the_queue_and_the_actors(
    straight: RunDir, scraped: dict[str, str]
) -> None:
    line = lines_of(straight)[-1]
    names = {f"ray_{figure_name(key)}" for key in line} | {f"ray_{name}" for name in FIGURES}
    assert names - {"ray_t2g_actor_device_memory_bytes"} <= scraped.keys()
    assert all(f'run="{straight.path.resolve()}"' in sample for sample in scraped.values())
    assert float(scraped["ray_t2g_step"].split()[-1]) == STEPS
    rate = float(scraped["ray_t2g_throughput_tokens_per_s"].split()[-1])
    assert rate in [pytest.approx(value) for value in column(straight, "throughput/tokens_per_s")]
    assert float(scraped["ray_t2g_actor_memory_bytes"].split()[-1]) > 50 * MIB
    assert 0 < float(scraped["ray_t2g_actor_version"].split()[-1]) <= STEPS


def test_the_report_compares_before_and_after(straight: RunDir) -> None:
    report = json.loads(straight.report_json.read_text())
    assert (report["records"], report["seed"], report["steps"]) == (4, 0, STEPS)
    for side in ("before", "after"):
        scores = [report[side][k] for k in ("f1/entities", "f1/relations", "json_valid_rate")]
        assert all(0 <= score <= 1 for score in scores)
        low, high = report[side]["interval"]["f1/entities"]
        assert low <= report[side]["f1/entities"] <= high
    assert 0 < report["grpo_wall_s"] < report["wall_s"]
    assert {"learner/0", "rollout/0", "reward/0"} <= report["placement"].keys()
    assert [(line["step"], line["split"]) for line in read_json_lines(straight.evals)] == [
        (step, split) for step in (0, STEPS) for split in ("heldout", "heldout_names")
    ]
    times = [line["time_s"] for line in read_json_lines(straight.evals)]
    assert times == [0.0, 0.0] + [column(straight, "time_s")[-1]] * 2


def test_the_trace_shows_every_actor_at_work(straight: RunDir) -> None:
    events = json.loads(straight.trace.read_text())
    rows = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    worked = {(rows[e["pid"]], e["name"]) for e in events if e["ph"] == "X"}
    assert {
        ("rollout/0", "generate"),
        ("rollout/0", "load"),
        ("reward/0", "score"),
        ("learner/0", "train"),
        ("learner/0", "gather"),
        ("learner/0", "checkpoint"),
        *(("learner/0", phase) for phase in ("forward", "backward", "optimiser", "sync")),
        *((actor, "start: imports") for actor in ("rollout/0", "reward/0", "learner/0")),
    } <= worked


def test_the_report_tells_each_part_of_each_start(straight: RunDir) -> None:
    startup = json.loads(straight.report_json.read_text())["startup"]
    parts = {
        "driver": {"inputs", "Ray", "actors", "first sync"},
        "rollout/0": {"process", "imports", "model", "memory", "cache", "warm-up"},
        "reward/0": {"process", "imports"},
        "learner/0": {"process", "imports", "meeting of the ranks", "model", "probes", "optimiser"},
    }
    assert {actor: set(seconds) for actor, seconds in startup.items()} == parts
    for actor in parts.keys() - {"driver"}:
        total_s = sum(startup[actor].values())
        assert 0 < total_s < startup["driver"]["actors"] + startup["driver"]["first sync"]


def test_every_prompt_is_consumed_once(straight: RunDir) -> None:
    positions = [p for line in read_json_lines(straight.ledger) for p in line["positions"]]
    assert sorted(positions) == list(range(STEPS * 3))


def test_no_actor_outlives_its_run(straight: RunDir) -> None:
    end = time.monotonic() + 10
    while (left := actors_of(straight.path)) and time.monotonic() < end:
        time.sleep(0.1)
    assert left == []


def test_the_same_seed_gives_the_same_model_bit_for_bit_also_where_it_is_profiled(
    straight: RunDir, wavering_model: Path, tmp_path: Path
) -> None:
    profile = {"steps": [2, 3], "engines": [0], "memory": True}
    again = run_grpo(grpo_config(tmp_path / "again", wavering_model, profile=profile))
    assert weights(again) == weights(straight)
    for key in ("loss", "reward/mean", "tokens/generated", "grad_norm"):
        assert column(again, key) == column(straight, key), key
    traces = sorted(again.profile.glob("*.json.gz"))
    assert [path.name.partition(".")[0].partition("_")[0] for path in traces] == [
        "learner-0",
        "rollout-0",
    ]
    for path in traces:
        events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        assert sum(event.get("cat") == "cpu_op" for event in events) > 100, path


@pytest.mark.parametrize("zero_stage", [2, 3])
def test_two_sharded_ranks_train_like_one(
    straight: RunDir, wavering_model: Path, tmp_path: Path, zero_stage: int
) -> None:
    learner = {**TWO_RANKS, "zero_stage": zero_stage}
    run = run_grpo(grpo_config(tmp_path / "run", wavering_model, learner=learner))
    for key in ("loss", "entropy", "grad_norm", "reward/mean", "tokens/generated"):
        assert column(run, key) == pytest.approx(column(straight, key), rel=1e-4, abs=1e-6), key
    ours = AutoModelForCausalLM.from_pretrained(run.model).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(straight.model).state_dict()
    assert max(float((ours[n] - theirs[n]).abs().max()) for n in theirs) < 1e-3


def test_two_samplers_and_two_ranks_train_with_staleness(
    wavering_model: Path, tmp_path: Path
) -> None:
    config = grpo_config(
        tmp_path / "run",
        wavering_model,
        max_staleness=1,
        rollout={"actors": 2},
        reward={
            "actors": 2,
            "penalties": {"overlong": 0.1},
            "custom": [{"path": "tests.integration.own_reward:brevity", "weight": 0.1}],
        },
        learner={**TWO_RANKS, "zero_stage": 2},
        algorithm={"kl_coef": 0.1, "updates_per_batch": 2, "normalisation": "sequences"},
    )
    run = run_grpo(config)
    # The user's reward counts, and the raw scores do not know of it.
    assert all(value < 0 for value in column(run, "reward/brevity"))
    assert all(0 <= value <= 1 for value in column(run, "f1/entities"))
    assert all(-1 <= value <= 0 for value in column(run, "reward/overlong"))
    assert column(run, "step") == list(range(1, STEPS + 1))
    assert max(column(run, "kl")) > 0
    assert [missing_keys(line) for line in lines_of(run)] == [[]] * STEPS
    assert max(column(run, "staleness/max")) == 1.0
    positions = [p for line in read_json_lines(run.ledger) for p in line["positions"]]
    assert sorted(positions) == list(range(STEPS * 3))
    events = json.loads(run.trace.read_text())
    rows = {e["args"]["name"] for e in events if e["ph"] == "M"}
    assert {"rollout/0", "rollout/1", "reward/1", "learner/0", "learner/1"} <= rows


def about_ann(record: Record) -> Record:
    """A record that the wavering policy's one answer is partly right for."""
    ann = Entity(99, "Ann", "person")
    return dataclasses.replace(
        record,
        text=f"{record.text} Ann.",
        entity_types=tuple(dict.fromkeys([*record.entity_types, "person"])),
        graph=Graph((*record.graph.entities, ann), record.graph.relations),
    )


def test_groups_are_given_up_and_replaced_and_every_one_is_accounted_for(
    wavering_model: Path, tmp_path: Path
) -> None:
    records = generate_records("rl", 6, seed=1, level="easy")
    write_records(tmp_path / "train.jsonl", [about_ann(record) for record in records])
    config = grpo_config(
        tmp_path / "run",
        wavering_model,
        rollout={"actors": 2},
        data={
            "train": str(tmp_path / "train.jsonl"),
            "train_records": 6,
            "order": "half_right_first",
            "heldout": "none",
        },
        sampling={"over_sample": 1.5, "extra_groups": 2},
        learner={"lora": {"rank": 4}},  # adapters as well: the parity of each step watches them
    )
    run = run_grpo(config)
    # Five groups are begun for three; the two that are left were cut, or finished too late.
    given_up = zip(column(run, "groups/aborted"), column(run, "groups/dropped"), strict=True)
    assert [aborted + late for aborted, late in given_up] == [2.0] * STEPS
    extra = column(run, "groups/extra")
    assert max(extra) <= 2
    positions = [p for line in read_json_lines(run.ledger) for p in line["positions"]]
    assert len(set(positions)) == len(positions) == STEPS * 3 + sum(extra)


def test_a_misspelt_key_is_named_before_anything_starts(
    wavering_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="unknown key group_sise: did you mean group_size"):
        grpo_config(tmp_path / "run", wavering_model, group_sise=4)
    assert not (tmp_path / "run").exists()


def test_a_missing_data_file_is_named_before_an_actor_starts(
    wavering_model: Path, tmp_path: Path
) -> None:
    config = grpo_config(tmp_path / "run", wavering_model, data={"train": "nowhere.jsonl"})
    with pytest.raises(
        ValueError, match=r"data\.train must be .* found no file at 'nowhere\.jsonl'"
    ):
        run_grpo(config)
    assert actors_of(tmp_path / "run") == []


def test_gpus_that_are_not_there_are_refused_at_once(wavering_model: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    config = grpo_config(tmp_path / "run", wavering_model, rollout={"gpus": 2})
    with pytest.raises(DeviceError, match="found none on any node of the cluster"):
        run_grpo(config)
    assert time.monotonic() - started < 10
    assert actors_of(tmp_path / "run") == []
