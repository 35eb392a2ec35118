"""How commands end: exit codes, and which words of an error are shown."""

import json
from pathlib import Path
from typing import Any

from t2g_ray.run.folder import RunDir
from tests.unit.cli.parts import Launch, t2g


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


def test_ctrl_c_ends_with_130(config: Path, launched: dict[str, Launch]) -> None:
    def interrupt(config: Any) -> RunDir:
        raise KeyboardInterrupt

    launched["grpo"] = interrupt
    result = t2g("grpo", config)
    assert (result.exit_code, result.stderr) == (130, "stopped by Ctrl-C\n")
