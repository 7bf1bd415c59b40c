"""The constants of a GPU kernel: plain row-major tensors, as the network has them."""

from __future__ import annotations

import math

from edgeprune.graph.spec import KernelSpec


def constant_shapes(spec: KernelSpec) -> dict[str, tuple[int, ...]]:
    """Shapes of the kernel's constants by their buffers' names, in call order; none where it has none."""
    out = spec.output.channels
    if spec.op == "conv2d":
        return {"weight": (out, spec.inputs[0].channels // spec.attr("groups"), *spec.attr("kernel")), "bias": (out,)}
    if spec.op == "dense":
        return {"weight": (out, math.prod(spec.inputs[0].shape[1:])), "bias": (out,)}
    return {}
