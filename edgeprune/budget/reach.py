"""Reachability of a budget: the smallest cost of each resource, a plan inside the budget, or the proof of none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from edgeprune.amounts import written
from edgeprune.budget.bounding import Search
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.factors import factors_of
from edgeprune.budget.problem import ADDITIVE, RESOURCES, TOLERANCE, Budget, Problem, Stop, by_resource
from edgeprune.budget.search import Point, improve
from edgeprune.budget.tree import MAX_CELLS, Tree
from edgeprune.errors import InfeasibleBudgetError

MAX_BOXES = 4000
"""Boxes in which a plan is looked for before the search gives up."""
_BOXES_OF_A_STEP = 500
_SAME = 1e-7
_SHOWN_WITNESS = 100
GRACE_S, PROOF_S = 1.0, 30.0
"""Seconds beyond a search: for a plan that keeps the budget at all, and for what to say of the smallest costs where
there is none.
"""


class Floor:
    """The minimum of weighted costs of one problem, without regard to saliency.

    Attributes:
        exact: whether the minima are proven. They are as long as the tables of the variable elimination stay small;
            else they come from coordinate descent, and a smaller cost may exist.
    """

    def __init__(self, evaluator: Evaluator, *, max_cells: int = MAX_CELLS) -> None:
        self.evaluator = evaluator
        self._graph = factors_of(evaluator)
        self._tree = Tree(self._graph, max_cells=max_cells)
        self.exact = self._tree.exact

    def minimise(self, weights: NDArray[np.float64]) -> tuple[int, ...]:
        """Level indices with the smallest ``weights @ costs``; one weight for each row."""
        tables = []
        for f in self._graph.factors:
            cost = -(weights[f.rows] @ f.costs)
            tables.append(cost if f.value is None else cost + f.value)
        tables += [np.zeros(len(s)) for s in self._graph.saliency]
        found = self._tree.maximise(tables).chosen
        if self.exact:
            return found
        starts = [tuple(0 for _ in self.evaluator.sizes), self.evaluator.full_levels]
        widths = np.array([self.evaluator.widths(found)], dtype=np.int64)
        starts += [found] if self.evaluator.whole_blocks(widths)[0] else []
        ends = [self._descend(Point(self.evaluator, s), weights) for s in starts]
        return tuple(min(ends, key=lambda p: float(p.costs @ weights)).levels)

    def smallest(self, *, until: float = math.inf) -> dict[str, float]:
        """The smallest cost of each resource on its own, over all plans; not proven unless ``exact``.

        RAM is left out where the problem knows none.

        Args:
            until: on the clock of :func:`time.perf_counter`: the smallest RAM so far is taken then.

        Raises:
            KeyboardInterrupt: Ctrl-C came meanwhile.
        """
        count = len(self.evaluator.base)
        found = {}
        for i, name in enumerate(ADDITIVE):
            end = Point(self.evaluator, self.minimise(np.eye(count)[i]))
            found[name] = float(end.costs[i])
        if count > len(ADDITIVE):
            found[RESOURCES[-1]] = self._smallest_ram(until)
        return found

    def _smallest_ram(self, until: float) -> float:
        """The least peak. Where one step of the leanest plan cannot do with less, that is all; else by bisection."""
        count = len(self.evaluator.base)
        lean = Point(self.evaluator, self.minimise((np.arange(count) >= len(ADDITIVE)).astype(float)))
        costs = lean.costs
        row = len(ADDITIVE) + int(costs[len(ADDITIVE) :].argmax())
        peak = float(costs[row])
        low = float(Point(self.evaluator, self.minimise(np.eye(count)[row])).costs[row])
        flat = _without_saliency(self.evaluator.problem)
        while peak - low > _SAME * peak:
            middle = (low + peak) / 2
            search = Search(Evaluator(flat), Budget(ram_bytes=middle), deadline=until)
            stop = search.run(boxes=_BOXES_OF_A_STEP)
            if stop is Stop.INTERRUPTED:
                raise KeyboardInterrupt
            if search.incumbent.levels is not None:
                peak = float(by_resource(Point(self.evaluator, search.incumbent.levels).costs)[-1])
            elif stop is Stop.OPTIMAL:
                low = middle
            else:
                self.exact = False
                break
        return peak

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
    """A point inside the budget, as good as the Lagrangian method finds at once.

    Raises:
        InfeasibleBudgetError: as :func:`no_plan` says.
    """
    search = Search(evaluator, limits)
    search_further(search)
    if search.incumbent.levels is None:
        raise no_plan(search)
    return Point(evaluator, search.incumbent.levels)


def search_further(search: Search) -> Stop:
    """Go on until a plan inside the budget is met or proven not to exist; why it stopped."""
    stop, boxes = Stop.NODE_LIMIT, 0
    while search.incumbent.levels is None and stop is Stop.NODE_LIMIT and boxes < MAX_BOXES:
        boxes = max(1, boxes * 2)
        stop = search.run(boxes=boxes)
    return stop


def least_plan(search: Search) -> tuple[int, ...] | None:
    """A plan inside the budget for a search that met none in its time: of the leanest ones the best that fits, and
    what can be grown back at once.
    """
    evaluator, limits = search.evaluator, search.limits
    count = len(evaluator.base)
    # By all limits together, each row relative to its own; and by latency or flash alone.
    floor, weights = Floor(evaluator), [1 / limits.of_rows(count), *np.eye(count)[: len(ADDITIVE)]]
    lean = [Point(evaluator, evaluator.narrowest), *(Point(evaluator, floor.minimise(w)) for w in weights)]
    inside = [p for p in lean if limits.fits(p.costs)]
    if not inside:
        return None
    best = max(inside, key=lambda p: p.saliency)
    improve(best, limits, until=perf_counter() + GRACE_S)
    return tuple(best.levels)


def no_plan(search: Search) -> InfeasibleBudgetError:
    """The error of a search that has no plan: proven, with the rows that conflict and the witness, or given up."""
    floor = Floor(search.evaluator)
    smallest = floor.smallest(until=perf_counter() + (PROOF_S if search.infeasible else GRACE_S))
    if not search.infeasible:
        return infeasible(search.limits, smallest, proven=False)
    witness = search.witness
    nodes = list(witness.nodes())
    rows = sorted({r for w in nodes for r, _ in w.multipliers})
    error = infeasible(search.limits, smallest)
    error.details.update(proven=True, conflict=[search.evaluator.row_names[r] for r in rows])
    if len(nodes) <= _SHOWN_WITNESS:
        error.details["witness"] = witness.to_json()
    return error


def infeasible(
    limits: Budget, smallest: Mapping[str, float], *, what: str = "plan", proven: bool = True
) -> InfeasibleBudgetError:
    """The error for a budget out of reach; ``smallest`` maps each resource to its smallest reachable.

    Args:
        proven: False where the search for a plan was given up: ``details["proven"]`` then says so.
    """
    asked = {RESOURCES[r]: float(limits.values[r]) for r in limits.active}
    reached = {name: smallest[name] for name in asked}
    beyond = [name for name in asked if reached[name] > asked[name] * (1 + TOLERANCE)]
    hint = "allow narrower levels, or start from a smaller network"
    if proven and not beyond and len(asked) > 1:
        said = f"no {what} keeps {_listed([_limit(name, asked[name]) for name in asked])} together, but each alone"
        hint = f"raise one of them, {hint}"
    else:
        least = (
            f"{_limit(name, asked[name])} (smallest reachable: {_exactly(reached[name], asked[name], name)})"
            for name in beyond or asked
        )
        said = "keeps the budget" if proven else "inside the budget was found, and none was ruled out"
        said = f"no {what} {said}: {_listed(list(least))}"
        hint = f"raise the budget, {hint}"
    return InfeasibleBudgetError(
        said,
        hint=hint if proven else f"give the solver more time (--time-limit), {hint}",
        budget=asked,
        **reached,
        **({} if proven else {"proven": False}),
    )


_CALLED = {"latency_ms": "a latency of {}", "flash_bytes": "{} of flash", "ram_bytes": "{} of RAM"}
_UNITS = {"latency_ms": "ms", "flash_bytes": "bytes", "ram_bytes": "bytes"}


def _limit(name: str, value: float) -> str:
    return _CALLED[name].format(written(value, _UNITS[name]))


def _exactly(value: float, other: float, name: str) -> str:
    """A value in words, with all its digits where these look like the other's otherwise."""
    unit = _UNITS[name]
    said = written(value, unit)
    return said if said != written(other, unit) else f"{value:.12g} {unit}, not {other:.12g}"


def _listed(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _without_saliency(problem: Problem) -> Problem:
    choices = tuple(replace(c, saliency=np.zeros(len(c.levels))) for c in problem.choices)
    return replace(problem, choices=choices)
