"""Pooling in windows and over everything."""

from __future__ import annotations

import math
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional as F

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.ops.convolution import padded, pads, per_axis
from edgeprune.models.onnx.table import Outputs, reads
from edgeprune.models.onnx.types import FLOATS
from edgeprune.models.onnx.values import Unsupported, Value

_MAX: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_MAX_PLACES: dict[int, Any] = {
    1: F.max_pool1d_with_indices,
    2: F.max_pool2d_with_indices,
    3: F.max_pool3d_with_indices,
}
_AVERAGE: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_ADAPTIVE: dict[int, Any] = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
_ADAPTIVE_MAX: dict[int, Any] = {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d}


class _Window:
    """Kernel, stride, dilation and pads of a pooling node, and how far ceil_mode reaches over the border."""

    def __init__(self, n: OnnxNode) -> None:
        self.rank = n.rank() - 2
        if self.rank not in _MAX:
            raise Unsupported(f"it pools over {self.rank} axes")
        self.kernel = per_axis(n, "kernel_shape", self.rank)
        self.stride = per_axis(n, "strides", self.rank)
        self.dilation = per_axis(n, "dilations", self.rank)
        self.sizes = n.shape()[2:]
        self.before, self.behind = pads(n, self.sizes, self.kernel, self.stride, self.dilation)
        self.ceil = bool(n.attr("ceil_mode", 0))
        spans = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        room = [d + a + b - s for d, a, b, s in zip(self.sizes, self.before, self.behind, spans, strict=True)]
        if min(room) < 0:
            raise Unsupported(f"its window {self.kernel} does not fit into {list(self.sizes)}")
        counts = [-(-r // s) if self.ceil else r // s for r, s in zip(room, self.stride, strict=True)]
        # A window that starts behind the padded image is not there.
        edges = zip(counts, self.stride, self.sizes, self.before, strict=True)
        self.counts = [c if not self.ceil or c * s < d + a else c - 1 for c, s, d, a in edges]
        needed = [c * s + span for c, s, span in zip(self.counts, self.stride, spans, strict=True)]
        have = [d + a + b for d, a, b in zip(self.sizes, self.before, self.behind, strict=True)]
        self.over = [max(0, need - h) for need, h in zip(needed, have, strict=True)]

    @property
    def plain(self) -> bool:
        """Whether torch's layers can say it."""
        even = self.before == self.behind and all(2 * p <= k for p, k in zip(self.before, self.kernel, strict=True))
        return even and not any(self.over)

    @property
    def reach(self) -> list[int]:
        return [b + o for b, o in zip(self.behind, self.over, strict=True)]


@reads("MaxPool")
def max_pool(n: OnnxNode) -> Value | Outputs:
    w, x = _Window(n), n[0]
    places_wanted = len(n.wanted) > 1 and n.wanted[1]
    if not places_wanted:
        n.ignore("storage_order")
    lowest = -math.inf if x.kind in FLOATS else float(torch.iinfo(x.tensor.dtype).min)
    if x.kind not in FLOATS:
        return _of_integers(n, w, lowest)
    if places_wanted:
        return _with_places(n, w, lowest)
    if w.plain or (w.before == w.behind and all(2 * p <= k for p, k in zip(w.before, w.kernel, strict=True))):
        layer = _MAX[w.rank](tuple(w.kernel), tuple(w.stride), tuple(w.before), tuple(w.dilation), ceil_mode=w.ceil)
        y = n.layer(layer, x)
        if list(y.shape[2:]) == [c + 1 for c in w.counts]:
            return y
    edge = padded(n, x, w.before, w.reach, lowest)
    return n.layer(_MAX[w.rank](tuple(w.kernel), tuple(w.stride), 0, tuple(w.dilation)), edge)


def _of_integers(n: OnnxNode, w: _Window, lowest: float) -> Value:
    """Torch pools real numbers alone; those hold integers of 8 bits."""
    x = n.call("to", n[0], torch.float32, kind=TensorProto.FLOAT)
    y = n.layer(
        _MAX[w.rank](tuple(w.kernel), tuple(w.stride), 0, tuple(w.dilation)), padded(n, x, w.before, w.reach, lowest)
    )
    return n.call("to", y, n[0].tensor.dtype, kind=n[0].kind)


def _with_places(n: OnnxNode, w: _Window, lowest: float) -> Outputs:
    """Also where each maximum was, counted over the whole input; torch counts within one image."""
    x = n[0]
    if any(w.over) or w.before != w.behind:
        raise Unsupported("it says where its maxima were, of uneven pads")
    y, places = n.calls(
        _MAX_PLACES[w.rank], x, tuple(w.kernel), tuple(w.stride), tuple(w.before), tuple(w.dilation), w.ceil
    )
    if n.attr("storage_order"):
        if w.rank != 2:
            raise Unsupported("it counts columns first")
        high, wide = w.sizes
        row = n.call(torch.div, places, wide, rounding_mode="trunc")
        column = n.call(torch.remainder, places, wide)
        places = n.call(torch.add, n.call(torch.mul, column, high), row)
    images = torch.arange(math.prod(x.shape[:2])).reshape(*x.shape[:2], *[1] * w.rank) * math.prod(w.sizes)
    places = n.call(torch.add, places, n.constant(images, TensorProto.INT64), kind=TensorProto.INT64)
    return Outputs((y, places))


@reads("AveragePool")
def average_pool(n: OnnxNode) -> Value:
    """Windows that reach over the padded image (ceil_mode) count what lies in it; pads count if the node says so."""
    w, x = _Window(n), n[0]
    counted = bool(n.attr("count_include_pad", 0))
    dilated = any(d != 1 for d in w.dilation)
    if w.plain and not dilated:
        return n.layer(
            _AVERAGE[w.rank](tuple(w.kernel), tuple(w.stride), tuple(w.before), count_include_pad=counted), x
        )
    total = _window_sums(n, w, padded(n, x, w.before, w.reach))
    ones = torch.zeros(1, 1, *(d + a + b for d, a, b in zip(w.sizes, w.before, w.reach, strict=True)))
    ends = [a + d + (b if counted else 0) for a, d, b in zip(w.before, w.sizes, w.behind, strict=True)]
    starts = [0 if counted else a for a in w.before]
    ones[(slice(None), slice(None), *(slice(a, b) for a, b in zip(starts, ends, strict=True)))] = 1
    counts = _sums(ones, w)
    if bool((counts == counts.flatten()[0]).all()):
        return n.call(torch.div, total, float(counts.flatten()[0]))
    return n.call(torch.mul, total, n.constant(1 / counts, x.kind))


def _sums(x: Tensor, w: _Window) -> Tensor:
    """Sums of the windows of (N, 1, …)."""
    function: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[w.rank]
    kernel = torch.ones(1, 1, *w.kernel)
    result: Tensor = function(x, kernel, None, w.stride, 0, w.dilation)
    return result


def _window_sums(n: OnnxNode, w: _Window, x: Value) -> Value:
    if all(d == 1 for d in w.dilation):
        mean = n.layer(_AVERAGE[w.rank](tuple(w.kernel), tuple(w.stride)), x)
        return n.call(torch.mul, mean, float(math.prod(w.kernel)))
    channels = x.shape[1]
    function: Any = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[w.rank]
    kernel = n.constant(torch.ones(channels, 1, *w.kernel), x.kind)
    return n.call(function, x, kernel, None, w.stride, 0, w.dilation, channels)


@reads("LpPool")
def lp_pool(n: OnnxNode) -> Value:
    w, p = _Window(n), n.attr("p")
    x = padded(n, n[0], w.before, w.reach)
    powers = n.call(torch.pow, n.call(torch.abs, x), float(p))
    return n.call(torch.pow, _window_sums(n, w, powers), 1 / p)


@reads("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(n: OnnxNode) -> Value:
    """Over all axes behind the channels; each stays, with one place."""
    x, rank = n[0], n.rank() - 2
    axes = list(range(2, n.rank()))
    if n.operator == "GlobalLpPool":
        p = n.attr("p")
        total = n.call(torch.sum, n.call(torch.pow, n.call(torch.abs, x), float(p)), axes, True)
        return n.call(torch.pow, total, 1 / p)
    if n.operator == "GlobalMaxPool":
        return n.layer(_ADAPTIVE_MAX[rank](1), x) if rank in _ADAPTIVE_MAX else n.call(torch.amax, x, axes, True)
    return n.layer(_ADAPTIVE[rank](1), x) if rank in _ADAPTIVE else n.call(torch.mean, x, axes, True)


@reads("MaxUnpool")
def max_unpool(n: OnnxNode) -> Value:
    """Each maximum back where it was, zeros elsewhere."""
    x, places, rank = n[0], n[1], n.rank() - 2
    kernel, stride = per_axis(n, "kernel_shape", rank), per_axis(n, "strides", rank)
    around = [int(v) for v in n.attr("pads", None) or [0] * 2 * rank]
    shape = n.maybe_known(2, "output shape")
    sizes = [
        (d - 1) * s + k - a - b
        for d, s, k, a, b in zip(x.shape[2:], stride, kernel, around[:rank], around[rank:], strict=True)
    ]
    inner = (*x.shape[:2], *sizes)
    n.build.spend(math.prod(inner))
    zeros = n.constant(torch.zeros(math.prod(inner)), x.kind)
    flat = n.call(torch.scatter, zeros, 0, n.call(torch.reshape, places, (-1,)), n.call(torch.reshape, x, (-1,)))
    y = n.call(torch.reshape, flat, inner)
    if shape is None:
        return y
    # A larger shape is filled up behind: the places count in the smaller one.
    missing = [int(o) - i for o, i in zip(shape, inner, strict=True)]
    return n.call(F.pad, y, [p for m in reversed(missing) for p in (0, m)])
