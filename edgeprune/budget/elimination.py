"""Exact minimisation of a sum of small tables by variable elimination.

Costs of a network are sums of tables over one or two width groups, so the graph of groups that
share a table is a path for a plain network and nearly one with residuals; eliminating groups one by
one then needs tables hardly larger than the given ones (Bertele and Brioschi, Nonserial Dynamic
Programming, 1972; the min-sum form of bucket elimination, Dechter 1999).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Factor = tuple[tuple[int, ...], NDArray[np.float64]]
"""Ascending variables, and a table with one axis for each."""

MAX_CELLS = 2_000_000


def minimise(sizes: Sequence[int], factors: Sequence[Factor], *, max_cells: int = MAX_CELLS) -> tuple[int, ...] | None:
    """The assignment with the smallest sum of ``factors``.

    Args:
        sizes: number of values of each variable. A variable of no factor takes its last value.
        factors: the tables to be summed.

    Returns:
        One value index for each variable, or None if an intermediate table would exceed ``max_cells``.
    """
    pending = list(factors)
    left = set(range(len(sizes)))
    decided: list[tuple[int, tuple[int, ...], NDArray[np.int64]]] = []
    while left:
        scopes = {v: tuple(sorted({v}.union(*(s for s, _ in pending if v in s)))) for v in left}
        cells, variable = min((math.prod(sizes[u] for u in scope), v) for v, scope in scopes.items())
        if cells > max_cells:
            return None
        scope = scopes[variable]
        table = np.zeros([sizes[u] for u in scope])
        for factor_scope, values in (f for f in pending if variable in f[0]):
            table += values.reshape([sizes[u] if u in factor_scope else 1 for u in scope])
        axis = scope.index(variable)
        rest = tuple(u for u in scope if u != variable)
        # The widest of equally cheap values: saliency never falls with width.
        flipped = np.flip(table, axis=axis)
        decided.append((variable, rest, sizes[variable] - 1 - flipped.argmin(axis=axis)))
        pending = [f for f in pending if variable not in f[0]] + [(rest, table.min(axis=axis))]
        left.remove(variable)
    values_of = [0] * len(sizes)
    for variable, rest, choice in reversed(decided):
        values_of[variable] = int(choice[tuple(values_of[u] for u in rest)])
    return tuple(values_of)
