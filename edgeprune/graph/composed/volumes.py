"""Transposed convolution of volumes: zeros between slices, rows and columns, and a convolution by turned filters."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph.composed.composer import Composer, composes, is_float, rank
from edgeprune.graph.nodes import arguments, spread

aten = torch.ops.aten


@composes(aten.conv_transpose3d.input)
def transposed_convolution(c: Composer, node: Node) -> Node | None:
    """One value a step of the stride, zeros between; output padding is what is left of the zeros behind the last."""
    a = arguments(node)
    x, weight = a["input"], a["weight"]
    stride, padding, beyond, dilation = (spread(a[n], 3) for n in ("stride", "padding", "output_padding", "dilation"))
    kernel = weight.meta["val"].shape[2:]
    around = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
    possible = min(around) >= 0 and all(b < s for b, s in zip(beyond, stride, strict=True))
    if a["groups"] != 1 or rank(x) != 5 or not is_float(x) or not possible:
        return None
    for dim, (step, more) in enumerate(zip(stride, beyond, strict=True), 2):
        if step > 1:
            size = x.meta["val"].shape[dim]
            apart = c(aten.unsqueeze.default, x, dim + 1)
            zeros = c(aten.zeros_like.default, apart)
            spaced = c(aten.cat.default, [apart, *[zeros] * (step - 1)], dim + 1)
            x = c(
                aten.slice.Tensor,
                c(aten.flatten.using_ints, spaced, dim, dim + 1),
                dim,
                0,
                (size - 1) * step + 1 + more,
            )
    turned = c(aten.flip.default, c(aten.transpose.int, weight, 0, 1), [2, 3, 4])
    return c(aten.conv3d.default, x, turned, a["bias"], [1, 1, 1], around, list(dilation))
