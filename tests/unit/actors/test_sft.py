"""What Ray Train is asked for, and failures of ranks -> the one error that the run ends with."""

from __future__ import annotations

import pickle

import pytest
from ray.train import ScalingConfig
from ray.train.v2.api.exceptions import WorkerGroupError
from torch.distributed.distributed_c10d import BackendConfig

from actors.cluster.devices import Node, PlacementError
from actors.cluster.placement import demands_of, place
from actors.sft import _failure, _scaling, _torch_config
from t2g_ray.config import SftConfig, build_config


def config(**learner: float) -> SftConfig:
    return build_config(SftConfig, {"run_dir": "runs/x", "learner": learner})


def on(gpus: int, asked: SftConfig) -> ScalingConfig:
    """What Ray Train is asked for on a node with so many GPUs."""
    return _scaling(asked, place(demands_of(asked), [Node("here", {"CPU": 8.0, "GPU": gpus})]))


@pytest.mark.parametrize(
    ("gpus", "backends"), [(0, {"cpu": "gloo"}), (1, {"cpu": "gloo", "cuda": "nccl"})]
)
def test_the_group_of_ranks_reduces_on_each_device_that_they_use(
    gpus: int, backends: dict[str, str]
) -> None:
    asked = _torch_config(config(gpus=gpus))
    # The counts of a step are reduced on the CPU also where gradients are on GPUs.
    assert BackendConfig(asked.backend).get_device_backend_map() == backends
    assert asked.timeout_s == 1800, "ranks wait for each other in checkpoints too"


def test_ranks_that_would_meet_on_one_device_are_refused() -> None:
    with pytest.raises(PlacementError, match=r"found learner.gpus=0.5 with learner.ranks=2"):
        on(2, config(gpus=0.5, ranks=2))
    assert on(2, config(gpus=0.5, ranks=1)).resources_per_worker == {"CPU": 1, "GPU": 0.5}


def test_ranks_that_find_no_device_are_refused_with_a_table() -> None:
    assert on(2, config(gpus=1, ranks=2)).num_workers == 2
    with pytest.raises(PlacementError, match=r"here +1 +learner/1 1 +0"):
        on(2, config(gpus=1, ranks=3))


def test_bad_input_on_a_rank_is_a_value_error_in_its_own_words() -> None:
    cause = ValueError("prompt and answer must fit")
    assert _failure(WorkerGroupError("two failed", {0: RuntimeError("gone"), 1: cause})) is cause


def test_other_failures_name_every_rank_that_failed() -> None:
    full = RuntimeError("out of memory")
    full.add_note("GPU 3 of node 10.0.0.5")
    failures = {1: pickle.loads(pickle.dumps(full)), 0: OSError("connection closed")}
    failure = _failure(WorkerGroupError("two failed", dict(failures)))
    assert isinstance(failure, RuntimeError)
    assert str(failure) == (
        "SFT failed: rank 0: connection closed; rank 1 (GPU 3 of node 10.0.0.5): out of memory"
    )
