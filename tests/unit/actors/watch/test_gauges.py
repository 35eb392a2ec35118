"""Figures of a step, of the queue and of an actor, as Ray is told; and the dashboard of them."""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from actors.watch import gauges as module
from actors.watch.gauges import (
    FIGURES,
    RUN_OF_ACTOR,
    ActorGauges,
    LoopGauges,
    figure_name,
)
from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.grpo.metric_keys import METRIC_KEYS

ROOT = Path(__file__).parents[4]
REFERENCE = ROOT / ".venv" / "reference"
DASHBOARD = json.loads((ROOT / "configs" / "grafana.json").read_text(encoding="utf-8"))
KNOWN = {figure_name(key) for key in METRIC_KEYS} | FIGURES.keys()


class Recorded:
    """Stands for Ray's gauge, which needs a Ray that runs."""

    made: ClassVar[list[str]] = []
    values: ClassVar[dict[tuple[str, ...], float]] = {}

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description
        self._name, self._tag_keys = name, tag_keys
        self.made.append(name)

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert tags.keys() == set(self._tag_keys)
        self.values[self._name, *tags.values()] = value


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr(module, "Gauge", Recorded)
    monkeypatch.setattr(Recorded, "made", [])
    monkeypatch.setattr(Recorded, "values", {})
    return Recorded


def test_each_key_of_a_step_is_a_figure_and_so_is_the_queue(
    recorded: type[Recorded], tmp_path: Path
) -> None:
    config = build_config(GrpoConfig, {"run_dir": str(tmp_path)})
    gauges = LoopGauges(config, lambda: {"ready": 3, "writing": 5}, lambda: [4, 1])
    for step in (1, 2):
        gauges.write({"step": step, "reward/mean": 0.5, "kl": math.nan})
    run = str(tmp_path.resolve())
    values = dict(recorded.values)
    assert math.isnan(values.pop(("t2g_kl", run)))
    assert values == {
        ("t2g_step", run): 2.0,
        ("t2g_reward_mean", run): 0.5,
        ("t2g_queue_groups", run, "ready"): 3.0,
        ("t2g_queue_groups", run, "writing"): 5.0,
        ("t2g_rollout_actors", run): 2.0,
        ("t2g_rollout_open_groups", run, "rollout/0"): 4.0,
        ("t2g_rollout_open_groups", run, "rollout/1"): 1.0,
    }
    assert Counter(recorded.made).most_common(1)[0][1] == 1


def test_an_actor_that_left_writes_no_groups(recorded: type[Recorded], tmp_path: Path) -> None:
    config = build_config(GrpoConfig, {"run_dir": str(tmp_path)})
    counts = iter([[4, 1], [3], [2]])
    gauges = LoopGauges(config, dict, lambda: next(counts))
    for step in (1, 2, 3):
        gauges.write({"step": step})
    run = str(tmp_path.resolve())
    assert recorded.values["t2g_rollout_actors", run] == 1.0
    assert recorded.values["t2g_rollout_open_groups", run, "rollout/0"] == 2.0
    assert recorded.values["t2g_rollout_open_groups", run, "rollout/1"] == 0.0


def test_an_actor_tells_what_it_holds_and_a_process_that_is_none_tells_nothing(
    recorded: type[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    ActorGauges().holds(3)
    assert recorded.values == {}
    monkeypatch.setattr(module, "_actor_name", lambda: "learner/1")
    ActorGauges().holds(3)
    assert recorded.values == {}
    monkeypatch.setenv(RUN_OF_ACTOR, "/runs/a")
    ActorGauges().holds(3)
    assert recorded.values["t2g_actor_version", "/runs/a", "learner/1"] == 3.0
    assert recorded.values["t2g_actor_memory_bytes", "/runs/a", "learner/1"] > 1 << 20


def test_names_are_those_that_prometheus_takes() -> None:
    assert figure_name("throughput/tokens_per_s") == "t2g_throughput_tokens_per_s"
    assert all(
        re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", figure_name(key)) for key in ("reward/Zoë", "a-b")
    )
    assert len({figure_name(key) for key in METRIC_KEYS}) == len(METRIC_KEYS)


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def queries() -> list[str]:
    variables = DASHBOARD["templating"]["list"]
    asked = [v["query"]["query"] for v in variables if v["type"] == "query"]
    return asked + [target["expr"] for panel in panels() for target in panel["targets"]]


def test_the_dashboard_asks_for_figures_that_there_are() -> None:
    asked = {name for text in queries() for name in re.findall(r"\bray_(\w+)", text)}
    assert asked <= KNOWN, asked - KNOWN
    assert asked >= FIGURES.keys()
    assert {"t2g_throughput_tokens_per_s", "t2g_staleness_max", "t2g_faults_tracker"} <= asked


def test_no_panel_of_the_dashboard_lies_on_another() -> None:
    taken: Counter[tuple[int, int]] = Counter()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            taken.update((x, y) for y in range(place["y"], place["y"] + place["h"]))
    assert set(taken.values()) == {1}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_dashboard_has_no_field_that_grafana_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(REFERENCE)])
    pytest.importorskip("grafana_foundation_sdk", reason="requirements/reference.txt is missing")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    assert with_defaults_of(read, DASHBOARD) == read
    broken = json.loads(json.dumps(DASHBOARD))
    broken["panels"][1]["titel"] = "misspelt"
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(broken)))
    assert with_defaults_of(again, broken) != again


def with_defaults_of(read: Any, written: Any) -> Any:
    """`written`, with what Grafana fills in where nothing stands."""
    if isinstance(read, dict) and isinstance(written, dict):
        merged = {key: with_defaults_of(read.get(key), value) for key, value in written.items()}
        return {**read, **merged}
    if isinstance(read, list) and isinstance(written, list) and len(read) == len(written):
        return [with_defaults_of(*pair) for pair in zip(read, written, strict=True)]
    return written


def test_every_query_of_the_dashboard_parses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(REFERENCE)])
    parser = pytest.importorskip("promql_parser", reason="requirements/reference.txt is missing")
    for panel in panels():
        for target in panel["targets"]:
            parser.parse(target["expr"].replace("$run", ".*"))
    with pytest.raises(ValueError):
        parser.parse("ray_t2g_step{run=}")


def test_the_page_lists_every_figure_with_its_meaning() -> None:
    page = (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")
    for name, meaning in FIGURES.items():
        assert f"| `ray_{name}` | {meaning} |" in page
