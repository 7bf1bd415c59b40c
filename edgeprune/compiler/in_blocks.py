"""Which layers of a network store blocks of their weights: those whose other blocks are zero, where that pays."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.folding import State, folded
from edgeprune.compiler.kernels.registry import builds_in_blocks
from edgeprune.compiler.kernels.stored_blocks import pattern_of
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.errors import UsageError
from edgeprune.graph.channels import KernelGraph
from edgeprune.graph.ops.convolution import density_of
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

BlockSparse = Literal["never", "profiled", "always"]
"""When a layer whose weights are zero in blocks stores the others alone: ``profiled``, where timings say that it is
quicker so.
"""


def in_blocks(spec: KernelSpec, weight: NDArray[np.float32] | None) -> KernelSpec | None:
    """The kernel that stores the blocks of a layer's weights that are not zero.

    Args:
        weight: (O, …) as :func:`edgeprune.compiler.folding.folded` gives it.

    Returns:
        None where no kernel does that, or where no block is zero.
    """
    if weight is None or not _may(spec):
        return None
    density = density_of(pattern_of(weight))
    return spec.with_density(density) if density < 100 else None


def layers_for_blocks(graph: KernelGraph) -> dict[str, str]:
    """Layers that may store blocks of their weights: node -> the weight, which no other node reads."""
    read = Counter(n.weights.weight for n in graph.nodes)
    return {n.name: w for n in graph.nodes if (w := n.weights.weight) and read[w] == 1 and _may(n.spec)}


def _may(spec: KernelSpec) -> bool:
    """Whether there are kernels that store blocks of its weights."""
    try:
        return builds_in_blocks(spec.with_density(100))
    except ValueError:  # of another operator, or another window
        return False


def found_in_blocks(graph: KernelGraph, state: State) -> list[KernelSpec | None]:
    """For each kernel of a network :func:`in_blocks`."""
    return [in_blocks(n.spec, folded(n, state)[0]) if n.weights.weight and _may(n.spec) else None for n in graph.nodes]


def choose_blocks(
    graph: KernelGraph, state: State, target: Target, book: ScheduleBook, choice: BlockSparse
) -> tuple[KernelGraph, ScheduleBook]:
    """The graph with the kernels that store blocks, and the book of their schedules.

    Raises:
        UsageError: there is no such choice, or blocks are to be stored for a GPU.
    """
    if choice not in get_args(BlockSparse):
        raise UsageError(f"block_sparse is {choice!r}", hint=f"choose one of {', '.join(get_args(BlockSparse))}")
    if choice == "always" and target.kind != "cpu":
        raise UsageError(
            f"kernels for {target.name} store all weights: those that store blocks of them are for processors",
            hint="leave --block-sparse away; " + target.cores_hint,
        )
    if choice == "never" or target.kind != "cpu" or (choice == "profiled" and not book.knows_blocks):
        return graph, book
    nodes = [
        node
        if spec is None or (choice == "profiled" and not book.quicker_in_blocks(spec))
        else replace(node, spec=spec)
        for node, spec in zip(graph.nodes, found_in_blocks(graph, state), strict=True)
    ]
    return replace(graph, nodes=tuple(nodes)), book.of_blocks()
