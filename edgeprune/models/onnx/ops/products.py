"""Matrix products."""

from __future__ import annotations

import torch
from torch import nn

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.ops.arithmetic import operand
from edgeprune.models.onnx.table import reads
from edgeprune.models.onnx.types import FLOATS
from edgeprune.models.onnx.values import Unsupported, Value


def linear(n: OnnxNode, x: Value, weight: Value, bias: Value | None) -> Value:
    """A linear layer; ``weight`` is (outputs, inputs), as torch has it."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    return n.layer(layer, x, weight=weight, bias=bias)


def turned(weight: Value) -> Value:
    """A constant matrix with its axes exchanged, still a parameter of the file's name."""
    return Value(weight.kind, weight.tensor.T.contiguous(), name=weight.name)


@reads("MatMul")
def matmul(n: OnnxNode) -> Value:
    a, b = n[0], n[1]
    if b.known and not a.known and b.rank == 2 and a.rank >= 2 and a.kind in FLOATS:
        return linear(n, a, turned(b), None)
    return n.call(torch.matmul, a, b)


@reads("Gemm")
def gemm(n: OnnxNode) -> Value:
    """``alpha * A' * B' + beta * C``; a linear layer where ``B`` is constant and ``C`` one number for each output."""
    a, b, c = n[0], n[1], n.get(2)
    alpha, beta = n.attr("alpha"), n.attr("beta")
    if n.opset < 7 and n.domain == "":
        raise Unsupported("before opset 7 it broadcasts by an attribute")
    if n.attr("transA"):
        a = n.call(torch.t, a)
    if a.rank != 2 or b.rank != 2:
        raise Unsupported(f"its operands have {a.rank} and {b.rank} axes")
    outputs = b.shape[0 if n.attr("transB") else 1]
    plain = c is None or (c.known and c.tensor.numel() in (1, outputs) and (c.rank < 2 or c.shape[0] == 1))
    if b.known and plain and not a.known and a.kind in FLOATS:
        weight = b if n.attr("transB") else turned(b)
        if alpha != 1:
            weight = Value(weight.kind, weight.tensor * alpha, name=weight.name)
        if c is not None:
            tensor = c.tensor.flatten().expand(outputs) * beta if beta != 1 or c.shape != (outputs,) else c.tensor
            c = Value(c.kind, tensor.contiguous(), name=c.name)
        return linear(n, a, weight, c)
    y = n.call(torch.matmul, a, n.call(torch.t, b) if n.attr("transB") else b)
    if alpha != 1:
        y = n.call(torch.mul, y, alpha)
    if c is None:
        return y
    return n.call(torch.add, y, operand(n, c, y) if beta == 1 else n.call(torch.mul, c, beta))


@reads("Einsum")
def einsum(n: OnnxNode) -> Value:
    return n.call(torch.einsum, n.attr("equation").replace(" ", ""), *n.all())


@reads("Det")
def determinant(n: OnnxNode) -> Value:
    return n.call(torch.linalg.det, n[0])
