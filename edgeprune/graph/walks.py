"""Walks and views: strided access to the data of another tensor.

A walk says for each dimension of the stored data which loop of the reader moves along it, from where
and in which steps. A loop that moves along no dimension repeats the values (broadcasting). Kernel
specs of op ``strided`` hold walks as attributes ``walk0``, ``walk1`` …: three numbers a dimension.

A view is a walk with the shape it shows. Permuting, slicing, flipping and expanding a view makes
another view and moves no data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

FIXED = -1
"""No loop moves along the dimension."""


@dataclass(frozen=True, slots=True)
class Along:
    """One dimension of the data: position ``start + step * loop``."""

    loop: int
    start: int = 0
    step: int = 1


@dataclass(frozen=True, slots=True)
class Walk:
    """One entry for each dimension of the data."""

    dims: tuple[Along, ...]

    def steps(self, shape: Sequence[int], loops: int) -> list[int]:
        """Elements of the data that each of ``loops`` loops moves by."""
        moved = [0] * loops
        for dim, along in enumerate(self.dims):
            if along.loop != FIXED:
                moved[along.loop] += along.step * math.prod(shape[dim + 1 :])
        return moved

    def offset(self, shape: Sequence[int]) -> int:
        """The element where the walk begins."""
        return sum(a.start * math.prod(shape[dim + 1 :]) for dim, a in enumerate(self.dims))

    def moved(self, loops: Mapping[int, int]) -> Walk:
        """The same walk by other numbers of the loops."""
        return Walk(tuple(a if a.loop == FIXED else replace(a, loop=loops[a.loop]) for a in self.dims))

    def to_attr(self) -> tuple[int, ...]:
        return tuple(n for a in self.dims for n in (a.loop, a.start, a.step))

    @classmethod
    def from_attr(cls, numbers: Sequence[int]) -> Walk:
        return cls(tuple(Along(*numbers[i : i + 3]) for i in range(0, len(numbers), 3)))

    def resized(self, shape: Sequence[int], loop: int, before: int, after: int) -> tuple[int, ...]:
        """The shape of the data if a loop had ``after`` iterations instead of ``before``."""
        return tuple(
            size + (after - before) * abs(a.step) if a.loop == loop and size > 1 else size
            for size, a in zip(shape, self.dims, strict=True)
        )


def kept_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which data lie: kernels know no tensors of less than two dimensions."""
    return (1,) * (2 - len(shape)) + shape


def identity(rank: int) -> Walk:
    """The walk through data that has the reader's shape."""
    return Walk(tuple(Along(d) for d in range(rank)))


@dataclass(frozen=True, slots=True)
class View:
    """A tensor of ``shape``; ``walk`` finds its values in row-major data of the dimensions ``base``."""

    base: tuple[int, ...]
    walk: Walk
    shape: tuple[int, ...]

    @classmethod
    def identity(cls, shape: tuple[int, ...]) -> View:
        return cls(shape, identity(len(shape)), shape)

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> View:
        """All of data that kernels compute, in order: :meth:`identity`, of data that lie in at least two dimensions."""
        base = kept_shape(shape)
        added = (Along(FIXED),) * (len(base) - len(shape))
        return cls(base, Walk((*added, *identity(len(shape)).dims)), shape)

    def permuted(self, order: Sequence[int]) -> View:
        """Dimension i of the result is dimension ``order[i]``."""
        to = {old: new for new, old in enumerate(order)}
        dims = (a if a.loop == FIXED else replace(a, loop=to[a.loop]) for a in self.walk.dims)
        return View(self.base, Walk(tuple(dims)), tuple(self.shape[d] for d in order))

    def sliced(self, dim: int, start: int, count: int, step: int = 1) -> View:
        """``count`` positions of one dimension from ``start`` on; a negative step walks backwards."""
        dims = (Along(dim, a.start + a.step * start, a.step * step) if a.loop == dim else a for a in self.walk.dims)
        return View(self.base, Walk(tuple(dims)), (*self.shape[:dim], count, *self.shape[dim + 1 :]))

    def expanded(self, shape: Sequence[int]) -> View:
        """Broadcast to ``shape``: dimensions are aligned at the last, those of size 1 are repeated."""
        more = len(shape) - len(self.shape)
        repeated = {d for d, size in enumerate(self.shape) if size == 1 != shape[d + more]}
        dims = (
            a if a.loop == FIXED else Along(FIXED, a.start) if a.loop in repeated else replace(a, loop=a.loop + more)
            for a in self.walk.dims
        )
        return View(self.base, Walk(tuple(dims)), tuple(shape))

    def reshaped(self, shape: Sequence[int]) -> View | None:
        """Seen in another shape, if that needs no more than dimensions of size 1 that come or go; else None."""
        if self == View.whole(self.shape):
            return View.whole(tuple(shape))
        if self == View.identity(self.shape):
            return View.identity(tuple(shape))
        old, new = ([d for d, size in enumerate(s) if size > 1] for s in (self.shape, shape))
        if [self.shape[d] for d in old] != [shape[d] for d in new]:
            return None
        to = dict(zip(old, new, strict=True))
        dims = (Along(to[a.loop], a.start, a.step) if a.loop in to else Along(FIXED, a.start) for a in self.walk.dims)
        return View(self.base, Walk(tuple(dims)), tuple(shape))

    @property
    def steps(self) -> list[int]:
        """Elements of the data that one position further along each dimension moves by."""
        return self.walk.steps(self.base, len(self.shape))

    @property
    def offset(self) -> int:
        """The element of the data that is seen first."""
        return self.walk.offset(self.base)

    @property
    def contiguous(self) -> bool:
        """Whether the values lie in the data as they are, nothing before or after them."""
        steps = self.steps
        whole = all(size == 1 or steps[d] == math.prod(self.shape[d + 1 :]) for d, size in enumerate(self.shape))
        return whole and math.prod(self.base) == math.prod(self.shape)
