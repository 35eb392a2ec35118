"""Newcomers that no run can take; the rest of a start needs a cluster."""

from __future__ import annotations

import pytest

from actors.cluster.devices import PlacementError
from actors.cluster.start import Cluster, start_newcomer
from t2g_ray.config import DeadlineConfig, GrpoConfig, build_config


def test_a_newcomer_that_no_learner_rank_could_share_memory_with_is_refused() -> None:
    config = build_config(
        GrpoConfig,
        {
            "run_dir": "runs/x",
            "colocate": "share",
            "learner": {"ranks": 2, "gpus": 0.5},
            "rollout": {"actors": 2, "gpus": 0.5},
            "sync": {"transport": "ipc"},
        },
    )
    with pytest.raises(PlacementError, match="at most the 2 that it started with"):
        start_newcomer(Cluster(DeadlineConfig()), config, "none", 2)
