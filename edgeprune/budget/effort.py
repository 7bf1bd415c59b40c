"""How long something may take: a solver that searches, and how near to the best plan is near enough."""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from dataclasses import dataclass

from edgeprune.errors import UsageError

_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_seconds(text: str | float) -> float:
    """``"3m"``, ``"90s"``, ``"1h"`` or ``90`` -> seconds.

    Raises:
        UsageError: anything else.
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*(s|m|min|h)\s*", text) if isinstance(text, str) else None
    with suppress(ValueError, TypeError):
        seconds = float(found[1]) * _SECONDS[found[2]] if found else float("nan" if isinstance(text, str) else text)
        if 0 < seconds < math.inf:
            return seconds
    raise UsageError(f"{text!r} is no time", hint="for example 3m, 90s or 1h")


@dataclass(frozen=True, slots=True)
class Effort:
    """When a solver stops.

    Attributes:
        time_limit_s: seconds after which the best plan so far is taken; None: the method ends by itself.
        gap: between plan and bound, relative, at which a method that searches for a proof stops; heuristics end by
            themselves.

    Raises:
        UsageError: a time limit, or a gap, that is none.
    """

    time_limit_s: float | None = None
    gap: float = 0.0

    def __post_init__(self) -> None:
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise UsageError(
                f"a time limit of {self.time_limit_s} s makes no sense", hint="give a positive number of seconds"
            )
        if not 0 <= self.gap < 1:
            raise UsageError(f"a gap of {self.gap} makes no sense", hint="give a share of the saliency: 0.0001, or 0")

    def deadline(self) -> float:
        """When a search that begins now has to stop, on the clock of :func:`time.perf_counter`."""
        return math.inf if self.time_limit_s is None else time.perf_counter() + self.time_limit_s


UNLIMITED = Effort()
"""Until the method ends by itself, with the best plan where it can prove that."""
USUAL = Effort(10.0, 1e-4)
"""For one question of a person who waits for the answer: a gap that is as good as none, or 10 seconds."""
