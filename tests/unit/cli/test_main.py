"""The command line: what is run with what, exit codes, and what people read."""

import json
from pathlib import Path
from typing import Any

import pytest

from t2g_ray.config import GrpoConfig, SftConfig
from t2g_ray.run.folder import RunDir, write_json
from tests.unit.cli.parts import Launch, finished_grpo, finished_sft, plain, t2g

COMMANDS = ("demo", "sft", "grpo", "plan", "eval", "extract", "score", "report", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = t2g(command, "--help")
    assert result.exit_code == 0
    assert f"Example: t2g {command}" in plain(result.stdout)


def test_generate_has_help_with_an_example() -> None:
    result = t2g("data", "generate", "--help")
    assert result.exit_code == 0
    assert "Example: t2g data generate configs/demo_generate.yaml" in plain(result.stdout)


def test_help_lists_every_command() -> None:
    words = t2g("--help").stdout.split()
    assert set(COMMANDS) <= set(words)


def test_a_missing_configuration_is_bad_input(tmp_path: Path) -> None:
    result = t2g("grpo", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: the configuration must be a YAML file")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("group_sise=4", "unknown key group_sise: did you mean group_size?"),
        ("group_size", "an override must look like key=value"),
        ("group_size=1", "group_size: Input should be greater than or equal to 2"),
    ],
)
def test_a_wrong_override_is_explained(override: str, words: str, config: Path) -> None:
    result = t2g("grpo", config, override)
    assert result.exit_code == 2
    assert words in plain(result.stderr)
    assert "Traceback" not in result.stderr


def test_sft_takes_the_configuration_and_overrides(
    tmp_path: Path, launched: dict[str, Launch]
) -> None:
    seen: list[SftConfig] = []

    def run(config: SftConfig) -> RunDir:
        seen.append(config)
        return finished_sft(config)

    launched["sft"] = run
    (tmp_path / "sft.yaml").write_text(f"run_dir: {tmp_path}/run\nepochs: 3\n")
    result = t2g("sft", tmp_path / "sft.yaml", "learner.ranks=2")
    assert result.exit_code == 0, result.output
    assert (seen[0].epochs, seen[0].learner.ranks) == (3.0, 2)
    assert f"model: {tmp_path}/run/model" in plain(result.stdout)


def test_grpo_shows_the_change_and_the_places(config: Path, launched: dict[str, Launch]) -> None:
    result = t2g("grpo", config)
    assert result.exit_code == 0, result.output
    shown = plain(result.stdout)
    assert "Entity F1, exact" in shown
    assert "+25.0 (+10.0 to +40.0)" in shown
    assert f"report: {config.parent}/run/report.html" in shown


def test_a_used_run_folder_is_bad_input(config: Path, launched: dict[str, Launch]) -> None:
    run = RunDir(config.parent / "run")
    run.path.mkdir()
    run.config.write_text("steps: 3\n")

    def enter(config: GrpoConfig) -> RunDir:
        RunDir(config.run_dir).prepare(resume=False)
        raise AssertionError("the folder must have been refused")

    launched["grpo"] = enter
    result = t2g("grpo", config)
    assert result.exit_code == 2
    assert "must be empty for a new run" in result.stderr


@pytest.mark.parametrize("lost", ["model/config.json", "report.json"])
def test_a_run_without_its_result_is_no_success(
    lost: str, config: Path, launched: dict[str, Launch]
) -> None:
    def lose(config: GrpoConfig) -> RunDir:
        run = finished_grpo(config)
        (run.path / lost).unlink()
        return run

    launched["grpo"] = lose
    result = t2g("grpo", config)
    assert result.exit_code == 1
    assert "the run must end with" in result.stderr


def test_a_run_without_heldout_records_ends_well(config: Path, launched: dict[str, Launch]) -> None:
    def unevaluated(settings: GrpoConfig) -> RunDir:
        run = finished_grpo(settings)
        write_json(run.report_json, {"records": 0, "steps": 3})
        return run

    launched["grpo"] = unevaluated
    result = t2g("grpo", config, "data.heldout=none")
    assert result.exit_code == 0, result.output
    assert "report:" in result.stdout


def test_the_demo_runs_both_stages_and_merges_the_result(
    tmp_path: Path, launched: dict[str, Launch], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def sft(config: SftConfig) -> RunDir:
        seen.append(config)
        return finished_sft(config)

    def grpo(config: GrpoConfig) -> RunDir:
        seen.append(config)
        return finished_grpo(config)

    launched.update(sft=sft, grpo=grpo)
    monkeypatch.chdir(tmp_path)  # works from any directory
    result = t2g("demo", "--run-dir", "here", "--seed", 7, "steps=3", "group_size=4")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "here"
    assert [type(config) for config in seen] == [SftConfig, GrpoConfig]
    assert [config.seed for config in seen] == [7, 7]
    assert seen[1].model == str(folder / "sft" / "model")
    assert (seen[1].steps, seen[1].group_size) == (3, 4)
    report = json.loads((folder / "report.json").read_text())
    assert set(report) == {
        *("before", "after", "records", "seed", "steps", "interval", "heldout_names"),
        *("wall_s", "sft_wall_s", "grpo_wall_s"),
    }
    assert report["after"]["f1/entities"] == 0.75
    assert report["seed"] == 7
    assert report["wall_s"] == pytest.approx(report["sft_wall_s"] + report["grpo_wall_s"])
    assert "+25.0" in plain(result.stdout)
    assert "Entity F1, exact" in (folder / "report.html").read_text(encoding="utf-8")
    again = t2g("report", "here")
    assert plain(again.stdout) == "here/report.html"


def test_resume_reaches_both_stages_of_the_demo(
    tmp_path: Path, launched: dict[str, Launch]
) -> None:
    seen: list[str] = []

    def noting(run: Launch) -> Launch:
        def launch(config: Any) -> RunDir:
            seen.append(config.resume)
            return run(config)

        return launch

    launched.update(sft=noting(finished_sft), grpo=noting(finished_grpo))
    assert t2g("demo", "--run-dir", tmp_path / "d", "resume=auto").exit_code == 0
    assert seen == ["auto", "auto"]


def test_a_demo_with_a_wrong_override_starts_nothing(tmp_path: Path) -> None:
    result = t2g("demo", "--run-dir", tmp_path / "d", "stepps=3")
    assert result.exit_code == 2
    assert "did you mean steps?" in result.stderr
    assert not (tmp_path / "d").exists()


def test_a_failed_first_stage_ends_the_demo(tmp_path: Path, launched: dict[str, Launch]) -> None:
    launched["sft"] = lambda config: RunDir(config.run_dir)  # leaves no model
    result = t2g("demo", "--run-dir", tmp_path / "d")
    assert result.exit_code == 1
    assert "the run must end with a model" in result.stderr
    assert not (tmp_path / "d" / "grpo").exists()
