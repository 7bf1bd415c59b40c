"""Resizing and averaging along rows and columns, as products with small constant matrices.

An operator that treats rows and columns apart, each result a weighted sum of them, is a matrix for each of the two.
The matrix is what the operator itself makes of unit vectors, so that each of its settings is met. It costs more than a
kernel of its own would: this is for what has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.composed.composer import Composer, composes, is_float, rank, size
from edgeprune.graph.nodes import arguments, spread

aten = torch.ops.aten

Along = Callable[[Node, int], Node]
"""The operator along one of its dimensions, applied to unit vectors: images (1, n, n, BESIDE), a row each position."""

BESIDE = 2
"""Columns of a unit vector, all equal: torch resizes images of a single one wrongly with antialias."""


@composes(aten.adaptive_avg_pool1d.default, aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default)
def adaptive_average(c: Composer, node: Node) -> Node | None:
    """Where windows are not of one size."""
    x, after = node.args[0], size(node)[2:]
    if not _batched(node, x) or not any(b % a for b, a in zip(size(x)[2:], after, strict=True)):  # type: ignore[arg-type]
        return None
    return _resampled(c, node, lambda unit, d: c(aten.adaptive_avg_pool2d.default, unit, [after[d], BESIDE]))


@composes(aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default)
def average(c: Composer, node: Node) -> Node | None:
    """Where windows over the edge count in part; a divisor of the user's is a factor."""
    a, x = arguments(node), node.args[0]
    if not _batched(node, x):
        return None
    count = rank(node) - 2
    kernel, padding = spread(a["kernel_size"], count), spread(a["padding"], count)
    stride = spread(a["stride"] or a["kernel_size"], count)
    if (divisor := a.get("divisor_override")) is not None and not a["ceil_mode"]:
        plain = c(node.target, x, list(kernel), list(stride), list(padding), False, True)
        return c(aten.mul.Tensor, plain, math.prod(kernel) / divisor)
    if divisor is not None or not (a["ceil_mode"] and a["count_include_pad"] and any(padding)):
        return None
    return _resampled(
        c,
        node,
        lambda unit, d: c(aten.avg_pool2d.default, unit, [kernel[d], 1], [stride[d], 1], [padding[d], 0], True, True),
    )


@composes(
    aten.upsample_nearest1d.vec,
    aten.upsample_nearest1d.default,
    aten._upsample_nearest_exact1d.vec,
    aten._upsample_nearest_exact1d.default,
    aten.upsample_linear1d.vec,
    aten.upsample_linear1d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest2d.default,
    aten._upsample_nearest_exact2d.vec,
    aten._upsample_nearest_exact2d.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_bilinear2d.default,
    aten._upsample_bilinear2d_aa.vec,
    aten._upsample_bilinear2d_aa.default,
    aten.upsample_bicubic2d.vec,
    aten.upsample_bicubic2d.default,
    aten._upsample_bicubic2d_aa.vec,
    aten._upsample_bicubic2d_aa.default,
    aten.upsample_nearest3d.vec,
    aten.upsample_nearest3d.default,
    aten._upsample_nearest_exact3d.vec,
    aten._upsample_nearest_exact3d.default,
    aten.upsample_trilinear3d.vec,
    aten.upsample_trilinear3d.default,
)
def resized(c: Composer, node: Node) -> Node | None:
    """Whatever the kernel for nearest and bilinear images does not do: lines, volumes, other functions, factors."""
    x: Any = node.args[0]
    after = size(node)[2:]
    factors = _factors(node, len(after))
    if not _batched(node, x) or _has_kernel(node, size(x)[2:], after, factors):
        return None
    nearest = "nearest" in str(node.target)
    corners = bool(arguments(node).get("align_corners", False))

    def along(unit: Node, d: int) -> Node:
        settings: list[Any] = [unit, [after[d], BESIDE], *([] if nearest else [corners]), factors[d], None]
        return c(_in_two_dimensions(node), *settings)

    return _resampled(c, node, along)


def _in_two_dimensions(node: Node) -> Any:
    name = str(node.target)
    if "nearest_exact" in name:
        return aten._upsample_nearest_exact2d.default
    if "nearest" in name:
        return aten.upsample_nearest2d.default
    if "bicubic" in name:
        return aten._upsample_bicubic2d_aa.default if "_aa" in name else aten.upsample_bicubic2d.default
    return aten._upsample_bilinear2d_aa.default if "_aa" in name else aten.upsample_bilinear2d.default


def _has_kernel(node: Node, before: Sequence[int], after: Sequence[int], factors: Sequence[float | None]) -> bool:
    if node.target not in (
        aten.upsample_nearest2d.vec,
        aten.upsample_nearest2d.default,
        aten.upsample_bilinear2d.vec,
        aten.upsample_bilinear2d.default,
    ):
        return False
    return all(f is None or b * f == a for b, a, f in zip(before, after, factors, strict=True))


def _factors(node: Node, count: int) -> list[float | None]:
    """Of each dimension, as they were given."""
    a = arguments(node)
    if a.get("scale_factors"):
        return [float(f) for f in a["scale_factors"]]
    names = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}[count]
    return [a.get(n) for n in names]


def _resampled(c: Composer, node: Node, along: Along) -> Node | None:
    """``node`` along one dimension after the other, each as a product with the matrix that ``along`` makes."""
    x: Node = node.args[0]  # type: ignore[assignment]
    before, after = size(x), size(node)
    last = len(before) - 1
    for d, dim in enumerate(range(2, len(before))):
        if before[dim] == after[dim] == 1:
            continue
        n, m = before[dim], after[dim]
        unit = c(aten.repeat.default, c(aten.view.default, c(aten.eye.default, n), [1, n, n, 1]), [1, 1, 1, BESIDE])
        matrix = c(aten.view.default, c(aten.select.int, along(unit, d), 3, 0), [n, m])
        if dim == last:
            x = c(aten.matmul.default, x, matrix)
        else:
            x = c(aten.transpose.int, c(aten.matmul.default, c(aten.transpose.int, x, dim, last), matrix), dim, last)
    return x


def _batched(node: Node, x: Any) -> bool:
    return is_float(x) and rank(x) == rank(node) and rank(node) > 2
