"""Peak RAM as a solver takes it: one row for each step of the schedule, a sum of tables over widths.

The largest row is what the program allocates, wherever the arena is packed without a gap (compiler/memory.py mends its
packing until it is, or gives up); it is never more. At width 0 a tensor takes nothing: what is left of a removed block
beside it is counted as in the dense network, so such a plan may need less than its rows say.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.problem import Axis, Row, Table
from edgeprune.compiler.memory import aligned
from edgeprune.compiler.ram import MemoryModel
from edgeprune.graph.channels import AxisBinding
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.grids import split

Array = NDArray[np.float64]
Levels = Mapping[str, tuple[int, ...]]
_Key = tuple[tuple[tuple[str, ...], int], ...]
"""For each axis its groups that leave a choice, and the width of the others."""


@dataclass
class _Sum:
    """``base`` and tables by their axes; those over the same axes are one."""

    base: float = 0.0
    tables: dict[_Key, Array] = field(default_factory=dict)

    def add(self, key: _Key, values: Array) -> None:
        least = float(values.min())
        self.base += least
        if (rest := values - least).any():
            self.tables[key] = self.tables[key] + rest if key in self.tables else rest

    def plus(self, other: _Sum) -> _Sum:
        total = _Sum(self.base + other.base, dict(self.tables))
        for key, values in other.tables.items():
            total.add(key, values)
        return total

    def never_above(self, other: _Sum) -> bool:
        """Whether no widths make this one larger, by the largest difference table by table."""
        most = self.base - other.base
        for key in self.tables.keys() | other.tables.keys():
            most += float(np.max(self.tables.get(key, 0.0) - other.tables.get(key, np.zeros(1))))
        return most <= 0


def ram_rows(model: MemoryModel, levels: Levels, index: Mapping[str, int]) -> tuple[Row, ...]:
    """The rows of a network, without those that others are never below.

    Args:
        levels: for each group its levels, ascending; one level for a group that leaves no choice.
        index: of each group that leaves a choice, by name: its place among the choices of the problem.
    """
    return _Rows(model, levels).rows(index)


class _Rows:
    def __init__(self, model: MemoryModel, levels: Levels) -> None:
        self._model, self._levels = model, levels
        self._grids: dict[tuple[tuple[str, ...], int], NDArray[np.int64]] = {}

    def rows(self, index: Mapping[str, int]) -> tuple[Row, ...]:
        model = self._model
        sizes = {t: _Sum(aligned(n)) for t, n in model.input_bytes.items()}
        scratch, always = [], _Sum(model.fixed_bytes)
        for step, node in enumerate(model.kernels.nodes):
            sizes[node.output] = self._sum(step, ("out",), lambda spec: aligned(model.output_bytes(spec)))
            axes = tuple(node.spec.widths)
            scratch.append(self._sum(step, axes, lambda spec: aligned(model.call(spec).scratch_bytes)))
            always = always.plus(self._sum(step, axes, partial(model.held_bytes, step)))
        sums = []
        places = model.spans({})
        for step, name in enumerate(["inputs", *(n.name for n in model.kernels.nodes)], start=-1):
            total = always if step < 0 else always.plus(scratch[step])
            for place in places:
                if place.first <= step <= place.last:
                    total = total.plus(sizes[place.tensor])
            sums.append((name, total))
        return tuple(self._row(name, total, index) for name, total in _undominated(sums))

    def _sum(self, step: int, axes: Sequence[str], bytes_of: Callable[[KernelSpec], float]) -> _Sum:
        """What ``bytes_of`` says of the kernel of a step at all widths of ``axes``, the others being full."""
        node = self._model.kernels.nodes[step]
        full = node.spec.widths
        used = [a for a in full if a in axes]
        keys = tuple(split(node.axes.get(a, AxisBinding((), full[a])), self._levels) for a in used)
        grids = [self._grid(*key) for key in keys]
        values = np.zeros([len(g) for g in grids])
        for cell, widths in zip(np.ndindex(values.shape), itertools.product(*grids), strict=True):
            if all(widths):
                at = {**full, **{a: int(w) for a, w in zip(used, widths, strict=True)}}
                values[cell] = bytes_of(self._model.spec(step, at))
        open_axes = [i for i, (groups, _) in enumerate(keys) if groups]
        closed = tuple(i for i in range(len(keys)) if i not in open_axes)
        total = _Sum()
        total.add(tuple(keys[i] for i in open_axes), values.squeeze(axis=closed))
        return total

    def _grid(self, groups: tuple[str, ...], base: int) -> NDArray[np.int64]:
        """Every total that the levels make: bytes go up in steps, between which nothing may be interpolated."""
        key = (groups, base)
        if key not in self._grids:
            totals = {base}
            for group in sorted(set(groups)):
                totals = {t + groups.count(group) * level for t in totals for level in self._levels[group]}
            self._grids[key] = np.array(sorted(totals), dtype=np.int64)
        return self._grids[key]

    def _row(self, name: str, total: _Sum, index: Mapping[str, int]) -> Row:
        return Row(
            name,
            total.base,
            tuple(
                Table(
                    tuple(Axis(tuple(index[g] for g in groups), base) for groups, base in key),
                    tuple(self._grid(groups, base) for groups, base in key),
                    values,
                )
                for key, values in total.tables.items()
            ),
        )


def _undominated(sums: Iterable[tuple[str, _Sum]]) -> list[tuple[str, _Sum]]:
    """The largest first, so that one comparison with what is kept decides."""
    kept: list[tuple[str, _Sum]] = []
    for name, total in sorted(sums, key=lambda s: -s[1].base - sum(float(v.max()) for v in s[1].tables.values())):
        if not any(total.never_above(other) for _, other in kept):
            kept = [k for k in kept if not k[1].never_above(total)] + [(name, total)]
    return kept
