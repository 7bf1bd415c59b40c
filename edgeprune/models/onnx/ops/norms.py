"""Normalisation."""

from __future__ import annotations

from typing import Any

import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional as F

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import Outputs, reads
from edgeprune.models.onnx.types import FLOATS, named
from edgeprune.models.onnx.values import Unsupported, Value

_BATCH: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@reads("BatchNormalization")
def batch_norm(n: OnnxNode) -> Value:
    """Only its first output is computed: the others are training's (or old, and nobody reads them)."""
    n.ignore("consumed_inputs", "is_test", "spatial")
    if n.opset >= 14 and n.attr("training_mode"):
        raise Unsupported("it is in training mode; export the model in eval mode")
    if n.opset < 7 and not n.attr("is_test", 0):
        raise Unsupported("it is in training mode (is_test=0); export the model in eval mode")
    if n.opset < 9 and n.given("spatial") and not n.attr("spatial"):
        raise Unsupported("it has statistics for each place (spatial=0)")
    x, scale, shift, mean, var = (n[i] for i in range(5))
    eps, momentum = n.attr("epsilon"), n.attr("momentum")
    if x.rank not in _BATCH or not all(v.known for v in (scale, shift, mean, var)):
        return n.call(F.batch_norm, x, mean, var, scale, shift, False, 0.0, eps)
    layer = _BATCH[x.rank](scale.tensor.numel(), eps=eps, momentum=1 - momentum, device="meta")
    count = n.constant(torch.tensor(0), TensorProto.INT64)
    return n.layer(layer, x, weight=scale, bias=shift, running_mean=mean, running_var=var, num_batches_tracked=count)


@reads("InstanceNormalization")
def instance_norm(n: OnnxNode) -> Value:
    n.ignore("consumed_inputs")
    x, scale, shift, eps = n[0], n[1], n[2], n.attr("epsilon")
    layers: dict[int, Any] = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}
    if x.rank in layers and scale.known and shift.known:
        layer = layers[x.rank](x.shape[1], eps=eps, affine=True, device="meta")
        return n.layer(layer, x, weight=scale, bias=shift)
    return n.call(F.instance_norm, x, None, None, scale, shift, True, 0.0, eps)


@reads("GroupNormalization")
def group_norm(n: OnnxNode) -> Value:
    """Opset 18 has scale and bias for each group, 21 for each channel."""
    n.ignore("stash_type")
    x, scale, shift, groups, eps = n[0], n[1], n[2], n.attr("num_groups"), n.attr("epsilon")
    if n.opset < 21:
        each = x.shape[1] // groups
        scale, shift = (n.call(torch.repeat_interleave, v, each) for v in (scale, shift))
    if scale.known and shift.known:
        return n.layer(nn.GroupNorm(groups, x.shape[1], eps, device="meta"), x, weight=scale, bias=shift)
    return n.call(F.group_norm, x, groups, scale, shift, eps)


def _mean_outputs(n: OnnxNode, x: Value, axes: list[int], eps: float) -> tuple[Value, Value]:
    """Mean, and one over the standard deviation."""
    mean = n.call(torch.mean, x, axes, True)
    variance = n.call(torch.mean, n.call(torch.square, n.call(torch.sub, x, mean)), axes, True)
    return mean, n.call(torch.rsqrt, n.call(torch.add, variance, eps))


@reads("LayerNormalization")
def layer_norm(n: OnnxNode) -> Outputs:
    x, eps = n[0], n.attr("epsilon")
    if (stash := n.attr("stash_type")) != TensorProto.FLOAT:
        raise Unsupported(f"its stash_type is {named(stash)}")
    y = normalized(n, x, n[1], n.get(2), n.axis(), eps)
    if not any(n.wanted[1:]):
        return Outputs((y,))
    return Outputs((y, *_mean_outputs(n, x, list(range(n.axis(), x.rank)), eps)))


def normalized(n: OnnxNode, x: Value, scale: Value, shift: Value | None, axis: int, eps: float) -> Value:
    """Layer normalisation over the axes from ``axis`` on; scale and bias may be broadcast."""
    shape = list(x.shape[axis:])
    if list(scale.shape) == shape and (shift is None or list(shift.shape) == shape):
        if scale.known and (shift is None or shift.known):
            layer = nn.LayerNorm(shape, eps, bias=shift is not None, device="meta")
            return n.layer(layer, x, weight=scale, bias=shift)
        return n.call(F.layer_norm, x, shape, scale, shift, eps)
    y = n.call(torch.mul, n.call(F.layer_norm, x, shape, None, None, eps), scale)
    return y if shift is None else n.call(torch.add, y, shift)


@reads("RMSNormalization", "SimplifiedLayerNormalization")
def rms_norm(n: OnnxNode) -> Value:
    n.ignore("stash_type")
    x, scale, axis, eps = n[0], n[1], n.axis(default=-1), n.attr("epsilon")
    shape = list(x.shape[axis:])
    if list(scale.shape) != shape:
        return n.call(torch.mul, n.call(F.rms_norm, x, shape, None, eps), scale)
    if scale.known:
        return n.layer(nn.RMSNorm(shape, eps, device="meta"), x, weight=scale)
    return n.call(F.rms_norm, x, shape, scale, eps)


@reads("LRN")
def local_response_norm(n: OnnxNode) -> Value:
    """Torch sums over the same channels where the size is odd."""
    x, size = n[0], n.attr("size")
    alpha, beta, bias = n.attr("alpha"), n.attr("beta"), n.attr("bias")
    if size % 2:
        return n.layer(nn.LocalResponseNorm(size, alpha, beta, bias), x)
    squares = n.call(torch.square, x)
    rest = [0, 0] * (x.rank - 2)
    wide = n.call(F.pad, squares, [*rest, (size - 1) // 2, size // 2])
    parts = [n.call(torch.narrow, wide, 1, i, x.shape[1]) for i in range(size)]
    total = parts[0]
    for part in parts[1:]:
        total = n.call(torch.add, total, part)
    base = n.call(torch.add, n.call(torch.mul, total, alpha / size), bias)
    return n.call(torch.div, x, n.call(torch.pow, base, beta))


@reads("MeanVarianceNormalization")
def mean_variance(n: OnnxNode) -> Value:
    x = n[0]
    axes = [n.place(a, x.rank) for a in n.attr("axes", [0, 2, 3])]
    mean = n.call(torch.mean, x, axes, True)
    middle = n.call(torch.sub, x, mean)
    variance = n.call(torch.mean, n.call(torch.square, middle), axes, True)
    return n.call(torch.div, middle, n.call(torch.add, n.call(torch.sqrt, variance), 1e-9))


@reads("LpNormalization")
def lp_norm(n: OnnxNode) -> Value:
    x, axis, p = n[0], n.axis(), n.attr("p")
    if p not in (1, 2):
        raise Unsupported(f"its p is {p}")
    size = n.call(torch.sum, n.call(torch.abs, x) if p == 1 else n.call(torch.square, x), [axis], True)
    size = size if p == 1 else n.call(torch.sqrt, size)
    if x.kind in FLOATS:  # a vector of zeros stays one
        size = n.call(torch.where, n.call(torch.eq, size, 0), n.constant(torch.tensor(1.0), x.kind), size, kind=x.kind)
    return n.call(torch.div, x, size)
