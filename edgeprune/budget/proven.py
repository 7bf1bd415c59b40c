"""What a bound that was proven under one budget says under another.

In terms of prices per ms and per byte the dual is a maximum over plans, plus what the limits are worth at these prices
(Geoffrion 1974): a limit moves a bound by its price, and nothing has to be solved again. A multiplier of a witness is
such a price times its limit, so it grows with the limit. Of all that was proven over a sweep of budgets the least
counts at each: the lower envelope of the tangents of the dual, and the bounds of wider budgets, which hold for narrower
ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.dual import ROUNDING
from edgeprune.budget.problem import ADDITIVE, RESOURCES, Budget
from edgeprune.budget.witness import Witness

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Proven:
    """A bound, the budget it was proven under, and its witness.

    Attributes:
        witness: None for a bound that is known without one, by enumeration: it holds for narrower budgets alone.
        claims: multipliers of each node that bounds plans, summed by resource: (nodes, 3).
        refuting: the same of nodes that prove there is no plan, which they do for narrower budgets alone: (nodes, 3).
    """

    budget: Budget
    bound: float
    witness: Witness | None
    claims: Array
    refuting: Array

    @classmethod
    def of(cls, budget: Budget, bound: float, witness: Witness | None) -> Proven:
        if witness is None:
            return cls(budget, bound, None, np.zeros((1, len(RESOURCES))), np.eye(len(RESOURCES)))
        sums: dict[bool, list[Array]] = {True: [], False: []}
        for node in witness.nodes():
            # A node that only splits what is left claims nothing.
            if node.removed or not node.children:
                own = np.zeros(len(RESOURCES))
                for row, value in node.multipliers:
                    own[_resource(row)] += value
                sums[node.weight > 0].append(own)
        claims, refuting = (np.array(sums[w]).reshape(-1, len(RESOURCES)) for w in (True, False))
        return cls(budget, bound, witness, claims, refuting)

    def at(self, limits: Array) -> Array:
        """A bound under each of n budgets; infinite where nothing follows. (n, 3), infinite where unlimited -> (n,)."""
        active = list(self.budget.active)
        change = limits[:, None, active] / self.budget.values[active] - 1
        with np.errstate(invalid="ignore"):
            moved, against = (
                np.where(sums[:, active] > 0, sums[:, active] * change, 0.0) for sums in (self.claims, self.refuting)
            )
        rounding = 8 * ROUNDING * (np.abs(moved).sum(axis=2) + self.claims[:, active].sum(axis=1))
        rise = (moved.sum(axis=2) + np.where(change.any(axis=2), rounding, 0.0)).max(axis=1, initial=-np.inf)
        if not len(self.claims):
            rise = np.zeros(len(limits))
        found: Array = np.where((against.sum(axis=2) > 0).any(axis=1), np.inf, self.bound + rise)
        return found

    def moved(self, budget: Budget) -> Witness | None:
        """The witness of :meth:`at` under another budget."""
        return None if self.witness is None else rescaled(self.witness, self.budget, budget)


def rescaled(witness: Witness, old: Budget, new: Budget) -> Witness:
    """The same prices for each ms and byte, as multipliers under another budget; none where that has no limit."""
    if new == old:
        return witness
    with np.errstate(invalid="ignore"):
        factors = new.values / old.values
    done: list[Witness] = []
    # Nodes lie deep inside of one another: no recursion.
    for node in reversed(list(witness.nodes())):
        first = len(done) - len(node.children)
        children = tuple(reversed(done[first:]))
        del done[first:]
        priced = ((row, value * float(factors[_resource(row)])) for row, value in node.multipliers)
        limited = tuple((row, value) for row, value in priced if np.isfinite(value))
        done.append(replace(node, multipliers=limited, children=children))
    return done[0]


def _resource(row: int) -> int:
    """Latency, flash; all further rows are steps of RAM."""
    return min(row, len(ADDITIVE))
