"""Offline files of W&B -> their records, and the last step that reached the disk.

W&B writes from memory every 15 seconds and when a run ends, so that a killed run leaves less than
it was given. Invariant: a file that ends anywhere gives its whole records, and no error.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

_BLOCK = 32768
_HEADER = 7
"""Bytes of what W&B puts before the first chunk, and of the head of each chunk: checksum (4),
length (2), kind (1)."""
_WHOLE, _LAST = 1, 4


def records(folder: Path, run: str = "offline-run-*") -> Iterator[Any]:
    """The records of runs below `folder`, oldest first: `Record` of W&B's own protocol."""
    record = import_module("wandb.proto.wandb_internal_pb2").Record
    for path in sorted(folder.glob(f"{run}/*.wandb")):
        for message in _messages(path.read_bytes()):
            yield record.FromString(message)


def newest_step(folder: Path) -> int | None:
    """The last step of all runs below `folder`; None where there is no run."""
    if not any(folder.glob("offline-run-*")):
        return None
    return max((_step(record) for record in records(folder)), default=-1)


def _step(record: Any) -> int:
    values = {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
    return int(json.loads(values.get("_step", "-1")))


def _messages(data: bytes) -> Iterator[bytes]:
    """What is framed as LevelDB frames its log: chunks in blocks, which no chunk head crosses."""
    place, message = _HEADER, b""
    while place + _HEADER <= len(data):
        if _BLOCK - place % _BLOCK < _HEADER:
            place += _BLOCK - place % _BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        place += _HEADER
        if kind == 0 or place + length > len(data):
            return
        message += data[place : place + length]
        place += length
        if kind in (_WHOLE, _LAST):
            yield message
            message = b""
