"""What the group of all ranks must be able to do. Joining: tests/integration/test_learner.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import torch.distributed as dist

from t2g_ray.learner.ranks import check_group
from tests.ports import free_port


@pytest.fixture
def group() -> Iterator[Callable[[str], None]]:
    """Makes the group of one rank, with a backend as a torchrun or Ray Train would."""

    def make(backend: str) -> None:
        address = f"tcp://127.0.0.1:{free_port()}"
        dist.init_process_group(backend, init_method=address, rank=0, world_size=1)

    yield make
    dist.destroy_process_group()


@pytest.mark.parametrize("backend", ["gloo", "cpu:gloo,cuda:gloo"])
def test_a_group_of_both_kinds_of_memory_is_taken(
    group: Callable[[str], None], backend: str
) -> None:
    group(backend)
    check_group(is_cpu=True)
    check_group(is_cpu=False)


@pytest.mark.parametrize(
    ("backend", "is_cpu", "said"),
    [
        # In place of "nccl" alone, which this machine may not have.
        ("cuda:gloo", False, "on cpu, found a process group of 'cuda:gloo'.*cpu:gloo,cuda:nccl"),
        ("cuda:gloo", True, "on cpu, found a process group of 'cuda:gloo'.*the backend 'cpu:gloo'"),
        ("cpu:gloo", False, "on cuda, found a process group of 'cpu:gloo'"),
    ],
)
def test_a_group_that_would_fail_at_the_first_step_is_refused(
    group: Callable[[str], None], backend: str, is_cpu: bool, said: str
) -> None:
    group(backend)
    with pytest.raises(RuntimeError) as error:
        check_group(is_cpu=is_cpu)
    assert re.search(said, str(error.value))
