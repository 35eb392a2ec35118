"""The command line: what is run with what, exit codes, and what people read."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from t2g_ray.cli import doctor
from t2g_ray.cli.main import app
from t2g_ray.config import GrpoConfig, SftConfig
from t2g_ray.graph import Entity, Graph
from t2g_ray.records.jsonl import write_records
from t2g_ray.run.folder import RunDir, write_json
from t2g_ray.types import Record

COMMANDS = ("demo", "sft", "grpo", "plan", "eval", "extract", "score", "report", "doctor")
FIGURES = {"f1/entities": 0.5, "f1/relations": 0.25, "json_valid_rate": 1.0}
RECORD = Record(
    text="Ann works.",
    entity_types=("person",),
    relation_types=(),
    graph=Graph((Entity(0, "Ann", "person"),), ()),
)

Launch = Callable[[Any], RunDir]


def t2g(*arguments: object, **options: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **options)


def plain(text: str) -> str:
    """Without the line breaks and frames of a narrow terminal."""
    return " ".join(text.replace("\u2502", " ").split())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "grpo.yaml"
    path.write_text(f"run_dir: {tmp_path}/run\nsteps: 3\n")
    return path


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> dict[str, Launch]:
    """Stands for actors.grpo and actors.sft: what is set here runs in place of the cluster."""
    runs: dict[str, Launch] = {"grpo": finished_grpo, "sft": finished_sft}
    launch, sft = ModuleType("actors.grpo"), ModuleType("actors.sft")
    launch.run_grpo = lambda config: runs["grpo"](config)  # type: ignore[attr-defined]
    sft.run_sft = lambda config: runs["sft"](config)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "actors.grpo", launch)
    monkeypatch.setitem(sys.modules, "actors.sft", sft)
    return runs


def finished_sft(config: SftConfig) -> RunDir:
    run = RunDir(config.run_dir)
    run.model.mkdir(parents=True)
    (run.model / "config.json").write_text("{}")
    return run


def finished_grpo(config: GrpoConfig) -> RunDir:
    run = RunDir(config.run_dir)
    run.model.mkdir(parents=True)
    (run.model / "config.json").write_text("{}")
    after = {**FIGURES, "f1/entities": 0.75}
    pair = {"before": FIGURES, "after": after, "interval": {"f1/entities": [0.1, 0.4]}}
    report = {**pair, "heldout_names": pair, "records": 12, "seed": config.seed, "steps": 3}
    write_json(run.report_json, {**report, "wall_s": 1.0, "machine": {"cpus": 2}})
    return run


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


def test_a_failed_run_says_what_happened_and_where_to_look(
    config: Path, launched: dict[str, Launch]
) -> None:
    def fail(config: Any) -> RunDir:
        raise RuntimeError("rank 1 died")

    launched["grpo"] = fail
    result = t2g("grpo", config)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "failed: RuntimeError: rank 1 died",
        f"run folder: {config.parent}/run",
        "logs of the actors: /tmp/ray/session_latest/logs on each node",
        "T2G_TRACEBACK=1 shows where it happened",
    ]


def test_a_traceback_is_shown_to_those_who_ask(config: Path, launched: dict[str, Launch]) -> None:
    def fail(config: Any) -> RunDir:
        raise RuntimeError("rank 1 died")

    launched["grpo"] = fail
    by_option = t2g("--traceback", "grpo", config)
    by_variable = t2g("grpo", config, env={"T2G_TRACEBACK": "1"})
    for result in (by_option, by_variable):
        assert result.exit_code == 1
        assert "Traceback" in result.stderr
        assert "in fail" in result.stderr


def test_a_value_error_of_a_library_means_that_the_run_failed(
    config: Path, launched: dict[str, Launch]
) -> None:
    launched["grpo"] = lambda config: json.loads("{")
    result = t2g("grpo", config)
    assert result.exit_code == 1
    assert "failed: JSONDecodeError" in result.stderr


def test_an_error_from_an_actor_is_shown_without_the_wrapper_and_its_traceback(
    config: Path, launched: dict[str, Launch]
) -> None:
    class WrappedValueError(ValueError):
        """Like Ray's: a subclass of what the actor raised, with the cause beside it."""

        def __init__(self, cause: Exception) -> None:
            super().__init__("\x1b[36mray::Learner.step()\x1b[39m (pid=7) Traceback ...")
            self.cause = cause

    def fail(config: Any) -> RunDir:
        raise WrappedValueError(ValueError("loss must be finite"))

    launched["grpo"] = fail
    result = t2g("grpo", config)
    assert result.exit_code == 1
    assert result.stderr.startswith("failed: ValueError: loss must be finite\nrun folder")


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


def test_ctrl_c_ends_with_130(config: Path, launched: dict[str, Launch]) -> None:
    def interrupt(config: Any) -> RunDir:
        raise KeyboardInterrupt

    launched["grpo"] = interrupt
    result = t2g("grpo", config)
    assert (result.exit_code, result.stderr) == (130, "stopped by Ctrl-C\n")


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


def test_plan_starts_nothing_and_shows_the_sizes(config: Path) -> None:
    result = t2g("plan", config, "prompts_per_step=4", "group_size=8")
    assert result.exit_code == 0, result.output
    assert "32" in result.stdout
    assert not (config.parent / "run").exists()


def test_a_run_without_heldout_records_ends_well(config: Path, launched: dict[str, Launch]) -> None:
    def unevaluated(settings: GrpoConfig) -> RunDir:
        run = finished_grpo(settings)
        write_json(run.report_json, {"records": 0, "steps": 3})
        return run

    launched["grpo"] = unevaluated
    result = t2g("grpo", config, "data.heldout=none")
    assert result.exit_code == 0, result.output
    assert "report:" in result.stdout


def test_plan_refuses_at_once_what_does_not_fit_here(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    started_s = time.monotonic()
    result = t2g("plan", config, "rollout.gpus=1000")
    assert time.monotonic() - started_s < 10
    assert result.exit_code == 2
    assert "rollout/0: 1 CPU, 1000 GPU" in result.stdout
    assert "1000 GPUs asked for" in result.stderr


def test_plan_knows_both_stages_and_explains_the_one_that_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "stage.yaml"
    path.write_text(f"run_dir: {tmp_path}/run\nepochs: 2\nbatch_size: 4\n")
    assert "2 learner ranks" in t2g("plan", path, "learner.ranks=2").stdout
    wrong = t2g("plan", path, "epoch=3")
    assert wrong.exit_code == 2
    assert "unknown key epoch: did you mean epochs?" in wrong.stderr


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


def test_score_prints_the_figures_and_writes_them(tmp_path: Path) -> None:
    gold, answers, out = tmp_path / "g.jsonl", tmp_path / "c.jsonl", tmp_path / "o.json"
    write_records(gold, [RECORD, RECORD])
    texts = [RECORD.graph.to_json(), "sorry"]
    answers.write_text("".join(json.dumps({"completion": text}) + "\n" for text in texts))
    files = ("--gold", gold, "--completions", answers, "--reward", "f1")
    result = t2g("score", *files, "--json", out, "--per-record", tmp_path / "r.jsonl")
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert figures["f1/entities"] == pytest.approx(2 / 3)
    assert figures["records"] == 2
    assert "0.6667" in result.stdout
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 2


def test_score_refuses_files_of_unequal_length(tmp_path: Path) -> None:
    write_records(tmp_path / "g.jsonl", [RECORD, RECORD])
    (tmp_path / "c.jsonl").write_text('{"completion": "a"}\n')
    result = t2g("score", "--gold", tmp_path / "g.jsonl", "--completions", tmp_path / "c.jsonl")
    assert result.exit_code == 2
    assert "one completion for each of the 2 records" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--entity-types", " , ", "text"), "--entity-types must name at least one type"),
        (("--entity-types", "person", " "), "text must be a string that is not blank"),
        (("--entity-types", "person", "text", "--constrained", "--thinking"), "no room"),
    ],
)
def test_extract_explains_wrong_input(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    result = t2g("extract", "--model", tmp_path, *arguments)
    assert result.exit_code == 2
    assert words in plain(result.stderr)


def test_extract_takes_one_source_of_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"\xff\xfe")
    base = ("extract", "--model", tmp_path, "--entity-types", "person")
    both = t2g(*base, "text", "--file", tmp_path / "text")
    assert (both.exit_code, "found both" in both.stderr) == (2, True)
    coded = t2g(*base, "--file", tmp_path / "text")
    assert (coded.exit_code, "must be UTF-8" in coded.stderr) == (2, True)
    empty = t2g(*base, input="")
    assert (empty.exit_code, "not blank" in empty.stderr) == (2, True)


def test_eval_refuses_data_and_models_that_are_not_there(tmp_path: Path) -> None:
    no_data = t2g("eval", "--model", tmp_path, "--data", tmp_path / "none.jsonl")
    assert no_data.exit_code == 2
    assert "--data must be a JSONL file, embedded or embedded:names" in plain(no_data.stderr)
    write_records(tmp_path / "g.jsonl", [RECORD])
    no_model = t2g("eval", "--model", tmp_path, "--data", tmp_path / "g.jsonl")
    assert no_model.exit_code == 2
    assert "must hold config.json" in no_model.stderr


def test_report_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = t2g("report", tmp_path / "none")
    assert result.exit_code == 2
    assert "must be a folder" in result.stderr


@pytest.mark.parametrize(("status", "code"), [("good", 0), ("note", 0), ("missing", 1)])
def test_the_doctor_fails_only_where_something_is_missing(
    status: Any, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Check("vllm", "?", status, "advice")])
    result = t2g("doctor")
    assert result.exit_code == code
    assert "advice" in result.stdout
