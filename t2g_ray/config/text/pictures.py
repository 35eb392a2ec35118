"""Values of any size -> short pictures of them, for messages.

Invariant: a picture takes as little time and space as it shows, however large the value is.
"""

from __future__ import annotations

from reprlib import Repr

MAX_SHOWN = 80


class _Pictures(Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python does not write integers of more than some thousand digits.
        return str(x) if x.bit_length() <= 3 * MAX_SHOWN else f"an integer of {x.bit_length()} bits"


_PICTURES = _Pictures()
_PICTURES.maxstring = _PICTURES.maxother = MAX_SHOWN
_PICTURES.maxlevel = 3


def picture(value: object) -> str:
    """A value as Python writes it, with the middle or the rest left out where it is long."""
    return shortened(_PICTURES.repr(value), 3 * MAX_SHOWN)


def shortened(text: str, max_chars: int = 3 * MAX_SHOWN) -> str:
    """The text, or its beginning and how long it is."""
    if len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}... ({len(text)} characters)"
