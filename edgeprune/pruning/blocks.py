"""Removable blocks: those without whose channels a network runs, found by trying."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from edgeprune.errors import VerificationError
from edgeprune.graph.channels import Block, ChannelGraph
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink


def removable(
    module: nn.Module, graph: ChannelGraph, example_inputs: tuple[Tensor, ...]
) -> tuple[ChannelGraph, dict[str, str]]:
    """``graph`` with its removable blocks, and by name the reasons why the others cannot be removed.

    Between the layers of a block the network's own code runs, and some of it does not bear tensors without
    channels (pooling, resizing). All blocks are tried at once; only if that fails one by one.
    """
    refused: dict[str, str] = {}
    if graph.blocks and _fault(module, graph, graph.blocks, example_inputs):
        for block in graph.blocks:
            if fault := _fault(module, graph, [block], example_inputs):
                refused[block.name] = fault
    kept = tuple(b for b in graph.blocks if b.name not in refused)
    if refused and kept and (fault := _fault(module, graph, kept, example_inputs)):
        refused |= dict.fromkeys((b.name for b in kept), f"not together with the others: {fault}")
        kept = ()
    return replace(graph, blocks=kept), refused


def _fault(module: nn.Module, graph: ChannelGraph, blocks: Sequence[Block], x: tuple[Tensor, ...]) -> str:
    """Why the network without ``blocks`` differs from the masked one; empty if it does not."""
    plan = make_plan(graph, {g: 0 for b in blocks for g in b.groups}, {})
    try:
        found = check_equal(mask(module, graph, plan), shrink(module, graph, plan), x, graph=graph, plan=plan)
    except VerificationError as error:
        return error.message
    return "" if math.isfinite(found.scale) else "its outputs are not finite then"
