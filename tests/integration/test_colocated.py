"""Runs whose learner and engine use one device in turns, with real actors, on CPUs.

vLLM's build for CPUs frees nothing when it sleeps; the order of a step, the refusals, and what the
learner moves away and back are those of a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.grpo import run_grpo
from t2g_ray.run.folder import RunDir
from t2g_ray.run.metrics import read_metrics
from tests.integration.parts import grpo_config


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=6, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def run(folder: Path, model: Path, colocate: str, **tree: Any) -> RunDir:
    settings = {"steps": 3, "checkpoint": {"every": 2}, "eval": {"every": 2}}
    return run_grpo(grpo_config(folder, model, colocate=colocate, **{**settings, **tree}))


def weights(done: RunDir) -> bytes:
    return (done.model / "model.safetensors").read_bytes()


@dataclass(frozen=True)
class Move:
    """A span of one actor that says what has the device."""

    name: str
    start_s: float
    end_s: float


def moves(done: RunDir) -> list[Move]:
    wanted = ("leave", "come back", "sleep", "wake", "load", "train", "generate")
    events = [event for event in json.loads(done.trace.read_text()) if event.get("name") in wanted]
    found = [Move(e["name"], e["ts"] / 1e6, (e["ts"] + e["dur"]) / 1e6) for e in events]
    return sorted(found, key=lambda move: move.start_s)


def test_turns_give_the_same_weights_bit_for_bit_and_go_on_from_their_checkpoint(
    wavering_model: Path, tmp_path: Path
) -> None:
    apart = run(tmp_path / "apart", wavering_model, "off")
    # The checkpoint is written while the engine has the device.
    run(tmp_path / "turns", wavering_model, "time", sync={"transport": "ipc"}, steps=2)
    resumed = {"resume": "auto", "sync": {"transport": "store"}}
    in_turns = run(tmp_path / "turns", wavering_model, "time", **resumed)
    assert weights(in_turns) == weights(apart)
    assert len(read_metrics(in_turns.metrics)) == 3
    fixed = json.loads(in_turns.rollouts_json.read_text())["fixed"]
    assert fixed.startswith("colocate=time, where each engine has the device of a learner rank")
    order = [move.name for move in moves(in_turns)]
    compact = [n for n, before in zip(order, ["", *order], strict=False) if n != before]
    turn = ["leave", "wake", "load", "wake", "generate", "sleep", "come back", "train"]
    assert "".join(f"{n};" for n in turn) * 2 in "".join(f"{n};" for n in compact)
    assert compact.count("train") == 3
    trained = [move for move in moves(in_turns) if move.name == "train"]
    written = [move for move in moves(in_turns) if move.name == "generate"]
    for train in trained:
        assert not any(w.start_s < train.end_s and train.start_s < w.end_s for w in written)


@pytest.mark.long
def test_several_engines_and_sharded_ranks_change_together_and_end_what_a_step_gives_up(
    wavering_model: Path, tmp_path: Path
) -> None:
    done = run(
        tmp_path / "run",
        wavering_model,
        "time",
        rollout={"actors": 2},
        learner={"ranks": 2, "zero_stage": 3},
        sampling={"over_sample": 1.7},
    )
    assert len(read_metrics(done.metrics)) == 3
    asleep = [move for move in moves(done) if move.name == "sleep"]
    assert len(asleep) == 2 * (1 + 3)
