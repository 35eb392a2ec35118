"""What a result depends on, so that one of other code or another machine is not taken for it.

Invariant: a table never mixes results of different code, settings, policies or machines; such
results are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.inputs.policy import DEMO_SFT, digest_of
from benchmarks.result import ROOT, current_commit
from t2g_ray.run.folder import write_json
from t2g_ray.run.machine import describe_machine

DEMO_GRPO = DEMO_SFT.with_name("demo_grpo.yaml")
NOT_COMPARED = ("commit",)
"""A commit may change what no run depends on; `code` says what they do."""


def made_by(**settings: Any) -> dict[str, Any]:
    """Code, machine and versions, and these settings, as JSON gives them back."""
    sources = [p for part in ("t2g_ray", "actors") for p in sorted((ROOT / part).rglob("*.py"))]
    code = digest_of([*sources, DEMO_SFT, DEMO_GRPO])
    facts = {"code": code, "commit": current_commit(), **settings, **describe_machine()}
    return dict(json.loads(json.dumps(facts)))


def check_same(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raises ValueError, with what differs, where the result at `path` was made otherwise."""
    keys = [key for key in wanted if key not in NOT_COMPARED]
    unlike = [key for key in keys if found.get(key) != wanted[key]]
    if unlike:
        differences = "; ".join(f"{key}: {found.get(key)} and {wanted[key]}" for key in unlike)
        raise ValueError(
            f"a table must not mix results of different {', '.join(unlike)}, found {path} made by "
            f"something else ({differences}); give another --out, or remove the old results"
        )


def sign(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Write down beside a folder who fills it; raises ValueError if somebody else began to."""
    path = folder.with_name(f"{folder.name}.made_by.json")
    if folder.exists():
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        check_same(folder, found, wanted)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted)
