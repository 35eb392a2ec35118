"""An exception -> a line of the log with an id -> the id, which is all that a client is told.

What an exception says can hold paths, addresses and texts of other callers.
"""

from __future__ import annotations

import logging
import secrets

_log = logging.getLogger(__name__)


def noted(what: str, error: BaseException) -> str:
    """`what` happened, in words for a client; the log has the exception under the same id."""
    number = secrets.token_hex(4)
    _log.error("%s [%s]", what, number, exc_info=error)
    return f"{what}; the server's log has the reason under {number}"
