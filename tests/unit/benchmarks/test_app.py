"""The commands of benchmarks as a gate: exit code 0 only where something was demanded and met."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import app, limits
from benchmarks.app import BENCHES, DEMO, SharedOptions, settings_asked_for
from benchmarks.commands import bench_app
from benchmarks.limits import BASELINES, MIN_RUNS, read_cases
from benchmarks.result import ResultRow, make_row, to_json
from benchmarks.speed import rewards
from t2g_ray.run.machine import describe_machine
from tests.unit.benchmarks.parts import baseline, row

SPEED = "completions_per_s_per_core"


class Grader:
    """Stands for what `t2g bench rewards` measures."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = [make_row(SPEED, [9000.0, 10_000.0, 11_000.0], "completions/s")]
        self.limits: dict[str, Any] = {SPEED: {"goal": [5000, None], "of_baseline": [0.8, None]}}
        self.command = "t2g bench rewards --steps 0"

    def keep(self, median: float = 10_000.0, **changes: Any) -> None:
        """Write limits, and a baseline of the same machine and settings."""
        cases = {"rewards": {"command": self.command, "limits": self.limits}}
        (self.folder / "limits.json").write_text(json.dumps(cases))
        asked = settings_asked_for(self.command)[1]
        facts = {"bench": "rewards", "settings": asked, "config": app.set_values(DEMO, ())}
        facts["machine"] = describe_machine()["machine"]
        known = baseline(row(SPEED, median, unit="completions/s"), **{**facts, **changes})
        (self.folder / "rewards.json").write_text(json.dumps(to_json(known)))

    def run(self, *arguments: str) -> tuple[int, str]:
        outcome = CliRunner().invoke(bench_app, ["rewards", *arguments], catch_exceptions=False)
        return outcome.exit_code, " ".join(outcome.output.split())


@pytest.fixture
def grader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grader:
    fake = Grader(tmp_path)

    def measure(config: object, *, runs: int) -> list[ResultRow]:
        return list(fake.rows)

    monkeypatch.setattr(rewards, "run", measure)
    monkeypatch.setattr(app, "BASELINES", tmp_path)
    monkeypatch.setattr(limits, "BASELINES", tmp_path)
    fake.keep()
    return fake


def test_the_gate_opens_for_rows_that_meet_their_limits(grader: Grader) -> None:
    assert grader.run("--steps", "0", "--check")[0] == 0


def test_figures_outside_their_limits_close_it_and_without_check_are_only_shown(
    grader: Grader,
) -> None:
    grader.keep(median=20_000.0)
    code, printed = grader.run("--steps", "0", "--check")
    assert code == 1
    assert "0.5 x baseline is not >= 0.8" in printed
    code, printed = grader.run("--steps", "0")
    assert code == 0 and "missed" in printed


@pytest.mark.parametrize(
    "arguments",
    [
        ("group_size=4",),
        ("group_size=4", "prompts_per_step=64"),
        ("seed=1",),
        ("reward.preset=default",),
        ("--policy-steps", "9"),
        ("--config", "configs/gpu_1x.yaml"),
    ],
    ids=" ".join,
)
def test_other_settings_are_judged_by_no_limits_and_close_the_gate(
    grader: Grader, arguments: Sequence[str]
) -> None:
    code, printed = grader.run("--steps", "0", *arguments, "--check")
    assert code == 1
    assert "there must be limits for these options" in printed
    assert "t2g bench rewards --steps 0" in printed
    assert grader.run("--steps", "0", *arguments)[0] == 0


def test_a_baseline_that_is_not_there_closes_the_gate(grader: Grader) -> None:
    (grader.folder / "rewards.json").unlink()
    code, printed = grader.run("--steps", "0", "--check")
    assert code == 1 and "there is no baseline" in printed


def test_a_row_that_was_not_measured_closes_the_gate(grader: Grader) -> None:
    grader.rows = [make_row("another", [1.0, 1.0, 1.0], "share")]
    code, printed = grader.run("--steps", "0", "--check")
    assert code == 1 and f"{SPEED} was not measured" in printed


def test_a_single_run_closes_the_gate(grader: Grader) -> None:
    grader.rows = [make_row(SPEED, [10_000.0], "completions/s")]
    code, printed = grader.run("--steps", "0", "--check")
    assert code == 1 and "at least 3 runs" in printed


def test_a_baseline_of_another_configuration_file_of_that_name_closes_the_gate(
    grader: Grader,
) -> None:
    grader.keep(config={**app.set_values(DEMO, ()), "group_size": 4})
    code, printed = grader.run("--steps", "0", "--check")
    assert code == 1 and "group_size: 4 and not given" in printed


def test_a_damaged_baseline_is_an_error(grader: Grader) -> None:
    (grader.folder / "rewards.json").write_text("{}")
    with pytest.raises(ValueError, match=r"rewards\.json must be a result"):
        grader.run("--steps", "0", "--check")


def test_the_file_that_is_written_says_what_was_asked_for(grader: Grader) -> None:
    path = grader.folder / "deep" / "out.json"
    grader.run("--steps", "0", "group_size=4", "--json", str(path))
    content = json.loads(path.read_text())
    assert content["settings"] == {
        "steps": 0,
        "set group_size": "4",
        "config": "configs/demo_grpo.yaml",
        "policy": "embedded",
    }
    assert content["config"]["group_size"] == 4
    assert content["rows"][0]["values"] == [9000.0, 10_000.0, 11_000.0]


EQUAL = [
    ("t2g bench loop", "t2g bench loop --steps 40"),
    ("t2g bench loop --runs 9", "t2g bench loop --runs=3 --json x.json --check"),
    ("t2g bench loop a=1 b=2", "t2g bench loop b=2 --staleness 1,2 a=1"),
    ("t2g bench loop a=1 b=x=y", "t2g bench loop 'a = 1' b=x=y"),
    ("t2g bench loop --cache elsewhere", "t2g bench loop --fixed"),
]
UNEQUAL = [
    ("t2g bench loop --steps 7 steps=40", "t2g bench loop steps=40"),
    ("t2g bench loop a=1", "t2g bench loop a=2"),
    ("t2g bench loop", "t2g bench loop --no-fixed"),
    ("t2g bench loop", "t2g bench loop --staleness 1"),
    ("t2g bench loop", "t2g bench loop --policy-steps 5"),
    ("t2g bench loop", "t2g bench loop --config configs/gpu_1x.yaml"),
    ("t2g bench learner", "t2g bench rollout"),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_command_lines_that_ask_for_the_same_have_equal_settings(one: str, other: str) -> None:
    assert settings_asked_for(one) == settings_asked_for(other)


@pytest.mark.parametrize(("one", "other"), UNEQUAL)
def test_command_lines_that_ask_for_something_else_have_not(one: str, other: str) -> None:
    assert settings_asked_for(one) != settings_asked_for(other)


def test_every_case_asks_for_something_else_and_every_benchmark_has_one() -> None:
    cases = read_cases(BASELINES / "limits.json").values()
    asked = [settings_asked_for(case.command) for case in cases]
    assert all(asked.count(one) == 1 for one in asked)
    assert {name for name, _ in asked} == set(BENCHES)


def test_every_case_asks_for_as_many_runs_as_its_limits_need() -> None:
    commands = typer.main.get_command(bench_app).commands  # type: ignore[attr-defined]
    for case in read_cases(BASELINES / "limits.json").values():
        _, _, name, *arguments = shlex.split(case.command)
        runs = commands[name].make_context(name, arguments).params["runs"]
        assert runs >= MIN_RUNS, case.command


def test_a_configuration_may_stand_before_the_keys_that_it_is_changed_by() -> None:
    path = str(DEMO.with_name("gpu_1x.yaml"))
    first = settings_asked_for(f"t2g bench sweep {path} steps=3")
    assert first == settings_asked_for(f"t2g bench sweep --config {path} steps=3")
    assert first[1]["config"] == "configs/gpu_1x.yaml"
    assert first[1]["set steps"] == "3"
    with pytest.raises(ValueError, match="one configuration must be given"):
        settings_asked_for(f"t2g bench sweep --config {path} configs/demo_grpo.yaml")


def test_a_run_of_a_configuration_has_its_own_folder_and_model(tmp_path: Path) -> None:
    given = SharedOptions(config=DEMO, model=tmp_path, cache=tmp_path, overrides=["seed=4"])
    found = given.settings_of_run()
    assert (found.run_dir, found.model, found.seed) == (tmp_path / "sweep", str(tmp_path), 4)
    other = tmp_path / "other.yaml"
    other.write_text(f"run_dir: {tmp_path}/own\nmodel: embedded\n")
    found = SharedOptions(config=other, model=None).settings_of_run()
    assert (found.run_dir, found.model) == (tmp_path / "own", "embedded")
    found = SharedOptions(config=other, model=tmp_path).settings_of_run()
    assert found.model == str(tmp_path)
