"""What tests of the files for clusters share: the files, and programs that check them."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
REFERENCE = ROOT / ".venv" / "reference"


def shellcheck(script: str) -> str:
    """What ShellCheck says of a script of bash; empty where it finds nothing."""
    done = subprocess.run(
        [str(REFERENCE / "bin" / "shellcheck"), "--shell=bash", "--format=gcc", "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr
