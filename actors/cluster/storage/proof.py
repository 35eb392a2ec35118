"""The nodes of a run -> nothing, or a refusal that names those without the run's storage.

Before anything is started each node that may hold an actor reads what this process writes into the
run's place, and writes what this process reads. A run whose ranks save to folders of their own
would otherwise go on for hours and lose its learner at the first resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from actors.cluster.devices import Node, PlacementError, homes_of
from actors.cluster.handles import Ref, on_each
from actors.cluster.placement import Placement
from actors.cluster.waiting import ended, results_of
from t2g_ray.config import Deadline
from t2g_ray.run.storage.proof import Question, answered, asked, unheard

PROOF_S = 8.0
"""Until a node that says what is wrong has said it."""


def nodes_of(placement: Placement, *, is_planned: bool = True) -> list[Node]:
    """The nodes that may hold an actor: those of the planned devices, and all that Ray may choose
    for the others. `is_planned`: actors with a device come to the planned ones."""
    nodes = placement.nodes
    found = {slot.node for slot in placement.slots if is_planned}
    for demand in placement.demands:
        if demand.gpus and is_planned:
            continue
        resource = "GPU" if demand.gpus else "CPU"
        homes = homes_of(demand.role, nodes)
        found |= {i for i in homes if nodes[i].resources.get(resource)}
    return [nodes[i] for i in sorted(found)]


def prove_storage(place: str, nodes: Sequence[Node], deadline: Deadline) -> None:
    """Raises PlacementError that names each node which does not read and write `place`, a folder
    or a URL; LoopError where a node says nothing within `deadline`."""
    with asked(place) as question:
        calls = on_each(nodes, answered, question)
        in_time = ended(list(calls.values()), PROOF_S)
        for is_early in (True, False):
            some = {i: call for i, call in calls.items() if (call in in_time) is is_early}
            _check(place, question, some, deadline)


def _check(
    place: str, question: Question, calls: Mapping[str, Ref[str]], deadline: Deadline
) -> None:
    """Raises PlacementError where one of these nodes found, or left, something else."""
    said = results_of(list(calls.values()), "proof that all nodes share run_dir", deadline)
    faults = {node: fault for node, fault in zip(calls, said, strict=True) if fault}
    faults |= unheard(question, [node for node in calls if node not in faults])
    if faults:
        found = "\n".join(f"  {calls[node].actor}: {fault}" for node, fault in faults.items())
        raise PlacementError(
            f"every node that may hold an actor must read and write run_dir, {place}, found\n"
            f"{found}\nmount one file system there on all nodes, or give a URL that all of them "
            "reach (run_dir=s3://bucket/run)"
        )
