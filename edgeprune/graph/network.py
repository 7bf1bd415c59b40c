"""The network as it was read: its module, and everything that tracing says of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from edgeprune.graph.channels import ChannelGraph, KernelGraph
from edgeprune.graph.cutting.cut import cut
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace


@dataclass(frozen=True, slots=True)
class Network:
    """A module read once: what all later steps ask of it.

    Attributes:
        example_inputs: tensors that the module runs on.
        channels: width groups, and where each is written, read and seen as an activation.
        kernels: what the board runs.
    """

    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    channels: ChannelGraph
    kernels: KernelGraph


def read_network(module: nn.Module, example_inputs: tuple[Tensor, ...]) -> Network:
    """Trace a module into its channel graph and kernel graph.

    Raises:
        UnsupportedOperatorError, ModelLoadError: it cannot be traced or cut.
    """
    program = trace(module, example_inputs)
    analysis = analyse(program)
    return Network(module, example_inputs, analysis.graph, cut(program, analysis))
