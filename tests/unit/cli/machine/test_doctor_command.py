"""`t2g doctor`: what is shown, and how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from t2g_ray.cli.machine import doctor
from t2g_ray.cli.machine.doctor import Check
from t2g_ray.cli.machine.doctor_command import print_checks
from tests.unit.cli.parts import t2g


@pytest.mark.parametrize(("status", "code"), [("good", 0), ("note", 0), ("missing", 1)])
def test_the_doctor_fails_only_where_something_is_missing(
    status: Any, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Check("vllm", "?", status, "advice")])
    result = t2g("doctor")
    assert result.exit_code == code
    assert "advice" in result.stdout


def test_a_check_shows_its_mark_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    print_checks([Check("GPUs", "none", "note", "use [CPUs]"), Check("cores", "2")])
    lines = [
        [cell.strip() for cell in line.split("\u2502")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("\u2502")
    ]
    assert lines == [["note", "GPUs", "none", "use [CPUs]"], ["ok", "cores", "2", ""]]
