"""`t2g status`: what is printed, and how the command ends."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from tests.unit.cli.parts import plain, t2g
from tests.unit.report.status.parts import GRPO, held_by_another_process, line, make_run


def test_a_table_for_people_and_json_for_programs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(1), line(2)])
    shown = t2g("status", run)
    assert shown.exit_code == 0, shown.output
    assert "2 of 100" in plain(shown.stdout)
    told = json.loads(t2g("status", run, "--json").stdout)
    assert (told["state"], told["step"], told["steps"]) == ("stopped", 2, 100)


def test_a_foreign_folder_is_wrong_input(tmp_path: Path) -> None:
    result = t2g("status", tmp_path)
    assert result.exit_code == 2
    assert "RUN must be the folder of a run" in result.stderr


def test_watching_ends_with_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", GRPO, [line(1)])
    with held_by_another_process(run) as holder:
        threading.Timer(0.5, holder.kill).start()
        started_s = time.monotonic()
        result = t2g("status", run, "--watch", "--every-s", "0.1", "--json")
        assert time.monotonic() - started_s < 20
    states = [json.loads(row)["state"] for row in result.stdout.splitlines()]
    assert states[0] == "live"
    assert states[-1] != "live"
    assert len(states) > 2
    assert "stopped" in plain(t2g("status", make_run(tmp_path / "b", GRPO, []), "--watch").stdout)
