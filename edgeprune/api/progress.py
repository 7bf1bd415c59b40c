"""Progress on stderr: bars where a person watches, plain lines where a log file does."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from edgeprune.progress import SILENT, Progress, time_left

STEPS = 10
"""How many lines a stage of known length writes into a log."""


@contextmanager
def reporting(wanted: bool | Progress | None) -> Iterator[Progress]:
    """The progress reporter of one call; the last bar is closed on the way out, also by an error.

    Args:
        wanted: True for bars or lines on stderr, None or False for silence, or a reporter of one's own.
    """
    if not isinstance(wanted, bool | None):
        yield wanted
    elif not wanted:
        yield SILENT
    elif sys.stderr.isatty():
        bars = Bars()
        try:
            yield bars
        finally:
            bars.close()
    else:
        yield Lines()


class Lines:
    """Plain lines, at most :data:`STEPS` a stage."""

    def __init__(self) -> None:
        self._name, self._total, self._done, self._told, self._began = "", 0, 0, 0, 0.0

    def stage(self, name: str, total: int | None = None) -> None:
        self._name, self._total, self._done, self._told, self._began = name, total or 0, 0, 0, time.monotonic()
        self.note(f"{name} (0/{total})" if total else name)

    def advance(self, n: int = 1) -> None:
        self._done += n
        step = self._done * STEPS // self._total if self._total else 0
        if step > self._told:
            self._told = step
            left = (time.monotonic() - self._began) * (self._total / self._done - 1)
            self.note(f"{self._name} ({self._done}/{self._total}{time_left(left)})")

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class Bars:
    """One rich bar, relabelled at each stage; notes are printed above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", visible=False)
        self._bar.start()

    def stage(self, name: str, total: int | None = None) -> None:
        # A task that is reset keeps its total where the new one is not known.
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(name, total=total or None)

    def advance(self, n: int = 1) -> None:
        self._bar.advance(self._task, n)

    def note(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._bar.stop()
