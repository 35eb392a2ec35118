"""The memory of processes, as the kernel counts it."""

from __future__ import annotations

import sys

import pytest

from benchmarks.planned.resident import watch

CHILD = "x = bytearray({size}); import time; time.sleep(0.6)"
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", {child!r}, "a-child-with-a-title"], check=True)
"""


def test_a_grandchild_is_found_by_its_title_with_the_most_that_it_had() -> None:
    code = PARENT.format(child=CHILD.format(size=100 * 2**20))
    resident = watch([sys.executable, "-c", code], limit_s=30)
    (peak,) = resident.of(r"-c x = bytearray.* a-child-with-a-title")
    assert 100 < peak / 2**20 < 150
    assert resident.of("no process has this title") == []


def test_a_run_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match="exit code 3: the last words"):
        watch([sys.executable, "-c", "print('the last words'); raise SystemExit(3)"], limit_s=30)


def test_a_run_that_does_not_end_is_ended() -> None:
    with pytest.raises(RuntimeError, match=r"within 0\.3 s"):
        watch([sys.executable, "-c", "import time; time.sleep(60)"], limit_s=0.3)
