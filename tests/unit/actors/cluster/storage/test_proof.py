"""Which nodes must share the run's folder; that they do is shown with nodes, see
tests/integration/test_storage.py."""

from __future__ import annotations

from actors.cluster.devices import Demand, Node
from actors.cluster.placement import place
from actors.cluster.storage.proof import nodes_of

HEAD = Node("head", {"CPU": 0.0})
CPUS = Node("cpus", {"CPU": 8.0})
GPUS = Node("gpus", {"CPU": 8.0, "GPU": 2.0})
MORE = Node("more", {"CPU": 8.0, "GPU": 1.0})
OWN = Node("own", {"CPU": 8.0, "rollout": 1.0})


def names(demands: list[Demand], nodes: list[Node], *, is_planned: bool = True) -> list[str]:
    return [n.name for n in nodes_of(place(demands, nodes), is_planned=is_planned)]


def test_every_node_with_cpus_may_hold_an_actor_without_a_device() -> None:
    assert names([Demand("learner", 0, 1, 0)], [HEAD, CPUS, GPUS]) == ["cpus", "gpus"]


def test_an_actor_with_a_device_comes_to_the_node_that_is_planned() -> None:
    learner = [Demand("learner", 0, 1, 1)]
    assert names(learner, [HEAD, CPUS, MORE, GPUS]) == ["more"]
    assert names(learner, [HEAD, CPUS, MORE, GPUS], is_planned=False) == ["more", "gpus"]


def test_nodes_that_are_kept_for_a_role_are_left_out_by_others() -> None:
    rollout, learner = Demand("rollout", 0, 1, 0), Demand("learner", 0, 1, 1)
    assert names([rollout], [CPUS, OWN]) == ["own"]
    assert names([rollout, learner], [CPUS, OWN, GPUS]) == ["own", "gpus"]
