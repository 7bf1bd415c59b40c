"""Clock states: the speeds between which a device changes, read off a reference that ran in the same seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

APART = 0.02
"""Two states differ by at least this much (relative); closer speeds cannot be told from the noise of one launch."""
SEEN = 0.05
"""Share of the time that a state must hold to be called one; rarer phases belong to the nearest state."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """One speed of a device.

    Attributes:
        level: the reference's time in this state (median), in its own unit.
        share: of the launches that fell into it.
        turns: indices of these launches.
    """

    level: float
    share: float
    turns: tuple[int, ...]


def clock_states(reference: Sequence[float]) -> tuple[ClockState, ...]:
    """States of a device, the fastest first, from the reference's time in each launch.

    Sorted times are cut where neighbours are far apart and enough launches lie on either side; a device that drifts
    evenly has one state. None for no launches.
    """
    if not reference:
        return ()
    order = np.argsort(reference, kind="stable")
    times = np.asarray(reference, dtype=np.float64)[order]
    least = max(2, int(np.ceil(SEEN * len(times))))
    groups: list[list[int]] = [[]]
    for i, time in enumerate(times):
        here, left = len(groups[-1]), len(times) - i
        if here >= least and left >= least and time > times[i - 1] * (1 + APART):
            groups.append([])
        groups[-1].append(i)
    return tuple(
        ClockState(float(np.median(times[g])), len(g) / len(times), tuple(sorted(int(order[i]) for i in g)))
        for g in groups
    )


def nominal(reference: Sequence[float]) -> float:
    """The reference's time at the quickest clock that is no exception; 0 for no times."""
    return clock_states(reference)[0].level if reference else 0.0
