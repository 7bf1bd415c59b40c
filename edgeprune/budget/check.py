"""Refuses a problem or a budget that no solver should see, naming every fault term by term."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.problem import ADDITIVE, Budget, Choice, Problem, Row, Table, Term
from edgeprune.errors import EdgepruneError, PlanError, ProfileError, UsageError

MAX_AXES = 4
MOST, MOST_CHANNELS, MOST_WIDTHS = 1e100, 1 << 31, 1 << 24
"""Figures beyond the first overflow when they are multiplied, and limits below its inverse when they are divided by.
Channels of a group or of an axis, and different widths that several groups may add up to, at most.
"""
_SHOWN = 5


def check_problem(problem: Problem) -> None:
    """Check every choice, every term and every step of RAM.

    Raises:
        PlanError: levels or saliency of a choice cannot be used.
        ProfileError: axes, grids or tables of a term or a step cannot be used. ``details["faults"]`` lists
            every fault, one line each, beginning with its name.
    """
    in_blocks = {i for block in problem.blocks for i in block}
    faults = [f"{c.name}: {f}" for i, c in enumerate(problem.choices) for f in _choice_faults(c, i in in_blocks)]
    if strangers := sorted(in_blocks - set(range(len(problem.choices)))):
        faults.append(f"blocks name choices {strangers}; the problem has {len(problem.choices)}")
    names = [c.name for c in problem.choices]
    faults += [f"{n}: two choices have this name" for n in sorted({n for n in names if names.count(n) > 1})]
    _raise(PlanError, "width groups cannot be planned", faults, "check the saliency and levels of these groups")

    faults = [f"{t.name}: {f}" for t in problem.terms for f in _term_faults(t, len(problem.choices))]
    faults += [f"{r.name}: {f}" for r in problem.ram for f in _row_faults(r, len(problem.choices))]
    if not faults:
        faults += [f"{t.name}: {f}" for t in problem.terms for f in _sum_faults(t, problem)]
        faults += [f"{r.name}: {f}" for r in problem.ram for t in r.tables for f in _sum_faults(t, problem)]
    for resource in ADDITIVE:
        base = getattr(problem, f"base_{resource}")
        # Negative for flash: a linked program holds the code of equal kernels once, its tables each time.
        if not abs(base) < MOST or (base < 0 and resource != "flash_bytes"):
            faults.append(f"base_{resource}: {base} is not a cost")
    _raise(ProfileError, "latency tables cannot be used", faults, "profile the named kernels again")


def check_budget(budget: Budget, problem: Problem | None = None) -> Budget:
    """The budget.

    Raises:
        UsageError: it limits nothing, a limit is not positive and finite, or it limits RAM and the problem knows no
            step of the schedule.
    """
    given = budget.to_json()
    if not given:
        raise UsageError("the budget limits nothing", hint="give a limit of latency, flash or RAM")
    for resource, value in given.items():
        if not 1 / MOST < value < MOST:
            raise UsageError(f"a budget of {value} for {resource} makes no sense", hint="give a positive number")
    if problem is not None and not problem.ram and budget.ram_bytes is not None:
        raise UsageError(
            "the problem says nothing of RAM, so no limit of it can be kept",
            hint="leave the limit out, or make the problem with a limit of RAM: edgeprune prune --ram",
        )
    return budget


def _choice_faults(choice: Choice, in_block: bool) -> Iterator[str]:
    levels = choice.levels
    widths = levels[1:] if in_block else levels
    if not widths or min(widths) < 1 or any(a >= b for a, b in pairwise(levels)) or (in_block and levels[0]):
        yield f"levels {levels} are not ascending widths of at least 1" + (" after 0" if in_block else "")
        return
    if levels[-1] >= MOST_CHANNELS:
        yield f"a width of {levels[-1]} channels"
        return
    saliency = np.asarray(choice.saliency)
    if saliency.shape != (len(levels),):
        yield f"saliency has shape {saliency.shape}, {len(levels)} levels need ({len(levels)},)"
    elif (wild := ~(np.abs(saliency) < MOST)).any():
        at = int(wild.argmax())
        said = saliency[at] if math.isfinite(saliency[at]) else "not finite"
        yield f"saliency is {said} at width {levels[at]}"
    elif (np.diff(saliency) < 0).any():
        yield f"retained saliency falls after width {levels[int(np.argmax(np.diff(saliency) < 0))]}"


def _term_faults(term: Term, n_choices: int) -> Iterator[str]:
    wrong = list(_axis_faults(term, n_choices))
    yield from wrong
    if wrong:
        return
    shape = tuple(int(g.size) for g in term.grids)
    yield from _table_faults("latency_ms", term.latency_ms, term.grids, shape, zero_allowed=False)
    # A pooling kernel has no weights and its code may be shared, so 0 bytes is a fact, not a gap.
    yield from _table_faults("flash_bytes", term.flash_bytes, term.grids, shape, zero_allowed=True)


def _row_faults(row: Row, n_choices: int) -> Iterator[str]:
    if not 0 <= row.base < MOST:
        yield f"a base of {row.base} bytes"
    for i, table in enumerate(row.tables):
        wrong = list(_axis_faults(table, n_choices))
        if not wrong:
            shape = tuple(int(g.size) for g in table.grids)
            if table.values.shape != shape:
                wrong = [f"values have shape {table.values.shape}, the grids need {shape}"]
            elif not ((table.values >= 0) & (table.values < MOST)).all():
                # Width 0 may take bytes here: a tensor that stays while the block around it goes.
                wrong = ["values are negative or not finite"]
        yield from (f"table {i}: {w}" for w in wrong)


def _axis_faults(table: Term | Table, n_choices: int) -> Iterator[str]:
    if not 1 <= len(table.axes) <= MAX_AXES or len(table.axes) != len(table.grids):
        yield f"{len(table.axes)} axes and {len(table.grids)} grids; one to {MAX_AXES} of each are needed"
        return
    for i, (axis, grid) in enumerate(zip(table.axes, table.grids, strict=True)):
        if not axis.choices:
            yield f"axis {i} names no choice"
        if bad := [c for c in axis.choices if not 0 <= c < n_choices]:
            yield f"axis {i} names choices {bad}; the problem has {n_choices}"
        if not 0 <= axis.base < MOST_CHANNELS:
            yield f"axis {i} begins with {axis.base} channels"
        if grid.ndim != 1 or grid.size == 0 or (np.diff(grid) <= 0).any():
            yield f"grid of axis {i} is not ascending: {grid.tolist()}"


def _sum_faults(table: Term | Table, problem: Problem) -> Iterator[str]:
    """Axes of which every width that several groups add up to would have to be kept."""
    for i, axis in enumerate(table.axes):
        ends = [problem.choices[c].levels for c in axis.choices]
        if len(ends) > 1 and (span := sum(levels[-1] - levels[0] for levels in ends)) >= MOST_WIDTHS:
            yield f"axis {i} adds up to {span + 1} different widths"


def _table_faults(
    name: str, table: NDArray[Any], grids: tuple[NDArray[Any], ...], shape: tuple[int, ...], *, zero_allowed: bool
) -> Iterator[str]:
    if table.shape != shape:
        yield f"{name} has shape {table.shape}, the grids need {shape}"
        return
    gone = np.zeros(shape, dtype=bool)
    for axis, grid in enumerate(grids):
        gone |= (grid == 0).reshape([-1 if i == axis else 1 for i in range(len(grids))])
    # A kernel of width 0 is none; any other that costs nothing was not measured.
    bad = ~(np.abs(table) < MOST) | (table < 0) | (gone & (table != 0))
    if not zero_allowed:
        bad |= ~gone & (table == 0)
    for cell in np.argwhere(bad):
        widths = tuple(int(g[i]) for g, i in zip(grids, cell, strict=True))
        yield f"{name} at width {widths} is {table[tuple(cell)]}"


def _raise(error: type[EdgepruneError], what: str, faults: list[str], hint: str) -> None:
    if faults:
        more = f" … and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise error(f"{what}: {'; '.join(faults[:_SHOWN])}{more}", hint=hint, faults=faults)
