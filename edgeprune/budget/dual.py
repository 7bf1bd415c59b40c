"""The Lagrangian dual of a problem under a budget: its value for given multipliers, and the multipliers of least value.

Each limited row gets a price; the best plan at these prices is found over the whole factor graph at once. Whatever the
prices, that plan's priced value bounds every plan that keeps the budget (Everett 1963; Geoffrion 1974). The least such
bound is found with cutting planes (Kelley 1960), which for one row is the search between two plans of Handler and Zang
(1980); with several rows each step goes half-way from the best prices known (in-out separation, Ben-Ameur and Neto
2007), and rows that no plan has overspent so far have no price.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.factors import Array, Factors, Ints
from edgeprune.budget.prices import lowest
from edgeprune.budget.problem import TOLERANCE, Budget
from edgeprune.budget.tree import Tree

ROUNDING = 1e-13
"""Of the magnitude of what was summed: what a bound is raised by."""
_HALFWAY = 0.5
_GROW = 8.0
SHIFTS, _SHIFTS_AT_ONCE, _AFTER_A_SHIFT = 6, 3, 5
"""Rounds of shifting between copies, shifts in each, and evaluations with prices that follow."""


@dataclass(frozen=True, slots=True)
class Priced:
    """The best plan at some prices.

    Attributes:
        prices: one for each row.
        weight: of saliency; 0 where only costs count.
        bound: the dual's value.
        saliency: of the plan; where buckets were split, that of its copies with what is shifted between them.
        excess: of each row, cost / limit - 1; at most 0 where the limit holds, -1 where there is none.
        levels: indices into each choice's levels.
    """

    prices: Array
    weight: float
    bound: float
    saliency: float
    excess: Array
    levels: tuple[int, ...]


class Pool:
    """Plans that were best at some prices, as cutting planes: D(prices) >= saliency - prices @ excess for each."""

    def __init__(self) -> None:
        self.plans: list[Priced] = []

    def add(self, plan: Priced) -> None:
        self.plans.append(plan)

    def inside(self, graph: Factors, sizes: Sequence[int]) -> list[Priced]:
        """Those whose levels are all offered."""
        if not self.plans:
            return []
        ok = np.ones(len(self.plans), dtype=bool)
        levels = np.array([p.levels for p in self.plans])
        for choice, offered in enumerate(graph.offered):
            if len(offered) < sizes[choice]:
                allowed = np.zeros(sizes[choice], dtype=bool)
                allowed[offered] = True
                ok &= allowed[levels[:, choice]]
        return [p for p, good in zip(self.plans, ok, strict=True) if good]


class Dual:
    """The dual over the levels that a factor graph still offers."""

    def __init__(self, evaluator: Evaluator, limits: Budget, graph: Factors, *, check: Callable[[], None]) -> None:
        """``check`` is called before each evaluation and may raise, to end the search."""
        self.graph = graph
        self.tree = Tree(graph)
        self._check = check
        values = limits.of_rows(len(evaluator.base))
        self.limited: Ints = np.flatnonzero(np.isfinite(values))
        self._inverse = np.where(np.isfinite(values), 1 / (values * (1 + TOLERANCE)), 0.0)
        self._base = evaluator.base * self._inverse
        # Of each row, the factors that count in it; and of all factors' costs, one after the other, the rows.
        self._counting: list[list[tuple[int, Array]]] = [[] for _ in values]
        for i, f in enumerate(graph.factors):
            for k, row in enumerate(f.rows):
                self._counting[row].append((i, f.costs[k]))
        self._rows = np.concatenate([f.rows for f in graph.factors] or [np.zeros(0, np.int64)])
        self.least = float(sum(s[0] for s in graph.saliency))
        self.most = float(sum(s[-1] for s in graph.saliency))
        self.last: Priced | None = None

    def at(self, prices: Array, weight: float = 1.0) -> Priced | None:
        """The best plan at these prices, or None if no combination of levels is allowed at all."""
        self._check()
        per_cost = prices * self._inverse
        priced: list[list[Array]] = [[] if f.value is None else [f.value] for f in self.graph.factors]
        # Of the many rows of RAM few have a price.
        for row in np.flatnonzero(per_cost):
            for i, costs in self._counting[row]:
                priced[i].append(costs * -per_cost[row])
        tables = [
            sum(tables[1:], start=tables[0]) if tables else np.zeros(f.costs.shape[1])
            for tables, f in zip(priced, self.graph.factors, strict=True)
        ]
        tables += [weight * s for s in self.graph.saliency]
        found = self.tree.maximise(tables)
        self._constant = float(prices @ (1 - self._base)) + ROUNDING * (
            weight * max(abs(self.most), abs(self.least)) + 8 * float(prices.sum())
        )
        if found.value == -np.inf:
            self.last = None
            return None
        spent = [f.costs[:, cell] for f, cell in zip(self.graph.factors, found.cells, strict=False)]
        excess: Array = self._base - 1
        if spent:
            weights = np.concatenate(spent) * self._inverse[self._rows]
            excess = excess + np.bincount(self._rows, weights, minlength=len(excess))
        saliency = found.value + float(prices @ (1 - self._base)) + float(prices @ excess)
        levels = tuple(int(o[k]) for o, k in zip(self.graph.offered, found.chosen, strict=True))
        self.last = Priced(prices, weight, found.value + self._constant, saliency, excess, levels)
        return self.last

    def worths(self, plan: Priced) -> list[Array]:
        """For each choice a bound on every plan with each of its offered levels, at the prices of ``plan``."""
        if self.last is not plan:
            self.at(plan.prices, plan.weight)
        return [w + self._constant for w in self.tree.worths()]

    def minimise(
        self,
        start: Array,
        known: Sequence[Priced],
        *,
        cutoff: float,
        evaluations: int,
        precision: float,
        seen: Callable[[Priced], None],
    ) -> tuple[Priced | None, list[Priced]]:
        """Prices of nearly the least bound.

        Args:
            start: prices tried first.
            known: plans of the box, as cutting planes.
            cutoff: a bound at or below it is as good as the least.
            evaluations: at most as many.
            precision: of the bound, absolute.
            seen: told each plan as it is found.

        Returns:
            The best one found, and all plans that were met. None: no combination of levels is allowed.
        """
        best, met = self._cut(start, known, cutoff=cutoff, evaluations=evaluations, precision=precision, seen=seen)
        for _ in range(0 if self.tree.exact else SHIFTS):
            if best is None or best.weight == 0 or best.bound <= cutoff:
                break
            start = best.prices
            if self.last is not best:
                self.at(start)
            for _ in range(_SHIFTS_AT_ONCE):
                self.tree.shift()
                self.at(start)
            known, before = (), best
            found, more = self._cut(
                start, known, cutoff=cutoff, evaluations=_AFTER_A_SHIFT, precision=precision, seen=seen
            )
            met += more
            best = found if found is None or found.weight == 0 or found.bound < best.bound else best
            if best is not None and before.bound - best.bound <= precision:
                break
        return best, met

    def _cut(
        self,
        start: Array,
        known: Sequence[Priced],
        *,
        cutoff: float,
        evaluations: int,
        precision: float,
        seen: Callable[[Priced], None],
    ) -> tuple[Priced | None, list[Priced]]:
        met: list[Priced] = []
        best: Priced | None = None
        prices, limit = start, 4 * max(self.most - self.least, 1e-9)
        for _ in range(evaluations):
            plan = self.at(prices)
            if plan is None:
                return None, met
            met.append(plan)
            seen(plan)
            best = plan if best is None or plan.bound < best.bound else best
            if best.bound <= cutoff:
                break
            cuts = [*known, *met]
            active = [r for r in self.limited if best.prices[r] > 0 or any(c.excess[r] > 0 for c in cuts)]
            if not active:
                break
            model, wanted = self._model(cuts, active, limit)
            while wanted.max() >= limit * (1 - 1e-9) and limit < 1e9 * max(self.most - self.least, 1e-9):
                limit *= _GROW
                if (lean := self._cheapest(wanted, active)) is not None:
                    met.append(lean)
                    if lean.bound < 0:
                        return lean, met
                    cuts.append(lean)
                model, wanted = self._model(cuts, active, limit)
            if best.bound - model <= precision:
                break
            prices = np.zeros_like(start)
            prices[active] = wanted
            if len(active) > 1:
                prices = best.prices + _HALFWAY * (prices - best.prices)
        return best, met

    @staticmethod
    def _model(cuts: Sequence[Priced], active: Sequence[int], limit: float) -> tuple[float, Array]:
        return lowest(np.array([c.saliency for c in cuts]), np.array([c.excess[active] for c in cuts]), limit)

    def _cheapest(self, wanted: Array, active: Sequence[int]) -> Priced | None:
        """The plan of least cost at the mix of prices that grows without bound; a bound below 0 rules out the box."""
        prices = np.zeros(len(self._base))
        prices[list(active)] = wanted / wanted.sum()
        return self.at(prices, 0.0)
