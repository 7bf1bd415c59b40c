"""Evaluation of a choice of widths: its cost and its retained saliency, computed nowhere else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.check import check_problem
from edgeprune.budget.interpolate import interpolate, tabulate
from edgeprune.budget.problem import ADDITIVE, Axis, Budget, Problem, Row, Solution, Stop, Table, Term
from edgeprune.budget.witness import Witness
from edgeprune.errors import PlanError

MAX_TABLE = 1 << 17
"""Combinations of totals whose costs are kept."""

Counts = tuple[tuple[int, int], ...]
"""Choices and how often the width of each counts, ascending."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Parts that depend on the same totals, together.

    Attributes:
        scope: the choices that it depends on.
        totals: indices of :attr:`Evaluator.totals`, ascending: the dimensions of its table.
        parts: indices of :attr:`Evaluator.parts`.
        rows: that it counts in, ascending.
    """

    scope: tuple[int, ...]
    totals: tuple[int, ...]
    parts: tuple[int, ...]
    rows: tuple[int, ...]


class Evaluator:
    """Evaluates a checked problem. Costs are arrays with one place for each row: latency, flash, the steps of RAM.

    What costs something is a *part*: a term, or one table of a step of RAM. It depends on the *totals* of its axes:
    one choice, or several whose widths add up.

    Attributes:
        parts: terms and tables of RAM; all have axes and grids.
        rows_of: for each part the rows it counts in.
        values: for each part its tables, one after the other on the last axis: (…, len(rows_of)).
        totals: what adds up in each; total i is choice i for the first of them.
        total_widths: the widths of each: of a choice its levels, of others every number from the least on.
        orders: of each the choices in the order in which an axis has them.
        pieces: the parts by the totals that they depend on.
        row_names: what a row is called.
        touching: for each choice the pieces that depend on it.
        touched: for each piece the choices that it depends on, and its place in ``touching`` of each.
        rows_touched: for each choice the rows that it counts in, and the places in ``touching`` of the pieces that
            count in all of these and no others.
        counting: for each choice the totals that it counts in, and how often.
        neighbours: for each choice the choices (itself included) that share a piece with it.
        sizes: how many levels each choice has.
        narrowest: for each choice the index of its smallest width that is not 0.
    """

    def __init__(self, problem: Problem, limits: Budget | None = None) -> None:
        """
        Args:
            limits: where they leave RAM free there are no rows for it; None: all rows there are.

        Raises what :func:`check_problem` raises.
        """
        check_problem(problem)
        self.problem = problem
        self.levels = tuple(np.asarray(c.levels, dtype=np.int64) for c in problem.choices)
        self.saliencies = tuple(np.asarray(c.saliency, dtype=np.float64) for c in problem.choices)
        self.sizes = tuple(len(c.levels) for c in problem.choices)
        first = len(ADDITIVE)
        self._steps = problem.ram if limits is None or limits.ram_bytes is not None else ()
        tables = [(first + i, t) for i, row in enumerate(self._steps) for t in row.tables]
        self.parts: tuple[Term | Table, ...] = (*problem.terms, *(t for _, t in tables))
        self.rows_of = (*(tuple(range(first)) for _ in problem.terms), *((row,) for row, _ in tables))
        self.values = (
            *(np.stack([getattr(t, r) for r in ADDITIVE], axis=-1) for t in problem.terms),
            *(np.asarray(t.values, dtype=np.float64)[..., None] for _, t in tables),
        )
        self.row_names = (*ADDITIVE, *(f"ram_bytes in {row.name}" for row in self._steps))
        self.base = np.array([*(getattr(problem, f"base_{r}") for r in ADDITIVE), *(row.base for row in self._steps)])
        in_blocks = {c for block in problem.blocks for c in block}
        self.narrowest = tuple(int(c in in_blocks) for c in range(len(self.sizes)))
        self._add_up()

    def _add_up(self) -> None:
        """Totals and pieces."""
        count = len(self.sizes)
        known: dict[Counts, int] = {((c, 1),): c for c in range(count)}
        self._axes = [[_counted(axis, known) for axis in spec.axes] for spec in self.parts]
        self.totals = tuple(known)
        orders: dict[int, tuple[int, ...]] = {}
        for spec, axes in zip(self.parts, self._axes, strict=True):
            for axis, (total, _) in zip(spec.axes, axes, strict=True):
                orders.setdefault(total, axis.choices)
        self.orders = tuple(orders.get(t, (t,)) for t in range(len(self.totals)))
        self.total_widths = (*self.levels, *(self._range(counts) for counts in self.totals[count:]))
        together: dict[tuple[int, ...], list[int]] = {}
        for part, axes in enumerate(self._axes):
            together.setdefault(tuple(sorted({total for total, _ in axes})), []).append(part)
        self.pieces = tuple(
            Piece(
                tuple(sorted({c for t in totals for c, _ in self.totals[t]})),
                totals,
                tuple(parts),
                tuple(sorted({r for p in parts for r in self.rows_of[p]})),
            )
            for totals, parts in together.items()
        )
        self._piece_rows = np.array([r for piece in self.pieces for r in piece.rows], dtype=np.int64)
        self._tables: dict[int, NDArray[np.float64]] = {}
        touching: list[list[int]] = [[] for _ in range(count)]
        for i, piece in enumerate(self.pieces):
            for c in piece.scope:
                touching[c].append(i)
        self.touching = tuple(map(tuple, touching))
        self.touched = tuple(
            tuple((c, self.touching[c].index(i)) for c in piece.scope) for i, piece in enumerate(self.pieces)
        )
        self.rows_touched = tuple(map(self._by_rows, self.touching))
        counting: list[list[tuple[int, int]]] = [[] for _ in range(count)]
        for total, counts in enumerate(self.totals):
            for c, times in counts:
                counting[c].append((total, times))
        self.counting = tuple(map(tuple, counting))
        self.neighbours = tuple(
            frozenset({c}.union(*(self.pieces[i].scope for i in pieces))) for c, pieces in enumerate(self.touching)
        )

    def _by_rows(self, pieces: Sequence[int]) -> tuple[tuple[list[int], list[int]], ...]:
        by_rows: dict[tuple[int, ...], list[int]] = {}
        for k, i in enumerate(pieces):
            by_rows.setdefault(self.pieces[i].rows, []).append(k)
        return tuple((list(rows), at) for rows, at in by_rows.items())

    def _range(self, counts: Counts) -> NDArray[np.int64]:
        ends = [sum(times * int(self.levels[c][end]) for c, times in counts) for end in (0, -1)]
        return np.arange(ends[0], ends[1] + 1)

    @property
    def full_levels(self) -> tuple[int, ...]:
        """Indices of the full levels."""
        return tuple(n - 1 for n in self.sizes)

    def whole_blocks(self, widths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each width that is 0 lies in a block of which all are: (n, choices) -> (n,)."""
        gone = widths == 0
        explained = np.zeros_like(gone)
        for block in map(list, self.problem.blocks):
            explained[:, block] |= gone[:, block].all(axis=1)[:, None]
        whole: NDArray[np.bool_] = (explained | ~gone).all(axis=1)
        return whole

    def widths(self, levels: Sequence[int]) -> tuple[int, ...]:
        """Level indices -> widths."""
        return tuple(int(self.levels[c][k]) for c, k in enumerate(levels))

    def part_costs(self, part: int, widths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Costs of one part in its own rows, at n choices of widths: (n, choices) -> (n, len(rows_of))."""
        spec = self.parts[part]
        totals = [a.base + widths[:, list(a.choices)].sum(axis=1) for a in spec.axes]
        return interpolate(spec.grids, self.values[part], totals)

    def at(self, levels: Sequence[int]) -> list[int]:
        """Level indices -> for each total the index of its width."""
        added = [
            sum(times * int(self.levels[c][levels[c]]) for c, times in counts) - int(widths[0])
            for counts, widths in zip(self.totals[len(levels) :], self.total_widths[len(levels) :], strict=True)
        ]
        return [*map(int, levels), *added]

    def piece_costs(self, piece: int, at: Sequence[int | NDArray[np.int64]]) -> NDArray[np.float64]:
        """Costs of one piece in its own rows: (len(rows),), or (n, len(rows)) where an index is an array (n,).

        Args:
            at: for each of the piece's totals the index of its width.
        """
        spec = self.pieces[piece]
        if math.prod(len(self.total_widths[t]) for t in spec.totals) > MAX_TABLE:
            return self._interpolated(spec, at)
        if piece not in self._tables:
            self._tables[piece] = self._tabulated(spec)
        found: NDArray[np.float64] = self._tables[piece][tuple(at)]
        return found

    def _tabulated(self, piece: Piece) -> NDArray[np.float64]:
        shape = [len(self.total_widths[t]) for t in piece.totals]
        table = np.zeros((*shape, len(piece.rows)))
        for part in piece.parts:
            columns = [piece.rows.index(r) for r in self.rows_of[part]]
            table[..., columns] += self.part_table(part, self.total_widths)
        return table

    def _interpolated(self, piece: Piece, at: Sequence[int | NDArray[np.int64]]) -> NDArray[np.float64]:
        spread = np.broadcast_arrays(*at)
        widths = {t: self.total_widths[t][i].ravel() for t, i in zip(piece.totals, spread, strict=True)}
        costs = np.zeros((spread[0].size, len(piece.rows)))
        for part in piece.parts:
            spec, axes = self.parts[part], self._axes[part]
            sums = [a.base + times * widths[t] for a, (t, times) in zip(spec.axes, axes, strict=True)]
            columns = [piece.rows.index(r) for r in self.rows_of[part]]
            costs[:, columns] += interpolate(spec.grids, self.values[part], sums)
        return costs.reshape(*spread[0].shape, -1)

    def part_table(self, part: int, widths: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Costs of one part at all widths of the totals that it depends on, these ascending: (…, len(rows_of)).

        Args:
            widths: of each total, by its index.
        """
        spec, axes = self.parts[part], self._axes[part]
        totals = [total for total, _ in axes]
        if len(set(totals)) == len(totals):
            sums = [a.base + times * widths[t] for a, (t, times) in zip(spec.axes, axes, strict=True)]
            table = tabulate(spec.grids, self.values[part], sums)
            return table.transpose(*np.argsort(totals), table.ndim - 1)
        scope = sorted(set(totals))
        grid = dict(zip(scope, np.meshgrid(*(widths[t] for t in scope), indexing="ij"), strict=True))
        sums = [a.base + times * grid[t].ravel() for a, (t, times) in zip(spec.axes, axes, strict=True)]
        found = interpolate(spec.grids, self.values[part], sums)
        return found.reshape(*(len(widths[t]) for t in scope), -1)

    def totals_of(self, part: int) -> tuple[int, ...]:
        """The totals that a part depends on, ascending."""
        return tuple(sorted({total for total, _ in self._axes[part]}))

    def costs_at(self, levels: Sequence[int]) -> NDArray[np.float64]:
        """Costs of the network at level indices, shape (rows,): :meth:`costs` of one plan, looked up."""
        at = self.at(levels)
        return self.added_up([self.piece_costs(i, [at[t] for t in p.totals]) for i, p in enumerate(self.pieces)])

    def added_up(self, costs: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Costs of each piece in its own rows -> costs of the network, shape (rows,)."""
        if not costs:
            return self.base.copy()
        total: NDArray[np.float64] = self.base + np.bincount(
            self._piece_rows, np.concatenate(costs), minlength=len(self.base)
        )
        return total

    def costs(self, widths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Costs of the network at n choices of widths: (n, choices) -> (n, rows)."""
        total = np.tile(self.base, (len(widths), 1))
        for part, rows in enumerate(self.rows_of):
            total[:, list(rows)] += self.part_costs(part, widths)
        return total

    def ram_bytes(self, widths: Sequence[int]) -> float | None:
        """The peak of one plan; None where the problem knows of no step."""
        return max((_bytes(row, widths) for row in self.problem.ram), default=None)

    def latency_ms(self, widths: Sequence[int]) -> float:
        return float(self.costs(np.array([widths], dtype=np.int64))[0, 0])

    def flash_bytes(self, widths: Sequence[int]) -> float:
        return float(self.costs(np.array([widths], dtype=np.int64))[0, 1])

    def saliency(self, widths: Sequence[int]) -> float:
        """Retained saliency; raises PlanError for a width that is none of its choice's levels."""
        total = 0.0
        for choice, width, saliency in zip(self.problem.choices, widths, self.saliencies, strict=True):
            if width not in choice.levels:
                raise PlanError(f"{choice.name} has no level {width}; it has {choice.levels}")
            total += float(saliency[choice.levels.index(width)])
        return total

    def solution(
        self,
        levels: Sequence[int],
        method: str,
        *,
        steps: int = 0,
        bound: float | None = None,
        stop: Stop = Stop.HEURISTIC,
        witness: Witness | None = None,
        seconds: float = 0.0,
    ) -> Solution:
        """A choice of level indices, evaluated from scratch."""
        widths = self.widths(levels)
        costs = self.costs(np.array([widths], dtype=np.int64))[0]
        return Solution(
            widths,
            self.saliency(widths),
            float(costs[0]),
            float(costs[1]),
            method,
            steps=steps,
            bound=bound,
            ram_bytes=self.ram_bytes(widths),
            stop=stop,
            witness=witness,
            seconds=seconds,
        )


def _counted(axis: Axis, known: dict[Counts, int]) -> tuple[int, int]:
    """The total of an axis, and how many times it counts."""
    counts = Counter(axis.choices)
    times = math.gcd(*counts.values())
    return known.setdefault(tuple(sorted((c, k // times) for c, k in counts.items())), len(known)), times


def _bytes(row: Row, widths: Sequence[int]) -> float:
    total = row.base
    for table in row.tables:
        sums = [np.array([a.base + sum(widths[c] for c in a.choices)]) for a in table.axes]
        total += float(interpolate(table.grids, np.asarray(table.values, dtype=np.float64)[..., None], sums)[0, 0])
    return total
