"""What tests of the files for clusters share: the files, programs that check them, and the run."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from actors.cluster.devices import Node, Slot
from actors.cluster.placement import demands_of, place
from t2g_ray.config import GrpoConfig, load_config

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / ".venv" / "reference"


def shellcheck(script: str) -> str:
    """What ShellCheck says of a script of bash; empty where it finds nothing."""
    done = subprocess.run(
        [str(REFERENCE / "bin" / "shellcheck"), "--shell=bash", "--format=gcc", "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def cluster_8x(*overrides: str) -> GrpoConfig:
    """The configuration that the clusters are for."""
    return load_config(GrpoConfig, ROOT / "configs" / "cluster_8x.yaml", overrides)


def slots_of_all(nodes: Sequence[Node]) -> Sequence[Slot]:
    """The devices of nodes that the configuration takes, which are all, with the CPUs it wants."""
    demands = demands_of(cluster_8x())
    placement = place(demands, nodes)
    assert [d.cpus for d in placement.demands] == [d.cpus for d in demands]
    assert len(placement.slots) == sum(node.num_gpus for node in nodes)
    return placement.slots


def check_roles_of_nodes(nodes: Sequence[Node]) -> None:
    """All eight devices are taken whole: learners on `main`, samplers on `spot`; KIND/NUMBER is
    the name of a node."""
    slots = slots_of_all(nodes)
    where = Counter(
        (holder.role, nodes[slot.node].name.split("/")[0])
        for slot in slots
        for holder in slot.holders
    )
    assert where == {("learner", "main"): 4, ("rollout", "spot"): 4}
    assert sum(slot.free for slot in slots) == 0
    assert len(slots) == 8
