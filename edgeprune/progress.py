"""Progress reporting: a tiny protocol that the library calls and the command line draws."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Stages follow one another; ``advance`` counts inside the current one."""

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, n: int = 1) -> None: ...

    def note(self, text: str) -> None:
        """A line for the log that should survive the bar."""
        ...


class Silent:
    """The default: says nothing."""

    def stage(self, name: str, total: int | None = None) -> None:
        pass

    def advance(self, n: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


SILENT: Progress = Silent()

LEAST_S = 5.0
"""Seconds left that are worth saying."""


def time_left(seconds: float) -> str:
    """What is said of the time that is left, after a comma; nothing of the last moments."""
    return "" if seconds < LEAST_S else f", {seconds:.0f} s left" if seconds < 100 else f", {seconds / 60:.0f} min left"
