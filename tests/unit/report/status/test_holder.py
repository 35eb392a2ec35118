"""Whose lock it is, and whether that process lives."""

from __future__ import annotations

import os
from pathlib import Path

from t2g_ray.report.status.holder import holder_of
from t2g_ray.run.resume.lock import held
from tests.unit.report.status.parts import leave_lock, number_of_an_ended_process


def test_the_holder_is_the_process_that_has_the_lock_open(tmp_path: Path) -> None:
    with held(tmp_path):
        holder = holder_of(tmp_path)
    assert holder is not None
    assert (holder.process, holder.lives) == (os.getpid(), True)
    assert holder_of(tmp_path) is None


def test_a_number_that_another_process_has_now_and_one_that_none_has_are_dead(
    tmp_path: Path,
) -> None:
    for process in (os.getpid(), number_of_an_ended_process()):
        leave_lock(tmp_path, process)
        holder = holder_of(tmp_path)
        assert holder is not None
        assert holder.lives is False


def test_only_its_own_machine_can_tell_whether_it_lives(tmp_path: Path) -> None:
    leave_lock(tmp_path, os.getpid(), host="another-machine")
    holder = holder_of(tmp_path)
    assert holder is not None
    assert (holder.host, holder.lives) == ("another-machine", None)


def test_a_lock_without_a_name_has_no_holder_yet(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("")
    assert holder_of(tmp_path) is None
