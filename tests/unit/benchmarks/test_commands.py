"""What the commands of benchmarks read from their command line."""

from __future__ import annotations

import pytest

from benchmarks.commands import _numbers


def test_lists_of_numbers_are_read_with_spaces_and_refused_with_words() -> None:
    assert _numbers("1, 4,16") == [1, 4, 16]
    with pytest.raises(ValueError, match="whole numbers"):
        _numbers("1,many")
