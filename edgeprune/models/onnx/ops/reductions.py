"""Reductions over axes."""

from __future__ import annotations

import math

import torch
from torch import nn

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import reads
from edgeprune.models.onnx.types import FLOATS, HELD
from edgeprune.models.onnx.values import Value


@reads(
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)
def reduce(n: OnnxNode) -> Value:
    x, keep = n[0], bool(n.attr("keepdims"))
    given = n.ints("axes", 1)
    if not given:
        # An empty list means all axes, or none where the node says so.
        if (given is not None or n.opset >= 13) and n.attr("noop_with_empty_axes", 0):
            return _over(n, x, [], True)
        axes = list(range(x.rank))
    else:
        n.ignore("noop_with_empty_axes")
        axes = sorted({n.place(a, x.rank) for a in given})
    return _over(n, x, axes, keep)


def _over(n: OnnxNode, x: Value, axes: list[int], keep: bool) -> Value:
    kind = n.operator
    if kind in ("ReduceL2", "ReduceSumSquare"):
        y = _sum(n, n.call(torch.square, x), axes, keep)
        return n.call(torch.sqrt, y) if kind == "ReduceL2" else y
    if kind == "ReduceL1":
        return _sum(n, n.call(torch.abs, x), axes, keep)
    if kind == "ReduceLogSum":
        return n.call(torch.log, _sum(n, x, axes, keep))
    if kind == "ReduceSum":
        return _sum(n, x, axes, keep)
    if not axes:  # what is left of one value
        return n.call(torch.abs, x) if kind == "ReduceL1" else x
    if kind == "ReduceLogSumExp":
        return n.call(torch.logsumexp, x, axes, keep)
    if kind == "ReduceMean":
        return _mean(n, x, axes, keep)
    if kind == "ReduceProd":
        for axis in reversed(axes):
            x = n.call(torch.prod, x, axis, keep, dtype=x.tensor.dtype, kind=x.kind)
        return x
    if x.tensor.dtype == torch.bool:
        return n.call(torch.any if kind == "ReduceMax" else torch.all, x, axes, keep)
    if 0 in (x.shape[a] for a in axes):
        return _of_nothing(n, x, axes, keep)
    return n.call(torch.amax if kind == "ReduceMax" else torch.amin, x, axes, keep)


def _sum(n: OnnxNode, x: Value, axes: list[int], keep: bool) -> Value:
    if not axes:
        return x
    return n.call(torch.sum, x, axes, keep, dtype=x.tensor.dtype, kind=x.kind)


def _mean(n: OnnxNode, x: Value, axes: list[int], keep: bool) -> Value:
    if x.kind not in FLOATS:
        total = _sum(n, x, axes, keep)
        return n.call(torch.div, total, math.prod(x.shape[a] for a in axes), rounding_mode="trunc", kind=x.kind)
    if keep and x.rank == 4 and axes == [2, 3]:
        return n.layer(nn.AdaptiveAvgPool2d(1), x)
    return n.call(torch.mean, x, axes, keep)


def _of_nothing(n: OnnxNode, x: Value, axes: list[int], keep: bool) -> Value:
    """The maximum of nothing is the least value there is."""
    dtype = HELD[x.kind]
    info = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    worst = (-math.inf if dtype.is_floating_point else info.min) if n.operator == "ReduceMax" else info.max
    if n.operator == "ReduceMin" and dtype.is_floating_point:
        worst = math.inf
    shape = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
    return n.constant(torch.full(shape, worst, dtype=dtype), x.kind)
