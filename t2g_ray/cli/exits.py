"""How a command ends -> exit code and message.

    0    the work was done
    1    the run failed: what happened, and where to look
    2    the input was wrong: what must hold, what was found, what to do
    130  Ctrl-C

Invariant: a traceback is shown only to those who ask for one (`t2g --traceback ...`, or
T2G_TRACEBACK=1).
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130
OWN_PACKAGES = ("t2g_ray", "actors", "benchmarks")


class CommandGroup(TyperGroup):
    """Commands whose errors become exit codes, those of command groups inside it included."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; the one place where every error is caught."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, typer.TyperException, BrokenPipeError):
            raise  # --help, `t2g ... | head`, and what typer explains itself
        except KeyboardInterrupt as stop:
            typer.echo(str(stop) or "stopped by Ctrl-C", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            code = exit_code(error)
            if ctx.params.get("show_traceback"):
                typer.echo("".join(traceback.format_exception(error)), err=True)
            else:
                typer.echo(describe_error(error, code), err=True)
            raise typer.Exit(code) from None


def exit_code(error: BaseException) -> int:
    """BAD_INPUT for a missing file and for a ValueError that this project raised in this process.

    A ValueError from a library, or from an actor, says that the run failed: no user would know
    which input to change.
    """
    is_own = isinstance(error, ValueError) and _raised_in(error).startswith(OWN_PACKAGES)
    return BAD_INPUT if is_own or isinstance(error, FileNotFoundError) else FAILED


def describe_error(error: BaseException, code: int) -> str:
    """What people read instead of a traceback."""
    if code == BAD_INPUT:
        return f"error: {error}"
    # Ray wraps what an actor raised, and puts the actor's traceback into the wrapper's text.
    cause = getattr(error, "cause", None) or error
    lines = [f"failed: {type(cause).__name__}: {cause}", *getattr(error, "__notes__", ())]
    return "\n".join([*lines, "T2G_TRACEBACK=1 shows where it happened"])


@contextmanager
def notes_on_failure(*notes: str) -> Iterator[None]:
    """Add lines to whatever error leaves the block: where its logs are."""
    try:
        yield
    except Exception as error:
        for note in notes:
            error.add_note(note)
        raise


def _raised_in(error: BaseException) -> str:
    """Dotted name of the module that raised."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return "" if frame is None else str(frame.tb_frame.f_globals.get("__name__", ""))
