"""The demo's stages of another commit and of this tree, taking turns -> seconds a step, and ratios.

    python -m benchmarks.quality.against_commit COMMIT --runs 3 --json against_commit.json

Each side runs its own code with its own configs/demo_*.yaml, with the same overrides and, in GRPO,
from the same policy. The ratio is this tree over the commit: below 1 this tree is faster.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.inputs.policy import DEMO_SFT, PolicySource, trained_model
from benchmarks.quality.seeds import seconds_per_step_in
from benchmarks.result import ResultRow, make_row, ratio_row, report
from benchmarks.speed.loop import WARM_UP_STEPS
from t2g_ray.run.metrics import read_metrics

ROOT = DEMO_SFT.parents[1]


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


def run(commit: str, *, runs: int, steps: dict[str, int], model: str) -> list[ResultRow]:
    """Rows of both stages; the sides take turns."""
    overrides = {
        "sft": ("batch_size=32", "data.train_records=4500", f"steps={steps['sft']}"),
        "grpo": (f"model={model}", f"steps={steps['grpo']}"),
    }
    rows = []
    with checked_out(commit) as tree:
        for stage, changes in overrides.items():
            before, here = [], []
            for _ in range(runs):
                before.append(seconds_per_step(tree, stage, changes))
                here.append(seconds_per_step(ROOT, stage, changes))
            rows += [
                make_row(f"{stage}_s_per_step/{commit}", before, "s"),
                make_row(f"{stage}_s_per_step/here", here, "s"),
                ratio_row(f"{stage}_here_over_commit", here, before),
            ]
    return rows


def main() -> None:
    """Measure, print the table and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.against_commit")
    parser.add_argument("commit")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sft-steps", type=int, default=300)
    parser.add_argument("--grpo-steps", type=int, default=40)
    parser.add_argument("--model", type=Path, help="policy that GRPO starts from")
    parser.add_argument("--cache", type=Path, default=Path("runs/bench"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    policy = PolicySource(model=options.model, cache=options.cache, steps=None)
    steps = {"sft": options.sft_steps, "grpo": options.grpo_steps}
    rows = run(options.commit, runs=options.runs, steps=steps, model=trained_model(policy))
    line = shlex.join(["python", "-m", "benchmarks.quality.against_commit", *sys.argv[1:]])
    report("against_commit", rows, line, options.json)


if __name__ == "__main__":
    main()
