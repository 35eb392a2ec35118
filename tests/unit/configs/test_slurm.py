"""configs/slurm.sh: clean bash, and the devices that the configuration uses."""

from __future__ import annotations

import re
import subprocess

from actors.cluster.devices import Node
from actors.cluster.placement import demands_of, place
from t2g_ray.config import GrpoConfig, load_config
from tests.unit.configs.parts import ROOT, shellcheck

SCRIPT = (ROOT / "configs" / "slurm.sh").read_text()


def asked(option: str) -> int:
    """The value of an #SBATCH line."""
    found = re.search(rf"^#SBATCH --{option}=(\d+)$", SCRIPT, flags=re.MULTILINE)
    assert found is not None, option
    return int(found[1])


def test_the_linter_finds_nothing() -> None:
    assert shellcheck(SCRIPT) == ""
    assert "SC2086" in shellcheck(SCRIPT.replace('"$@" --block', "$@ --block $address"))


def test_the_nodes_that_are_asked_for_hold_the_configuration_and_nothing_is_left() -> None:
    config = load_config(GrpoConfig, ROOT / "configs" / "cluster_8x.yaml", ())
    resources = {
        "CPU": float(asked("cpus-per-task")),
        "GPU": float(asked("gpus-per-node")),
    }
    nodes = [Node(f"node{i}", resources) for i in range(asked("nodes"))]
    placement = place(demands_of(config), nodes)
    assert [d.cpus for d in placement.demands] == [d.cpus for d in demands_of(config)]
    assert len(placement.slots) == sum(node.num_gpus for node in nodes)
    of_learners = [slot for slot in placement.slots if slot.holders[0].role == "learner"]
    assert len({slot.node for slot in of_learners}) == 1


def test_without_a_command_nothing_is_started() -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "configs" / "slurm.sh")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "needs a command, such as: t2g grpo" in done.stderr
