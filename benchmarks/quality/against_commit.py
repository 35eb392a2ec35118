"""The demo's stages of another commit and of this tree, taking turns -> seconds a step, and ratios.

Each side runs its own code with its own configs/demo_*.yaml, with the same overrides and, in GRPO,
from the same policy. The ratio is this tree over the commit: below 1 this tree is faster.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.quality.seeds import seconds_per_step_in
from benchmarks.result import ROOT, ResultRow, make_row, ratio_row, turns
from benchmarks.speed.loop import WARM_UP_STEPS
from t2g_ray.run.metrics import read_metrics

HERE = "here"


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the files of the commit, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--detach", "-f", tree, commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], check=True)


def seconds_per_step(tree: Path, stage: str, overrides: Sequence[str]) -> float:
    """Run a stage of the demo with the code in `tree`; its mean step, warm-up left out."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / stage
        config = tree / "configs" / f"demo_{stage}.yaml"
        own = (f"run_dir={run_dir}", "checkpoint.every=0", "data.heldout_records=8")
        subprocess.run(
            [sys.executable, "-m", "t2g_ray.cli", stage, str(config), *own, *overrides],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            check=True,
        )
        lines = read_metrics(run_dir / "metrics.jsonl")
    return seconds_per_step_in(lines[WARM_UP_STEPS - 1 :])


def run(commit: str, *, runs: int, steps: Mapping[str, int], model: str) -> list[ResultRow]:
    """Rows of both stages; the sides take turns."""
    overrides = {
        "sft": ("batch_size=32", "data.train_records=4500", f"steps={steps['sft']}"),
        "grpo": (f"model={model}", f"steps={steps['grpo']}"),
    }
    rows = []
    with checked_out(commit) as tree:
        trees = {commit: tree, HERE: ROOT}
        for stage, changes in overrides.items():
            seconds: dict[str, list[float]] = {side: [] for side in trees}
            for number in range(runs):
                for side in turns(list(trees), number):
                    seconds[side].append(seconds_per_step(trees[side], stage, changes))
            rows += [make_row(f"{stage}_s_per_step/{side}", s, "s") for side, s in seconds.items()]
            rows.append(ratio_row(f"{stage}_here_over_commit", seconds[HERE], seconds[commit]))
    return rows
