"""Local search over widths: one point, its moves, and the descent and ascent that every heuristic is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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

    Only the tables that a changed choice touches are evaluated again, and the cost curve of a choice
    is kept until a choice that shares a table with it moves.
    """

    def __init__(self, evaluator: Evaluator, levels: Sequence[int]) -> None:
        self.evaluator = evaluator
        self.levels = list(levels)
        self._at = np.array(levels, dtype=np.int64)
        self._rows = evaluator.piece_rows
        self._values = [evaluator.piece_costs(piece, self._at[None])[0] for piece in range(len(evaluator.pieces))]
        self._deltas: dict[int, NDArray[np.float64]] = {}

    @property
    def costs(self) -> NDArray[np.float64]:
        """Shape (rows,): latency in ms, flash in bytes, bytes of each step."""
        total = self.evaluator.base.copy()
        for rows, values in zip(self._rows, self._values, strict=True):
            total[rows] += values
        return total

    @property
    def saliency(self) -> float:
        return float(sum(s[k] for s, k in zip(self.evaluator.saliencies, self.levels, strict=True)))

    def deltas(self, choice: int) -> NDArray[np.float64]:
        """What the network's costs change by if ``choice`` alone moves to each of its levels: (levels, rows)."""
        if choice not in self._deltas:
            moved = np.repeat(self._at[None], self.evaluator.sizes[choice], axis=0)
            moved[:, choice] = np.arange(len(moved))
            change = np.zeros((len(moved), len(self.evaluator.base)))
            for piece in self.evaluator.touching[choice]:
                change[:, self._rows[piece]] += self.evaluator.piece_costs(piece, moved) - self._values[piece]
            self._deltas[choice] = change
        return self._deltas[choice]

    def gains(self, choice: int) -> NDArray[np.float64]:
        """What saliency changes by if ``choice`` alone moves to each of its levels: (levels,)."""
        saliency = self.evaluator.saliencies[choice]
        gain: NDArray[np.float64] = saliency - saliency[self.levels[choice]]
        return gain

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
        after = self._at[None].copy()
        gain = 0.0
        for choice, level in moves:
            after[0, choice] = level
            gain += float(self.gains(choice)[level])
        change = np.zeros(len(self.evaluator.base))
        for piece in {t for choice, _ in moves for t in self.evaluator.touching[choice]}:
            change[self._rows[piece]] += self.evaluator.piece_costs(piece, after)[0] - self._values[piece]
        return change, gain

    def move(self, *moves: tuple[int, int]) -> None:
        """Bring choices to levels."""
        for choice, level in moves:
            self.levels[choice] = level
            self._at[choice] = level
        for choice, _ in moves:
            for piece in self.evaluator.touching[choice]:
                self._values[piece] = self.evaluator.piece_costs(piece, self._at[None])[0]
            for other in self.evaluator.neighbours[choice]:
                self._deltas.pop(other, None)


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
        best = max(_removing(point, limits, held), key=lambda found: found[:2], default=None)
        if best is None:
            return None
        point.move(*best[2])
        steps += 1
    return steps


def _removing(point: Point, limits: Budget, held: frozenset[int]) -> Iterator[tuple[float, float, Moves]]:
    """Moves that remove violation: (removed / saliency lost, removed, the move), wider levels first."""
    costs = point.costs
    violation = float(limits.violation(costs))

    def rated(removed: float, loss: float, moves: Moves) -> Iterator[tuple[float, float, Moves]]:
        if removed > _NOISE * (1 + violation):
            yield np.inf if loss <= 0 else removed / loss, removed, moves

    for choice in sorted(set(range(len(point.levels))) - held):
        removed = violation - limits.violation(costs + point.deltas(choice))
        loss = -point.gains(choice)
        for level in reversed(point.allowed(choice)):
            yield from rated(float(removed[level]), float(loss[level]), ((choice, level),))
    for moves in point.block_moves(gone=True):
        if held.isdisjoint(choice for choice, _ in moves):
            change, gain = point.change(moves)
            yield from rated(violation - float(limits.violation(costs + change)), -gain, moves)


def improve(point: Point, limits: Budget) -> int:
    """Grow back what still fits, largest gain of saliency first, until no change of one choice or block is better.

    Args:
        point: a feasible point.

    Returns:
        Steps taken.
    """
    steps = 0
    while True:
        costs = point.costs
        best: tuple[float, Moves] | None = None
        for choice in range(len(point.levels)):
            gain = point.gains(choice)
            if gain[-1] <= 0:
                continue
            fits = limits.fits(costs + point.deltas(choice))
            for level in point.allowed(choice):
                if fits[level] and gain[level] > 0 and (best is None or gain[level] > best[0]):
                    best = (float(gain[level]), ((choice, level),))
        for moves in point.block_moves(gone=False):
            change, gained = point.change(moves)
            if gained > 0 and limits.fits(costs + change) and (best is None or gained > best[0]):
                best = (gained, moves)
        if best is None:
            return steps
        point.move(*best[1])
        steps += 1


def trade(point: Point, limits: Budget) -> Point:
    """Give a whole block for channels elsewhere, or channels for a block, as long as that retains more saliency.

    Args:
        point: a feasible point that cannot be improved.
    """
    while True:
        best = point
        for moves in (*point.block_moves(gone=True), *point.block_moves(gone=False)):
            tried = Point(point.evaluator, point.levels)
            tried.move(*moves)
            if reduce(tried, limits, held=frozenset(choice for choice, _ in moves)) is None:
                continue
            improve(tried, limits)
            if tried.saliency > best.saliency + _NOISE:
                best = tried
        if best is point:
            return point
        point = best
