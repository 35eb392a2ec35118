"""The device of a run -> nothing, or a refusal before anything is started.

On a cluster the nodes have sets of their own: there it counts that some node has a GPU, and each
actor checks its own process when it starts (`t2g_ray.run.device.check`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import ray

from actors.cluster.placement import cluster_nodes, connect
from t2g_ray.config import DeadlineConfig
from t2g_ray.run.device.check import check_set, check_visible
from t2g_ray.run.device.installed import Device, installed_device


def check_device(device: str, deadlines: DeadlineConfig | None = None) -> None:
    """Raises DeviceError where this machine, or the cluster to join, cannot compute on `device`."""
    kind: Device = "cuda" if device == "cuda" else "cpu"
    if ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        connect(deadlines)
        if kind == "cuda":
            found = num_gpus([node.resources for node in cluster_nodes()])
            check_visible(found, "on any node of the cluster")
        return
    check_set(kind)
    if kind == "cuda":
        import torch

        check_visible(torch.cuda.device_count(), "on this machine")


def engines_use_gpus(nodes: Sequence[Mapping[str, float]]) -> bool:
    """Whether engines without a configuration, those of a server, belong on GPUs: not where the
    CPU set is installed on a machine that has one."""
    can_be_used = installed_device() == "cuda" or bool(os.environ.get("RAY_ADDRESS"))
    return can_be_used and num_gpus(nodes) > 0


def num_gpus(nodes: Sequence[Mapping[str, float]]) -> float:
    """GPUs of all nodes together."""
    return sum(node.get("GPU", 0.0) for node in nodes)
