"""Maximisation of a sum of tables over a tree of buckets: forth for the maximum, back for what each level is worth.

Bucket elimination (Dechter 1999) in the max-sum form, with an order found greedily. A total is not maximised over: its
table is written in terms of the two variables that determine it. Where joining all tables of a variable would take
too much memory they are split (mini-buckets, Dechter and Rish 2003): copies of the variable then choose on their own,
so that the result is a bound above the maximum and no longer the maximum itself. What one copy gains at a level another
may lose there: such shifts leave every plan's sum as it is and bring the bound down (as in Ihler et al. 2012).
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.factors import Array, Factors, Ints

MAX_CELLS = 4_000_000
"""Cells of a joined table."""
_AT_ONCE = 1 << 17
"""Cells that are joined as a whole."""


@dataclass(slots=True)
class Source:
    """A table that a bucket joins: a factor of the problem, or what another bucket hands on."""

    scope: tuple[int, ...]
    factor: int = -1
    bucket: int = -1


@dataclass(slots=True)
class Bucket:
    """Tables joined over ``scope``, and what is handed on.

    Attributes:
        scope: ascending variables of the joined table.
        sources: what is joined, the largest first; one if ``gather`` is given.
        variable: that is maximised over; -1 if none is.
        gather: for each cell of the joined table the cell of the source; for a total that is written out.
    """

    scope: tuple[int, ...]
    sources: list[Source]
    variable: int = -1
    gather: Ints | None = None

    @property
    def handed_on(self) -> tuple[int, ...]:
        return tuple(v for v in self.scope if v != self.variable)


@dataclass(frozen=True, slots=True)
class Maximum:
    """The maximum of a tree's tables.

    Attributes:
        value: -inf if every combination is forbidden.
        cells: of each factor, the cell that was chosen; empty if there is none.
        chosen: of each choice, the index among its levels offered.
    """

    value: float
    cells: tuple[int, ...]
    chosen: tuple[int, ...]


class Tree:
    """The buckets of one factor graph, for any tables over it.

    Attributes:
        exact: whether no bucket had to be split.
        cells: of all joined tables together, which is what one pass costs.
    """

    def __init__(self, graph: Factors, *, max_cells: int = MAX_CELLS) -> None:
        self.graph = graph
        self._sizes = graph.sizes
        self._max_cells = max_cells
        self._splits = 0
        self._buckets: list[Bucket] = []
        self._roots: list[Source] = []
        self._build(self._least_cells)
        if self._splits:
            # What is smallest now is not always what stays small: an order that joins the fewest pairs may fit.
            splits, found = self._splits, (self._buckets, self._roots)
            self._build(self._least_fill)
            if self._splits >= splits:
                self._splits, (self._buckets, self._roots) = splits, found
        self.exact = not self._splits
        self._shifts: dict[int, Array] = {}
        copies = Counter(b.variable for b in self._buckets if b.gather is None)
        for i, b in enumerate(self._buckets):
            if b.gather is None and copies[b.variable] > 1:
                self._shifts[i] = np.zeros(self._sizes[b.variable])
        # In the order in which they are added, and in the shape in which each is.
        self._sources = [b.sources[::-1] for b in self._buckets]
        self._spread = [
            [[self._sizes[v] if v in s.scope else 1 for v in b.scope] for s in sources]
            for b, sources in zip(self._buckets, self._sources, strict=True)
        ]
        self.cells = sum(math.prod(self._sizes[v] for v in b.scope) for b in self._buckets)
        self._scratch = np.zeros(0)

    # -- structure ---------------------------------------------------------------------------------

    def _build(self, cost: Callable[[int, Sequence[Source]], tuple[int, ...]]) -> None:
        """Eliminate all variables, the one of least cost first."""
        self._buckets, self._roots, self._splits = [], [], 0
        n = len(self._sizes)
        # A variable with one value left is no dimension: arrays have no room for many of these.
        pending = [Source(self._open(f.scope), factor=i) for i, f in enumerate(self.graph.factors)]
        # Saliency is a table of each choice; they come after the factors.
        first = len(self.graph.factors)
        pending += [Source(self._open((c,)), factor=first + c) for c in range(len(self.graph.offered))]
        self._roots += [s for s in pending if not s.scope]
        left = set(range(n))
        children = [0] * n
        for total in self.graph.totals:
            for parent in set(total.parents) if total else ():
                children[parent] += 1
        touching: list[list[Source]] = [[s for s in pending if v in s.scope] for v in range(n)]
        self._touching = touching
        costs = {v: cost(v, touching[v]) for v in left if not children[v]}
        waiting = [(c, v) for v, c in costs.items()]
        heapq.heapify(waiting)
        while left:
            least, variable = heapq.heappop(waiting)
            if costs.get(variable) != least:
                continue  # It has another cost by now, and waits with that one, too.
            del costs[variable]
            left.remove(variable)
            sources = touching[variable]
            total = self.graph.totals[variable]
            if total is not None:
                made = [self._write_out(variable, s) for s in sources]
                for parent in set(total.parents):
                    children[parent] -= 1
            else:
                made = [self._eliminate(variable, group) for group in self._groups(variable, sources)]
            changed = {v for s in (*sources, *made) for v in s.scope} | set(total.parents if total else ())
            gone = {id(s) for s in sources}
            for v in changed & left:
                touching[v] = [s for s in touching[v] if id(s) not in gone] + [s for s in made if v in s.scope]
                if not children[v]:
                    costs[v] = cost(v, touching[v])
                    heapq.heappush(waiting, (costs[v], v))
            self._roots += [s for s in made if not s.scope]
            touching[variable] = []

    def _open(self, scope: Iterable[int]) -> tuple[int, ...]:
        return tuple(sorted(v for v in scope if self._sizes[v] > 1))

    def _least_cells(self, variable: int, sources: Sequence[Source]) -> tuple[int, ...]:
        total = self.graph.totals[variable]
        if total is not None:
            return (sum(self._count({*s.scope, *total.parents} - {variable}) for s in sources),)
        return (self._count({variable}.union(*(s.scope for s in sources))),)

    def _least_fill(self, variable: int, sources: Sequence[Source]) -> tuple[int, ...]:
        """Pairs of variables that share no table yet and would, then cells."""
        total = self.graph.totals[variable]
        near = set().union(*(s.scope for s in sources), total.parents if total else ()) - {variable}
        pairs = {p for s in sources for p in combinations(sorted(s.scope), 2)}
        fill = sum(p not in pairs and not self._adjacent(*p) for p in combinations(sorted(near), 2))
        return (fill, *self._least_cells(variable, sources))

    def _adjacent(self, a: int, b: int) -> bool:
        return any(b in s.scope for s in self._touching[a])

    def _count(self, scope: set[int]) -> int:
        return math.prod(self._sizes[v] for v in scope)

    def _groups(self, variable: int, sources: Sequence[Source]) -> list[list[Source]]:
        """Sources to be joined together; more than one group if they do not fit into one table."""
        groups: list[tuple[set[int], list[Source]]] = []
        for source in sorted(sources, key=lambda s: -self._count(set(s.scope))):
            for scope, members in groups:
                if self._count(scope | set(source.scope)) <= max(self._max_cells, self._count(scope)):
                    scope |= set(source.scope)
                    members.append(source)
                    break
            else:
                groups.append((set(source.scope), [source]))
        self._splits += max(0, len(groups) - 1)
        return [members for _, members in groups]

    def _eliminate(self, variable: int, sources: list[Source]) -> Source:
        scope = tuple(sorted({variable}.union(*(s.scope for s in sources))))
        self._buckets.append(Bucket(scope, sources, variable))
        return Source(self._buckets[-1].handed_on, bucket=len(self._buckets) - 1)

    def _write_out(self, variable: int, source: Source) -> Source:
        total = self.graph.totals[variable]
        assert total is not None
        scope = self._open({*source.scope, *total.parents} - {variable})
        at = dict(zip(scope, np.ix_(*(np.arange(self._sizes[v]) for v in scope)), strict=True))
        alone = np.zeros((), dtype=np.int64)
        at[variable] = total.index[at.get(total.parents[0], alone), at.get(total.parents[1], alone)]
        cell = np.zeros((), dtype=np.int64)
        for v in source.scope:
            cell = cell * self._sizes[v] + at[v]
        gather = np.broadcast_to(cell, [self._sizes[v] for v in scope]).ravel()
        self._buckets.append(Bucket(scope, [source], -1, gather))
        return Source(scope, bucket=len(self._buckets) - 1)

    # -- passes ------------------------------------------------------------------------------------

    def maximise(self, tables: Sequence[Array]) -> Maximum:
        """The maximum of the sum of ``tables``, one flat table for each factor and then one for each choice."""
        self._tables = tables
        self._handed: list[Array] = []
        for i, bucket in enumerate(self._buckets):
            self._handed.append(self._joined(i) if bucket.gather is not None else self._most_of(i))
        value = float(sum(self._given(s).item() for s in self._roots))
        if value == -np.inf:
            return Maximum(value, (), ())
        return Maximum(value, *self._decode())

    def _parts(self, i: int) -> list[Array]:
        """What a bucket joins, small ones first: their sums are small, too. Each has an axis for all of its scope."""
        parts = [self._given(s).reshape(shape) for s, shape in zip(self._sources[i], self._spread[i], strict=True)]
        if (shift := self._shifts.get(i)) is not None:
            bucket = self._buckets[i]
            parts.append(shift.reshape([-1 if v == bucket.variable else 1 for v in bucket.scope]))
        return parts

    def _joined(self, i: int) -> Array:
        bucket = self._buckets[i]
        if bucket.gather is not None:
            return np.take(self._given(bucket.sources[0]), bucket.gather).reshape(self._shape(bucket.scope))
        return _sum(self._parts(i), self._shape(bucket.scope))

    def _most_of(self, i: int) -> Array:
        """The maximum of a bucket over its variable. A large one is never there as a whole: what a processor's nearest
        cache holds is quickest.
        """
        bucket = self._buckets[i]
        parts, shape, axis = self._parts(i), self._shape(bucket.scope), bucket.scope.index(bucket.variable)
        if len(shape) == 1 or math.prod(shape) <= _AT_ONCE:
            return self._most_at_once(parts, shape, axis)
        slices = ([p[k if p.shape[0] > 1 else 0] for p in parts] for k in range(shape[0]))
        if axis:
            return np.stack([_sum(s, shape[1:]).max(axis=axis - 1) for s in slices])
        most = _sum(next(slices), shape[1:])
        for part in slices:
            np.maximum(most, _sum(part, shape[1:]), out=most)
        return most

    def _most_at_once(self, parts: Sequence[Array], shape: Sequence[int], axis: int) -> Array:
        """The axis goes first: the maximum is then taken over whole rows, and not within short ones."""
        order = (axis, *(a for a in range(len(shape)) if a != axis))
        *small, largest = (p.transpose(order) for p in parts)
        turned = [shape[a] for a in order]
        if self._scratch.size < math.prod(shape):
            self._scratch = np.empty(math.prod(shape))
        joined = self._scratch[: math.prod(shape)].reshape(turned)
        # Small ones first, so that all cells are gone through but once.
        np.add(sum(small[1:], start=small[0]) if small else 0.0, largest, out=joined)
        most: Array = joined.reshape(turned[0], -1).max(axis=0)
        return most.reshape(turned[1:])

    def _given(self, source: Source) -> Array:
        if source.bucket >= 0:
            return self._handed[source.bucket]
        return self._tables[source.factor]

    def _shape(self, scope: tuple[int, ...]) -> list[int]:
        return [self._sizes[v] for v in scope]

    def _decode(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        cells = [0] * len(self._tables)
        chosen = [0] * len(self.graph.offered)
        at: list[dict[int, int]] = [{} for _ in self._buckets]
        for i in reversed(range(len(self._buckets))):
            bucket, here = self._buckets[i], at[i]
            if bucket.gather is None:
                curve = self._curve(i, here)
                # The widest of equally good ones.
                here[bucket.variable] = len(curve) - 1 - int(curve[::-1].argmax())
                chosen[bucket.variable] = here[bucket.variable]
            else:
                for v in bucket.sources[0].scope:
                    total = self.graph.totals[v]
                    if v not in here and total is not None:
                        here[v] = int(total.index[here.get(total.parents[0], 0), here.get(total.parents[1], 0)])
            for source in bucket.sources:
                if source.bucket >= 0:
                    at[source.bucket] = {v: here[v] for v in source.scope}
                else:
                    cell = 0
                    for v in source.scope:
                        cell = cell * self._sizes[v] + here[v]
                    cells[source.factor] = cell
        return tuple(cells), tuple(chosen)

    def _curve(self, i: int, here: Mapping[int, int]) -> Array:
        """What a bucket joins at the values chosen of all other variables of its scope: one for each of its own."""
        bucket = self._buckets[i]
        at = [slice(None) if v == bucket.variable else here[v] for v in bucket.scope]
        parts = [p[tuple(k if n > 1 else 0 for k, n in zip(at, p.shape, strict=True))] for p in self._parts(i)]
        return _sum(parts, [self._sizes[bucket.variable]])

    def worths(self) -> list[Array]:
        """For each choice, the maximum with each of its levels offered, of the tables maximised last.

        Where buckets were split each copy of a choice has a bound of its own; the least of them counts.
        """
        found = [np.full(self._sizes[c], np.inf) for c in range(len(self.graph.offered))]
        for i, curve in self._curves():
            variable = self._buckets[i].variable
            found[variable] = np.minimum(found[variable], curve)
        return found

    def shift(self) -> None:
        """Bring what the copies of a choice say of its levels nearer to one another."""
        curves: dict[int, list[tuple[int, Array]]] = {}
        for i, curve in self._curves():
            if i in self._shifts:
                curves.setdefault(self._buckets[i].variable, []).append((i, curve))
        for copies in curves.values():
            # A level that a copy rules out is none for all of them: leave it alone.
            usable = np.isfinite([c for _, c in copies]).all(axis=0)
            mean = np.mean([np.where(usable, c, 0.0) for _, c in copies], axis=0)
            for i, curve in copies:
                self._shifts[i] = self._shifts[i] + np.where(usable, mean - curve, 0.0) / len(copies)

    def _curves(self) -> Iterator[tuple[int, Array]]:
        """Buckets, and for each the maximum at each value of its variable, of the tables maximised last."""
        constant = [self._given(s).item() for s in self._roots]
        everything = float(sum(constant))
        # What the rest of the problem adds to what a bucket hands on.
        rest: list[Array] = [np.zeros(0)] * len(self._buckets)
        for source, own in zip(self._roots, constant, strict=True):
            if source.bucket >= 0:
                rest[source.bucket] = np.array(everything - own)
        for i in reversed(range(len(self._buckets))):
            bucket = self._buckets[i]
            if bucket.gather is None:
                axis = bucket.scope.index(bucket.variable)
                belief = self._joined(i)
                belief += np.expand_dims(rest[i], axis)
                yield i, _most(belief, bucket.scope, (bucket.variable,))
                for source in (s for s in bucket.sources if s.bucket >= 0):
                    rest[source.bucket] = _without(_most(belief, bucket.scope, source.scope), self._given(source))
            elif bucket.sources[0].bucket >= 0:
                given = self._given(bucket.sources[0])
                belief = (self._handed[i] + rest[i]).ravel()
                most = np.full(given.size, -np.inf)
                np.maximum.at(most, bucket.gather, belief)
                rest[bucket.sources[0].bucket] = _without(most.reshape(given.shape), given)


def _sum(parts: Sequence[Array], shape: Sequence[int]) -> Array:
    """A new array: the sum of arrays that broadcast to ``shape``."""
    total = parts[0] + parts[1] if len(parts) > 1 else parts[0]
    for part in parts[2:]:
        total = total + part
    return total if len(parts) > 1 and list(total.shape) == list(shape) else np.broadcast_to(total, shape).copy()


def _most(table: Array, scope: tuple[int, ...], wanted: tuple[int, ...]) -> Array:
    """The maximum over all variables but those wanted."""
    axes = tuple(i for i, v in enumerate(scope) if v not in wanted)
    most: Array = table.max(axis=axes) if axes else table
    return most


def _without(belief: Array, given: Array) -> Array:
    """``belief - given``, where both may be -inf."""
    forbidden: NDArray[np.bool_] = given == -np.inf
    return np.where(forbidden, -np.inf, belief - np.where(forbidden, 0.0, given))
