"""A problem as a factor graph: variables with few values, and tables over one to four of them.

Choices are variables whose values are levels. An axis to which several choices add up gets a variable of its own, the
total, which two others determine: the total of a part of the choices and one more. Axes that share a part share its
total, so a chain of concatenations (DenseNet) is a chain of totals here, and no table spans more than two of its
groups. This is the usual binary form of a sum constraint (Dechter, Constraint Processing, 2003, chapter 2).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.evaluate import Counts, Evaluator

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_TORN = 1 << 20
"""Cells of a table that says how overlapping blocks may go together; where it would be larger, bounds ignore it."""


@dataclass(frozen=True, slots=True)
class Total:
    """A variable that two others determine.

    Attributes:
        parents: earlier variables.
        index: the value (index) for each pair of values of the parents.
    """

    parents: tuple[int, int]
    index: Ints


@dataclass(frozen=True, slots=True)
class Factor:
    """A table over some variables.

    Attributes:
        scope: ascending variables.
        rows: rows of the costs that it counts in.
        costs: (len(rows), cells).
        value: (cells,) what it adds to the objective; -inf where a combination is forbidden; None for 0.
    """

    scope: tuple[int, ...]
    rows: Ints
    costs: Array
    value: Array | None = None


@dataclass(frozen=True, slots=True)
class Factors:
    """The factor graph of a problem, over the levels that are still offered.

    Attributes:
        offered: indices of the levels offered of each choice; variable i is choice i for the first of them.
        widths: values of each variable: widths of choices and totals.
        totals: for each variable that is one; None for choices.
        saliency: for each choice, of its levels offered.
    """

    offered: tuple[Ints, ...]
    widths: tuple[Ints, ...]
    totals: tuple[Total | None, ...]
    factors: tuple[Factor, ...]
    saliency: tuple[Array, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(w) for w in self.widths)

    def restrict(self, keep: Sequence[NDArray[np.bool_]]) -> Factors:
        """The same graph with some levels left out; ``keep`` has one mask for each choice, over those offered."""
        n = len(self.offered)
        kept = [np.flatnonzero(k) for k in keep]
        totals: list[Total | None] = [None] * n
        widths = [w[k] for w, k in zip(self.widths, kept, strict=False)]
        for total in self.totals[n:]:
            assert total is not None
            a, b = total.parents
            index = total.index[np.ix_(kept[a], kept[b])]
            left, inverse = np.unique(index, return_inverse=True)
            kept.append(left)
            widths.append(self.widths[len(totals)][left])
            totals.append(Total(total.parents, inverse.reshape(index.shape)))
        factors = []
        for f in self.factors:
            shape = [self.sizes[v] for v in f.scope]
            if all(len(kept[v]) == self.sizes[v] for v in f.scope):
                factors.append(f)
                continue
            cells = np.arange(math.prod(shape)).reshape(shape)[np.ix_(*(kept[v] for v in f.scope))].ravel()
            value = None if f.value is None else f.value[cells]
            factors.append(Factor(f.scope, f.rows, f.costs[:, cells], value))
        offered = tuple(o[k] for o, k in zip(self.offered, kept, strict=False))
        saliency = tuple(s[k] for s, k in zip(self.saliency, kept, strict=False))
        return Factors(offered, tuple(widths), tuple(totals), tuple(factors), saliency)


def factors_of(evaluator: Evaluator) -> Factors:
    """The factor graph of a whole problem."""
    widths = list(evaluator.levels)
    count = len(widths)
    totals: list[Total | None] = [None] * count
    known: dict[Counts, int] = {((c, 1),): c for c in range(count)}
    # Sums of several choices, by the first of these.
    beginning: dict[int, list[Counts]] = {}

    def variable_of(counts: Counts, axis: Sequence[int]) -> int:
        """The variable of a total; ``axis``: its choices, in an order in which prefixes are shared."""
        wanted = Counter(dict(counts))
        inside = (key for c in wanted for key in (((c, 1),), *beginning.get(c, ())))
        # The largest total at hand; of equally large ones the first, so that prefixes are shared.
        key = max(
            (key for key in inside if all(wanted[c] >= k for c, k in key)),
            key=lambda key: (sum(k for _, k in key), -known[key]),
        )
        variable, have = known[key], Counter(dict(key))
        for choice in (c for c in dict.fromkeys(axis) for _ in range(wanted[c] - have[c])):
            have = have + Counter([choice])
            name = tuple(sorted(have.items()))
            if name not in known:
                sums = widths[variable][:, None] + widths[choice][None, :]
                values, inverse = np.unique(sums, return_inverse=True)
                known[name] = len(widths)
                beginning.setdefault(name[0][0], []).append(name)
                widths.append(values)
                totals.append(Total((variable, choice), inverse.reshape(sums.shape)))
            variable = known[name]
        return variable

    # Short axes first: the total of a long one goes on from theirs.
    variables = list(range(count)) + [0] * (len(evaluator.totals) - count)
    for total in sorted(range(count, len(variables)), key=lambda t: sum(k for _, k in evaluator.totals[t])):
        variables[total] = variable_of(evaluator.totals[total], evaluator.orders[total])
    tables: dict[tuple[int, ...], list[tuple[tuple[int, ...], Array]]] = {}
    at = [widths[v] for v in variables]
    for part, rows in enumerate(evaluator.rows_of):
        scope = [variables[t] for t in evaluator.totals_of(part)]
        found = evaluator.part_table(part, at).transpose(-1, *np.argsort(scope))
        tables.setdefault(tuple(sorted(scope)), []).append((rows, found.reshape(len(rows), -1)))
    factors = [_merged(scope, given) for scope, given in tables.items()]
    factors += [Factor(s, np.zeros(0, np.int64), np.zeros((0, len(v))), v) for s, v in _torn(evaluator)]
    offered = tuple(np.arange(n) for n in evaluator.sizes)
    return Factors(offered, tuple(widths), tuple(totals), tuple(factors), evaluator.saliencies)


def _merged(scope: tuple[int, ...], tables: Sequence[tuple[tuple[int, ...], Array]]) -> Factor:
    """Tables over the same variables as one."""
    rows = np.array(sorted({r for own, _ in tables for r in own}), dtype=np.int64)
    costs = np.zeros((len(rows), tables[0][1].shape[1]))
    for own, table in tables:
        costs[np.searchsorted(rows, own)] += table
    return Factor(scope, rows, costs)


def _torn(evaluator: Evaluator) -> list[tuple[tuple[int, ...], Array]]:
    """Tables that forbid removing part of a block: 0 or -inf.

    Where no two blocks overlap unless one lies inside the other, pairs of choices say it all: those whose smallest
    block is the same go together, and one of an outer block takes those of an inner one along.
    """
    blocks = [frozenset(b) for b in evaluator.problem.blocks]
    nested = all(a <= b or b <= a or not a & b for a in blocks for b in blocks)
    gone = [levels == 0 for levels in evaluator.levels]
    found = []
    if nested:
        least = {c: min((b for b in blocks if c in b), key=len) for b in blocks for c in b}
        own = {b: sorted(c for c, smallest in least.items() if smallest == b) for b in set(blocks)}
        for block, members in sorted(own.items(), key=lambda item: sorted(item[0])):
            for a, b in pairwise(members):
                found.append((a, b, gone[a][:, None] != gone[b][None, :]))
            inner = [o for o in own if o < block and own[o]]
            for o in sorted(inner, key=sorted) if members else ():
                a, b = members[0], own[o][0]
                found.append((a, b, gone[a][:, None] & ~gone[b][None, :]))
        return [
            ((a, b), np.where(bad, -np.inf, 0.0).ravel()) if a < b else ((b, a), np.where(bad.T, -np.inf, 0.0).ravel())
            for a, b, bad in found
        ]
    scope = tuple(sorted(frozenset().union(*blocks)))
    if math.prod(evaluator.sizes[c] for c in scope) > MAX_TORN:
        return []
    grid = np.stack([g.ravel() for g in np.meshgrid(*(evaluator.levels[c] for c in scope), indexing="ij")], axis=1)
    rows = np.tile(np.array(evaluator.widths(evaluator.full_levels), dtype=np.int64), (len(grid), 1))
    rows[:, list(scope)] = grid
    return [(scope, np.where(evaluator.whole_blocks(rows), 0.0, -np.inf))]
