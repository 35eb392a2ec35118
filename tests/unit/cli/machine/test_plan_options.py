"""What the time of a step is planned from, as the command line takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.parts import t2g
from tests.unit.planning.parts import rates

ROOT = Path(__file__).resolve().parents[4]
CLUSTER = ROOT / "configs" / "cluster_8x.yaml"


def write_selftest(folder: Path) -> Path:
    figures = [{"name": name, "value": value} for name, value in rates().figures().items()]
    path = folder / "selftest.json"
    path.write_text(json.dumps({"checks": [{"name": "rates", "figures": figures}]}))
    return path


def test_a_cluster_of_known_cards_has_a_time_and_a_bottleneck(tmp_path: Path) -> None:
    written = tmp_path / "plan.json"
    result = t2g("plan", CLUSTER, "--json", written)
    assert result.exit_code == 0, result.stderr
    assert "bottleneck: the learner" in result.stdout
    speed = json.loads(written.read_text(encoding="utf-8"))["speed"]
    assert speed["bottleneck"] == "learner" and speed["tokens_per_s"] > 0
    assert {part["name"] for part in speed["parts"]} >= {"decode", "backward", "sync"}


def test_a_named_card_takes_the_place_of_the_clusters(config: Path) -> None:
    shown = t2g("plan", CLUSTER, "--card", "B200", "--answer-tokens", 100).stdout
    assert "DGX B200" in shown and "answers have 100 tokens, as given" in shown
    wrong = t2g("plan", CLUSTER, "--card", "V100")
    assert wrong.exit_code == 2 and "--card must be one of" in wrong.stderr


def test_a_faster_network_makes_a_faster_sync(tmp_path: Path) -> None:
    def sync_s(*options: object) -> float:
        written = tmp_path / "plan.json"
        t2g("plan", CLUSTER, "--json", written, *options)
        parts = json.loads(written.read_text(encoding="utf-8"))["speed"]["parts"]
        return float(next(part["seconds"] for part in parts if part["name"] == "sync"))

    assert sync_s("--network", 25) < sync_s()


def test_on_cpus_it_is_said_how_rates_are_measured(config: Path) -> None:
    shown = t2g("plan", config, "device=cpu").stdout
    assert (
        "time: not known: actors on CPUs are planned from measured rates: give --measure" in shown
    )


def test_measured_rates_are_read_from_a_selftest(config: Path, tmp_path: Path) -> None:
    shown = t2g("plan", config, "device=cpu", "--rates", write_selftest(tmp_path)).stdout
    assert "rates: measured rates" in shown and "optimiser and collectives" in shown


def test_rates_are_measured_or_read_but_not_both(config: Path, tmp_path: Path) -> None:
    result = t2g("plan", config, "device=cpu", "--measure", "--rates", write_selftest(tmp_path))
    assert result.exit_code == 2
    assert "give --measure or --rates, found both" in result.stderr


def test_rates_are_measured_with_the_configuration_itself(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.planned import rates as measured

    monkeypatch.setattr(measured, "measure_rates", lambda settings: rates())
    assert (
        "rates: measured rates (measured)" in t2g("plan", config, "device=cpu", "--measure").stdout
    )
