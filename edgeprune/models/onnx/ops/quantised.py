"""Quantised operators, as real numbers that take the quantised values exactly.

A quantised tensor is kept as the integers it holds in float32 beside their integer type (:attr:`Value.real`), so that
what is quantised and dequantised again never leaves real numbers, and weights are real parameters that train.
"""

from __future__ import annotations

from typing import Any

import torch
from onnx import TensorProto

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.ops.convolution import convolved
from edgeprune.models.onnx.ops.products import linear, turned
from edgeprune.models.onnx.table import Outputs, reads
from edgeprune.models.onnx.types import BITS, FLOATS, HELD, bounds, named
from edgeprune.models.onnx.values import Unsupported, Value


def along(n: OnnxNode, parameter: Value, x: Value, axis: int, block: int = 0) -> Value:
    """A scale or zero point so that it broadcasts against ``x``: one number, one a place of an axis, or one a block."""
    if parameter.known and parameter.tensor.numel() == 1:
        return n.call(torch.reshape, parameter, ())
    if block:
        wide = n.call(torch.repeat_interleave, parameter, block, axis)
        size = x.shape[axis]
        return n.call(torch.narrow, wide, axis, 0, size) if wide.shape[axis] != size else wide
    if parameter.rank == 0 or x.rank == 0:
        return parameter
    shape = [1] * x.rank
    shape[axis] = -1
    return n.call(torch.reshape, parameter, tuple(shape))


def real(n: OnnxNode, x: Value) -> Value:
    """Integers as real numbers."""
    if x.real is not None:
        return x.real
    return x if x.kind in FLOATS else n.call("to", x, torch.float32, kind=TensorProto.FLOAT)


def integers(n: OnnxNode, x: Value, kind: int) -> Value:
    """Whole real numbers within an integer type's bounds as that type."""
    y = n.call("to", x, HELD[kind], kind=kind)
    return Value(kind, y.tensor, y.node, real=x)


def quantise(n: OnnxNode, x: Value, scale: Value, zero: Value | None, kind: int) -> Value:
    """``saturate(round(x / scale) + zero)``; halves to even."""
    if kind not in BITS:
        raise Unsupported(f"it quantises to {named(kind)}")
    y = n.call(torch.round, n.call(torch.div, x, _number(scale)))
    if zero is not None and not _is_zero(zero):
        y = n.call(torch.add, y, _number(real(n, zero)))
    low, high = bounds(kind)
    return integers(n, n.call(torch.clamp, y, float(low), float(high)), kind)


def dequantise(n: OnnxNode, x: Value, scale: Value, zero: Value | None) -> Value:
    """``(x - zero) * scale``."""
    y = real(n, x)
    if zero is not None and not _is_zero(zero):
        y = n.call(torch.sub, y, _number(real(n, zero)))
    return n.call(torch.mul, y, _number(scale), kind=scale.kind)


def _is_zero(value: Value) -> bool:
    return value.known and not bool(value.tensor.any())


def _number(value: Value) -> Any:
    return value.tensor.item() if value.known and value.rank == 0 else value


@reads("QuantizeLinear")
@reads("QuantizeLinear", domain="com.microsoft")
def quantize_linear(n: OnnxNode) -> Value:
    n.ignore("saturate", "precision")
    x, scale, zero = n[0], n[1], n.get(2)
    axis = n.place(n.attr("axis", 1), x.rank) if x.rank > 1 else 0
    n.ignore("axis")
    block = n.attr("block_size", 0)
    kind = zero.kind if zero is not None else n.attr("output_dtype", 0) or TensorProto.UINT8
    n.ignore("output_dtype")
    x = real(n, x)
    return quantise(
        n, x, along(n, scale, x, axis, block), zero if zero is None else along(n, zero, x, axis, block), kind
    )


@reads("DequantizeLinear")
@reads("DequantizeLinear", domain="com.microsoft")
def dequantize_linear(n: OnnxNode) -> Value:
    n.ignore("output_dtype")
    x, scale, zero = n[0], n[1], n.get(2)
    axis = n.place(n.attr("axis", 1), x.rank) if x.rank > 1 else 0
    n.ignore("axis")
    block = n.attr("block_size", 0)
    y = dequantise(n, x, along(n, scale, x, axis, block), zero if zero is None else along(n, zero, x, axis, block))
    # A weight that the file keeps quantised is a parameter of its name, in real numbers.
    return Value(y.kind, y.tensor, name=x.name) if y.known else y


def dynamically(n: OnnxNode, x: Value) -> tuple[Value, Value, Value]:
    """``x`` in uint8 over the range of its own values, 0 included; the scale and the zero point of that."""
    low = n.call(torch.clamp, n.call(torch.amin, x), None, 0.0)
    high = n.call(torch.clamp, n.call(torch.amax, x), 0.0, None)
    scale = n.call(torch.div, n.call(torch.sub, high, low), 255.0)
    safe = n.call(torch.where, n.call(torch.eq, scale, 0.0), n.constant(1.0, x.kind, torch.float32), scale)
    zero = n.call(torch.clamp, n.call(torch.round, n.call(torch.div, n.call(torch.neg, low), safe)), 0.0, 255.0)
    zeros = integers(n, zero, TensorProto.UINT8)
    return quantise(n, x, safe, zeros, TensorProto.UINT8), scale, zeros


@reads("DynamicQuantizeLinear")
def dynamic_quantize(n: OnnxNode) -> Outputs:
    return Outputs(dynamically(n, n[0]))


def _centred(n: OnnxNode, x: Value, zero: Value | None, axis: int = 0) -> Value:
    y = real(n, x)
    if zero is None or _is_zero(zero):
        return y
    return n.call(torch.sub, y, along(n, real(n, zero), y, axis))


@reads("ConvInteger")
def conv_integer(n: OnnxNode) -> Value:
    x, w = _centred(n, n[0], n.get(2)), _centred(n, n[1], n.get(3))
    return integers(n, convolved(n, x, w, None), TensorProto.INT32)


@reads("QLinearConv")
def qlinear_conv(n: OnnxNode) -> Value:
    x = dequantise(n, n[0], n[1], n[2])
    scale = along(n, n[4], n[3], 0)
    w = dequantise(n, n[3], scale, along(n, n[5], n[3], 0))
    w = Value(w.kind, w.tensor, w.node, n[3].name)
    bias = n.get(8)
    if bias is not None:
        bias = n.call(torch.mul, real(n, bias), n.call(torch.mul, n.call(torch.reshape, n[4], (-1,)), n[1]))
    return quantise(n, convolved(n, x, w, bias), n[6], n[7], n[7].kind)


def _rows(n: OnnxNode, parameter: Value | None, matrix: Value, axis: int) -> Value | None:
    """A zero point or scale for each row or column of a matrix, so that it broadcasts."""
    if parameter is None or parameter.rank != 1 or parameter.tensor.numel() == 1:
        return None if parameter is None else along(n, parameter, matrix, axis)
    return n.call(torch.unsqueeze, parameter, -1 if axis == matrix.rank - 2 else 0)


def matrices(n: OnnxNode, a: Value, b: Value) -> Value:
    """A product of matrices; a constant second one is a linear layer."""
    if b.known and not a.known and b.rank == 2 and a.rank >= 2:
        return linear(n, a, turned(b), None)
    return n.call(torch.matmul, a, b)


@reads("MatMulInteger")
def matmul_integer(n: OnnxNode) -> Value:
    a, b = n[0], n[1]
    a_zero, b_zero = _rows(n, n.get(2), a, a.rank - 2), _rows(n, n.get(3), b, b.rank - 1)
    left = real(n, a) if a_zero is None else n.call(torch.sub, real(n, a), real(n, a_zero))
    right = real(n, b) if b_zero is None else n.call(torch.sub, real(n, b), real(n, b_zero))
    right = Value(right.kind, right.tensor, right.node, b.name)
    return integers(n, matrices(n, left, right), TensorProto.INT32)


@reads("QLinearMatMul")
def qlinear_matmul(n: OnnxNode) -> Value:
    values = []
    for i in (0, 3):
        x = n[i]
        axis = x.rank - 2 if i == 0 else x.rank - 1
        scale, zero = _rows(n, n[i + 1], x, axis), _rows(n, n[i + 2], x, axis)
        assert scale is not None
        y = dequantise(n, x, scale, zero)
        values.append(Value(y.kind, y.tensor, y.node, x.name))
    y = matrices(n, *values)
    scale, zero = _rows(n, n[6], y, y.rank - 2), _rows(n, n[7], y, y.rank - 2)
    assert scale is not None
    return quantise(n, y, scale, zero, n[7].kind)
