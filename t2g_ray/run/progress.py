"""What people see while a stage runs: a live bar on a terminal, plain lines elsewhere.

Everything goes to standard error, so that standard output stays for results. Invariant: neither
the bar nor the notice of a wait can stop or outlive the work it describes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_log = logging.getLogger(__name__)


class StageProgress:
    """Progress of a stage of `total` steps, with the numbers people watch.

    On a terminal one live bar. Elsewhere (files, CI, job logs) one line at most every
    `line_every_s` seconds, the first and the last step always.

        with StageProgress("grpo", total=200) as progress:
            progress.update(1, reward=0.41, f1_entities=0.6, tokens_per_s=900.0)
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        line_every_s: float = 10.0,
        console: Console | None = None,
    ) -> None:
        self.title = title
        self.total = total
        self._console = console or Console(stderr=True)
        self._line_every_s = line_every_s
        self._next_line_s = 0.0
        self._start_s = time.monotonic()
        self._bar: Progress | None = _bar(self._console) if self._console.is_terminal else None
        if self._bar is not None:
            self._task = self._bar.add_task(title, total=total, numbers="")

    def __enter__(self) -> Self:
        self._start_s = time.monotonic()
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, **numbers: float) -> None:
        """Show that `step` steps are done. Names are shown as given, `_per_s` as "/s"."""
        shown = "  ".join(f"{_label(name)} {_number(value)}" for name, value in numbers.items())
        if self._bar is not None:
            self._bar.update(self._task, completed=step, numbers=shown)
            return
        now_s = time.monotonic()
        if now_s >= self._next_line_s or step >= self.total:
            self._next_line_s = now_s + self._line_every_s
            head = f"{self.title} {step}/{self.total}  {now_s - self._start_s:.0f} s"
            self._console.print(
                f"{head}  {shown}".rstrip(), markup=False, highlight=False, soft_wrap=True
            )


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[numbers]}"),
        console=console,
    )


def _label(name: str) -> str:
    return name.removesuffix("_per_s").replace("_", " ") + ("/s" if name.endswith("_per_s") else "")


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"


@contextmanager
def announced_wait(
    describe: Callable[[], str], after_s: float = 30.0, log: logging.Logger = _log
) -> Iterator[None]:
    """Log "waiting 30 s for <what>" every `after_s` seconds for as long as the block runs.

    `describe` is called in another thread each time, so it can say how far things are. When it
    raises, the notice says so and the wait itself goes on.
    """
    is_over = threading.Event()
    start_s = time.monotonic()

    def announce() -> None:
        while not is_over.wait(after_s):
            try:
                what = describe()
            except Exception as error:  # the boundary: a notice must not disturb the wait
                what = f"something that cannot be described ({type(error).__name__}: {error})"
            log.warning("waiting %.0f s for %s", time.monotonic() - start_s, what)

    thread = threading.Thread(target=announce, name="announced-wait", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
