"""A frontier: plans none of which another one beats, each with its gap, and a bound on all that there are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.budget.pareto import Array, hypervolume
from edgeprune.budget.problem import RESOURCES, Budget, Problem, Solution, Stop
from edgeprune.budget.proven import Proven
from edgeprune.errors import UsageError

_CELLS = {1: 1024, 2: 48}
"""Steps of the bound in the bound on the hypervolume, by the number of resources."""


@dataclass(frozen=True, slots=True)
class Point:
    """A plan of a frontier.

    Attributes:
        budget: its own cost in the resources that were swept: what the solution's bound is under.
        solution: the plan; its gap says how much more another plan of no more cost could retain at most.
        knee: whether the curve bends here.
    """

    budget: Budget
    solution: Solution
    knee: bool = False


@dataclass(frozen=True, slots=True)
class Front:
    """Plans none of which another one beats, and a bound on all that there are.

    Attributes:
        against: the resources that were swept, one or two of :data:`RESOURCES`.
        points: ascending by the cost of the first.
        widest: the widest plan.
        smallest: of each resource the least cost that was found; proven if ``floor_proven``.
        proven: all bounds.
        asked: limits that a solver was asked about, of ``wanted``.
        stop: why it ended early; None if it did not.
        seconds: that it took. No part of a comparison.
    """

    problem: Problem
    solver: str
    against: tuple[str, ...]
    points: tuple[Point, ...]
    widest: Solution
    smallest: dict[str, float]
    floor_proven: bool
    proven: tuple[Proven, ...]
    asked: int
    wanted: int
    stop: Stop | None = None
    seconds: float = 0.0

    @property
    def costs(self) -> Array:
        """Of the points in the resources that were swept: (n, d)."""
        return np.array([[getattr(p.solution, r) for r in self.against] for p in self.points])

    @property
    def saliency(self) -> Array:
        """Of the points: (n,)."""
        return np.array([p.solution.saliency for p in self.points])

    @property
    def worst_gap(self) -> float:
        """The largest gap of a point."""
        return max(p.solution.gap or 0.0 for p in self.points)

    def bound_at(self, limits: Array) -> Array:
        """The saliency that no plan inside the limits exceeds; limits of the resources that were swept: (n, d) -> (n,).

        Raises:
            UsageError: a limit is not positive.
        """
        if not (limits > 0).all():
            raise UsageError("a limit is not positive", hint="give limits of more than 0")
        every = np.full((len(limits), len(RESOURCES)), np.inf)
        every[:, [RESOURCES.index(r) for r in self.against]] = limits
        found: Array = np.min([p.at(every) for p in self.proven], axis=0)
        return found

    @property
    def hypervolume(self) -> float:
        """What the points dominate, 0..1; costs and saliency are relative to the widest plan's, the reference."""
        if not self.widest.saliency > 0:
            return 0.0
        return hypervolume(self.costs / self._reference, self.saliency / self.widest.saliency, np.ones(self._d))

    @property
    def hypervolume_bound(self) -> float:
        """What no front of this problem can exceed: the volume below the bound, from the least costs on."""
        if not self.widest.saliency > 0:
            return 0.0
        low = np.array([max(self.smallest[r], 0.0) if self.floor_proven else 0.0 for r in self.against])
        edges = [np.linspace(a, b, _CELLS[self._d] + 1) for a, b in zip(low, self._reference, strict=True)]
        corners = np.stack([g.ravel() for g in np.meshgrid(*(e[1:] for e in edges), indexing="ij")], axis=1)
        # The bound rises with every limit: in a cell it is largest at the upper corner. Far below 0 there is no plan.
        below = float(np.maximum(self.bound_at(corners), 0).sum()) / self.widest.saliency
        cell = math.prod(float(e[-1] - e[0]) / _CELLS[self._d] for e in edges) / math.prod(self._reference)
        if not cell > 0:
            return self.hypervolume
        return max(self.hypervolume, below * cell)

    @property
    def _d(self) -> int:
        return len(self.against)

    @property
    def _reference(self) -> Array:
        return np.array([getattr(self.widest, r) for r in self.against])

    def to_json(self) -> dict[str, Any]:
        """Every point with its widths, its gap and what proves it; the curve's figures."""
        names = [c.name for c in self.problem.choices]
        return {
            "solver": self.solver,
            "against": list(self.against),
            "stop": "complete" if self.stop is None else self.stop.value,
            "asked": self.asked,
            "wanted": self.wanted,
            "seconds": round(self.seconds, 3),
            "hypervolume": self.hypervolume,
            "hypervolume_bound": self.hypervolume_bound,
            "worst_gap": self.worst_gap,
            "smallest": dict(self.smallest),
            "widest": {"saliency": self.widest.saliency, **{r: getattr(self.widest, r) for r in RESOURCES}},
            "points": [
                {
                    **{r: getattr(p.solution, r) for r in RESOURCES},
                    "saliency": p.solution.saliency,
                    "bound": p.solution.bound,
                    "gap": p.solution.gap,
                    "knee": p.knee,
                    "solver": p.solution.method,
                    "widths": dict(zip(names, p.solution.widths, strict=True)),
                    "witness": None if p.solution.witness is None else p.solution.witness.to_json(),
                }
                for p in self.points
            ],
        }
