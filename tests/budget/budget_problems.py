"""Problems for the budget tests, and an evaluation that shares no code with the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product

import numpy as np
from hypothesis import strategies as st

from edgeprune.budget.problem import Axis, Budget, Choice, Problem, Term


def random_problem(
    seed: int, *, groups: int = 4, levels: int = 4, noise: float = 0.0, blocks: tuple[tuple[int, ...], ...] = ()
) -> Problem:
    """Kernels with one axis, two axes and concat axes over shared groups.

    Costs grow with the widths times exp(``noise`` * normal): from about 0.3 on, tables are not monotone.

    Args:
        blocks: groups that may go together; those the problem does not have are left out.
    """
    rng = np.random.default_rng(seed)
    choices = []
    for g in range(groups):
        widths = tuple(8 * (i + 1) for i in range(int(rng.integers(2, levels + 1))))
        choices.append(Choice(f"g{g}", widths, np.cumsum(np.sort(0.01 + rng.random(len(widths)))[::-1])))
    terms = []
    for t in range(groups + 2):
        pick = [int(c) for c in rng.integers(0, groups, 3)]
        axes = [
            (Axis((pick[0],), 4),),
            (Axis((pick[0],)), Axis((pick[1],))),
            (Axis((pick[0], pick[1]), 8), Axis((pick[2],))),
        ][t % 3]
        ends = [[a.base + sum(choices[c].levels[k] for c in a.choices) for k in (0, -1)] for a in axes]
        grids = tuple(np.unique(np.linspace(lo, hi, int(rng.integers(2, 6))).astype(np.int64)) for lo, hi in ends)
        macs = np.ones(()) if not grids else grids[0].astype(float)
        for grid in grids[1:]:
            macs = macs[:, None] * grid
        scale = rng.random() * np.exp(noise * rng.standard_normal(macs.shape))
        terms.append(Term(f"k{t}", axes, grids, 0.05 + scale * macs / macs.max(), 100 + 4 * macs))
    problem = Problem(tuple(choices), tuple(terms), 0.1, 1000.0)
    blocks = tuple(b for b in blocks if max(b) < groups)
    return removable(problem, blocks) if blocks else problem


def removable(problem: Problem, blocks: tuple[tuple[int, ...], ...]) -> Problem:
    """The same with blocks that may go: a kernel with no width left costs nothing."""
    inside = {c for b in blocks for c in b}
    choices = [
        Choice(c.name, (0, *c.levels), np.append(0.0, c.saliency)) if i in inside else c
        for i, c in enumerate(problem.choices)
    ]
    terms = []
    for term in problem.terms:
        grids, tables = list(term.grids), [term.latency_ms, term.flash_bytes]
        for i, axis in enumerate(term.axes):
            if axis.base == 0 and inside.issuperset(axis.choices):
                grids[i] = np.append(0, grids[i])
                tables = [np.insert(t, 0, 0.0, axis=i) for t in tables]
        terms.append(Term(term.name, term.axes, tuple(grids), *tables))
    return Problem(tuple(choices), tuple(terms), problem.base_latency_ms, problem.base_flash_bytes, blocks)


NESTED = ((0,), (0, 1), (2,))
"""Blocks of which one lies inside of another."""


def staircase(
    saliency: Sequence[float], latency_ms: Sequence[float], levels: Sequence[int] = (8, 16, 24, 32)
) -> Problem:
    """One group, one kernel, the given latencies."""
    grid = np.array(levels, dtype=np.int64)
    term = Term("k", (Axis((0,)),), (grid,), np.array(latency_ms), np.full(len(grid), 100.0))
    return Problem((Choice("g", tuple(levels), np.array(saliency, dtype=float)),), (term,))


def slow_costs(problem: Problem, widths: Sequence[int]) -> tuple[float, float]:
    """Latency and flash by the definition, in plain Python with ``np.interp`` one axis at a time."""
    total = [problem.base_latency_ms, problem.base_flash_bytes]
    for term in problem.terms:
        at = [a.base + sum(widths[c] for c in a.choices) for a in term.axes]
        for i, table in enumerate((term.latency_ms, term.flash_bytes)):
            value = table
            for total_width, grid in zip(at, term.grids, strict=True):
                value = np.apply_along_axis(partial(np.interp, total_width, grid), 0, value)
            total[i] += float(value)
    return total[0], total[1]


def saliency_of(problem: Problem, widths: Sequence[int]) -> float:
    return sum(float(c.saliency[c.levels.index(w)]) for c, w in zip(problem.choices, widths, strict=True))


def whole(problem: Problem, widths: Sequence[int]) -> bool:
    """Whether what has no width is made up of whole blocks."""
    gone = {i for i, w in enumerate(widths) if w == 0}
    return gone == set().union(*(b for b in problem.blocks if gone.issuperset(b)))


def every_plan(problem: Problem) -> Iterator[tuple[int, ...]]:
    return (w for w in product(*(c.levels for c in problem.choices)) if whole(problem, w))


def holds(problem: Problem, budget: Budget, widths: Sequence[int]) -> bool:
    latency_ms, flash_bytes = slow_costs(problem, widths)
    slack = 1 + 1e-8
    return (budget.latency_ms is None or latency_ms <= budget.latency_ms * slack) and (
        budget.flash_bytes is None or flash_bytes <= budget.flash_bytes * slack
    )


def full_widths(problem: Problem) -> tuple[int, ...]:
    return tuple(c.levels[-1] for c in problem.choices)


small_problems = st.builds(
    random_problem,
    st.integers(0, 2**32 - 1),
    groups=st.integers(1, 3),
    levels=st.integers(2, 4),
    noise=st.sampled_from([0.0, 0.3, 1.0]),
    blocks=st.sampled_from([(), ((0, 1),), ((0,), (1, 2)), NESTED]),
)
