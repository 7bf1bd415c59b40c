"""Cutting a traced network into kernels: the walk through its nodes.

What the cut yields is what latency tables are keyed by and what the compiler builds.
"""

from __future__ import annotations

from torch.export import ExportedProgram

from edgeprune.graph.analysis import Analysis
from edgeprune.graph.channels import KernelGraph, Port
from edgeprune.graph.cutting.constants import Constants
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.drafts import Drafts
from edgeprune.graph.cutting.finish import assemble, output
from edgeprune.graph.mutation import stale_read
from edgeprune.graph.nodes import static_shape, unsupported
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.trace import TYPES, user_inputs, user_outputs
from edgeprune.graph.walks import kept_shape
from edgeprune.models.interface import type_name


def cut(program: ExportedProgram, analysis: Analysis) -> KernelGraph:
    """Kernels of a traced network, with their width axes bound to the groups of ``analysis``.

    Raises:
        UnsupportedOperatorError: an operator that no kernel computes; names node, module and line.
    """
    constants, drafts = Constants(program), Drafts(program.graph)
    cutter = Cutter(analysis, constants, drafts)
    inputs = []
    taken, returned = program.graph.output_node().meta[TYPES]
    for node, dtype in zip(user_inputs(program), taken, strict=True):
        shape = static_shape(node)
        cutter.give(node, TensorSpec(kept_shape(shape), "plain"), shape)
        inputs.append(Port(node.name, shape, node.name, type_name(dtype)))
    if stale := stale_read(program.graph):
        node, name, reader = stale
        why = f"it changes '{name.name}' in place, which '{reader.name}' reads afterwards"
        raise unsupported(node, why, "use the operator that is not in place (inplace=False)")
    for order, node in enumerate(program.graph.nodes):
        drafts.order = order
        if node.op == "call_function" and not constants.takes(node):
            cutter.handle(node)
    outputs = [
        output(cutter, constants, node, type_name(dtype))
        for node, dtype in zip(user_outputs(program), returned, strict=True)
    ]
    return assemble(drafts.sorted(), constants, analysis, inputs, outputs)
