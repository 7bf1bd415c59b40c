"""Densities: how many blocks of a layer's weights stay, as a choice beside its widths.

A layer of which some blocks are zero stores and computes the others alone, where that is quicker
(:mod:`edgeprune.compiler.in_blocks`). Its kernel at each density has latency tables of its own, as it has one for each
width, so a solver takes away channels or blocks, whichever costs less of what the network is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import UsageError
from edgeprune.graph.channels import KernelGraph
from edgeprune.graph.spec import KernelSpec

WHOLE = 100
"""All blocks stay."""

Cells = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Density:
    """A layer of whose weights blocks may go.

    Attributes:
        weight: the parameter.
        levels: what may stay of its blocks, in per cent, ascending; the last is :data:`WHOLE`. The first is 0 for a
            layer that may go with a block of the network.
        retained: what each level retains, in the unit of the groups' curves: shape (len(levels),), at least 0,
            non-decreasing.
    """

    weight: str
    levels: tuple[int, ...]
    retained: NDArray[np.float64]

    @property
    def may_go(self) -> bool:
        """Whether the whole layer may go."""
        return self.levels[0] == 0

    @property
    def stored(self) -> tuple[int, ...]:
        """The levels at which there is a layer."""
        return self.levels[1:] if self.may_go else self.levels

    def or_nothing(self) -> Density:
        """The same for a layer that may go as a whole, and then retains nothing."""
        return self if self.may_go else replace(self, levels=(0, *self.levels), retained=np.pad(self.retained, (1, 0)))


Densities = Mapping[str, Density]
"""By the kernel node that reads the weight."""


def parse_densities(given: str | Sequence[int] | None) -> tuple[int, ...]:
    """Densities that are offered, ascending, each once: numbers, or a text like ``25,50``.

    Raises:
        UsageError: one that is no whole number from 1 to 99.
    """
    parts: Sequence[str | int] = given.split(",") if isinstance(given, str) else given or ()
    wanted = [int(p) if isinstance(p, str) and p.strip().isdecimal() else p for p in parts]
    if wrong := [d for d in wanted if isinstance(d, bool) or not isinstance(d, int) or not 0 < d < WHOLE]:
        raise UsageError(
            f"a density is a whole number of per cent, from 1 to 99, not {wrong[0]!r}", hint="give 25,50, say"
        )
    return tuple(sorted({d for d in wanted if isinstance(d, int)}))


def at_density(spec: KernelSpec, density: int) -> KernelSpec:
    """The kernel that stores so many blocks of its weights; at :data:`WHOLE` the one that stores them all."""
    return spec if density == WHOLE else spec.with_density(density)


def in_blocks(graph: KernelGraph, densities: Mapping[str, int]) -> KernelGraph:
    """A network of whose layers some store a part of their blocks.

    Args:
        densities: node -> what stays, in per cent; others store them all.
    """
    if not densities:
        return graph
    nodes = (replace(n, spec=at_density(n.spec, densities.get(n.name, WHOLE))) for n in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def quickest(latency_ms: Sequence[Cells], flash_bytes: Sequence[Cells]) -> tuple[Cells, Cells]:
    """Tables over densities, the last axis, of tables of each of them, ascending.

    A layer of few blocks may be stored as one of more, and that is what it costs where it is quicker so.
    """
    best_ms, best_bytes = [latency_ms[-1]], [flash_bytes[-1]]
    for ms, size in zip(reversed(latency_ms[:-1]), reversed(flash_bytes[:-1]), strict=True):
        quicker = ms < best_ms[0]
        best_ms.insert(0, np.where(quicker, ms, best_ms[0]))
        best_bytes.insert(0, np.where(quicker, size, best_bytes[0]))
    return np.stack(best_ms, axis=-1), np.stack(best_bytes, axis=-1)
