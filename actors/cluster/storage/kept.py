"""The files and checkpoints of a run -> kept in its folder, or at its URL.

With a folder that all nodes share there is nothing to move. At a URL each node works in a stage of
its own: what ranks of this process's node wrote is uploaded from here, what others wrote by a task
on their node, and this process seals what all of them uploaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from actors.cluster.devices import Node
from actors.cluster.handles import on_each
from actors.cluster.placement import cluster_nodes
from actors.cluster.waiting import results_of
from t2g_ray.config import StageConfig
from t2g_ray.run.checkpoint import Share, begin, finish, keep_last
from t2g_ray.run.folder import RunDir
from t2g_ray.run.storage.stage import Stage


class KeptRun:
    """Where a run is kept."""

    def __init__(self, config: StageConfig, run: RunDir) -> None:
        self._config, self._run = config, run
        self._url = config.storage or ""
        self._stage = Stage(self._url, run) if self._url else None

    def open(self) -> None:
        """Have in the run folder what is at the URL. Raises what `Stage.open` raises."""
        if self._stage is not None:
            self._stage.open(resume=self._config.resume == "auto")

    def push(self) -> None:
        """Have at the URL what changed in the run folder."""
        if self._stage is not None:
            self._stage.push()

    def fetch(self) -> None:
        """Have in the run folder what another node pushed."""
        if self._stage is not None:
            self._stage.fetch()

    def remove_all(self) -> None:
        """Leave nothing of a new run that did not start."""
        shutil.rmtree(self._run.path)
        if self._stage is not None:
            self._stage.remove_all()

    def discard_after(self, step: int) -> None:
        """Remove what a run that goes on at `step` has left of later ones at the URL."""
        if self._stage is not None:
            self._stage.discard_after(step)

    def place_of(self, step: int) -> str:
        """Where the checkpoint of a step is, in words."""
        folder = self._run.checkpoint(step)
        return (
            str(folder)
            if self._stage is None
            else f"{self._config.storage}/checkpoints/{folder.name}"
        )

    def save(
        self, step: int, state: Mapping[str, Any], fill: Callable[[Path], Sequence[Share]]
    ) -> None:
        """A checkpoint: `fill` has all ranks write into a folder, and returns their shares.

        Raises CheckpointError or StorageError where it cannot be completed; every earlier
        checkpoint stays.
        """
        folder, num_kept = self._run.checkpoint(step), self._config.checkpoint.keep
        temporary = begin(folder)
        shares = fill(temporary)
        if self._stage is None:
            finish(folder, state, shares)
            keep_last(self._run.checkpoints, num_kept)
            return
        target = self._stage.begin(step)
        here = [share for share in shares if share.node in ("", own_node())]
        elsewhere = [share for share in shares if share not in here]
        self._have_uploaded(elsewhere, target, temporary)
        self._stage.complete(target, temporary, state, here, elsewhere)
        self._stage.keep_last(num_kept)

    def bring_model(self, node: str) -> None:
        """Have in the run folder the model that a rank on `node` wrote into its own."""
        if self._stage is None or node == own_node():
            return
        there = on_each(_named({node}), _push_model, self._url, str(self._run.path))
        results_of(list(there.values()), "upload of the model", self._config.deadlines.save)
        self._stage.fetch(self._run.model.name)

    def _have_uploaded(self, shares: Sequence[Share], target: str, temporary: Path) -> None:
        calls = on_each(
            _named({share.node for share in shares}),
            _upload,
            self._url,
            str(self._run.path),
            target,
            str(temporary),
            shares,
        )
        phase = f"upload of {target}"
        results_of(list(calls.values()), phase, self._config.deadlines.save)


def own_node() -> str:
    """Id of the node of this process."""
    return str(ray.get_runtime_context().get_node_id())


def _named(ids: set[str]) -> list[Node]:
    return [node for node in cluster_nodes() if node.id in ids] if ids else []


def _upload(
    node: str, url: str, run: str, target: str, temporary: str, shares: Sequence[Share]
) -> None:
    stage = Stage(url, RunDir(Path(run)))
    for share in shares:
        if share.node == node:
            stage.put(target, Path(temporary), share)


def _push_model(node: str, url: str, run: str) -> None:
    folder = RunDir(Path(run))
    Stage(url, folder).push(folder.model.name)
