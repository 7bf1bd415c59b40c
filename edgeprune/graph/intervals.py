"""Union-find over channel intervals: which runs of channels must be kept or removed together.

A *source* is an axis of channels that something produces, such as the filters of a convolution.
The channel axis of any tensor or parameter is a *layout*: a row of segments, each a run of one
source's channels. Equating two layouts says that their channels stand or fall together, position
by position. Work is done on whole runs: a source is cut only where an equation or a frozen stretch
begins or ends, cuts are carried across equations to a fixpoint, and the pieces are united. The
cost follows the number of pieces, never the number of channels.

Runs of different ``repeat`` may be equated too: four heads of eight channels each beside 32 channels.
Then the 32 are decided in four *units* of eight. The pieces of one class therefore may differ in
length; their greatest common divisor is the number of decisions.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import gcd, lcm


@dataclass(frozen=True, slots=True)
class Segment:
    """Channels ``start`` … ``start + length - 1`` of a source, each ``repeat`` positions wide."""

    source: int
    start: int
    length: int
    repeat: int = 1

    @property
    def positions(self) -> int:
        return self.length * self.repeat


Layout = tuple[Segment, ...]


def positions(layout: Layout) -> int:
    """Size of the tensor axis that ``layout`` describes."""
    return sum(s.positions for s in layout)


def joined(layouts: Iterable[Layout]) -> Layout:
    """The layout of a concatenation; runs that continue each other become one segment."""
    out: list[Segment] = []
    for s in (s for layout in layouts for s in layout):
        last = out[-1] if out else None
        if last and (last.source, last.start + last.length, last.repeat) == (s.source, s.start, s.repeat):
            out[-1] = Segment(last.source, last.start, last.length + s.length, last.repeat)
        else:
            out.append(s)
    return tuple(out)


def widened(layout: Layout, repeat: int) -> Layout:
    """Every position becomes ``repeat`` neighbouring positions (flatten, depth multiplier)."""
    return tuple(Segment(s.source, s.start, s.length, s.repeat * repeat) for s in layout)


def window(layout: Layout, start: int, stop: int) -> Layout | None:
    """Positions ``start`` … ``stop - 1``; ``None`` where an edge falls inside a repeated channel."""
    out: list[Segment] = []
    at = 0
    for s in layout:
        low, high = max(start - at, 0), min(stop - at, s.positions)
        at += s.positions
        if low >= high:
            continue
        if low % s.repeat or high % s.repeat:
            return None
        out.append(Segment(s.source, s.start + low // s.repeat, (high - low) // s.repeat, s.repeat))
    return tuple(out)


def narrowed(layout: Layout, by: int) -> Layout | None:
    """Undoes :func:`widened`; ``None`` where a segment is not that wide."""
    if any(s.repeat % by for s in layout):
        return None
    return tuple(Segment(s.source, s.start, s.length, s.repeat // by) for s in layout)


@dataclass(frozen=True, slots=True)
class _Equation:
    """Position ``p`` of both runs is one decision; both are ``length * repeat`` positions long."""

    a: Segment
    b: Segment

    @property
    def unit(self) -> int:
        """Positions that cannot be told apart."""
        return lcm(self.a.repeat, self.b.repeat)


@dataclass(frozen=True, slots=True)
class ChannelClass:
    """Channels that stand or fall together: ``size`` decisions, ``frozen`` says why there are none."""

    name: str
    size: int
    frozen: str


class Partition:
    """The solved space: classes in order of first appearance, and layouts read as rows of classes."""

    def __init__(self, classes: tuple[ChannelClass, ...], cuts: list[list[int]], owner: list[list[int]]) -> None:
        self.classes = classes
        self._cuts = cuts
        self._owner = owner

    def pieces(self, layout: Layout) -> Iterator[tuple[int, int]]:
        """Yield (class index, repeat) from the first position of ``layout`` to the last."""
        for s in layout:
            cuts = self._cuts[s.source]
            for i in range(bisect_left(cuts, s.start), bisect_left(cuts, s.start + s.length)):
                owner = self._owner[s.source][i]
                yield owner, s.repeat * ((cuts[i + 1] - cuts[i]) // self.classes[owner].size)


_Frozen = tuple[int, int, int, str]  # source, start, stop, reason


class ChannelSpace:
    """Sources, equations between runs of their channels, and frozen runs."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._equations: dict[_Equation, None] = {}
        self._frozen: list[_Frozen] = []

    def source(self, name: str, size: int) -> Layout:
        """A new axis of ``size`` channels; ``name`` becomes the name of its classes."""
        self._names.append(name)
        self._sizes.append(size)
        return (Segment(len(self._names) - 1, 0, size),) if size else ()

    def freeze(self, layout: Layout, reason: str) -> None:
        """Nothing in ``layout`` may be removed; of several reasons the first is reported."""
        self._frozen += [(s.source, s.start, s.start + s.length, reason) for s in layout]

    def is_frozen(self, layout: Layout) -> bool:
        """Whether all of ``layout`` has been frozen itself (not only what it is equated with)."""
        return all(
            any(
                source == s.source and start <= s.start and s.start + s.length <= stop
                for source, start, stop, _ in self._frozen
            )
            for s in layout
        )

    def equate(self, a: Layout, b: Layout) -> bool:
        """Channels at equal positions stand or fall together.

        Returns False, and changes nothing, where the layouts cannot be aligned: different sizes,
        or a segment that ends inside a repeated channel of the other.
        """
        runs: list[_Equation] = []
        left, right = list(reversed(a)), list(reversed(b))
        while left and right:
            s, t = left.pop(), right.pop()
            n = min(s.positions, t.positions)
            if n % lcm(s.repeat, t.repeat):
                return False
            first, second = (Segment(g.source, g.start, n // g.repeat, g.repeat) for g in (s, t))
            if first != second:
                runs.append(_Equation(first, second))
            for stack, g, used in ((left, s, first), (right, t, second)):
                if g.length > used.length:
                    stack.append(Segment(g.source, g.start + used.length, g.length - used.length, g.repeat))
        if left or right:
            return False
        self._equations.update(dict.fromkeys(runs))
        return True

    def solve(self, layouts: Iterable[Layout]) -> Partition:
        """Cut and unite; ``layouts`` are those that will be read, so that their ends become cuts."""
        cuts, torn = self._refined(layouts)
        first = [0]
        for c in cuts:
            first.append(first[-1] + len(c) - 1)
        parent = list(range(first[-1]))
        size = [stop - start for c in cuts for start, stop in pairwise(c)]

        def find(i: int) -> int:
            while parent[i] != i:
                parent[i] = parent[parent[i]]
                i = parent[i]
            return i

        for equation in self._equations:
            for i, j in _beside(equation, cuts):
                p, q = sorted((find(first[equation.a.source] + i), find(first[equation.b.source] + j)))
                parent[q] = p
                size[p] = gcd(size[p], size[q])

        frozen: dict[int, str] = {}
        for s, start, stop, reason in [*self._frozen, *torn]:
            for k in range(bisect_left(cuts[s], start), bisect_left(cuts[s], stop)):
                frozen.setdefault(find(first[s] + k), reason)
        roots = [[find(i) for i in range(first[s], first[s + 1])] for s in range(len(cuts))]
        return self._named(cuts, roots, size, frozen)

    def _refined(self, layouts: Iterable[Layout]) -> tuple[list[list[int]], list[_Frozen]]:
        """Cuts of every source, ascending with both ends, closed under the equations.

        A cut that falls inside a unit cannot be carried across: the whole unit is cut out instead,
        and listed among what nothing may be removed from.
        """
        links: list[list[tuple[Segment, Segment, int]]] = [[] for _ in self._sizes]
        for e in self._equations:
            links[e.a.source].append((e.a, e.b, e.unit))
            links[e.b.source].append((e.b, e.a, e.unit))
        cuts = [[0, size] if size else [0] for size in self._sizes]
        known = [set(c) for c in cuts]
        torn: list[_Frozen] = []
        todo: list[tuple[int, int]] = []
        todo += [(s, at) for s, rows in enumerate(links) for here, *_ in rows for at in _ends(here)]
        todo += [(s, at) for s, start, stop, _ in self._frozen for at in (start, stop)]
        todo += [(g.source, at) for layout in layouts for g in layout for at in _ends(g)]
        while todo:
            s, at = todo.pop()
            if at in known[s]:
                continue
            known[s].add(at)
            insort(cuts[s], at)
            for here, there, unit in links[s]:
                position = (at - here.start) * here.repeat
                if not 0 < position < here.positions:
                    continue
                low = position // unit * unit
                if low != position:
                    start, stop = (here.start + p // here.repeat for p in (low, low + unit))
                    torn.append((s, start, stop, "channels that stand or fall together are cut apart"))
                    todo += [(s, start), (s, stop)]
                todo += [(there.source, there.start + p // there.repeat) for p in {low, -(-position // unit) * unit}]
        return cuts, torn

    def _named(
        self, cuts: list[list[int]], roots: list[list[int]], size: list[int], frozen: dict[int, str]
    ) -> Partition:
        index: dict[int, int] = {}
        classes: list[ChannelClass] = []
        used: set[str] = set()
        for s, row in enumerate(roots):
            for k, root in enumerate(row):
                if root in index:
                    continue
                start, stop = cuts[s][k], cuts[s][k + 1]
                name = self._names[s] if stop - start == self._sizes[s] else f"{self._names[s]}[{start}:{stop}]"
                name = _unique(name, used)
                index[root] = len(classes)
                classes.append(ChannelClass(name, size[root], frozen.get(root, "")))
        return Partition(tuple(classes), cuts, [[index[r] for r in row] for row in roots])


def _ends(run: Segment) -> tuple[int, int]:
    return run.start, run.start + run.length


def _beside(equation: _Equation, cuts: list[list[int]]) -> Iterator[tuple[int, int]]:
    """Numbers of the pieces of both runs that share positions."""
    a, b = equation.a, equation.b
    i, j = bisect_left(cuts[a.source], a.start), bisect_left(cuts[b.source], b.start)
    at = 0
    while at < a.positions:
        yield i, j
        ends = (cuts[a.source][i + 1] - a.start) * a.repeat, (cuts[b.source][j + 1] - b.start) * b.repeat
        at = min(ends)
        i, j = i + (ends[0] == at), j + (ends[1] == at)


def _unique(name: str, used: set[str]) -> str:
    """``name``, or ``name#2``, ``name#3`` … if it is taken; the result is added to ``used``."""
    candidate, n = name, 1
    while candidate in used:
        n += 1
        candidate = f"{name}#{n}"
    used.add(candidate)
    return candidate
