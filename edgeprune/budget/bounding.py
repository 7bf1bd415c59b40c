"""Branch and bound over the Lagrangian dual.

A box of plans is bounded by its dual. Levels that no plan better than the best one known can have at those prices are
taken away (Lagrangian probing, or reduced-cost fixing by max-marginals), which shrinks every table; what is left is
split at a choice on which the two plans disagree that hold up the dual's lowest point. With enough boxes that ends at
the optimum, or at the proof that no plan keeps the budget, whatever the tables look like; stopped before, the largest
bound of the boxes left is still one.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.dual import Dual, Pool, Priced
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.factors import Array, Factors, factors_of
from edgeprune.budget.incumbent import Incumbent
from edgeprune.budget.problem import Budget, Stop
from edgeprune.budget.witness import Levels, Witness

ROOT_EVALUATIONS, BOX_EVALUATIONS = 60, 12
POLISHED = 4
"""Plans of the dual that are walked into the budget."""
_SHRUNK = 0.85
"""A box of which this share of levels is left is bounded again before it is split."""
NOISE = 1e-10


class Halted(Exception):
    """The search has to stop; carries why."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.value)
        self.stop = stop


@dataclass(slots=True)
class Proof:
    """A :class:`Witness` while it grows."""

    multipliers: Array
    weight: float = 1.0
    removed: Levels = ()
    branch: int | None = None
    parts: tuple[tuple[int, ...], ...] = ()
    children: list[Proof] = field(default_factory=list)

    def frozen(self) -> Witness:
        # Boxes lie deep inside of one another: no recursion.
        order, stack = [], [self]
        while stack:
            order.append(proof := stack.pop())
            stack += proof.children
        done: dict[int, Witness] = {}
        for p in reversed(order):
            priced = tuple((int(r), float(p.multipliers[r])) for r in np.flatnonzero(p.multipliers))
            done[id(p)] = Witness(
                priced, p.weight, p.removed, p.branch, p.parts, tuple(done[id(c)] for c in p.children)
            )
        return done[id(self)]


@dataclass(slots=True)
class Box:
    """Plans whose levels are all offered by ``graph``, with the bound and prices of the box it was cut from."""

    bound: float
    graph: Factors
    prices: Array
    proof: Proof


class Search:
    """One search for the best plan of a problem inside a budget.

    Attributes:
        incumbent: the best plan so far.
        bound: no plan inside the budget retains more. -inf once it is proven that there is none.
        boxes: that were bounded.
    """

    def __init__(
        self, evaluator: Evaluator, limits: Budget, *, deadline: float = np.inf, precision: float = 0.0
    ) -> None:
        """
        Args:
            deadline: of :func:`time.perf_counter`, in seconds.
            precision: relative gap at which a box is good enough.
        """
        self.evaluator, self.limits = evaluator, limits
        self.incumbent = Incumbent(evaluator, limits)
        self.boxes = 0
        self._deadline, self._precision = deadline, precision
        self._pool = Pool()
        least = sum(float(s[0]) for s in evaluator.saliencies)
        most = sum(float(s[-1]) for s in evaluator.saliencies)
        self._magnitude = max(abs(least), abs(most)) or 1.0
        self._worst = least - NOISE * self._magnitude
        rows = len(evaluator.base)
        self.root = Proof(np.zeros(rows))
        self._open: list[tuple[float, int, Box]] = []
        self._count = 0
        self._current: Box | None = None
        self._bounded: tuple[Dual, Priced, list[Priced]] | None = None
        self._closed = -np.inf
        self._start = np.zeros(rows)

    @property
    def cutoff(self) -> float:
        """A box whose bound is not above it needs no further look."""
        if self.incumbent.levels is None:
            return self._worst
        saliency = self.incumbent.saliency
        return max(saliency + self._precision * abs(saliency), self._noise(saliency))

    def _noise(self, saliency: float) -> float:
        """What differs from this by the order of a sum, at most."""
        return saliency + NOISE * self._magnitude

    @property
    def bound(self) -> float:
        left = [b.bound for _, _, b in self._open] + ([self._current.bound] if self._current else [])
        return max([self.incumbent.saliency, self._closed, *left])

    @property
    def infeasible(self) -> bool:
        """Whether it is proven that no plan keeps the budget."""
        return self.incumbent.levels is None and self.bound < self._worst

    @property
    def witness(self) -> Witness:
        """The proof of :attr:`bound`."""
        return self.root.frozen()

    def check(self) -> None:
        if time.perf_counter() > self._deadline:
            raise Halted(Stop.TIME_LIMIT)

    def bound_alone(self) -> Stop:
        """Bound the whole problem, and nothing else: what a plan that was found elsewhere needs."""
        try:
            box = self._begin()
            self.check()
            dual = Dual(self.evaluator, self.limits, box.graph, check=self.check)
            precision = 1e-5 * self._magnitude
            best, _ = dual.minimise(
                box.prices, (), cutoff=self.cutoff, evaluations=ROOT_EVALUATIONS, precision=precision, seen=self._note
            )
            if best is None or best.weight == 0:
                self._close(-np.inf)
        except Halted as halted:
            return halted.stop
        except KeyboardInterrupt:
            return Stop.INTERRUPTED
        return Stop.OPTIMAL if self.bound <= self.cutoff else Stop.HEURISTIC

    def _begin(self) -> Box:
        most = float(sum(s[-1] for s in self.evaluator.saliencies))
        self._current = Box(most, Factors((), (), (), (), ()), self._start, self.root)
        self._count = 1
        self._current.graph = factors_of(self.evaluator)
        return self._current

    def _note(self, plan: Priced) -> None:
        """A bound of the box under way counts as soon as it is known: the search may be stopped at any moment."""
        box = self._current
        if box is not None and plan.weight and plan.bound < box.bound:
            box.bound, box.proof.multipliers = plan.bound, plan.prices

    def run(self, *, boxes: int, advance: Callable[[], None] = lambda: None) -> Stop:
        """Search until the best plan is proven, or ``boxes`` are bounded, or the time is up, or Ctrl-C.

        Calling it again goes on.
        """
        try:
            if not self._count:
                self._begin()
            while self._current is not None or self._open:
                if self._current is None:
                    self._current = heapq.heappop(self._open)[2]
                if self._current.bound <= self.cutoff and self.boxes:
                    self._close(self._current.bound)
                    continue
                if self.boxes >= boxes:
                    return Stop.NODE_LIMIT
                if self._bounded is not None:
                    bounded, self._bounded = self._bounded, None
                    self._shrink(self._current, *bounded)
                    continue
                self.boxes += 1
                self._look(self._current)
                advance()
        except Halted as halted:
            return halted.stop
        except KeyboardInterrupt:
            return Stop.INTERRUPTED
        proven = self.incumbent.levels is None or self.bound <= self._noise(self.incumbent.saliency)
        return Stop.OPTIMAL if proven else Stop.GAP

    def _close(self, bound: float) -> None:
        self._closed = max(self._closed, bound)
        self._current = self._bounded = None

    def _look(self, box: Box) -> None:
        """Bound a box, and close it if that is enough; else what is left of it is looked at when its turn comes."""
        first = self.boxes == 1
        single = all(len(o) == 1 for o in box.graph.offered)
        if single:
            return self._settle(box)
        dual = Dual(self.evaluator, self.limits, box.graph, check=self.check)
        known = self._pool.inside(box.graph, self.evaluator.sizes)
        precision = 1e-6 * self._magnitude
        if self.incumbent.levels is not None:
            precision = max(precision * 1e-2, 0.02 * (box.bound - self.cutoff))
        best, met = dual.minimise(
            box.prices,
            known,
            cutoff=self.cutoff,
            evaluations=ROOT_EVALUATIONS if first else BOX_EVALUATIONS,
            precision=precision,
            seen=self._note,
        )
        for plan in met:
            if dual.tree.exact or plan.weight == 0:
                self._pool.add(plan)
            self.incumbent.offer(plan.levels)
        if best is None:
            return self._close(-np.inf)
        if best.weight == 0:
            box.proof.multipliers, box.proof.weight = best.prices, 0.0
            return self._close(-np.inf)
        if first and best.bound > self.cutoff:
            self._first_plans(met)
        if best.bound <= self.cutoff:
            return self._close(best.bound)
        self._bounded = dual, best, [*known, *met]

    def _first_plans(self, met: Sequence[Priced]) -> None:
        """Plans inside the budget from those that the dual met on its way."""
        promising = sorted({p.levels: p for p in met if p.weight}.values(), key=lambda p: p.bound)
        better = False
        for plan in promising[:POLISHED]:
            self.check()
            better |= self.incumbent.polish(plan.levels, plan.prices, until=self._deadline)
        # Where no walk comes into the budget, as between steps of RAM that peak alike, one goes up from inside.
        lean = [p.levels for p in met if not p.weight]
        inside = lean[-1:] if self.incumbent.levels is None else [self.incumbent.levels]
        for levels in () if better else inside:
            self.incumbent.polish(levels, until=self._deadline)

    def _shrink(self, box: Box, dual: Dual, best: Priced, plans: Sequence[Priced]) -> None:
        """Take away levels of no use; then bound what is left again, or split it."""
        worths = dual.worths(best)
        keep = [w > self.cutoff for w in worths]
        before = sum(map(len, keep))
        after = sum(int(k.sum()) for k in keep)
        proof, graph = box.proof, box.graph
        if after < before:
            gone = [(c, ~k) for c, k in enumerate(keep) if not k.all()]
            self._closed = max(self._closed, *(float(worths[c][g].max()) for c, g in gone))
            proof.removed = tuple((c, tuple(int(o) for o in graph.offered[c][g])) for c, g in gone)
            if any(not k.any() for k in keep):
                # No level of a choice is left: what was removed is all there is.
                proof.removed = tuple(r for r in proof.removed if not keep[r[0]].any())[:1]
                self._current = None
                return
            graph = graph.restrict(keep)
            proof.children.append(Proof(best.prices))
            proof = proof.children[0]
        rest = Box(box.bound, graph, best.prices, proof)
        self._current = rest
        if after <= _SHRUNK * before or after == len(keep):
            return
        self._split(rest, plans)

    def _split(self, box: Box, plans: Sequence[Priced]) -> None:
        choice, low = self._where(box, plans)
        offered = box.graph.offered[choice]
        masks: list[NDArray[np.bool_]] = [np.arange(len(offered)) < low, np.arange(len(offered)) >= low]
        everything = [np.ones(len(o), dtype=bool) for o in box.graph.offered]
        box.proof.branch = choice
        box.proof.parts = tuple(tuple(int(k) for k in offered[m]) for m in masks)
        boxes = []
        for mask in masks:
            proof = Proof(box.prices)
            box.proof.children.append(proof)
            graph = box.graph.restrict([*everything[:choice], mask, *everything[choice + 1 :]])
            boxes.append(Box(box.bound, graph, box.prices, proof))
        # The part with the wider levels first: plans there retain more.
        for other in boxes[:-1]:
            self._count += 1
            heapq.heappush(self._open, (-other.bound, self._count, other))
        self._current = boxes[-1]

    def _where(self, box: Box, plans: Sequence[Priced]) -> tuple[int, int]:
        """The choice to split and how many of its levels go into the lower part."""
        inside = [p for p in plans if p.weight and self._offers(box.graph, p)]
        inside.sort(key=lambda p: p.saliency - float(box.prices @ p.excess), reverse=True)
        over = next((p for p in inside if p.excess.max() > 0), None)
        under = next((p for p in inside if p.excess.max() <= 0), None)
        pair = [over, under] if over is not None and under is not None else inside[:2]
        best: tuple[float, int, int] | None = None
        if len(pair) == 2:
            for c, offered in enumerate(box.graph.offered):
                a, b = sorted((pair[0].levels[c], pair[1].levels[c]))
                if a == b:
                    continue
                saliency = self.evaluator.saliencies[c]
                apart = float(saliency[b] - saliency[a]) + NOISE * len(offered)
                middle = int(np.searchsorted(offered, (a + b + 1) // 2))
                low = min(max(middle, int(np.searchsorted(offered, a)) + 1), int(np.searchsorted(offered, b)))
                if best is None or apart > best[0]:
                    best = (apart, c, low)
        if best is not None:
            return best[1], best[2]
        sizes = [len(o) for o in box.graph.offered]
        choice = int(np.argmax(sizes))
        return choice, sizes[choice] // 2

    @staticmethod
    def _offers(graph: Factors, plan: Priced) -> bool:
        return all(bool((o == k).any()) for o, k in zip(graph.offered, plan.levels, strict=True))

    def _settle(self, box: Box) -> None:
        """A box of one plan."""
        levels = [int(o[0]) for o in box.graph.offered]
        widths = np.array([self.evaluator.widths(levels)], dtype=np.int64)
        costs = self.evaluator.costs_at(levels)
        box.proof.multipliers, box.proof.weight = np.zeros(len(costs)), 1.0
        if self.evaluator.whole_blocks(widths)[0]:
            self.incumbent.offer(levels)
            if not self.limits.fits(costs):
                worst = int((costs / self.limits.of_rows(len(costs))).argmax())
                box.proof.multipliers[worst], box.proof.weight = 1.0, 0.0
        self._close(-np.inf)
