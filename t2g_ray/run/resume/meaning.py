"""What gives a checkpoint its meaning, and whether a run that resumes from it still has it.

A run's meaning is its settings, and digests of what they point at: records, prompts, tokenizer,
starting model. Every checkpoint holds it. Invariant: a run goes on from a checkpoint only where
both meanings are equal but for what `MAY_CHANGE` and `Meaning.noted` name, and every such change
is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

MAY_CHANGE = frozenset(
    {
        # Where things lie. What lies there is compared by its digest.
        "run_dir",
        "storage",
        "resume",
        "model",
        "data.train",
        "data.heldout",
        # How long, and what happens beside training.
        "steps",
        "epochs",
        "eval.every",
        "checkpoint",
        "deadlines",
        "profile",
        "trackers",
        "tracking",
        "cluster",
        "sync",
        # What the work is spread over, and how it is cut.
        "device",
        "colocate",
        "rollout.actors",
        "rollout.threads",
        "rollout.gpus",
        "rollout.tensor_parallel",
        "rollout.kv_cache_gib",
        "rollout.gpu_memory_utilization",
        "rollout.max_sequences",
        "rollout.pass_tokens",
        "reward.actors",
        "learner.threads",
        "learner.gpus",
        "learner.token_budget",
        "learner.gradient_checkpointing",
        "learner.packing",
        "learner.attention",
        "learner.head_chunk_mib",
        # How far a step goes: read anew at every step.
        "learner.optimizer.lr",
        "learner.optimizer.muon_lr",
        "learner.optimizer.weight_decay",
        "learner.optimizer.warmup_steps",
        "learner.optimizer.schedule",
        "learner.optimizer.final_lr_share",
        "learner.optimizer.max_grad_norm",
        # Limits at which a run stops.
        "reward.max_error_rate",
        "algorithm.parity_tolerance",
    }
)
"""Settings that a resumed run may change; a section stands for all its keys."""

RETIRED = frozenset({"tensorboard"})
"""Settings of earlier versions, in their checkpoints, that changed nothing in a run."""

RANKS = "learner.ranks"
WHOLE = {"learner.zero_stage": 0, "learner.dtype": "float32"}
"""Ranks may change as well where each of them holds the whole state, which is with these."""

_ABSENT = "nothing"


class ResumeError(ValueError):
    """The checkpoint belongs to a run of another meaning: says what was, what is, what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a run is. Example: Meaning(stage="GRPO", settings={"group_size": 8, ...},
    contents={"training records": "40 records, digest 3f..."}, noted={"version": "0.1.0"})."""

    stage: str
    settings: Mapping[str, Any]
    """Dotted keys of the configuration and their values, plain data."""
    contents: Mapping[str, str]
    """What the settings point at, by digest."""
    noted: Mapping[str, str] = field(default_factory=dict)
    """May change; the change is told."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return asdict(self)


def changes(found: object, own: Meaning, where: object) -> list[str]:
    """What a resumed run may change and did, a line each; `found` is the checkpoint's meaning.

    Raises ResumeError that names everything else that differs.
    """
    if not isinstance(found, Mapping) or not {"stage", "settings", "contents"} <= found.keys():
        raise ResumeError(
            f"a checkpoint must say what run it belongs to, {where} does not: an earlier version "
            "wrote it; resume with that version, or give another run_dir"
        )
    if found["stage"] != own.stage:
        raise ResumeError(
            f"a resumed run must be of the same stage, {where} is of {found['stage']}, found "
            f"{own.stage}; give another run_dir"
        )
    told: list[str] = []
    refused: list[str] = []
    is_whole_on_each_rank = WHOLE.items() <= own.settings.items()
    for key, line in _differences(found["settings"], own.settings):
        is_whole = key == RANKS and is_whole_on_each_rank
        is_free = _may_change(key) or key in RETIRED or is_whole
        (told if is_free else refused).append(line)
    refused += [line for _, line in _differences(found["contents"], own.contents)]
    if refused:
        raise ResumeError(
            f"a resumed run must be the run that its checkpoint belongs to, {where} differs in\n  "
            + "\n  ".join(refused)
            + "\nrestore what it was, or give another run_dir to start a new run"
        )
    return told + [line for _, line in _differences(found.get("noted", {}), own.noted)]


def _may_change(key: str) -> bool:
    parts = key.split(".")
    return any(".".join(parts[:length]) in MAY_CHANGE for length in range(1, len(parts) + 1))


def _differences(found: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key that differs, and a line that says how."""
    for key in sorted({*found, *own}):
        was, now = found.get(key, _ABSENT), own.get(key, _ABSENT)
        if was != now or type(was) is not type(now):
            yield key, f"{key}: was {was}, is {now}"


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Sections inside sections -> dotted keys. Example: {"a": {"b": 1}} -> {"a.b": 1}."""
    keys: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            keys |= flat(value, f"{prefix}{name}.")
        else:
            keys[prefix + name] = value
    return keys
