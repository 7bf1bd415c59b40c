"""Evaluation of a choice of widths: its cost and its retained saliency, computed nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.check import check_problem
from edgeprune.budget.interpolate import interpolate
from edgeprune.budget.problem import RESOURCES, Problem, Solution
from edgeprune.errors import PlanError


class Evaluator:
    """Evaluates a checked problem. Costs are arrays whose last axis follows ``RESOURCES``.

    Attributes:
        touching: for each choice the terms that depend on it.
        neighbours: for each choice the choices (itself included) that share a term with it.
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
        self.scopes = tuple(tuple(sorted({c for a in t.axes for c in a.choices})) for t in problem.terms)
        self.touching = tuple(
            tuple(t for t, scope in enumerate(self.scopes) if c in scope) for c in range(len(self.sizes))
        )
        self.neighbours = tuple(
            frozenset({c}.union(*(self.scopes[t] for t in terms))) for c, terms in enumerate(self.touching)
        )
        in_blocks = {c for block in problem.blocks for c in block}
        self.narrowest = tuple(int(c in in_blocks) for c in range(len(self.sizes)))
        self.base = np.array([getattr(problem, f"base_{r}") for r in RESOURCES], dtype=np.float64)
        self._tables = tuple(np.stack([getattr(t, r) for r in RESOURCES], axis=-1) for t in problem.terms)

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

    def term_costs(self, term: int, widths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Costs of one term at n choices of widths: (n, choices) -> (n, 2)."""
        spec = self.problem.terms[term]
        totals = [a.base + widths[:, list(a.choices)].sum(axis=1) for a in spec.axes]
        return interpolate(spec.grids, self._tables[term], totals)

    def costs(self, widths: NDArray[np.int64]) -> NDArray[np.float64]:
        """Costs of the network at n choices of widths: (n, choices) -> (n, 2)."""
        total = np.tile(self.base, (len(widths), 1))
        for term in range(len(self.scopes)):
            total += self.term_costs(term, widths)
        return total

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

    def solution(self, levels: Sequence[int], method: str, *, steps: int = 0, bound: float | None = None) -> Solution:
        """A choice of level indices, evaluated from scratch."""
        widths = self.widths(levels)
        latency_ms, flash_bytes = self.costs(np.array([widths], dtype=np.int64))[0]
        return Solution(
            widths, self.saliency(widths), float(latency_ms), float(flash_bytes), method, steps=steps, bound=bound
        )
