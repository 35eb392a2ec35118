"""A process -> one rank among those that train together."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping

import torch.distributed as dist

from t2g_ray.run.device.caches import keep_compiled
from t2g_ray.run.device.check import check_process
from t2g_ray.run.timing.startup import IMPORTS, part


def backends(*, is_cpu: bool) -> str:
    """What torch.distributed reduces with, by device.

    Gradients are reduced on their device, the counts of a step always on the CPU.
    """
    return "cpu:gloo" if is_cpu else "cpu:gloo,cuda:nccl"


def join_ranks(*, rank: int, num_ranks: int, address: str, port: int, is_cpu: bool) -> None:
    """Set up torch.distributed and DeepSpeed: Gloo on CPUs, on GPUs NCCL as well.

    Raises DeviceError where this process cannot compute on what it is for.
    """
    check_process("cpu" if is_cpu else "cuda")
    keep_compiled()
    if is_cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"
        # Without this Muon's update is compiled at its first call, which takes minutes here.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    with part(IMPORTS):
        import deepspeed

    environment: Mapping[str, str] = {
        "RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }
    os.environ.update(environment)
    # Skips a C++ all-reduce that only inference uses; compiling it takes half a minute.
    importlib.import_module("deepspeed.comm.torch").build_shm_op = lambda: None  # type: ignore[attr-defined]
    with part("meeting of the ranks"):
        deepspeed.init_distributed(
            dist_backend=backends(is_cpu=is_cpu),
            auto_mpi_discovery=False,
            verbose=False,
        )
    check_group(is_cpu=is_cpu)


def check_group(*, is_cpu: bool) -> None:
    """Raises RuntimeError where the group of all ranks cannot add up what a step adds up.

    The group may be older than `join_ranks`, which then takes it as it is.
    """
    found = dist.get_backend_config()
    reduced = {part.partition(":")[0] for part in found.split(",")}
    missing = {"cpu"} - reduced if is_cpu else {"cpu", "cuda"} - reduced
    if missing:
        raise RuntimeError(
            f"the ranks must reduce tensors on {' and '.join(sorted(missing))}, found a process "
            f"group of {found!r}; make it with the backend "
            f"{backends(is_cpu=is_cpu)!r}"
        )
