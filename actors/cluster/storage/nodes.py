"""The nodes of a run -> each with the run's storage, and with the files that its actors read.

Before the first actor starts, and before a newcomer starts on a node that had none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from actors.cluster.devices import Node, PlacementError
from actors.cluster.handles import on_each
from actors.cluster.placement import Placement
from actors.cluster.storage.kept import own_node
from actors.cluster.storage.proof import PROOF_S, nodes_of, prove_storage
from actors.cluster.waiting import results_of
from t2g_ray.config import Deadline, StageConfig
from t2g_ray.model.source import fetched_model
from t2g_ray.run.folder import RunDir
from t2g_ray.run.storage.stage import Stage


def prepare_nodes(
    config: StageConfig,
    placement: Placement,
    model: str,
    *,
    checkpoint: str = "",
    is_planned: bool = True,
    known: Collection[str] = (),
) -> set[str]:
    """The ids of all nodes that may hold an actor, ready for it. `known` are ready already.

    `model` is the folder that actors read the model from, `checkpoint` the name of the one that
    learner ranks will read. `is_planned` as in `nodes_of`, False where ranks upload by themselves.
    Raises PlacementError where a node lacks the storage, or cannot have the model.
    """
    nodes = [node for node in nodes_of(placement, is_planned=is_planned) if node.id not in known]
    if not nodes:
        return {*known}
    start = Deadline("start_s", PROOF_S) if known else config.deadlines.start
    if config.storage is None:
        prove_storage(str(config.run_dir), nodes, start)
    else:
        others = [node for node in nodes if node.id != own_node()]
        # What is written on the node of this process, this process uploads, unless ranks do.
        prove_storage(config.storage, others if is_planned else nodes, start)
        ranks = {node.id for node in nodes_of(_of_learners(placement), is_planned=is_planned)}
        token = Stage(config.storage, RunDir(config.run_dir)).token
        needed = dict.fromkeys(ranks, checkpoint)
        calls = on_each(others, _follow, config.storage, str(config.run_dir), token, needed)
        phase = "download of the run's files on all nodes"
        results_of(list(calls.values()), phase, config.deadlines.save)
    _fetch_model(config, nodes, model)
    return {*known, *(node.id for node in nodes)}


def _fetch_model(config: StageConfig, nodes: Sequence[Node], folder: str) -> None:
    calls = on_each(nodes, _fetch, config.model, folder)
    phase = "fetching of the model on all nodes"
    said = results_of(list(calls.values()), phase, config.deadlines.fetch)
    faults = [
        f"  {c.actor}: {fault}" for c, fault in zip(calls.values(), said, strict=True) if fault
    ]
    if faults:
        found = "\n".join(faults)
        raise PlacementError(f"every node must have the model {config.model}, found\n{found}")


def _fetch(node: str, model: str, folder: str) -> str:
    return fetched_model(model, folder)


def _of_learners(placement: Placement) -> Placement:
    return replace(
        placement,
        demands=tuple(d for d in placement.demands if d.role == "learner"),
        slots=tuple(s for s in placement.slots if any(h.role == "learner" for h in s.holders)),
    )


def _follow(node: str, url: str, run: str, token: str, needed: Mapping[str, str]) -> None:
    Stage(url, RunDir(Path(run))).follow(token, needed.get(node, ""))
