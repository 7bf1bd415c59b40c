"""Which widths count: the levels a group may take, and the totals a kernel must be measured at for them.

The profiler measures on these grids and the latency model reads them back, so both ask here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import PlanError
from edgeprune.graph.channels import AxisBinding, ChannelGraph

MAX_SHARED_TOTALS = 9
"""Grid points of an axis that several groups make up; between them the cost is interpolated."""
FINE = 4
"""How many times closer than those that were timed the levels of :func:`finer` lie."""


def levels_for(size: int, step: int) -> tuple[int, ...]:
    """Widths offered to a group: the multiples of ``step`` below ``size``, and ``size`` itself.

    A group no larger than ``step`` has its full width alone.

    Raises:
        ValueError: ``size`` or ``step`` is below 1.
    """
    if size < 1 or step < 1:
        raise ValueError(f"a size of {size} and a step of {step} make no levels")
    return (*range(step, size, step), size)


def levels_of(channels: ChannelGraph, step: int, points: int, *, blocks: bool = False) -> dict[str, tuple[int, ...]]:
    """Widths offered to each group: at most ``points``, multiples of multiples of ``step``, and 0 in blocks."""
    levels: dict[str, tuple[int, ...]] = {}
    for group in channels.groups:
        steps = -(-group.size // (points * step))
        levels[group.name] = (group.size,) if group.frozen else levels_for(group.size, min(steps * step, group.size))
    return with_blocks(levels, channels) if blocks else levels


def finer(levels: tuple[int, ...], least: int = 1) -> tuple[int, ...]:
    """The levels of a group, with widths between them at which its kernels are interpolated.

    Args:
        least: steps are multiples of it.
    """
    timed = [width for width in levels if width]
    if len(timed) < 2:
        return levels
    step = max(1, (timed[1] - timed[0]) // (FINE * least)) * least
    return tuple(sorted({*levels, *range(timed[0], timed[-1], step)}))


def with_blocks(levels: Mapping[str, tuple[int, ...]], channels: ChannelGraph) -> dict[str, tuple[int, ...]]:
    """The same levels, and width 0 for the groups of every block."""
    groups = {g for block in channels.blocks for g in block.groups}
    return {name: (0, *ks) if name in groups and ks[0] else tuple(ks) for name, ks in levels.items()}


def split(binding: AxisBinding, levels: Mapping[str, tuple[int, ...]]) -> tuple[tuple[str, ...], int]:
    """The groups of an axis that leave a choice (repeats kept), and the constant width of the others.

    Raises:
        PlanError: the axis names a group without levels.
    """
    if missing := [g for g in binding.groups if g not in levels]:
        raise PlanError(f"no levels are given for width groups {missing}", hint="give levels for every group")
    free = tuple(g for g in binding.groups if len(levels[g]) > 1)
    return free, binding.base + sum(levels[g][0] for g in binding.groups if len(levels[g]) == 1)


def grid_for(binding: AxisBinding, levels: Mapping[str, tuple[int, ...]]) -> NDArray[np.int64]:
    """Total widths at which a kernel must be known along one axis, ascending; 0 where all of them may go.

    Every total where the axis has one group (however often it repeats). Where it has several, at most
    ``MAX_SHARED_TOTALS`` of the totals that they can make, evenly spread, smallest and largest among them.

    Raises:
        PlanError: the axis names a group without levels.
    """
    free, base = split(binding, levels)
    totals = {base}
    for group in sorted(set(free)):
        totals = {t + free.count(group) * level for t in totals for level in levels[group]}
    every = np.array(sorted(totals), dtype=np.int64)
    if len(set(free)) < 2 or len(every) <= MAX_SHARED_TOTALS:
        return every
    wanted = np.linspace(every[0], every[-1], MAX_SHARED_TOTALS)
    nearest = np.unique(np.abs(every[None] - wanted[:, None]).argmin(axis=1))
    return np.asarray(every[nearest], dtype=np.int64)
