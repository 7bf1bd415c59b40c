"""Problems for the budget tests, and an evaluation that shares no code with the package."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from hypothesis import strategies as st

from edgeprune.budget.problem import Axis, Budget, Choice, Problem, Term


def random_problem(seed: int, *, groups: int = 4, levels: int = 4, noise: float = 0.0) -> Problem:
    """Kernels with one axis, two axes and concat axes over shared groups.

    Costs grow with the widths times exp(``noise`` * normal): from about 0.3 on, tables are not monotone.
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
        for g in grids[1:]:
            macs = macs[:, None] * g
        scale = rng.random() * np.exp(noise * rng.standard_normal(macs.shape))
        terms.append(Term(f"k{t}", axes, grids, 0.05 + scale * macs / macs.max(), 100 + 4 * macs))
    return Problem(tuple(choices), tuple(terms), 0.1, 1000.0)


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
                value = np.apply_along_axis(lambda col, w=total_width, g=grid: np.interp(w, g, col), 0, value)
            total[i] += float(value)
    return total[0], total[1]


def saliency_of(problem: Problem, widths: Sequence[int]) -> float:
    return sum(float(c.saliency[c.levels.index(w)]) for c, w in zip(problem.choices, widths, strict=True))


def every_plan(problem: Problem) -> Iterator[tuple[int, ...]]:
    return product(*(c.levels for c in problem.choices))


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
)
