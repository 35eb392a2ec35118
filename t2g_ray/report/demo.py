"""The two stages of the embedded default -> one result: report.json, report.html.

Invariant: nothing is measured here. The figures are those that the GRPO run evaluated before and
after, and a run that did not come to its end gives no result.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import t2g_ray
from t2g_ray.config import ConfigError, GrpoConfig, SftConfig, load_config
from t2g_ray.run.device.gpus import visible_gpus
from t2g_ray.run.folder import RunDir, write_json

if TYPE_CHECKING:
    from t2g_ray.report.load import RunData

SFT_ON_GPUS = ("learner.ranks=1", "learner.dtype=float32")
"""The policy begins with random weights and is tiny: bf16 would gain nothing."""
MERGED_KEYS = ("before", "after", "records", "seed", "steps", "heldout_names", "interval")


def sft_dir(run_dir: Path) -> Path:
    """The SFT run of a demo."""
    return run_dir / "sft"


def grpo_dir(run_dir: Path) -> Path:
    """The GRPO run of a demo."""
    return run_dir / "grpo"


def is_demo(run_dir: Path) -> bool:
    """Whether the folder holds the two runs of a demo, and is no run itself."""
    return grpo_dir(run_dir).is_dir() and not RunDir(run_dir).config.exists()


def demo_configs(
    run_dir: Path, *, seed: int | None, overrides: Sequence[str] = ()
) -> tuple[SftConfig, GrpoConfig]:
    """The configurations of both stages; GRPO starts from the model that SFT writes.

    `overrides` are for GRPO; `resume` and `device` count for both, so that one command line
    continues a demo wherever it stopped. On GPUs the sizes follow their number. Raises
    ConfigError for a wrong override, or outside a checkout.
    """
    both = [] if seed is None else [f"seed={seed}"]
    both += [one for one in overrides if one.partition("=")[0] in ("resume", "device")]
    sft = [*both, f"run_dir={sft_dir(run_dir)}"]
    grpo = [*both, f"run_dir={grpo_dir(run_dir)}", f"model={RunDir(sft_dir(run_dir)).model}"]
    if load_config(GrpoConfig, _shipped("demo_grpo.yaml"), [*grpo, *overrides]).device == "cuda":
        sft, grpo = [*sft, *SFT_ON_GPUS], [*grpo, *_grpo_on_gpus()]
    return (
        load_config(SftConfig, _shipped("demo_sft.yaml"), sft),
        load_config(GrpoConfig, _shipped("demo_grpo.yaml"), [*grpo, *overrides]),
    )


def _grpo_on_gpus() -> list[str]:
    """One learner rank, and an engine on each GPU that is left, or on the same one."""
    num_engines = max(1, len(visible_gpus().devices) - 1)
    return ["learner.ranks=1", f"rollout.actors={num_engines}"]


def _shipped(name: str) -> Path:
    path = Path(t2g_ray.__file__).resolve().parents[1] / "configs" / name
    if not path.is_file():
        raise ConfigError(
            f"the demo needs {path}, found no such file; install the package from a checkout of "
            "its repository (make setup, or pip install -e .)"
        )
    return path


def read_result(run_dir: RunDir) -> dict[str, Any]:
    """report.json of a GRPO run that came to its end; raises RuntimeError for any other.

    It holds figures before and after, unless there were no held-out records.
    """
    if not run_dir.report_json.is_file():
        raise RuntimeError(f"the run must end with {run_dir.report_json}, found no such file")
    result = json.loads(run_dir.report_json.read_text(encoding="utf-8"))
    is_complete = isinstance(result, dict) and (
        {"before", "after"} <= result.keys() or result.get("records") == 0
    )
    if not is_complete:
        raise RuntimeError(f"{run_dir.report_json} must hold figures before and after")
    return dict(result)


def merge_results(
    grpo: Mapping[str, Any], *, sft_wall_s: float, grpo_wall_s: float
) -> dict[str, Any]:
    """The demo's report.json: the GRPO run's figures, and the wall-clock of both stages in s."""
    return {
        **{key: grpo[key] for key in MERGED_KEYS if key in grpo},
        "wall_s": sft_wall_s + grpo_wall_s,
        "sft_wall_s": sft_wall_s,
        "grpo_wall_s": grpo_wall_s,
    }


def write_result(run_dir: Path, result: Mapping[str, Any]) -> Path:
    """Write report.json and report.html of the demo; returns the path of the page."""
    write_json(RunDir(run_dir).report_json, result)
    return write_demo_page(run_dir)


def load_demo(run_dir: Path) -> RunData:
    """The GRPO run, with the demo's name and result where there is one."""
    from t2g_ray.report.load import load_run

    demo = RunDir(run_dir)
    data = replace(load_run(RunDir(grpo_dir(run_dir))), name=run_dir.resolve().name)
    return replace(data, summary=read_result(demo)) if demo.report_json.is_file() else data


def write_demo_page(run_dir: Path) -> Path:
    """report.html of the demo; returns its path."""
    from t2g_ray.report import write_page
    from t2g_ray.report.run_page import render

    page = RunDir(run_dir).report_html
    write_page(page, render(load_demo(run_dir)))
    return page
