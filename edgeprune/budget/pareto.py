"""Fronts of plans: which are dominated, how much a front dominates, where it bends.

Costs are to be small, (n, d) for one or two resources; values are to be large, (n,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SENSITIVITY = 1.0
"""Of Kneedle: how far, in mean steps, a curve has to fall behind after a bend for it to be a knee."""


def non_dominated(costs: Array, values: Array) -> NDArray[np.int64]:
    """Indices, ascending by the first cost, of those that no other is as good as in everything and better in some.

    Of equal ones the first stays.
    """
    no_worse = (costs[:, None] <= costs[None]).all(axis=2) & (values[:, None] >= values[None])
    equal = no_worse & no_worse.T
    earlier = np.arange(len(values))[:, None] < np.arange(len(values))[None]
    dominated = (no_worse & (~equal | earlier)).any(axis=0)
    left = np.flatnonzero(~dominated)
    order: NDArray[np.int64] = left[np.lexsort((*costs[left].T[::-1],))]
    return order


def hypervolume(costs: Array, values: Array, reference: Array) -> float:
    """The volume between a front, a value of 0 and the ``reference`` costs (Zitzler and Thiele 1998).

    Computed exactly, by slicing one cost after the other (While et al. 2006).

    Args:
        reference: (d,); what costs more adds nothing.
    """
    inside = (costs <= reference).all(axis=1) & (values > 0)
    costs, values = costs[inside], values[inside]
    if not len(values):
        return 0.0
    if costs.shape[1] == 0:
        return float(values.max())
    order = np.argsort(costs[:, -1], kind="stable")
    costs, values = costs[order], values[order]
    thickness = np.diff(np.append(costs[:, -1], reference[-1]))
    slices = (
        step * hypervolume(costs[: i + 1, :-1], values[: i + 1], reference[:-1])
        for i, step in enumerate(thickness)
        if step > 0
    )
    return float(sum(slices))


def knees(costs: Array, values: Array) -> list[int]:
    """Indices of the knees of a front that is ascending by its first cost.

    For one cost those of Kneedle (Satopaa et al. 2011): costs and values are scaled to 0..1, and a local maximum of the
    distance to the chord is a knee if the distance then falls by a mean step before it rises again. For two costs the
    one plan that is farthest from the plane through the extremes (Das 1999), scaled in the same way.
    """
    if len(values) < 3:
        return []
    spans = np.ptp(costs, axis=0), float(np.ptp(values))
    if not (spans[0] > 0).all() or not spans[1] > 0:
        return []
    scaled = (costs - costs.min(axis=0)) / spans[0]
    distance = (values - values.min()) / spans[1] - scaled.sum(axis=1)
    if costs.shape[1] > 1:
        return [int(distance.argmax())]
    fall = SENSITIVITY * float(np.diff(scaled[:, 0]).mean())
    found: list[int] = []
    top: int | None = None
    for i in range(1, len(values)):
        if distance[i] > distance[i - 1]:
            top = i if top is None or distance[i] > distance[top] else top
        elif top is not None and distance[i] < distance[top] - fall:
            found.append(top)
            top = None
    return [i for i in found if distance[i] > 0]
