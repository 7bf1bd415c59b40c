"""How long a solver may search, and how near to the best plan is near enough."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from edgeprune.errors import UsageError


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
