"""Arguments that several commands take: a configuration file and its overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _set_once(overrides: list[str] | None) -> list[str] | None:
    from t2g_ray.config import check_set_once

    check_set_once(overrides or ())
    return overrides


ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, see configs/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Override keys, such as learner.ranks=2.",
        callback=_set_once,
    ),
]
