"""The network as it was read: its module, and everything that tracing says of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from edgeprune.graph.channels import ChannelGraph, KernelGraph
from edgeprune.graph.cutting.cut import cut
from edgeprune.graph.groups import analyse
from edgeprune.graph.image_input import with_frames
from edgeprune.graph.trace import trace
from edgeprune.models.interface import Interface
from edgeprune.models.ranges import InputRange


@dataclass(frozen=True, slots=True)
class Network:
    """A module read once: what all later steps ask of it.

    Attributes:
        example_inputs: tensors that the module runs on.
        channels: width groups, and where each is written, read and seen as an activation.
        kernels: what the board runs.
        interface: what its program takes and gives where tracing does not say so; ``kernels`` has it already.
    """

    module: nn.Module
    example_inputs: tuple[Tensor, ...]
    channels: ChannelGraph
    kernels: KernelGraph
    interface: Interface = field(default_factory=Interface)


def read_network(module: nn.Module, example_inputs: tuple[Tensor, ...], interface: Interface | None = None) -> Network:
    """Trace a module into its channel graph and kernel graph.

    Args:
        interface: what its program takes and gives, where that is not what tracing says.

    Raises:
        UnsupportedOperatorError, ModelLoadError: it cannot be traced or cut.
        UsageError: the interface asks for a frame where no input is an image.
    """
    program = trace(module, example_inputs)
    analysis = analyse(program)
    interface = interface or Interface()
    return Network(module, example_inputs, analysis.graph, _as_called(cut(program, analysis), interface), interface)


def with_ranges(network: Network, ranges: tuple[InputRange | None, ...]) -> Network:
    """The same network, whose programs know the ranges of their inputs; so do those that are made smaller of it."""
    kernels = network.kernels
    inputs = tuple(
        replace(p, range=None if p.image else r)
        for p, r in zip(kernels.inputs, ranges or (None,) * len(kernels.inputs), strict=True)
    )
    interface = replace(network.interface, ranges=ranges)
    return replace(network, kernels=replace(kernels, inputs=inputs), interface=interface)


def _as_called(kernels: KernelGraph, interface: Interface) -> KernelGraph:
    """The kernel graph with the ports of the interface."""
    inputs, outputs = (
        tuple(replace(p, dtype=dtype) for p, dtype in zip(ports, types, strict=True)) if types else ports
        for ports, types in ((kernels.inputs, interface.inputs), (kernels.outputs, interface.outputs))
    )
    if interface.ranges:
        inputs = tuple(replace(p, range=r) for p, r in zip(inputs, interface.ranges, strict=True))
    kernels = replace(kernels, inputs=inputs, outputs=outputs)
    return kernels if interface.image is None else with_frames(kernels, interface.image)
