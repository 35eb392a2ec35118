"""Device and model -> the configuration that the checks run, each changing one thing of it.

Everything is small in number and real in kind: a few prompts, every sync verified, rewards that
differ inside each group even where the policy writes noise. Precisions, shares of a GPU and the
transport are those that follow from the device in every run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.inputs.random_model import SHAPES, write_random_model
from t2g_ray.config import GrpoConfig, build_config
from t2g_ray.run.device.gpus import visible_gpus
from t2g_ray.run.device.installed import Device, installed_device

SMALL_GPU_GIB = 20.0
"""Below, a GPU gets the smallest model: learner and engine share one in some checks."""

REWARD = "benchmarks.selftest.subjects.reward:spread"
Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What there is to test."""

    device: Device
    num_gpus: int = 0
    gpu_gib: float = 0.0
    """Memory of the smallest GPU."""
    gpu_name: str = ""

    @property
    def default_model(self) -> str:
        """A shape of `random_model` that fits."""
        return "demo" if self.gpu_gib < SMALL_GPU_GIB else "qwen2.5-0.5b"


def find_hardware() -> Hardware:
    """What the installed packages compute on, and the GPUs that they find for it."""
    if installed_device() == "cpu":
        return Hardware(device="cpu")
    gpus = visible_gpus().devices
    return Hardware(
        device="cuda",
        num_gpus=len(gpus),
        gpu_gib=min((gpu.memory_gib for gpu in gpus), default=0.0),
        gpu_name=gpus[0].name if gpus else "",
    )


def model_folder(model: str, hardware: Hardware, work: Path) -> str:
    """The folder of the model: a given one, or random weights of a named shape below `work`.

    Raises ValueError for what is neither.
    """
    if (Path(model) / "config.json").is_file():
        return str(Path(model).resolve())
    if model not in SHAPES:
        raise ValueError(
            f"--model must be a folder with a model, or one of {', '.join(SHAPES)}, found {model!r}"
        )
    is_gpu = hardware.device == "cuda"
    return write_random_model(work / "model", model, dtype="bfloat16" if is_gpu else "float32")


def selftest_config(model: str, hardware: Hardware, work: Path, **changes: Any) -> GrpoConfig:
    """Learner and engine beside each other on one device, and `changes` on top of that."""
    is_gpu = hardware.device == "cuda"
    tree: dict[str, Any] = {
        "device": hardware.device,
        "run_dir": str(work / "run"),
        "model": model,
        "prompts_per_step": 16 if is_gpu else 4,
        "group_size": 8 if is_gpu else 4,
        "data": {"part": "rl", "train_records": 64, "heldout": "none"},
        "prompt": {"style": "compact", "max_tokens": 256},
        "sampling": {"max_new_tokens": 256 if is_gpu else 48},
        "reward": {"custom": [{"path": REWARD}]},
        "checkpoint": {"every": 0},
        "sync": {"verify_every": 1, "bucket_mib": 64 if is_gpu else 0.25},
        "learner": {"optimizer": {"lr": learning_rate(model)}, "token_budget": 4096},
        "deadlines": {"start_s": 300, "generate_s": 120, "train_s": 120, "sync_s": 60},
    }
    if is_gpu:
        tree["colocate"] = "share"
    return build_config(GrpoConfig, merged(tree, changes))


def learning_rate(model: str) -> float:
    """Large enough that a step changes what the model writes; a folder that is not there yet
    counts as the smallest model."""
    path = Path(model, "config.json")
    hidden = json.loads(path.read_text(encoding="utf-8"))["hidden_size"] if path.is_file() else 64
    return float(0.064 / hidden)


def merged(tree: Tree, changes: Tree) -> dict[str, Any]:
    """The tree with changes in it, section by section."""
    result = dict(tree)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result
