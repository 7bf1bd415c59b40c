"""One function per ONNX operator that turns a node into a torch layer; ``LAYERS`` is the table.

The semantics are those of the ONNX operator specification; where torch's differ and no layer can be
built that agrees, the function raises :class:`Unsupported`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


class Unsupported(Exception):
    """Why a node cannot become a layer. The importer adds which node it was."""


@dataclass(frozen=True, slots=True)
class OnnxNode:
    """A node as the layer functions see it.

    Attributes:
        attrs: its attributes as Python values.
        constants: value of each input that is constant, else None; absent optional inputs are None too.
        shapes: shape of each input, None for an absent one.
        opset: of the default domain.
    """

    attrs: Mapping[str, Any]
    constants: tuple[Tensor | None, ...]
    shapes: tuple[tuple[int, ...] | None, ...]
    opset: int

    def constant(self, i: int) -> Tensor | None:
        return self.constants[i] if i < len(self.constants) else None

    def need(self, i: int, what: str) -> Tensor:
        value = self.constant(i)
        if value is None:
            raise Unsupported(f"its {what} is computed, not constant")
        return value

    def shape(self, i: int = 0) -> tuple[int, ...]:
        shape = self.shapes[i]
        assert shape is not None
        return shape

    def ints(self, attr: str, i: int) -> list[int] | None:
        """A list that older operator versions keep in an attribute and newer ones in input ``i``."""
        if attr in self.attrs:
            return list(self.attrs[attr])
        value = self.constant(i)
        return None if value is None else [int(v) for v in value.flatten()]


class Binary(nn.Module):
    """An element-wise function of two tensors."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.function(a, b)


class Concat(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *parts: Tensor) -> Tensor:
        return torch.cat(parts, self.dim)


class HardSigmoid(nn.Module):
    """``clamp(alpha * x + beta, 0, 1)`` with constants other than torch's."""

    def __init__(self, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(self.alpha * x + self.beta, 0.0, 1.0)


class Mean(nn.Module):
    def __init__(self, dims: tuple[int, ...], keepdim: bool) -> None:
        super().__init__()
        self.dims, self.keepdim = dims, keepdim

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dims, keepdim=self.keepdim)


class Permute(nn.Module):
    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.dims)


class Reshape(nn.Module):
    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(self.shape)


def _conv(node: OnnxNode) -> nn.Module:
    weight, bias = node.need(1, "weight"), node.constant(2)
    if weight.dim() != 4:
        raise Unsupported(f"it is a {weight.dim() - 2}-dimensional convolution")
    if len(node.shapes) > 2 and node.shapes[2] is not None and bias is None:
        raise Unsupported("its bias is computed, not constant")
    out, per_group, *_ = weight.shape
    kernel = (weight.shape[2], weight.shape[3])
    groups = node.attrs.get("group", 1)
    stride, dilation = _pair(node, "strides"), _pair(node, "dilations")
    pads = _pads(node, kernel, stride, dilation)
    symmetric = pads[:2] == pads[2:]
    conv = nn.Conv2d(
        per_group * groups, out, kernel, stride, pads[:2] if symmetric else 0, dilation, groups, bias is not None
    )
    _fill(conv, weight=weight, bias=bias)
    return conv if symmetric else nn.Sequential(nn.ZeroPad2d((pads[1], pads[3], pads[0], pads[2])), conv)


def _batch_norm(node: OnnxNode) -> nn.Module:
    if node.attrs.get("training_mode", 0):
        raise Unsupported("it is in training mode; export the model in eval mode")
    scale, shift, mean, var = (node.need(i, n) for i, n in enumerate(("scale", "bias", "mean", "variance"), 1))
    dims = len(node.shape())
    if dims not in (2, 4):
        raise Unsupported(f"its input has {dims} dimensions, not 2 or 4")
    kind = nn.BatchNorm2d if dims == 4 else nn.BatchNorm1d
    layer = kind(scale.numel(), eps=node.attrs.get("epsilon", 1e-5), momentum=1 - node.attrs.get("momentum", 0.9))
    _fill(layer, weight=scale, bias=shift, running_mean=mean, running_var=var)
    return layer


def _gemm(node: OnnxNode) -> nn.Module:
    weight, bias = node.need(1, "weight"), node.constant(2)
    if node.attrs.get("transA", 0):
        raise Unsupported("its input is transposed (transA=1)")
    weight = (weight if node.attrs.get("transB", 0) else weight.T) * node.attrs.get("alpha", 1.0)
    if len(node.shapes) > 2 and node.shapes[2] is not None and bias is None:
        raise Unsupported("its bias is computed, not constant")
    if bias is not None:
        if bias.numel() not in (1, weight.shape[0]) or (bias.dim() == 2 and bias.shape[0] != 1):
            raise Unsupported(f"its bias of shape {tuple(bias.shape)} is not one number per output")
        bias = bias.flatten().expand(weight.shape[0]) * node.attrs.get("beta", 1.0)
    return _linear(weight, bias)


def _matmul(node: OnnxNode) -> nn.Module:
    weight = node.need(1, "second operand")
    if weight.dim() != 2:
        raise Unsupported(f"its second operand has {weight.dim()} dimensions, not 2")
    return _linear(weight.T, None)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    _fill(layer, weight=weight, bias=bias)
    return layer


def _max_pool(node: OnnxNode) -> nn.Module:
    kernel, stride, dilation = _pair(node, "kernel_shape"), _pair(node, "strides"), _pair(node, "dilations")
    pads = _pads(node, kernel, stride, dilation)
    ceil = bool(node.attrs.get("ceil_mode", 0))
    if pads[:2] == pads[2:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False)):
        return nn.MaxPool2d(kernel, stride, pads[:2], dilation, ceil_mode=ceil)
    if ceil:
        raise Unsupported("it has ceil_mode with uneven pads")
    edge = nn.ConstantPad2d((pads[1], pads[3], pads[0], pads[2]), -math.inf)
    return nn.Sequential(edge, nn.MaxPool2d(kernel, stride, 0, dilation))


def _average_pool(node: OnnxNode) -> nn.Module:
    kernel, stride = _pair(node, "kernel_shape"), _pair(node, "strides")
    pads = _pads(node, kernel, stride, (1, 1))
    counted = bool(node.attrs.get("count_include_pad", 0))
    if node.attrs.get("ceil_mode", 0):
        rests = [
            (d + a + b - k) % s for d, a, b, k, s in zip(node.shape()[2:], pads, pads[2:], kernel, stride, strict=True)
        ]
        if any(rests):
            raise Unsupported("it has ceil_mode and a last window that is cut, where runtimes disagree")
    if any(d != 1 for d in _pair(node, "dilations")):
        raise Unsupported("it is dilated")
    if pads[:2] == pads[2:] and all(2 * p <= k for p, k in zip(pads, kernel, strict=False)):
        return nn.AvgPool2d(kernel, stride, pads[:2], count_include_pad=counted)
    if not counted:
        raise Unsupported("it has uneven pads that are not counted")
    return nn.Sequential(nn.ZeroPad2d((pads[1], pads[3], pads[0], pads[2])), nn.AvgPool2d(kernel, stride))


def _clip(node: OnnxNode) -> nn.Module:
    def bound(name: str, i: int, default: float) -> float:
        if name in node.attrs:
            return float(node.attrs[name])
        if i < len(node.shapes) and node.shapes[i] is not None:
            return float(node.need(i, name))
        return default

    low, high = bound("min", 1, -math.inf), bound("max", 2, math.inf)
    if low == 0 and high == 6:
        return nn.ReLU6()
    if low == 0 and high == math.inf:
        return nn.ReLU()
    if low >= high:
        raise Unsupported(f"its bounds are {low} and {high}")
    return nn.Hardtanh(low, high)


def _hard_sigmoid(node: OnnxNode) -> nn.Module:
    alpha, beta = node.attrs.get("alpha", 0.2), node.attrs.get("beta", 0.5)
    same = math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5
    return nn.Hardsigmoid() if same else HardSigmoid(alpha, beta)


def _flatten(node: OnnxNode) -> nn.Module:
    axis = node.attrs.get("axis", 1) % max(1, len(node.shape()))
    if axis != 1:
        raise Unsupported(f"it flattens from axis {axis}, not 1")
    return nn.Flatten(1)


def _reshape(node: OnnxNode) -> nn.Module:
    shape, wanted = node.shape(), [int(v) for v in node.need(1, "shape").flatten()]
    if not node.attrs.get("allowzero", 0):
        wanted = [shape[i] if v == 0 and i < len(shape) else v for i, v in enumerate(wanted)]
    if wanted.count(-1) > 1 or any(v < -1 for v in wanted):
        raise Unsupported(f"its shape is {wanted}")
    known = math.prod(v for v in wanted if v != -1)
    if -1 in wanted and known:
        wanted[wanted.index(-1)] = math.prod(shape) // known
    if math.prod(wanted) != math.prod(shape):
        raise Unsupported(f"it makes {wanted} of {list(shape)}")
    # As a flatten it says nothing of channel counts, so the network can still be pruned.
    if wanted == [shape[0], math.prod(shape[1:])]:
        return nn.Flatten(1)
    return Reshape(tuple(wanted))


def _resize(node: OnnxNode) -> nn.Module:
    if node.attrs.get("mode", "nearest") != "nearest":
        raise Unsupported(f"its mode is {node.attrs['mode']}, not nearest")
    shape = node.shape()
    # Inputs: Upsample and Resize-10 are (X, scales), Resize-11 and later (X, roi, scales, sizes).
    place = 1 if node.opset < 11 else 2
    sizes = node.constant(3)
    scales = node.constant(place) if sizes is None else sizes / torch.tensor(shape)
    if scales is None and "scales" in node.attrs:
        scales = torch.tensor(node.attrs["scales"])
    if scales is None or scales.numel() != 4:
        raise Unsupported("its scales are computed, not constant, or not four")
    n, c, *factors = (float(v) for v in scales)
    whole = [round(f) for f in factors]
    if (n, c) != (1, 1) or any(f != w or w < 1 for f, w in zip(factors, whole, strict=True)):
        raise Unsupported(f"its scales are {[n, c, *factors]}; whole upscaling of height and width is supported")
    if node.opset >= 11:
        position = node.attrs.get("coordinate_transformation_mode", "half_pixel")
        rounding = node.attrs.get("nearest_mode", "round_prefer_floor")
        # For whole factors these all copy each pixel; others shift the image.
        if not (
            (position == "asymmetric" and rounding == "floor")
            or (position in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round_prefer"))
        ):
            raise Unsupported(f"its sampling is {position} with {rounding}")
    return nn.Upsample(scale_factor=(float(whole[0]), float(whole[1])), mode="nearest")


def _reduce_mean(node: OnnxNode) -> nn.Module:
    rank = len(node.shape())
    axes = node.ints("axes", 1) or list(range(rank))
    dims = tuple(sorted(a % rank for a in axes))
    keep = bool(node.attrs.get("keepdims", 1))
    return nn.AdaptiveAvgPool2d(1) if keep and rank == 4 and dims == (2, 3) else Mean(dims, keep)


def _softmax(node: OnnxNode) -> nn.Module:
    rank = len(node.shape())
    axis = node.attrs.get("axis", -1 if node.opset >= 13 else 1) % rank
    if node.opset < 13 and axis != rank - 1:
        raise Unsupported("before opset 13 it runs over several axes at once")
    return nn.Softmax(axis)


def _dropout(node: OnnxNode) -> nn.Module:
    ratio = node.constant(1)
    return nn.Dropout(node.attrs.get("ratio", 0.5) if ratio is None else float(ratio))


LAYERS: dict[str, Callable[[OnnxNode], nn.Module]] = {
    "Add": lambda node: Binary(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda node: Concat(node.attrs["axis"] % len(node.shape())),
    "Conv": _conv,
    "Div": lambda node: Binary(torch.div),
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda node: nn.AdaptiveAvgPool2d(1),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda node: nn.Hardswish(),
    "Identity": lambda node: nn.Identity(),
    "LeakyRelu": lambda node: nn.LeakyReLU(node.attrs.get("alpha", 0.01)),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": lambda node: Binary(torch.mul),
    "ReduceMean": _reduce_mean,
    "Relu": lambda node: nn.ReLU(),
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": lambda node: nn.Sigmoid(),
    "Softmax": _softmax,
    "Sub": lambda node: Binary(torch.sub),
    "Tanh": lambda node: nn.Tanh(),
    "Transpose": lambda node: Permute(tuple(node.attrs.get("perm", range(len(node.shape()))[::-1]))),
    "Upsample": _resize,
}
DATA_INPUTS = {"Add": 2, "Sub": 2, "Mul": 2, "Div": 2}
"""How many inputs a layer takes as data where it is not one; all of them for Concat."""


def _fill(layer: nn.Module, **values: Tensor | None) -> None:
    for name, value in values.items():
        if value is None:
            continue
        slot = getattr(layer, name)
        if slot.shape != value.shape:
            raise Unsupported(f"its {name} has the shape {tuple(value.shape)}, not {tuple(slot.shape)}")
        slot.data = value.detach().to(slot.dtype).clone().contiguous()


def _pair(node: OnnxNode, name: str) -> tuple[int, int]:
    value = node.attrs.get(name, (1, 1))
    if len(value) != 2 or min(value) < 1:
        raise Unsupported(f"its {name} is {list(value)}, not two positive numbers")
    return int(value[0]), int(value[1])


def _pads(
    node: OnnxNode, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right)."""
    mode = node.attrs.get("auto_pad", "NOTSET")
    if mode == "VALID":
        return 0, 0, 0, 0
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        begins, ends = [], []
        for d, k, s, r in zip(node.shape()[2:], kernel, stride, dilation, strict=True):
            total = max(0, (-(-d // s) - 1) * s + (k - 1) * r + 1 - d)
            small, large = total // 2, total - total // 2
            begins.append(small if mode == "SAME_UPPER" else large)
            ends.append(large if mode == "SAME_UPPER" else small)
        return begins[0], begins[1], ends[0], ends[1]
    pads = node.attrs.get("pads", (0, 0, 0, 0))
    if len(pads) != 4 or min(pads) < 0:
        raise Unsupported(f"its pads are {list(pads)}, not four numbers of at least 0")
    return int(pads[0]), int(pads[1]), int(pads[2]), int(pads[3])
