"""The maximum of a sum of tables by variable elimination, in the plainest way: what the checker of proofs uses.

It shares no code with the solvers' (:mod:`edgeprune.budget.tree`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scope = tuple[int, ...]
MAX_CELLS = 40_000_000


class Summand(NamedTuple):
    """A table over variables: the most without a marked level, and with one; None where none is marked."""

    scope: Scope
    without: Array
    with_one: Array | None = None

    def mapped(self, scope: Scope, change: Callable[[Array], Array]) -> Summand:
        return Summand(scope, change(self.without), None if self.with_one is None else change(self.with_one))

    def plus(self, other: Summand) -> Summand:
        """The sum of tables of which one may lack dimensions of size 1: it has a marked level if either has."""
        both = None if other.with_one is None else self.without + other.with_one
        if self.with_one is not None:
            most = other.without if other.with_one is None else np.maximum(other.without, other.with_one)
            mine = self.with_one + most
            both = mine if both is None else np.maximum(mine, both)
        return Summand(self.scope, self.without + other.without, both)


def eliminate(
    sizes: Sequence[int],
    made_of: dict[int, tuple[int, int]],
    where: dict[int, NDArray[np.int64]],
    tables: list[Summand],
) -> Summand:
    """The maximum of a sum of tables; raises MemoryError if one gets large."""
    total = Summand((), np.zeros(()))
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


def _maximised(table: Summand, variable: int) -> Summand:
    axis = table.scope.index(variable)
    return table.mapped(tuple(v for v in table.scope if v != variable), lambda x: np.asarray(x.max(axis=axis)))


def _cells(variable: int, scopes: Sequence[Scope], sizes: Sequence[int], made_of: dict[int, tuple[int, int]]) -> int:
    """Of the table that is left when a variable goes, and the variable's own if it is maximised over."""
    scope = {variable, *made_of.get(variable, ())}.union(*(s for s in scopes if variable in s))
    return math.prod(sizes[v] for v in scope if v != variable or variable not in made_of)


def _join(sizes: Sequence[int], a: Summand, b: Summand) -> Summand:
    scope = tuple(sorted({*a.scope, *b.scope}))

    def spread(table: Summand) -> Summand:
        return table.mapped(scope, lambda x: x.reshape([sizes[v] if v in table.scope else 1 for v in scope]))

    return spread(a).plus(spread(b))


def _written_out(
    sizes: Sequence[int],
    variable: int,
    parents: tuple[int, int],
    where: NDArray[np.int64],
    table: Summand,
) -> Summand:
    """The same table in terms of what a total is made of."""
    after = tuple(sorted(v for v in {*table.scope, *parents} - {variable} if sizes[v] > 1))
    if math.prod(sizes[v] for v in after) > MAX_CELLS:
        raise MemoryError
    at = dict(zip(after, np.ix_(*(np.arange(sizes[v]) for v in after)), strict=True))
    alone = np.zeros((), dtype=np.int64)
    at[variable] = where[at.get(parents[0], alone), at.get(parents[1], alone)]
    cells = tuple(np.broadcast_to(at[v], [sizes[u] for u in after]) for v in table.scope)
    return table.mapped(after, lambda x: x[cells])
