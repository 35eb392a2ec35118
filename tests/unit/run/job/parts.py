"""A checkout of git with one tracked file and one that is not."""

import subprocess
from pathlib import Path


def made_checkout(folder: Path) -> Path:
    (folder / "configs").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / "configs" / "a.yaml").write_text("steps: 1\n")
    (folder / "gone.py").write_text("")
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    (folder / "gone.py").unlink()
    (folder / "runs.bin").write_bytes(b"0" * 100)
    return folder


def track(checkout: Path, *names: str) -> None:
    subprocess.run(["git", "add", "-f", *names], cwd=checkout, check=True)
