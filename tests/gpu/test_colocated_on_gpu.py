"""What only a GPU can show of turns: memory that sleeping engines and learners away give back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch
from torch import nn

from tests.integration.parts import grpo_config, make_policy, write_policy

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs an NVIDIA GPU; none is visible here"
)

SHARE = 0.5
"""Of the device that the engine may take; nearly all of it is its KV cache."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init("local", include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


class Watch(threading.Thread):
    """Bytes of the first device that all processes hold, every few milliseconds."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, int]] = []
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.005):
            free, total = torch.cuda.mem_get_info(0)
            self.seen.append((time.time(), total - free))

    def most_in(self, spans: list[dict[str, Any]]) -> int:
        """The most that was held in any of these spans."""
        windows = [(span["ts"] / 1e6, (span["ts"] + span["dur"]) / 1e6) for span in spans]
        return max(held for at, held in self.seen if any(a <= at <= b for a, b in windows))


def test_the_engine_is_off_the_device_while_the_learner_trains(
    cluster: None, tmp_path: Path
) -> None:
    from actors.grpo import run_grpo
    from t2g_ray.run.metrics import read_metrics

    watch = Watch()
    watch.start()
    run = run_grpo(
        grpo_config(
            tmp_path / "run",
            write_policy(tmp_path / "model", make_policy("tied")),
            steps=6,
            colocate="time",
            data={"heldout": "none"},
            rollout={"gpus": 0.5, "dtype": "bfloat16", "gpu_memory_utilization": SHARE},
            learner={"gpus": 0.5, "dtype": "bfloat16"},
            sync={"transport": "ipc", "verify_every": 1},
        )
    )
    watch.is_over.set()
    watch.join()
    lines = list(read_metrics(run.metrics))
    assert len(lines) == 6
    assert all(line["sync/verified"] == 1 for line in lines)
    events = json.loads(run.trace.read_text())
    by_name = {
        name: [event for event in events if event.get("name") == name]
        for name in ("sleep", "wake", "leave", "come back", "train", "generate")
    }
    assert all(len(spans) >= 6 for spans in by_name.values())
    total = torch.cuda.mem_get_info(0)[1]
    training, writing = watch.most_in(by_name["train"]), watch.most_in(by_name["generate"])
    assert writing > SHARE * 0.8 * total
    assert training < writing - SHARE * 0.5 * total, "the cache was there while the learner trained"
    assert max(held for _, held in watch.seen) < training + writing


def test_a_learner_that_leaves_gives_its_memory_back_and_finds_it_as_it_was() -> None:
    from t2g_ray.learner.turns.taking import LearnerTurns

    module = nn.Linear(4096, 4096, device="cuda")
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(4096, device="cuda")).sum().backward()
    optimizer.step()
    learner: Any = SimpleNamespace(
        engine=SimpleNamespace(optimizer=optimizer, module=module),
        device=torch.device("cuda", torch.cuda.current_device()),
        reference_tensors=[],
    )
    turns = LearnerTurns(learner)
    moments = [state["exp_avg"] for state in optimizer.state.values()]
    before = [moment.clone() for moment in moments]
    for _ in range(2):  # pinned memory of the first time serves again
        there = torch.cuda.memory_allocated()
        free, _ = torch.cuda.mem_get_info()
        turns.leave()
        parked = 3 * 4 * 4096 * 4096  # two moments and a gradient
        assert torch.cuda.memory_allocated() <= there - parked
        assert torch.cuda.mem_get_info()[0] >= free + parked
        assert turns._parking._hosts[-1].is_pinned()
        turns.come_back()
        assert torch.cuda.memory_allocated() == there
        assert all(map(torch.equal, moments, before))
