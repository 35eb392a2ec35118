"""Files of W&B that were framed by hand here; those of W&B itself are read in test_tracking."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from t2g_ray.run.trackers.tools.wandb_files import _messages, newest_step

MESSAGES = [b"first", b"x" * 40_000, b"last"]


def chunk(data: bytes, kind: int) -> bytes:
    return struct.pack("<IHB", 0, len(data), kind) + data


def framed() -> bytes:
    """The second message goes over the end of the first block of 32 KiB."""
    data = b":W&B\x00\x00\x00" + chunk(MESSAGES[0], 1)
    room = 32768 - len(data) - 7
    data += chunk(MESSAGES[1][:room], 2) + chunk(MESSAGES[1][room:], 4)
    return data + chunk(MESSAGES[2], 1)


def test_messages_come_whole_over_the_end_of_a_block() -> None:
    assert list(_messages(framed())) == MESSAGES


@pytest.mark.parametrize("missing", [1, 4, 10, 12, 30, 7_000, 40_000])
def test_a_file_that_ends_anywhere_gives_its_whole_messages(missing: int) -> None:
    found = list(_messages(framed()[:-missing]))
    assert found == MESSAGES[: len(found)]
    assert len(found) == (2 if missing <= 11 else 1)


def test_less_than_the_head_of_a_chunk_at_the_end_of_a_block_is_filling() -> None:
    first = b"y" * (32768 - 7 - 7 - 3)
    data = b":W&B\x00\x00\x00" + chunk(first, 1) + bytes(3) + chunk(b"next", 1)
    assert list(_messages(data)) == [first, b"next"]


def test_no_run_has_no_newest_step(tmp_path: Path) -> None:
    assert newest_step(tmp_path) is None
