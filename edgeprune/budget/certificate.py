"""Checks a plan and the proof of its bound from the arrays of the problem alone.

Nothing of the solvers is used here, not even their evaluation of costs: interpolation, elimination and everything else
are written again, in the plainest way. A proof is a :class:`~edgeprune.budget.witness.Witness`. Of each of its nodes
it is checked by weak duality that the plans it rules out retain no more than the bound, and that what it rules out,
with the parts it splits the rest into, is all there is.

One pass over a node answers for all levels that it takes away: beside the most without any such level, tables carry the
most with one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.check import check_budget, check_problem
from edgeprune.budget.problem import ADDITIVE, RESOURCES, TOLERANCE, Axis, Budget, Problem, Solution, Table, Term
from edgeprune.budget.witness import Witness
from edgeprune.errors import VerificationError

SLACK = 1e-9
"""Relative to the largest saliency: by how much a bound may be missed, for sums of floats depend on their order."""
MAX_CELLS = 40_000_000

Array = NDArray[np.float64]
Scope = tuple[int, ...]
Box = list[NDArray[np.int64]]


def verify(problem: Problem, budget: Budget, solution: Solution) -> None:
    """Check a solution: its widths, its figures, its budget, its bound.

    Raises:
        VerificationError: something is not as it claims; ``details["faults"]`` lists all.
        PlanError, ProfileError, UsageError: problem or budget do not check.
    """
    check_problem(problem)
    check_budget(budget, problem)
    _raise(_plan_faults(problem, budget, solution) or _bound_faults(problem, budget, solution))


def verify_infeasible(
    problem: Problem, budget: Budget, witness: Witness, smallest: dict[str, float] | None = None
) -> None:
    """Check a proof that no plan keeps the budget and, if given, the smallest reachable latency and flash.

    Of ``ram_bytes`` only that no smaller peak is proven by a single step can be checked; it is left out here.

    Raises:
        VerificationError: as for :func:`verify`.
    """
    check_problem(problem)
    check_budget(budget, problem)
    checker = _Checker(problem, budget)
    least = sum(float(c.saliency[0]) for c in problem.choices)
    faults = checker.faults(witness, least - SLACK * 0.01 * checker.magnitude)
    for row, name in enumerate(ADDITIVE):
        if smallest is not None and name in smallest:
            found = checker.smallest(row)
            if abs(found - smallest[name]) > 1e-6 * max(abs(found), 1.0):
                faults.append(f"the smallest reachable {name} is {found:g}, not {smallest[name]:g}")
    _raise(faults)


def _raise(faults: Sequence[str]) -> None:
    if faults:
        more = f" … and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise VerificationError(f"the certificate does not hold: {'; '.join(faults[:5])}{more}", faults=list(faults))


def _plan_faults(problem: Problem, budget: Budget, solution: Solution) -> list[str]:
    widths = solution.widths
    if len(widths) != len(problem.choices):
        return [f"{len(widths)} widths for {len(problem.choices)} choices"]
    strange = [f"{c.name} has no level {w}" for c, w in zip(problem.choices, widths, strict=True) if w not in c.levels]
    if strange:
        return strange
    gone = {i for i, w in enumerate(widths) if w == 0}
    if gone != {i for block in problem.blocks if gone.issuperset(block) for i in block}:
        return ["part of a block is removed"]
    faults = []
    saliency = sum(float(c.saliency[c.levels.index(w)]) for c, w in zip(problem.choices, widths, strict=True))
    costs = {"latency_ms": problem.base_latency_ms, "flash_bytes": problem.base_flash_bytes}
    for term in problem.terms:
        for name in ADDITIVE:
            costs[name] += _at(term, getattr(term, name), widths)
    steps = [row.base + sum(_at(t, t.values, widths) for t in row.tables) for row in problem.ram]
    said = {"saliency": solution.saliency, "latency_ms": solution.latency_ms, "flash_bytes": solution.flash_bytes}
    true = {"saliency": saliency, **costs}
    if steps:
        costs["ram_bytes"] = true["ram_bytes"] = max(steps)
        said["ram_bytes"] = math.nan if solution.ram_bytes is None else solution.ram_bytes
    for name, value in true.items():
        if not abs(said[name] - value) <= 1e-9 * max(abs(value), 1e-12):
            faults.append(f"{name} is {value!r}, not {said[name]!r}")
    for name in RESOURCES:
        limit = getattr(budget, name)
        if limit is not None and costs[name] > limit * (1 + 2 * TOLERANCE):
            faults.append(f"{name} is {costs[name]:g}, over the limit of {limit:g}")
    return faults


def _at(spec: Term | Table, values: Array, widths: Sequence[int]) -> float:
    """The multilinear interpolation of a table, one axis after the other."""
    for axis, grid in zip(spec.axes, spec.grids, strict=True):
        total = min(max(axis.base + sum(widths[c] for c in axis.choices), int(grid[0])), int(grid[-1]))
        above = min(int(np.searchsorted(grid, total)), len(grid) - 1)
        below = above if grid[above] == total or above == 0 else above - 1
        part = 0.0 if above == below else (total - int(grid[below])) / (int(grid[above]) - int(grid[below]))
        values = values[below] * (1 - part) + values[above] * part
    return float(values)


def _bound_faults(problem: Problem, budget: Budget, solution: Solution) -> list[str]:
    if solution.bound is None:
        return []
    checker = _Checker(problem, budget)
    if solution.bound < solution.saliency - SLACK * checker.magnitude:
        return [f"the bound of {solution.bound!r} is below the plan's own saliency"]
    if solution.witness is None:
        return ["the bound has no witness"]
    return checker.faults(solution.witness, solution.bound + SLACK * checker.magnitude)


class _Checker:
    """Tables of a problem over its choices and the running totals of its axes, and what follows from them."""

    def __init__(self, problem: Problem, budget: Budget) -> None:
        self._problem = problem
        n = len(problem.choices)
        self._levels = [np.asarray(c.levels, dtype=np.int64) for c in problem.choices]
        self.magnitude = (
            max(
                abs(sum(float(c.saliency[-1]) for c in problem.choices)),
                abs(sum(float(c.saliency[0]) for c in problem.choices)),
            )
            or 1.0
        )
        self._limits = [budget.latency_ms, budget.flash_bytes, *([budget.ram_bytes] * len(problem.ram))]
        self._base = [problem.base_latency_ms, problem.base_flash_bytes, *(row.base for row in problem.ram)]
        # A running total is the axis so far: the total before and one more choice.
        self._totals: dict[tuple[int, ...], int] = {(c,): c for c in range(n)}
        self._made_of: dict[int, tuple[int, int]] = {}
        specs: list[tuple[int, Term | Table, Array]] = []
        for term in problem.terms:
            specs += [(row, term, getattr(term, name)) for row, name in enumerate(ADDITIVE)]
        for step, row in enumerate(problem.ram):
            specs += [(len(ADDITIVE) + step, table, table.values) for table in row.tables]
        self._specs = [(row, tuple(self._total(a) for a in s.axes), s, values) for row, s, values in specs]

    def _total(self, axis: Axis) -> int:
        for end in range(2, len(axis.choices) + 1):
            so_far = axis.choices[:end]
            if so_far not in self._totals:
                self._totals[so_far] = variable = len(self._totals)
                self._made_of[variable] = (self._totals[so_far[:-1]], so_far[-1])
        return self._totals[axis.choices]

    def smallest(self, row: int) -> float:
        """The least cost of a row over all plans."""
        prices = np.zeros(len(self._base))
        prices[row] = 1.0
        box = [np.arange(len(lv)) for lv in self._levels]
        return self._base[row] - self._most(box, prices, 0.0, [])

    def faults(self, witness: Witness, bound: float) -> list[str]:
        """What is wrong with the proof that no plan in budget retains more than ``bound``; stops at the first."""
        pending: list[tuple[Witness, Box]] = [(witness, [np.arange(len(lv)) for lv in self._levels])]
        while pending:
            node, box = pending.pop()
            if wrong := self._node_fault(node, box, bound):
                return [wrong]
            if not node.removed and not node.children:
                continue
            gone = {c: set(ks) for c, ks in node.removed}
            rest = [np.array([k for k in ks if k not in gone.get(c, ())], dtype=np.int64) for c, ks in enumerate(box)]
            if not all(len(ks) for ks in rest):
                continue  # nothing is left that could be better
            if node.branch is None:
                if len(node.children) != 1:
                    return ["what a node leaves has no proof"]
                pending.append((node.children[0], rest))
                continue
            if not 0 <= node.branch < len(rest) or len(node.parts) != len(node.children):
                return ["a node does not split a choice into as many parts as it has proofs"]
            if not set(rest[node.branch].tolist()) <= {k for part in node.parts for k in part}:
                return [f"levels of choice {node.branch} lie in no part"]
            for part, child in zip(node.parts, node.children, strict=True):
                inside = list(rest)
                inside[node.branch] = np.array([k for k in rest[node.branch] if k in part], dtype=np.int64)
                if len(inside[node.branch]):
                    pending.append((child, inside))
        return []

    def _node_fault(self, node: Witness, box: Box, bound: float) -> str:
        """Why the plans that a node itself rules out may be better than ``bound``, or an empty string."""
        if node.children and not node.removed:
            return ""
        prices = np.zeros(len(self._base))
        for row, value in node.multipliers:
            if not 0 <= row < len(prices) or not value >= 0 or not math.isfinite(value):
                return f"{value} is no multiplier of row {row}"
            if self._limits[row] is None and value:
                return f"row {row} has a multiplier and no limit"
            prices[row] = value
        if node.weight not in (0.0, 1.0):
            return f"a weight of {node.weight}"
        if any(not 0 <= c < len(box) for c, _ in node.removed):
            return "a node removes levels of a choice that there is not"
        limits = np.array([math.inf if v is None else v * (1 + TOLERANCE) for v in self._limits])
        constant = float(sum(prices * (1 - np.array(self._base) / limits)))
        marked = [np.isin(ks, dict(node.removed).get(c, ())) for c, ks in enumerate(box)] if node.removed else []
        try:
            most = self._most(box, prices / limits, node.weight, marked) + constant
        except MemoryError:
            return "the tables of this problem are too large to check here"
        if node.weight == 0:
            return "" if most < 0 else f"costs alone rule out nothing: {most:g} is not below 0"
        return "" if most <= bound else f"the multipliers prove no bound below {most!r}"

    def _most(self, box: Box, prices: Array, weight: float, marked: Sequence[NDArray[np.bool_]]) -> float:
        """The most of ``weight * saliency - prices @ costs`` over a box; over plans with a marked level, if any are."""
        values = [lv[ks] for lv, ks in zip(self._levels, box, strict=True)]
        where: dict[int, NDArray[np.int64]] = {}
        for variable, (before, choice) in self._made_of.items():
            sums = np.add.outer(values[before], values[choice])
            totals = np.unique(sums)
            where[variable] = np.searchsorted(totals, sums)
            values.append(totals)
        sizes = [len(v) for v in values]
        plain: dict[Scope, Array] = {}
        for row, variables, spec, table in self._specs:
            if prices[row]:
                scope, grown = self._spread(variables, spec, table, values)
                plain[scope] = plain.get(scope, 0.0) - prices[row] * grown
        for scope, torn in self._torn(box):
            plain[scope] = plain.get(scope, 0.0) + torn
        tables = [_Summand(scope, t) for scope, t in plain.items()]
        for c, ks in enumerate(box):
            own = weight * np.asarray(self._problem.choices[c].saliency, dtype=np.float64)[ks]
            mark = marked[c] if marked else np.zeros(len(ks), dtype=bool)
            with_one = np.where(mark, own, -np.inf) if mark.any() else None
            tables.append(_Summand((c,), np.where(mark, -np.inf, own), with_one))
        result = _eliminate(sizes, self._made_of, where, tables)
        if not marked:
            return float(result.without)
        return -math.inf if result.with_one is None else float(result.with_one)

    @staticmethod
    def _spread(
        variables: Sequence[int], spec: Term | Table, table: Array, values: Sequence[NDArray[np.int64]]
    ) -> tuple[Scope, Array]:
        """A table at the values of its variables, which are ascending and each there once."""
        for i, (variable, axis, grid) in enumerate(zip(variables, spec.axes, spec.grids, strict=True)):
            wanted = axis.base + values[variable]
            if not np.array_equal(wanted, grid):
                table = np.apply_along_axis(
                    lambda column, at, grid: np.interp(at, grid, column), i, table, wanted, grid
                )
        names: list[int] = []
        for i, variable in enumerate(variables):
            if variable in names:
                table = np.moveaxis(np.diagonal(table, 0, names.index(variable), len(names)), -1, names.index(variable))
            else:
                names.append(variables[i])
        order = np.argsort(names)
        return tuple(sorted(names)), table.transpose(order)

    def _torn(self, box: Box) -> list[tuple[Scope, Array]]:
        """-inf where part of a block is removed, over all choices of blocks that share any.

        A constraint may be left out: the maximum then bounds more plans than there are.
        """
        clusters: list[set[int]] = []
        for block in self._problem.blocks:
            near = [c for c in clusters if c & set(block)]
            clusters = [c for c in clusters if c not in near] + [set(block).union(*near)]
        found = []
        for cluster in clusters:
            scope = tuple(sorted(cluster))
            blocks = [set(b) for b in self._problem.blocks if set(b) <= cluster]
            empty = [(self._levels[c][box[c]] == 0) for c in scope]
            # Only whether a width is 0 counts: a table over yes and no, read at the levels.
            pattern = np.zeros([2] * len(scope))
            if len(scope) > 16 or math.prod(len(box[c]) for c in scope) > MAX_CELLS // 8:
                found += self._equal(box, blocks)
                continue
            for zero in itertools.product((0, 1), repeat=len(scope)):
                gone = {c for c, z in zip(scope, zero, strict=True) if z}
                if gone != {c for b in blocks if b <= gone for c in b}:
                    pattern[zero] = -np.inf
            found.append((scope, pattern[np.ix_(*(e.astype(int) for e in empty))]))
        return found

    def _equal(self, box: Box, blocks: Sequence[set[int]]) -> list[tuple[Scope, Array]]:
        """Pairs of choices that lie in the very same blocks, and so go together."""
        inside = {c: frozenset(i for i, b in enumerate(blocks) if c in b) for b in blocks for c in b}
        same: dict[frozenset[int], list[int]] = {}
        for c in sorted(inside):
            same.setdefault(inside[c], []).append(c)
        zero = {c: self._levels[c][box[c]] == 0 for c in inside}
        return [
            ((a, b), np.where(zero[a][:, None] != zero[b][None, :], -np.inf, 0.0))
            for members in same.values()
            for a, b in itertools.pairwise(members)
        ]


class _Summand(NamedTuple):
    """A table over variables: the most without a marked level, and with one; None where none is marked."""

    scope: Scope
    without: Array
    with_one: Array | None = None

    def mapped(self, scope: Scope, change: Callable[[Array], Array]) -> _Summand:
        return _Summand(scope, change(self.without), None if self.with_one is None else change(self.with_one))

    def plus(self, other: _Summand) -> _Summand:
        """The sum of tables of which one may lack dimensions of size 1: it has a marked level if either has."""
        both = None if other.with_one is None else self.without + other.with_one
        if self.with_one is not None:
            most = other.without if other.with_one is None else np.maximum(other.without, other.with_one)
            mine = self.with_one + most
            both = mine if both is None else np.maximum(mine, both)
        return _Summand(self.scope, self.without + other.without, both)


def _eliminate(
    sizes: Sequence[int],
    made_of: dict[int, tuple[int, int]],
    where: dict[int, NDArray[np.int64]],
    tables: list[_Summand],
) -> _Summand:
    """The maximum of a sum of tables; raises MemoryError if one gets large."""
    total = _Summand((), np.zeros(()))
    # Arrays have few dimensions: what has one value is none.
    tables = [
        t.mapped(tuple(v for v in t.scope if sizes[v] > 1), lambda x: x.reshape([n for n in x.shape if n > 1]))
        for t in tables
    ]
    for table in (t for t in tables if not t.scope):
        total = total.plus(table)
    tables = [t for t in tables if t.scope]
    left = {v for v, n in enumerate(sizes) if n > 1}
    while left:
        needed = {v for t in left if t in made_of for v in made_of[t]}
        ready = sorted(left - needed)
        scopes = [t.scope for t in tables]
        variable = min((_cells(v, scopes, sizes, made_of), v) for v in ready)[1]
        left.remove(variable)
        own = [t for t in tables if variable in t.scope]
        tables = [t for t in tables if variable not in t.scope]
        if not own:
            continue
        if math.prod(sizes[v] for v in set().union(*(t.scope for t in own))) > MAX_CELLS:
            raise MemoryError
        # Small ones first: their sums are small, too.
        first, *others = sorted(own, key=lambda t: t.without.size)
        for other in others:
            first = _join(sizes, first, other)
        if variable in made_of:
            table = _written_out(sizes, variable, made_of[variable], where[variable], first)
        else:
            table = _maximised(first, variable)
        if table.scope:
            tables.append(table)
        else:
            total = total.plus(table)
    return total


def _maximised(table: _Summand, variable: int) -> _Summand:
    axis = table.scope.index(variable)
    return table.mapped(tuple(v for v in table.scope if v != variable), lambda x: np.asarray(x.max(axis=axis)))


def _cells(variable: int, scopes: Sequence[Scope], sizes: Sequence[int], made_of: dict[int, tuple[int, int]]) -> int:
    """Of the table that is left when a variable goes, and the variable's own if it is maximised over."""
    scope = {variable, *made_of.get(variable, ())}.union(*(s for s in scopes if variable in s))
    return math.prod(sizes[v] for v in scope if v != variable or variable not in made_of)


def _join(sizes: Sequence[int], a: _Summand, b: _Summand) -> _Summand:
    scope = tuple(sorted({*a.scope, *b.scope}))

    def spread(table: _Summand) -> _Summand:
        return table.mapped(scope, lambda x: x.reshape([sizes[v] if v in table.scope else 1 for v in scope]))

    return spread(a).plus(spread(b))


def _written_out(
    sizes: Sequence[int],
    variable: int,
    parents: tuple[int, int],
    where: NDArray[np.int64],
    table: _Summand,
) -> _Summand:
    """The same table in terms of what a total is made of."""
    after = tuple(sorted(v for v in {*table.scope, *parents} - {variable} if sizes[v] > 1))
    if math.prod(sizes[v] for v in after) > MAX_CELLS:
        raise MemoryError
    at = dict(zip(after, np.ix_(*(np.arange(sizes[v]) for v in after)), strict=True))
    alone = np.zeros((), dtype=np.int64)
    at[variable] = where[at.get(parents[0], alone), at.get(parents[1], alone)]
    cells = tuple(np.broadcast_to(at[v], [sizes[u] for u in after]) for v in table.scope)
    return table.mapped(after, lambda x: x[cells])
