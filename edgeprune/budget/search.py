"""Local search over widths: one point, its moves, and the descent and ascent that every heuristic is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import Budget

Moves = tuple[tuple[int, int], ...]
"""Choices, and the level each goes to."""

_NOISE = 1e-12
"""Relative rounding of a sum of costs, generously: a gain this small could be undone and done again for ever."""


class Point:
    """A choice of level indices that knows cheaply what changing one choice would cost.

    Only the tables that a changed choice touches are evaluated again: what each piece adds to the cost curve of a
    choice is kept until a choice of that piece moves, so that a step takes no longer in a deeper network, where the
    pieces of one group of widths lie in every block of a stage.
    """

    def __init__(self, evaluator: Evaluator, levels: Sequence[int]) -> None:
        self.evaluator = evaluator
        self.levels = list(levels)
        self._at = evaluator.at(levels)
        self._values = [self._piece(i) for i in range(len(evaluator.pieces))]
        # The levels of all choices one after the other: where each begins, and the choice of each.
        self.first = np.concatenate([[0], np.cumsum(evaluator.sizes)]).astype(np.int64)
        self.choice_of = np.repeat(np.arange(len(levels)), evaluator.sizes)
        self._deltas = np.zeros((len(self.choice_of), len(evaluator.base)))
        # For each choice, what each piece that it touches adds to its curve; and which of these are out of date.
        self._curves: list[list[NDArray[np.float64]]] = [[np.zeros(0)] * len(t) for t in evaluator.touching]
        self._stale = {choice: set(range(len(t))) for choice, t in enumerate(evaluator.touching)}
        self._worth = np.concatenate([*evaluator.saliencies, np.zeros(0)])

    def _piece(self, piece: int) -> NDArray[np.float64]:
        return self.evaluator.piece_costs(piece, [self._at[t] for t in self.evaluator.pieces[piece].totals])

    def copy(self) -> Point:
        other = copy(self)
        other.levels, other._at = self.levels.copy(), self._at.copy()
        other._values, other._deltas = self._values.copy(), self._deltas.copy()
        # Curves themselves are never written to.
        other._curves = [c.copy() for c in self._curves]
        other._stale = {choice: pieces.copy() for choice, pieces in self._stale.items()}
        return other

    @property
    def costs(self) -> NDArray[np.float64]:
        """Shape (rows,): latency in ms, flash in bytes, bytes of each step."""
        return self.evaluator.added_up(self._values)

    @property
    def saliency(self) -> float:
        return float(sum(s[k] for s, k in zip(self.evaluator.saliencies, self.levels, strict=True)))

    def deltas(self, choice: int) -> NDArray[np.float64]:
        """What the network's costs change by if ``choice`` alone moves to each of its levels: (levels, rows)."""
        change = self._deltas[self.first[choice] : self.first[choice + 1]]
        if (stale := self._stale.pop(choice, None)) is not None:
            curves, touching = self._curves[choice], self.evaluator.touching[choice]
            moved = self._moved({choice: np.arange(len(change))})
            for k in stale:
                at = [moved.get(t, self._at[t]) for t in self.evaluator.pieces[touching[k]].totals]
                curves[k] = self.evaluator.piece_costs(touching[k], at) - self._values[touching[k]]
            change[:] = 0.0
            for rows, at_rows in self.evaluator.rows_touched[choice]:
                change[:, rows] += np.add.reduce([curves[k] for k in at_rows])
        return change

    def _moved(self, levels: Mapping[int, NDArray[np.int64]]) -> dict[int, NDArray[np.int64]]:
        """Indices of the totals that change if some choices move to these levels, (n,) each."""
        count = len(self.levels)
        at: dict[int, NDArray[np.int64]] = dict(levels)
        for choice, to in levels.items():
            widths = self.evaluator.levels[choice]
            further = widths[to] - widths[self.levels[choice]]
            for total, times in self.evaluator.counting[choice]:
                if total >= count:
                    at[total] = at.get(total, self._at[total]) + times * further
        return at

    def changes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What costs, (all levels, rows), and saliency, (all levels,), change by if one choice moves to a level.

        The levels of all choices one after the other: ``choice_of`` and ``first`` say which is which.
        """
        for choice in sorted(self._stale):
            self.deltas(choice)
        return self._deltas, self._worth - self._worth[self.first[:-1] + np.array(self.levels, dtype=np.int64)][
            self.choice_of
        ]

    def cell(self, index: int) -> tuple[int, int]:
        """The choice and the level of one of all levels."""
        choice = int(self.choice_of[index])
        return choice, index - int(self.first[choice])

    def gains(self, choice: int) -> NDArray[np.float64]:
        """What saliency changes by if ``choice`` alone moves to each of its levels: (levels,)."""
        saliency = self.evaluator.saliencies[choice]
        gain: NDArray[np.float64] = saliency - saliency[self.levels[choice]]
        return gain

    @property
    def may_move(self) -> NDArray[np.bool_]:
        """Whether the choice of each of all levels may take it alone: :meth:`allowed` for all choices."""
        if not self.evaluator.problem.blocks:
            return np.ones(len(self.choice_of), dtype=bool)
        may = np.zeros(len(self.choice_of), dtype=bool)
        for choice, start in enumerate(self.first[:-1]):
            levels = self.allowed(choice)
            may[start + levels.start : start + levels.stop] = True
        return may

    def allowed(self, choice: int) -> range:
        """Levels that ``choice`` may take alone: to and from 0 goes only a whole block."""
        first = self.evaluator.narrowest[choice]
        return range(1) if self.levels[choice] < first else range(first, self.evaluator.sizes[choice])

    def block_moves(self, gone: bool) -> Iterator[Moves]:
        """For each block that can be removed (``gone``), or put back at its narrowest, the moves that do it."""
        for block in self.evaluator.problem.blocks:
            moves = tuple((c, 0 if gone else 1) for c in block if (self.levels[c] > 0) == gone)
            if not moves or (not gone and len(moves) < len(block)):
                continue
            after = self.levels.copy()
            for choice, level in moves:
                after[choice] = level
            if self.evaluator.whole_blocks(np.array([self.evaluator.widths(after)], dtype=np.int64))[0]:
                yield moves

    def change(self, moves: Moves) -> tuple[NDArray[np.float64], float]:
        """What costs, shape (rows,), and saliency change by if several choices move at once."""
        moved = self._moved({choice: np.array([level]) for choice, level in moves})
        gain = sum(float(self.gains(choice)[level]) for choice, level in moves)
        change = np.zeros(len(self.evaluator.base))
        for i in {t for choice, _ in moves for t in self.evaluator.touching[choice]}:
            piece = self.evaluator.pieces[i]
            at = [moved.get(t, self._at[t]) for t in piece.totals]
            change[list(piece.rows)] += self.evaluator.piece_costs(i, at)[0] - self._values[i]
        return change, gain

    def move(self, *moves: tuple[int, int]) -> None:
        """Bring choices to levels."""
        for choice, level in moves:
            further = int(self.evaluator.levels[choice][level]) - int(
                self.evaluator.levels[choice][self.levels[choice]]
            )
            self.levels[choice] = self._at[choice] = level
            for total, times in self.evaluator.counting[choice]:
                if total >= len(self.levels):
                    self._at[total] += times * further
        for i in {t for choice, _ in moves for t in self.evaluator.touching[choice]}:
            self._values[i] = self._piece(i)
            for choice, k in self.evaluator.touched[i]:
                self._stale.setdefault(choice, set()).add(k)


def reduce(point: Point, limits: Budget, *, held: frozenset[int] = frozenset()) -> int | None:
    """Reduce widths until the budget holds: NetAdapt's rule (Yang et al. 2018), over any number of levels.

    Each step changes one choice, or removes one block, with the best (violation removed) / (saliency lost).
    A move that removes no violation is not taken, however little it loses, and every level of a
    choice is looked at, so neither a plateau nor a staircase nor a width that costs more than a
    larger one stops the walk. A move that loses nothing goes first.

    Args:
        held: choices that stay as they are.

    Returns:
        Steps taken, or None if no single change removes any more violation (``point`` stays there).
    """
    steps = 0
    while not limits.fits(point.costs):
        best = _removing(point, limits, held)
        if best is None:
            return None
        point.move(*best)
        steps += 1
    return steps


def _removing(point: Point, limits: Budget, held: frozenset[int]) -> Moves | None:
    """The move that removes the most violation for what it loses; of equally good ones the one that removes most."""
    costs = point.costs
    violation = float(limits.violation(costs))
    noise = _NOISE * (1 + violation)
    deltas, gains = point.changes()
    removed = violation - limits.violation(costs + deltas)
    usable = point.may_move & (removed > noise)
    if held:
        usable &= ~np.isin(point.choice_of, list(held))
    best: tuple[float, float, Moves] | None = None
    if (at := np.flatnonzero(usable)).size:
        ratio = _ratio(removed[at], -gains[at])
        at = at[ratio == ratio.max()]
        at = at[removed[at] == removed[at].max()]
        # The first choice, and of its levels the widest.
        mine = at[point.choice_of[at] == point.choice_of[at[0]]]
        cell = int(mine[-1])
        best = (float(ratio.max()), float(removed[cell]), (point.cell(cell),))
    for moves in point.block_moves(gone=True):
        if held.isdisjoint(choice for choice, _ in moves):
            change, gain = point.change(moves)
            gone = violation - float(limits.violation(costs + change))
            if gone > noise:
                found = (float(_ratio(np.array(gone), np.array(-gain))), gone, moves)
                best = found if best is None or found[:2] > best[:2] else best
    return None if best is None else best[2]


def _ratio(removed: NDArray[np.float64], loss: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(loss <= 0, np.inf, removed / np.where(loss <= 0, 1.0, loss))


def improve(point: Point, limits: Budget, *, until: float = np.inf) -> int:
    """Grow back what still fits, largest gain of saliency first, until no change of one choice or block is better.

    Args:
        point: a feasible point.
        until: on the clock of :func:`time.perf_counter`: what is not done by then is left.

    Returns:
        Steps taken.
    """
    steps = 0
    while perf_counter() < until:
        costs = point.costs
        deltas, gains = point.changes()
        best: tuple[float, Moves] | None = None
        at = np.flatnonzero(point.may_move & (gains > 0))
        at = at[limits.fits(costs + deltas[at])]
        if at.size:
            cell = int(at[gains[at].argmax()])
            best = (float(gains[cell]), (point.cell(cell),))
        for moves in point.block_moves(gone=False):
            change, gained = point.change(moves)
            if gained > 0 and limits.fits(costs + change) and (best is None or gained > best[0]):
                best = (gained, moves)
        if best is None:
            return steps
        point.move(*best[1])
        steps += 1
    return steps


def trade(point: Point, limits: Budget, *, until: float = np.inf) -> Point:
    """Give a whole block for channels elsewhere, or channels for a block, as long as that retains more saliency.

    Args:
        point: a feasible point that cannot be improved.
        until: as for :func:`improve`.
    """
    while True:
        best = point
        for moves in (*point.block_moves(gone=True), *point.block_moves(gone=False)):
            if perf_counter() >= until:
                return best
            tried = point.copy()
            tried.move(*moves)
            if reduce(tried, limits, held=frozenset(choice for choice, _ in moves)) is None:
                continue
            improve(tried, limits, until=until)
            if tried.saliency > best.saliency + _NOISE:
                best = tried
        if best is point:
            return point
        point = best
