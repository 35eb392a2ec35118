"""The two stages of `t2g demo`, and what they become on GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2g_ray.report.demo import demo_configs
from t2g_ray.run.device.gpus import Gpu, Gpus


@pytest.mark.parametrize(("count", "engines"), [(0, 1), (1, 1), (2, 1), (8, 7)])
def test_the_demo_follows_the_device(
    count: int, engines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Gpus("580.1", (Gpu("card", 80.0),) * count)
    for user in ("t2g_ray.report.demo", "t2g_ray.config.device.table"):
        monkeypatch.setattr(f"{user}.visible_gpus", lambda: found)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    sft, grpo = demo_configs(tmp_path, seed=None, overrides=["device=cuda", "steps=3"])
    assert (sft.device, sft.learner.ranks, sft.learner.gpus) == ("cuda", 1, 1)
    assert (grpo.device, grpo.learner.ranks, grpo.rollout.actors) == ("cuda", 1, engines)
    assert grpo.colocate == ("time" if count == 1 else "off")
    own = ["device=cuda", "rollout.gpus=1", "rollout.actors=3"]
    assert demo_configs(tmp_path, seed=None, overrides=own)[1].rollout.actors == 3
    sft, grpo = demo_configs(tmp_path, seed=None, overrides=["device=cpu"])
    assert (sft.device, sft.learner.ranks) == (grpo.device, grpo.rollout.actors) == ("cpu", 2)
