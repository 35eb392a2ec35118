"""The error that ends a run -> failure.json, so that the folder says later how it ended.

Invariant: the error goes on as it was. A process that is killed writes nothing: its lock then says
who it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from t2g_ray.run.folder import RunDir, write_json

_MOST_CHARS = 4000


@contextmanager
def kept_failure(run: RunDir) -> Iterator[None]:
    """Write down what ends the block, and remove what an earlier start wrote.

    Nothing is written into a folder that holds no run.
    """
    run.failure.unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        if run.config.is_file():
            # A full disk may be the very reason.
            with suppress(OSError):
                write_json(run.failure, _described(error))
        raise


def _described(error: BaseException) -> dict[str, object]:
    # Ray wraps what an actor raised.
    cause = getattr(error, "cause", None) or error
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "kind": type(cause).__name__,
        "message": str(cause)[-_MOST_CHARS:],
        "notes": [str(note)[-_MOST_CHARS:] for note in getattr(error, "__notes__", ())],
        "is_stop": isinstance(error, KeyboardInterrupt),
    }
