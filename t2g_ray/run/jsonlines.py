"""Objects <-> JSON Lines files that survive a killed writer.

Invariant: every line that a reader yields is one complete JSON object. The line that a killed
process left half written is no line: readers skip it and a resumed writer removes it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

JsonLine = dict[str, Any]
"""A JSON object, whose values are whatever JSON can hold."""

TAIL_BYTES = 1 << 16
"""Longer than any line of metrics."""


class JsonLinesWriter:
    """Appends one object a line and hands each line to the operating system at once.

    `resume_step` None starts a new file and refuses an existing one that is not empty.
    A number continues a file: lines whose "step" lies after it are removed first, because
    the resumed run writes those steps again.
    """

    def __init__(self, path: Path, *, resume_step: int | None = None) -> None:
        self.path = path
        if resume_step is not None:
            cut_after_step(path, resume_step)
        elif path.exists() and path.stat().st_size:
            raise ValueError(
                f"{path} must not exist when a run starts, found {path.stat().st_size} bytes; "
                "give another run_dir, or resume=auto to continue this run"
            )
        self._file = path.open("a", encoding="utf-8")

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one line. ValueError when a value is not finite or not JSON."""
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_json_lines(path: Path) -> Iterator[JsonLine]:
    """Yield the complete lines of a file, in order; a missing file has none.

    ValueError names the first line that is complete and yet not a JSON object.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.endswith(b"\n"):
                return
            if raw.strip():
                yield _parse(raw, path, number)


def last_json_line(path: Path) -> JsonLine | None:
    """The last complete line of a file, if there is one, without reading what comes before.

    ValueError when it is no JSON object; lines of up to TAIL_BYTES are found.
    """
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = file.read().split(b"\n")
    return _parse(lines[-2], path, "its last line") if len(lines) > 1 else None


def cut_after_step(path: Path, step: int) -> None:
    """Keep the lines whose "step" is at most `step`; the file is replaced in one move."""
    if not path.exists():
        return
    kept = path.with_name(path.name + ".tmp")
    with kept.open("w", encoding="utf-8") as file:
        for line in read_json_lines(path):
            if line["step"] <= step:
                file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
    kept.replace(path)


def _parse(raw: bytes, path: Path, number: int | str) -> JsonLine:
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise ValueError(
            f"{path}:{number} must be a JSON object, found {raw[:60]!r}; remove or mend this line"
        ) from error
    if not isinstance(value, dict):
        raise ValueError(
            f"{path}:{number} must be a JSON object, found {type(value).__name__}; "
            "remove or mend this line"
        )
    return value
