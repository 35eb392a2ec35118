"""Secrets of a job: files on the nodes -> variables of the processes there.

Ray has no place for secrets: the variables of a job are stored in plain text. So a job carries the
names and paths alone, in one variable, and every process of the job reads the files where it runs.

Invariant: no message, and nothing that leaves a process, holds what stands in the files.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path

VARIABLE = "T2G_SECRETS"
"""{"NAME": "/path/on/the/nodes", ...} as JSON."""


class SecretError(ValueError):
    """A secret cannot be had as asked."""


def carried(entries: Iterable[str]) -> dict[str, str]:
    """What a job carries of `NAME=FILE` entries: one variable, or none."""
    files = dict(_split(entry) for entry in entries)
    return {VARIABLE: json.dumps(files)} if files else {}


def load(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set each variable that VARIABLE names to what its file holds, in the process of the command.

    Raises SecretError for a file that is missing, cannot be read or is empty.
    """
    for name, path in _files(environment).items():
        environment[name] = _content(name, path)


def load_in_a_worker() -> None:
    """The same in an actor's process: a file that its node lacks is one that it does not need.

    Called by Ray before anything else runs in the process (`worker_process_setup_hook`).
    """
    for name, path in _files(os.environ).items():
        if os.access(path, os.R_OK):
            os.environ[name] = _content(name, path)


def _files(environment: Mapping[str, str]) -> dict[str, str]:
    files: dict[str, str] = json.loads(environment.get(VARIABLE) or "{}")
    return files


def _split(entry: str) -> tuple[str, str]:
    name, mark, path = entry.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or not path.startswith("/"):
        raise SecretError(
            "--secret must look like NAME=/absolute/path/on/the/nodes, found "
            + (f"no such path for {name}" if mark else "no =")
        )
    return name, path


def _content(name: str, path: str) -> str:
    try:
        content = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(
            f"the secret {name} must stand in {path} on this node ({os.uname().nodename}), found "
            f"{type(error).__name__}; write it there, readable by the user that runs Ray alone"
        ) from None
    if not content:
        raise SecretError(f"the secret {name} must stand in {path}, found an empty file")
    return content
