"""Evaluation of a choice of widths: its cost and its retained saliency, computed nowhere else."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.check import check_problem
from edgeprune.budget.interpolate import interpolate
from edgeprune.budget.problem import ADDITIVE, Problem, Solution, Stop, Table, Term
from edgeprune.budget.witness import Witness
from edgeprune.errors import PlanError

MAX_TABLE = 1 << 17
"""Combinations of levels whose costs are kept."""


class Evaluator:
    """Evaluates a checked problem. Costs are arrays with one place for each row: latency, flash, the steps of RAM.

    What costs something is a *part*: a term, or one table of a step of RAM.

    Attributes:
        parts: terms and tables of RAM; all have axes and grids.
        rows_of: for each part the rows it counts in.
        values: for each part its tables, one after the other on the last axis: (…, len(rows_of)).
        pieces: parts that depend on the same choices, together; a scope and the parts for each.
        row_names: what a row is called.
        touching: for each choice the pieces that depend on it.
        neighbours: for each choice the choices (itself included) that share a piece with it.
        sizes: how many levels each choice has.
        narrowest: for each choice the index of its smallest width that is not 0.
    """

    def __init__(self, problem: Problem) -> None:
        """Raises what :func:`check_problem` raises."""
        check_problem(problem)
        self.problem = problem
        self.levels = tuple(np.asarray(c.levels, dtype=np.int64) for c in problem.choices)
        self.saliencies = tuple(np.asarray(c.saliency, dtype=np.float64) for c in problem.choices)
        self.sizes = tuple(len(c.levels) for c in problem.choices)
        first = len(ADDITIVE)
        tables = [(first + i, t) for i, row in enumerate(problem.ram) for t in row.tables]
        self.parts: tuple[Term | Table, ...] = (*problem.terms, *(t for _, t in tables))
        self.rows_of = (*(tuple(range(first)) for _ in problem.terms), *((row,) for row, _ in tables))
        self.values = (
            *(np.stack([getattr(t, r) for r in ADDITIVE], axis=-1) for t in problem.terms),
            *(np.asarray(t.values, dtype=np.float64)[..., None] for _, t in tables),
        )
        self.row_names = (*ADDITIVE, *(f"ram_bytes in {row.name}" for row in problem.ram))
        pieces: dict[tuple[int, ...], list[int]] = {}
        for part, spec in enumerate(self.parts):
            pieces.setdefault(tuple(sorted({c for a in spec.axes for c in a.choices})), []).append(part)
        self.pieces = tuple((scope, tuple(parts)) for scope, parts in pieces.items())
        self.piece_rows = tuple(sorted({r for p in parts for r in self.rows_of[p]}) for _, parts in self.pieces)
        self._tables: dict[int, NDArray[np.float64]] = {}
        self.touching = tuple(
            tuple(i for i, (scope, _) in enumerate(self.pieces) if c in scope) for c in range(len(self.sizes))
        )
        self.neighbours = tuple(
            frozenset({c}.union(*(self.pieces[i][0] for i in touching))) for c, touching in enumerate(self.touching)
        )
        in_blocks = {c for block in problem.blocks for c in block}
        self.narrowest = tuple(int(c in in_blocks) for c in range(len(self.sizes)))
        self.base = np.array([*(getattr(problem, f"base_{r}") for r in ADDITIVE), *(row.base for row in problem.ram)])

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

    def piece_costs(self, piece: int, levels: NDArray[np.int64]) -> NDArray[np.float64]:
        """Costs of one piece in its own rows, at n choices of level indices: (n, choices) -> (n, len(piece_rows)).

        The same figures as from :meth:`part_costs`, looked up where a table of all combinations is small.
        """
        scope, _ = self.pieces[piece]
        if math.prod(self.sizes[c] for c in scope) > MAX_TABLE:
            return self._interpolated(piece, levels)
        if piece not in self._tables:
            grid = np.meshgrid(*(np.arange(self.sizes[c]) for c in scope), indexing="ij")
            every = np.zeros((grid[0].size, len(self.sizes)), dtype=np.int64)
            every[:, list(scope)] = np.stack([g.ravel() for g in grid], axis=1)
            self._tables[piece] = self._interpolated(piece, every).reshape(*grid[0].shape, -1)
        found: NDArray[np.float64] = self._tables[piece][tuple(levels[:, c] for c in scope)]
        return found

    def _interpolated(self, piece: int, levels: NDArray[np.int64]) -> NDArray[np.float64]:
        scope, parts = self.pieces[piece]
        widths = np.zeros(levels.shape, dtype=np.int64)
        for c in scope:
            widths[:, c] = self.levels[c][levels[:, c]]
        rows = self.piece_rows[piece]
        total = np.zeros((len(levels), len(rows)))
        for part in parts:
            total[:, [rows.index(r) for r in self.rows_of[part]]] += self.part_costs(part, widths)
        return total

    def costs(self, widths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Costs of the network at n choices of widths: (n, choices) -> (n, rows)."""
        total = np.tile(self.base, (len(widths), 1))
        for part, rows in enumerate(self.rows_of):
            total[:, list(rows)] += self.part_costs(part, widths)
        return total

    def ram_bytes(self, costs: NDArray[np.float64]) -> float | None:
        """The peak of one plan's costs, shape (rows,); None where the problem knows of no step."""
        steps = costs[len(ADDITIVE) :]
        return float(steps.max()) if steps.size else None

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
            ram_bytes=self.ram_bytes(costs),
            stop=stop,
            witness=witness,
            seconds=seconds,
        )
