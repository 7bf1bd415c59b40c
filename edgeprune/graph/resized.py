"""A kernel graph at other widths: what tracing the shrunk network would yield, without the network.

Kernels keep their order and their names; where no group loses all its channels, cutting the shrunk network yields the
very specs of this graph (tests/architectures/test_architectures_hinge.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgeprune.graph.channels import AxisBinding, KernelGraph, KernelNode
from edgeprune.graph.spec import KernelSpec, TensorSpec


def axis_widths(node: KernelNode, widths: Mapping[str, int]) -> dict[str, int]:
    """The widths of a kernel's axes where width groups have ``widths``; groups that are not named give KeyError."""
    return {axis: width_of(node.axes.get(axis, AxisBinding((), w)), widths) for axis, w in node.spec.widths.items()}


def width_of(binding: AxisBinding, widths: Mapping[str, int]) -> int:
    return binding.base + sum(widths[group] for group in binding.groups)


def resized(
    node: KernelNode, axes: Mapping[str, int], dense: KernelGraph, read: Mapping[str, TensorSpec]
) -> KernelSpec:
    """The spec of one kernel at other widths.

    Args:
        axes: the widths of its axes.
        dense: the graph that the kernel is of.
        read: the tensors that it reads, at their new sizes; those that are not named follow from its own widths. The
            parts of a concat are known by these alone: its own width is their sum.

    Raises:
        ValueError: no kernel of this operator has these widths.
    """
    spec = node.spec.with_widths(**axes)
    spec = spec.operator.of_parts(spec, [read[t].elements if t in read else None for t in node.inputs])
    # A kernel may see a tensor in another shape than it was written in: then the walk through it has the sizes.
    inputs = tuple(
        read[tensor] if tensor in read and before == dense.tensors[tensor] else after
        for tensor, before, after in zip(node.inputs, node.spec.inputs, spec.inputs, strict=True)
    )
    return spec if inputs == spec.inputs else replace(spec, inputs=inputs)


def at_widths(dense: KernelGraph, widths: Mapping[str, int]) -> KernelGraph:
    """The kernel graph of the network that has ``widths`` channels, at least 1, in its width groups.

    Constants have the shape in ``tensors`` that kernels see them in; their values stay those of the dense network.

    Raises:
        ValueError: a kernel does not have these widths.
    """
    tensors = {p.tensor: dense.tensors[p.tensor] for p in dense.inputs}
    nodes = []
    for node in dense.nodes:
        spec = resized(node, axis_widths(node, widths), dense, tensors)
        for tensor, before, after in zip(node.inputs, node.spec.inputs, spec.inputs, strict=True):
            if tensor in dense.constants and (tensor not in tensors or before == dense.tensors[tensor]):
                tensors[tensor] = after
        tensors[node.output] = spec.output
        nodes.append(replace(node, spec=spec))
    return replace(dense, nodes=tuple(nodes), tensors=tensors)
