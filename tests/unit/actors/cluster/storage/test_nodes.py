"""A newcomer that comes to a node of the run; others are shown with nodes, see
tests/integration/test_storage.py."""

from __future__ import annotations

from pathlib import Path

from actors.cluster.devices import Demand, Node
from actors.cluster.placement import place
from actors.cluster.storage.nodes import prepare_nodes
from tests.integration.parts import grpo_config


def test_nodes_that_are_ready_are_asked_for_nothing_again(tmp_path: Path) -> None:
    config = grpo_config(tmp_path / "run", tmp_path)
    placement = place([Demand("rollout", 1, 1, 0)], [Node("head", {"CPU": 8.0}, id="0a")])
    assert prepare_nodes(config, placement, str(tmp_path), known={"0a", "0b"}) == {"0a", "0b"}
    assert not config.run_dir.exists(), "nothing was written there to be read"
