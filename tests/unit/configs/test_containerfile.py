"""The container file: clean, of named files alone, and with all that `make setup` asks for.

No image is built here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.configs.parts import REFERENCE, ROOT

FILE = ROOT / "configs" / "Containerfile"
COPIES = [line.split()[1:] for line in FILE.read_text().splitlines() if line.startswith("COPY ")]


def test_the_linter_finds_nothing() -> None:
    linter = str(REFERENCE / "bin" / "hadolint")
    done = subprocess.run([linter, str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    faulty = FILE.read_text().replace("apt-get install -y", "apt-get install")
    found = subprocess.run([linter, "-"], input=faulty, capture_output=True, text=True, check=False)
    assert "DL3014" in found.stdout


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What COPY leaves in the working folder of an image."""
    for *sources, target in COPIES:
        for source in sources:
            place = tmp_path / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)
    return tmp_path


def test_no_file_is_copied_but_those_that_are_named(image: Path) -> None:
    sources = [source for *names, _ in COPIES for source in names]
    assert all(re.fullmatch(r"\w[\w.]*", source) for source in sources)
    assert {path.name for path in image.iterdir()} == set(sources)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_what_is_copied_suffices_to_install_the_pinned_packages(image: Path, device: str) -> None:
    make = ["make", "--dry-run", "setup", f"DEVICE={device}", f"PYTHON={sys.executable}"]
    done = subprocess.run(make, cwd=image, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    named = set(re.findall(r"requirements/\w+\.txt", done.stdout))
    assert {f"requirements/{device}.txt"} <= named
    assert all((image / name).is_file() for name in named)


def test_what_is_copied_is_a_program_that_answers(image: Path) -> None:
    command = [sys.executable, "-m", "t2g_ray.cli", "--version"]
    done = subprocess.run(command, cwd=image, env={"PATH": ""}, capture_output=True, check=False)
    assert done.stdout.startswith(b"t2g-ray ")
