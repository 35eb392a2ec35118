"""A folder or URL -> proof that another process reads and writes the very same place.

One process asks: a file of random content in a folder of random name. Others read it and write an
answer that the first one reads. A folder that merely has the same path on another machine, an old
copy and a place that takes no writes all fail. Invariant: nothing of it stays behind, also of a
proof whose process was killed, once the next one ends.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import fsspec

_FOLDER = ".probe-"
_QUESTION = "question"
_PATIENCE_S = 3.0
"""Until a file that another machine wrote must be seen."""
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Question:
    """What the asking process wrote. Example: Question("runs/x/.probe-3f", "9a...")."""

    folder: str
    """Of the question and of all answers; a URL where the run's place is one."""
    content: str


@contextmanager
def asked(place: str) -> Iterator[Question]:
    """Write a question into `place`, a folder or a URL; it and its answers go with the block.

    Raises what its file system raises where it cannot be written.
    """
    files, root = fsspec.url_to_fs(place)
    folder = f"{_FOLDER}{secrets.token_hex(8)}"
    question = Question(f"{place.rstrip('/')}/{folder}", secrets.token_hex(16))
    try:
        files.makedirs(f"{root}/{folder}", exist_ok=True)
        files.pipe_file(f"{root}/{folder}/{_QUESTION}", question.content.encode())
        yield question
    finally:
        for path in files.glob(f"{root}/{_FOLDER}*"):
            files.rm(path, recursive=True)


def answered(name: str, question: Question) -> str:
    """Read the question and write an answer of this name; what failed in words, else empty."""
    try:
        files, folder = fsspec.url_to_fs(question.folder)
        found = _content(files, f"{folder}/{_QUESTION}", time.monotonic() + _PATIENCE_S)
        if found is None:
            return "it does not see what this process writes there"
        if found != question.content:
            return "it finds another file there than this process wrote"
        files.pipe_file(f"{folder}/{name}", _answer(question, name).encode())
    except Exception as error:  # Boundary: each file system has errors of its own.
        return f"it cannot read and write there: {type(error).__name__}: {error}"
    return ""


def unheard(question: Question, names: Sequence[str]) -> dict[str, str]:
    """Of the answers that processes say they wrote, those that are wrong here, and how."""
    files, folder = fsspec.url_to_fs(question.folder)
    end = time.monotonic() + _PATIENCE_S
    found = {name: _content(files, f"{folder}/{name}", end) for name in names}
    return {
        name: "what it writes there is not seen here"
        if content is None
        else "what it writes there is changed here"
        for name, content in found.items()
        if content != _answer(question, name)
    }


def _answer(question: Question, name: str) -> str:
    return f"{question.content} {name}"


def _content(files: Any, path: str, end: float) -> str | None:
    """The text of a file, waited for until `end`; None where it does not come."""
    while True:
        files.invalidate_cache()
        try:
            return bytes(files.cat_file(path)).decode(errors="replace")
        except FileNotFoundError:
            if time.monotonic() > end:
                return None
        time.sleep(_LOOK_S)
