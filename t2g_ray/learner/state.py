"""Trained parameters and optimiser state of a rank <-> a folder, read as data and never run.

DeepSpeed writes pickles. They are read by a loader that builds tensors, plain values and the few
classes listed here, and nothing else. Invariant: what the folder says about the trained tensors is
compared before any of them is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from t2g_ray.config import LearnerConfig
from t2g_ray.learner.reference import check_same_start
from t2g_ray.model.files.sharded import whole_shape
from t2g_ray.run.folder import write_json
from t2g_ray.run.resume.meaning import ResumeError

TAG = "state"
TRAINED = "trained.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What the tensors of a learner's state belong to, in the order of its optimiser."""

    step: int
    start: str | None
    """Digest of the policy that the run started from, where anything depends on it."""
    dtype: str
    layout: str
    """How the optimiser's state lies in the files: its kind, and how it is sharded."""
    tensors: Mapping[str, list[int]]
    """Name and shape of each trained parameter."""
    scalings: Mapping[str, float]
    """What the product of each layer's adapters is multiplied by."""


def layout_of(config: LearnerConfig) -> str:
    """Equal where one learner reads what the other wrote; unsharded, any number of ranks does."""
    # DeepSpeed spreads the fp32 weights beside bfloat16 ones over the ranks at every stage.
    is_whole = config.zero_stage == 0 and config.dtype == "float32"
    shards = f"ZeRO-{config.zero_stage} over {config.ranks} ranks"
    return f"{config.optimizer.name}, {'whole on each rank' if is_whole else shards}"


def trained_of(
    policy: nn.Module, config: LearnerConfig, *, step: int, start: str | None
) -> Trained:
    """What a policy trains; shapes are the whole ones, also where parameters are shards."""
    named = [(name, p) for name, p in policy.named_parameters() if p.requires_grad]
    return Trained(
        step=step,
        start=start,
        layout=layout_of(config),
        dtype=",".join(sorted({str(p.dtype).removeprefix("torch.") for _, p in named})),
        tensors={name: list(whole_shape(p)) for name, p in named},
        scalings={
            name: float(scaling)
            for name, module in policy.named_modules()
            if hasattr(module, "lora_A")
            for scaling in module.scaling.values()
        },
    )


def save_state(engine: Any, folder: Path, trained: Trained, *, is_first: bool) -> list[Path]:
    """Write this rank's share and return its files; collective. The first rank says what the
    tensors are, and has the scripts that DeepSpeed puts beside them."""
    (folder / TAG).mkdir(parents=True, exist_ok=True)  # the folder of this node
    with _noted(engine.checkpoint_engine) as written:
        engine.save_checkpoint(
            str(folder),
            tag=TAG,
            exclude_frozen_parameters=bool(trained.scalings),
            save_latest=False,
        )
    if is_first:
        write_json(folder / TRAINED, asdict(trained))
        written += [folder / TRAINED, *folder.glob("*.py")]
    return written


@contextmanager
def _noted(checkpoint_engine: Any) -> Iterator[list[Path]]:
    """The files that DeepSpeed has its checkpoint engine write on this rank."""
    written: list[Path] = []
    write = checkpoint_engine.save

    def noted(state_dict: Any, path: str) -> None:
        write(state_dict, path)
        written.append(Path(path))

    checkpoint_engine.save = noted
    try:
        yield written
    finally:
        checkpoint_engine.save = write


def load_state(engine: Any, folder: Path, own: Trained) -> int:
    """Restore this rank's share and return its step; collective.

    The optimiser keeps its own settings (learning rates, weight decay, clipping), not those of the
    time of saving. Raises FileNotFoundError when there is no state, and ResumeError when it is of
    other tensors, another scaling or another starting policy.
    """
    path = folder / TRAINED
    if not path.is_file():
        raise FileNotFoundError(f"{folder} must hold a learner state, found no {TRAINED}")
    found = json.loads(path.read_text(encoding="utf-8"))
    _check_same(found, own, folder)
    engine.checkpoint_engine.load = _read_as_data
    optimizer = engine.optimizer
    settings = [_settings_of(group) for group in optimizer.param_groups]
    clip = getattr(optimizer, "clip_grad", None)
    restored, _ = engine.load_checkpoint(str(folder), tag=TAG, load_module_strict=not own.scalings)
    if restored is None:
        raise FileNotFoundError(f"{folder} must hold a learner state, found none of tag {TAG}")
    for group, setting in zip(optimizer.param_groups, settings, strict=True):
        group.update(setting)
    if clip is not None:
        optimizer.clip_grad = clip
    return int(found["step"])


def _settings_of(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", "step")}


def _check_same(found: Mapping[str, Any], own: Trained, folder: Path) -> None:
    check_same_start(found["start"], own.start, folder)
    differences = [
        f"{what}: was {found[key]}, is {mine}"
        for what, key, mine in (
            ("precision", "dtype", own.dtype),
            ("layout", "layout", own.layout),
        )
        if found[key] != mine
    ]
    for what, mine in (("tensors", own.tensors), ("scalings", own.scalings)):
        theirs = found[what]
        if list(theirs.items()) == list(mine.items()):
            continue
        names = [name for name in {**theirs, **mine} if theirs.get(name) != mine.get(name)]
        shown = [f"{n}: was {theirs.get(n)}, is {mine.get(n)}" for n in names[:5]]
        differences.append(f"{len(names)} {what}, such as {'; '.join(shown) or 'their order'}")
    if differences:
        raise ResumeError(
            f"a resumed learner must train the tensors that {folder} holds, found other "
            + "; other ".join(differences)
            + "; restore `model` and `learner`, or give another run_dir"
        )


def _read_as_data(path: str, map_location: Any = None) -> Any:
    """In place of DeepSpeed's reader, which runs what a pickle says."""
    from deepspeed.runtime.fp16.loss_scaler import LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    with torch.serialization.safe_globals([LossScaler, ZeroStageEnum, fragment_address]):
        return torch.load(path, map_location=map_location, weights_only=True)
