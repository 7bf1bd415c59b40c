"""Reachability of a budget: the smallest cost of each resource, and a point inside the budget."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.elimination import MAX_CELLS, Factor, minimise
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import RESOURCES, Budget
from edgeprune.budget.search import Point, reduce
from edgeprune.errors import InfeasibleBudgetError

_BISECTIONS = 24


class Floor:
    """The minimum of weighted costs of one problem, without regard to saliency.

    Attributes:
        exact: whether the minima are proven. They are as long as the tables of the variable
            elimination stay small; else they come from coordinate descent from the narrowest and
            the full network, and a smaller cost may exist.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._factors: list[tuple[tuple[int, ...], NDArray[np.float64]]] = []
        self._forbidden: list[Factor] = []
        self.exact = True
        for term, scope in enumerate(evaluator.scopes):
            shape = [evaluator.sizes[c] for c in scope]
            if np.prod(shape, dtype=np.float64) > MAX_CELLS:
                self.exact = False
                return
            self._factors.append((scope, evaluator.term_costs(term, self._grid(scope)).reshape(*shape, -1)))
        for scope in _clusters(evaluator.problem.blocks):
            shape = [evaluator.sizes[c] for c in scope]
            if np.prod(shape, dtype=np.float64) > MAX_CELLS:
                self.exact = False
                return
            torn = ~evaluator.whole_blocks(self._grid(scope))
            self._forbidden.append((scope, np.where(torn, np.inf, 0.0).reshape(shape)))

    def _grid(self, scope: tuple[int, ...]) -> NDArray[np.int64]:
        """Every combination of the levels of ``scope``, the first slowest; other choices at their full width."""
        grid = np.array(list(product(*(self.evaluator.levels[c] for c in scope))), dtype=np.int64)
        full = np.array(self.evaluator.widths(self.evaluator.full_levels), dtype=np.int64)
        widths = np.tile(full, (len(grid), 1))
        widths[:, list(scope)] = grid
        return widths

    def minimise(self, weights: NDArray[np.float64]) -> tuple[int, ...]:
        """Level indices with the smallest ``weights @ costs``."""
        if self.exact:
            factors: list[Factor] = [(scope, table @ weights) for scope, table in self._factors]
            factors += self._forbidden
            found = minimise(self.evaluator.sizes, factors)
            if found is not None:
                return found
            self.exact = False
        starts = (tuple(0 for _ in self.evaluator.sizes), self.evaluator.full_levels)
        ends = [self._descend(Point(self.evaluator, s), weights) for s in starts]
        return tuple(min(ends, key=lambda p: float(p.costs @ weights)).levels)

    def smallest(self) -> dict[str, float]:
        """The smallest cost of each resource on its own, over all choices of widths; not proven unless ``exact``."""
        ends = (Point(self.evaluator, self.minimise(weights)) for weights in np.eye(len(RESOURCES)))
        return {name: float(end.costs[i]) for i, (name, end) in enumerate(zip(RESOURCES, ends, strict=True))}

    @staticmethod
    def _descend(point: Point, weights: NDArray[np.float64]) -> Point:
        moved = True
        while moved:
            moved = False
            least = -1e-12 * float(point.costs @ weights)
            for choice in range(len(point.levels)):
                allowed = point.allowed(choice)
                change = point.deltas(choice)[allowed.start : allowed.stop] @ weights
                level = int(change.argmin())
                if change[level] < least:
                    point.move((choice, allowed[level]))
                    moved = True
            for moves in (*point.block_moves(gone=True), *point.block_moves(gone=False)):
                if not moved and float(point.change(moves)[0] @ weights) < least:
                    point.move(*moves)
                    moved = True
        return point


def reach(evaluator: Evaluator, limits: Budget) -> Point:
    """A point inside the budget, whatever it retains.

    With one limit the answer is exact wherever :class:`Floor` is. With two, the mix of the two
    costs is bisected (its minimum over 1 proves infeasibility) and single changes finish the rest;
    in the narrow gap of that relaxation a feasible point may be missed.

    Raises:
        InfeasibleBudgetError: none was found; details carry the smallest reachable per resource.
    """
    floor = Floor(evaluator)
    visited: list[Point] = []
    # The weight of latency in the mix: first each limited resource alone, then bisected.
    pending = [1.0 if r == 0 else 0.0 for r in limits.active]
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        if not pending:
            if len(limits.active) == 1:
                break
            pending = [(low + high) / 2]
        mix = pending.pop(0)
        point = Point(evaluator, floor.minimise(np.array([mix, 1 - mix]) / limits.values))
        if limits.fits(point.costs):
            return point
        visited.append(point)
        latency, flash = point.costs / limits.values
        if floor.exact and mix * latency + (1 - mix) * flash > 1 + 1e-6:
            break
        if 0 < mix < 1:
            low, high = (mix, high) if latency > flash else (low, mix)
    for point in visited:
        if reduce(point, limits) is not None:
            return point
    raise infeasible(limits, floor.smallest())


def infeasible(limits: Budget, smallest: dict[str, float], *, what: str = "plan") -> InfeasibleBudgetError:
    """The error for a budget out of reach; ``smallest`` maps each resource to its smallest reachable."""
    asked = {RESOURCES[r]: float(limits.values[r]) for r in limits.active}
    reached = {name: smallest[name] for name in asked}
    parts = ", ".join(f"{name} {asked[name]:g} (smallest reachable {reached[name]:g})" for name in asked)
    return InfeasibleBudgetError(
        f"no {what} keeps the budget: {parts}",
        hint="raise the budget, allow narrower levels, or start from a smaller network",
        budget=asked,
        **reached,
    )


def _clusters(blocks: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """Choices of blocks that lie inside of one another or overlap."""
    clusters: list[set[int]] = []
    for block in blocks:
        touched = [c for c in clusters if c & set(block)]
        clusters = [c for c in clusters if c not in touched] + [set(block).union(*touched)]
    return [tuple(sorted(c)) for c in clusters]
