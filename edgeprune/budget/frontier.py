"""The whole curve of saliency against one resource, or against two: a sweep of limits, and what it proves together.

The epsilon-constraint method (Haimes et al. 1971): saliency is maximised under one limit after the other, between the
least cost and that of the widest plan; for two resources under limits of the second within each limit of the first.
Each question gives a plan and a bound. All plans are candidates everywhere, and every bound counts at every limit
(:mod:`edgeprune.budget.proven`), so a point of the frontier is as good, and as well proven, as all questions together
make it. Limits far apart come first: a sweep that is stopped early is a coarse curve, not half of one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.bounding import Halted
from edgeprune.budget.dual import Dual
from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.factors import factors_of
from edgeprune.budget.front import Front, Point
from edgeprune.budget.incumbent import Incumbent
from edgeprune.budget.pareto import Array, knees, non_dominated
from edgeprune.budget.problem import ADDITIVE, RESOURCES, Budget, Problem, Solution, Stop, relative_gap
from edgeprune.budget.proven import Proven, rescaled
from edgeprune.budget.reach import Floor
from edgeprune.budget.registry import get_solver
from edgeprune.budget.solving import Solved
from edgeprune.budget.witness import Witness
from edgeprune.errors import InfeasibleBudgetError, UsageError
from edgeprune.progress import SILENT, Progress

COUNT = 24
"""Limits that are tried."""
LEAST_SHARE_S = 2.0
"""Of a time limit for one question; a heuristic that ends by itself is cut short by the end of the sweep alone."""
WALKED = 1e-3
"""The gap of a limit above which plans are sought from those around it."""
LEAST_COST, LOCAL_SEARCH = "least cost", "local search"
"""Methods of plans that no solver gave: chosen by cost alone, or walked to from others."""
_PEAK_ROUNDS, _PEAK_STEP = 6, 4.0
_NOTHING = 1e-9
"""Of the widest plan's cost: the limit of a plan that costs nothing at all."""


def sweep(
    problem: Problem,
    against: Sequence[str] = ("latency_ms",),
    *,
    count: int = COUNT,
    solver: str = "lagrangian",
    effort: Effort = UNLIMITED,
    progress: Progress = SILENT,
) -> Front:
    """The frontier of a problem; the certificate of every point is checked.

    Args:
        against: one or two resources.
        count: limits that are tried; for two resources as many in each as make at least that many pairs.
        effort: its time limit is of the whole sweep, its gap of one question. A time limit and Ctrl-C give the frontier
            so far.

    Raises:
        UsageError: what is asked for makes no sense for this problem, or there is no such solver.
        PlanError, ProfileError: the problem does not check.
        VerificationError: a certificate does not hold: a fault of the solver.
    """
    since = time.perf_counter()
    search = _Sweep(problem, _checked(problem, against, count), solver, effort)
    stop = search.run(count, progress)
    front = search.front(stop)
    for point in front.points:
        Solved(problem, point.budget, point.solution).check()
    return replace(front, seconds=time.perf_counter() - since)


def _checked(problem: Problem, against: Sequence[str], count: int) -> tuple[str, ...]:
    known = ", ".join(RESOURCES)
    if not 1 <= len(against) <= 2 or len(set(against)) != len(against):
        raise UsageError(f"a frontier is against one resource or two, not {list(against)}", hint=f"choose of {known}")
    if unknown := [r for r in against if r not in RESOURCES]:
        raise UsageError(f"there is no resource {unknown[0]!r}", hint=f"choose of {known}")
    if count < 2:
        raise UsageError(f"{count} limits make no curve", hint="try at least 2")
    if RESOURCES[-1] in against and not problem.ram:
        raise UsageError("the problem says nothing of RAM", hint="choose latency or flash")
    return tuple(against)


class _Sweep:
    """What a sweep knows so far: plans, each once, and bounds."""

    def __init__(self, problem: Problem, against: tuple[str, ...], solver: str, effort: Effort) -> None:
        self._problem, self._against, self._until, self._gap = problem, against, effort.deadline(), effort.gap
        self._solver = get_solver(solver)
        self._evaluator = Evaluator(problem)
        self._floor = Floor(self._evaluator)
        self._graph = factors_of(self._evaluator)
        self._plans: dict[tuple[int, ...], Solution] = {}
        self._budgets: list[Budget] = []
        self._asked = self._wanted = 0
        self._widest = self._know(self._evaluator.full_levels, self._solver.name)
        self._reference = Budget(**{r: self._cost(self._widest, r) for r in against})
        if nothing := [r for r, v in self._reference.to_json().items() if not v > 0]:
            raise UsageError(f"the widest plan costs no {nothing[0]}", hint="choose another resource")
        # Whatever the limits are, no plan retains more than the widest.
        self._proven = [Proven.of(self._reference, self._widest.saliency, Witness(()))]
        self._dual = Dual(self._evaluator, self._reference, self._graph, check=lambda: None)

    def run(self, count: int, progress: Progress) -> Stop | None:
        """Ask about all limits; why it stopped before, if it did."""
        self._smallest = self._floor.smallest(until=self._until)
        pairs = len(self._against) > 1
        side = math.ceil(math.sqrt(count)) if pairs else count
        self._least_costs(side)
        first = self._against[0]
        limits = coarse_to_fine(self._between(self._smallest[first], self._cost(self._widest, first), side))
        self._wanted = side * side if pairs else len(limits)
        try:
            self._ask([{first: limit} for limit in limits], progress)
            if pairs:
                inner = self._inside(limits, side)
                self._wanted = self._asked + len(inner)
                self._ask(inner, progress)
            self._walk(progress)
        except Halted as halted:
            return halted.stop
        except KeyboardInterrupt:
            return Stop.INTERRUPTED
        return None

    def _inside(self, limits: Sequence[float], side: int) -> list[dict[str, float]]:
        """Limits of the second resource, within each of the first: from the least that a known plan needs there."""
        first, second = self._against
        rows = []
        for limit in limits:
            inside = [p for p in self._plans.values() if Budget(**{first: limit}).fits(self._costs(p))]
            if inside:
                low = min(self._cost(p, second) for p in inside)
                # At the cost of the best plan there, and above, the first limit alone has been asked about.
                high = self._cost(max(inside, key=lambda p: p.saliency), second)
                rows.append((limit, self._between(low, high, side)[:-1]))
        places = coarse_to_fine(range(side))
        return [{first: limit, second: inner[i]} for i in places for limit, inner in rows if i < len(inner)]

    def _between(self, low: float, high: float, count: int) -> list[float]:
        """Limits at equal distances, ascending; those that are the same once."""
        low = max(low, _NOTHING * high)
        return [float(v) for v in np.unique(np.linspace(low, high, count))]

    def _ask(self, questions: Sequence[dict[str, float]], progress: Progress) -> None:
        progress.stage("frontier", len(questions))
        for limits in questions:
            self._budgets.append(budget := Budget(**limits))
            try:
                found = self._solver.solve(self._problem, budget, effort=Effort(self._share(), self._gap))
            except InfeasibleBudgetError:
                # A plan that keeps this limit is known, so the solver gave up: other questions answer this one, too.
                pass
            else:
                self._plans.setdefault(found.widths, found)
                self._learn(budget, found)
                if found.stop is Stop.INTERRUPTED:
                    raise Halted(found.stop)
            self._asked += 1
            progress.advance()

    def _walk(self, progress: Progress) -> None:
        """Where a gap is large, walk to the limit from the best plan inside and from the nearest one above.

        A narrower plan that was found late may retain more than what the solver made of this limit, and grow further.
        Limits are those that were asked about, and what the plans of the frontier cost.
        """
        limits = {*self._budgets, *(p.budget for p in self.front(None).points)}
        order = sorted(limits, key=lambda b: tuple(b.values))
        wide = [b for b in order if self._gap_at(b) > WALKED]
        progress.stage("walking between plans", 2 * len(wide))
        for budget in (*wide, *reversed(wide)):
            self._share()
            incumbent = Incumbent(self._evaluator, budget)
            best = self._best(budget)
            if best is not None:
                incumbent.offer(self._levels(best))
            above = (p for p in self._plans.values() if not budget.fits(self._costs(p)))
            nearest = min(above, key=lambda p: float(budget.violation(self._costs(p))), default=None)
            for start in filter(None, (best, nearest)):
                incumbent.polish(self._levels(start))
            if incumbent.levels is not None:
                self._know(incumbent.levels, LOCAL_SEARCH)
            progress.advance()

    def _best(self, budget: Budget) -> Solution | None:
        """The best known plan inside a budget."""
        inside = (p for p in self._plans.values() if budget.fits(self._costs(p)))
        return max(inside, key=lambda p: p.saliency, default=None)

    def _gap_at(self, budget: Budget) -> float:
        best = self._best(budget)
        bound = min(float(p.at(budget.values[None])[0]) for p in self._proven)
        gap = None if best is None else relative_gap(bound, best.saliency)
        return np.inf if gap is None else gap

    def _share(self) -> float | None:
        """Seconds for the next question."""
        if self._until == math.inf:
            return None
        left = self._until - time.perf_counter()
        if left <= 0:
            raise Halted(Stop.TIME_LIMIT)
        return min(left, max(left / max(1, self._wanted - self._asked), LEAST_SHARE_S))

    def _learn(self, budget: Budget, found: Solution) -> None:
        """Keep a bound; of a search that split the problem also what its first prices say alone: it carries farther."""
        if found.bound is None:
            return
        self._proven.append(Proven.of(budget, found.bound, found.witness))
        witness = found.witness
        if witness is None or all(n.multipliers == witness.multipliers for n in witness.nodes()):
            return
        alone = rescaled(Witness(witness.multipliers), budget, self._reference)
        prices = np.zeros(len(self._evaluator.base))
        for row, value in alone.multipliers:
            prices[row] = value
        priced = self._dual.at(prices)
        if priced is not None:
            self._proven.append(Proven.of(self._reference, priced.bound, alone))

    def _least_costs(self, directions: int) -> None:
        """Plans of least cost, in mixtures of the resources if there are two.

        A peak is the largest of its rows, so its weight goes where it is largest: multiplicative weights (Arora et al.
        2012), a few rounds of them.
        """
        rows = [self._rows_of(r) for r in self._against]
        for share in np.linspace(1, 0, directions) if len(rows) > 1 else [1.0]:
            mixtures = [np.full(len(r), 1 / len(r)) for r in rows]
            for _ in range(_PEAK_ROUNDS if any(len(r) > 1 for r in rows) else 1):
                weights = np.zeros(len(self._evaluator.base))
                for r, mixture, name, part in zip(rows, mixtures, self._against, (share, 1 - share), strict=False):
                    weights[r] += part * mixture / getattr(self._reference, name)
                plan = self._know(self._floor.minimise(weights), LEAST_COST)
                costs = self._evaluator.costs(np.array([plan.widths], dtype=np.int64))[0]
                for r, mixture in zip(rows, mixtures, strict=True):
                    mixture *= np.exp(_PEAK_STEP * costs[r] / max(costs[r].max(), 1e-300))
                    mixture /= mixture.sum()

    def _rows_of(self, resource: str) -> NDArray[np.int64]:
        at = RESOURCES.index(resource)
        return np.arange(at, at + 1 if at < len(ADDITIVE) else len(self._evaluator.base))

    def _know(self, levels: Sequence[int], method: str) -> Solution:
        plan = self._evaluator.solution(levels, method)
        return self._plans.setdefault(plan.widths, plan)

    def _levels(self, plan: Solution) -> list[int]:
        return [c.levels.index(w) for c, w in zip(self._problem.choices, plan.widths, strict=True)]

    def _costs(self, plan: Solution) -> Array:
        """In all resources; a peak is its only row."""
        return np.array([self._cost(plan, r) for r in RESOURCES])

    @staticmethod
    def _cost(plan: Solution, resource: str) -> float:
        return float(getattr(plan, resource) or 0.0)

    def front(self, stop: Stop | None) -> Front:
        """The frontier of what is known."""
        plans = list(self._plans.values())
        costs = np.array([[self._cost(p, r) for r in self._against] for p in plans])
        chosen = non_dominated(costs, np.array([p.saliency for p in plans]))
        least = np.array([_NOTHING * getattr(self._reference, r) for r in self._against])
        budgets = [
            Budget(**dict(zip(self._against, np.maximum(costs[i], least).tolist(), strict=True))) for i in chosen
        ]
        bounds = np.array([p.at(np.array([b.values for b in budgets])) for p in self._proven])
        points = []
        for place, (i, budget) in enumerate(zip(chosen, budgets, strict=True)):
            best = int(bounds[:, place].argmin())
            plan, bound = plans[i], max(float(bounds[best, place]), plans[i].saliency)
            points.append(Point(budget, replace(plan, bound=bound, witness=self._proven[best].moved(budget))))
        bends = knees(costs[chosen], np.array([plans[i].saliency for i in chosen]))
        return Front(
            self._problem,
            self._solver.name,
            self._against,
            tuple(replace(p, knee=i in bends) for i, p in enumerate(points)),
            self._widest,
            self._smallest,
            self._floor.exact,
            tuple(self._proven),
            self._asked,
            self._wanted,
            stop,
        )


def coarse_to_fine(items: Sequence[Any]) -> list[Any]:
    """The ends, the last first, then the middle, then the middles between: any beginning of it spans the whole."""
    return [items[i] for i in _spread(len(items))]


def _spread(n: int) -> Iterator[int]:
    if n < 1:
        return
    yield n - 1
    if n > 1:
        yield 0
    spans = [(0, n - 1)]
    while spans:
        low, high = spans.pop(0)
        if high - low > 1:
            yield (middle := (low + high) // 2)
            spans += [(low, middle), (middle, high)]
