"""A reward that tells any two texts apart, so that policies which write noise are trained too."""

from __future__ import annotations

import zlib


def spread(completion: str) -> float:
    """Between 0 and 1, by the text alone; it says nothing of how good the text is."""
    return zlib.crc32(completion.encode("utf-8", "replace")) / 2**32
