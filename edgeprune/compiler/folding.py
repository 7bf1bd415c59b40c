"""Constants of a kernel from the network's parameters: batch norm folded in double precision."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgeprune.graph.channels import KernelNode

State = Mapping[str, NDArray[np.float32]]
"""Parameters and buffers by qualified name, as ``state_dict`` gives them."""


def folded(node: KernelNode, state: State) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Logical (weight, bias) of a kernel, filters first; both None where the kernel has no constants.

    A batch norm y = g * (x - m) / sqrt(v + eps) + b turns into a scale of the filters and a bias.
    """
    ref = node.weights
    if not ref.weight and ref.norm is None:
        return None, None
    width = node.spec.output.channels
    # A batch norm that stands alone is a depthwise convolution with unit filters.
    weight = np.asarray(state[ref.weight], np.float64) if ref.weight else np.ones((width, 1, 1, 1))
    if node.spec.op.startswith("conv") and weight.ndim != 4:
        # Along a line, which is an image of one row; or of slices, whose taps lie one behind the other.
        weight = weight.reshape(*weight.shape[:2], -1, weight.shape[-1])
    if node.spec.op == "conv_transpose2d":
        weight = _filters_first(weight, node.spec.attr("groups"))
    bias = np.asarray(state[ref.bias], np.float64) if ref.bias else np.zeros(width)
    if ref.norm is not None:
        gamma_name, beta_name, mean_name, var_name = ref.norm
        gamma = np.asarray(state[gamma_name], np.float64) if gamma_name else np.ones(width)
        beta = np.asarray(state[beta_name], np.float64) if beta_name else np.zeros(width)
        scale = gamma / np.sqrt(np.asarray(state[var_name], np.float64) + ref.eps)
        weight = weight * scale.reshape(-1, *([1] * (weight.ndim - 1)))
        bias = (bias - np.asarray(state[mean_name], np.float64)) * scale + beta
    return weight.astype(np.float32), bias.astype(np.float32)


def _filters_first(weight: NDArray[np.float64], groups: int) -> NDArray[np.float64]:
    """(C, O / groups, KH, KW), as torch keeps a transposed convolution, -> (O, C / groups, KH, KW)."""
    c, each, *kernel = weight.shape
    by_group = weight.reshape(groups, c // groups, each, *kernel)
    return by_group.swapaxes(1, 2).reshape(groups * each, c // groups, *kernel)
