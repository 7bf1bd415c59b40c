"""Elementwise functions of one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional as F

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import Outputs, reads
from edgeprune.models.onnx.types import FLOATS
from edgeprune.models.onnx.values import Unsupported, Value

_PLAIN: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}


@reads(*_PLAIN)
def plain(n: OnnxNode) -> Value:
    """Functions that torch has under the same definition; the old ones could work in place."""
    n.ignore("consumed_inputs")
    return n.call(_PLAIN[n.operator], n[0])


@reads("Relu")
def relu(n: OnnxNode) -> Value:
    n.ignore("consumed_inputs")
    return n.layer(nn.ReLU(), n[0])


@reads("LeakyRelu")
def leaky_relu(n: OnnxNode) -> Value:
    n.ignore("consumed_inputs")
    return n.layer(nn.LeakyReLU(n.attr("alpha")), n[0])


@reads("Elu")
def elu(n: OnnxNode) -> Value:
    n.ignore("consumed_inputs")
    return n.layer(nn.ELU(n.attr("alpha")), n[0])


@reads("Celu")
def celu(n: OnnxNode) -> Value:
    return n.layer(nn.CELU(n.attr("alpha")), n[0])


@reads("Selu")
def selu(n: OnnxNode) -> Value:
    n.ignore("consumed_inputs")
    alpha, gamma = n.attr("alpha"), n.attr("gamma")
    if math.isclose(alpha, 1.6732632423543772, rel_tol=1e-5) and math.isclose(gamma, 1.0507009873554805, rel_tol=1e-5):
        return n.layer(nn.SELU(), n[0])
    return n.call(torch.mul, n.call(F.elu, n[0], alpha), gamma)


@reads("Softplus")
def softplus(n: OnnxNode) -> Value:
    return n.layer(nn.Softplus(), n[0])


@reads("Softsign")
def softsign(n: OnnxNode) -> Value:
    return n.layer(nn.Softsign(), n[0])


@reads("Mish")
def mish(n: OnnxNode) -> Value:
    return n.layer(nn.Mish(), n[0])


@reads("HardSwish")
def hard_swish(n: OnnxNode) -> Value:
    return n.layer(nn.Hardswish(), n[0])


@reads("HardSigmoid")
def hard_sigmoid(n: OnnxNode) -> Value:
    n.ignore("consumed_inputs")
    alpha, beta = n.attr("alpha"), n.attr("beta")
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return n.layer(nn.Hardsigmoid(), n[0])
    return n.call(torch.clamp, n.call(torch.add, n.call(torch.mul, n[0], alpha), beta), 0.0, 1.0)


@reads("Gelu")
def gelu(n: OnnxNode) -> Value:
    kind = n.attr("approximate")
    if kind not in ("none", "tanh"):
        raise Unsupported(f"its approximate is {kind!r}")
    return n.layer(nn.GELU(kind), n[0])


@reads("Swish")
def swish(n: OnnxNode) -> Value:
    alpha = n.attr("alpha")
    if alpha == 1:
        return n.layer(nn.SiLU(), n[0])
    return n.call(torch.mul, n[0], n.call(torch.sigmoid, n.call(torch.mul, n[0], alpha)))


@reads("ThresholdedRelu")
def thresholded_relu(n: OnnxNode) -> Value:
    return n.layer(nn.Threshold(n.attr("alpha"), 0.0), n[0])


@reads("Shrink")
def shrink(n: OnnxNode) -> Value:
    low, bias = n.attr("lambd"), n.attr("bias")
    if bias == 0 and n[0].kind in FLOATS:
        return n.layer(nn.Hardshrink(low), n[0])
    if bias == low and n[0].kind in FLOATS:
        return n.layer(nn.Softshrink(low), n[0])
    x = n[0]
    above = n.call(torch.where, n.call(torch.gt, x, low), n.call(torch.sub, x, bias), 0.0)
    return n.call(torch.where, n.call(torch.lt, x, -low), n.call(torch.add, x, bias), above, kind=x.kind)


@reads("PRelu")
def prelu(n: OnnxNode) -> Value:
    n.ignore("consumed_inputs")
    x, slope = n[0], n[1]
    along = [i for i, d in enumerate(slope.shape) if d != 1]
    channel = slope.rank - x.rank + 1
    if slope.known and x.kind in FLOATS and x.rank >= 2 and along in ([], [channel]):
        count = slope.tensor.numel()
        layer = nn.PReLU(count, device="meta")
        weight = Value(slope.kind, slope.tensor.reshape(count), name=slope.name)
        return n.layer(layer, x, weight=weight)
    return n.call(torch.where, n.call(torch.lt, x, 0), n.call(torch.mul, x, slope), x)


@reads("Clip")
def clip(n: OnnxNode) -> Value:
    n.ignore("consumed_inputs")
    x = n[0]
    bounds: list[Any] = []
    for i, name in ((1, "min"), (2, "max")):
        if n.opset < 11:
            bounds.append(n.attr(name, None))
        else:
            value = n.get(i)
            bounds.append(value if value is None or not value.known else n.number(i, name))
    # Before opset 11 the bounds are there without being given, at the ends of float32.
    low, high = (None if isinstance(b, float) and abs(b) > 3e38 else b for b in bounds)
    if low is None and high is None:
        return x
    if x.kind in FLOATS and low == 0 and high == 6:
        return n.layer(nn.ReLU6(), x)
    if x.kind in FLOATS and low == 0 and high is None:
        return n.layer(nn.ReLU(), x)
    if x.kind in FLOATS and isinstance(low, float) and isinstance(high, float) and low < high:
        return n.layer(nn.Hardtanh(low, high), x)
    if isinstance(low, Value) or isinstance(high, Value):
        # The upper bound wins where they cross.
        for bound, function in ((low, torch.maximum), (high, torch.minimum)):
            if bound is not None:
                x = n.call(
                    function, x, bound if isinstance(bound, Value) else n.constant(bound, x.kind, x.tensor.dtype)
                )
        return x
    return n.call(torch.clamp, x, low, high)


@reads("Dropout")
def dropout(n: OnnxNode) -> Value | Outputs:
    """In inference it hands on what it gets; its mask, where somebody reads it, is all true."""
    n.ignore("consumed_inputs", "is_test", "seed")
    if n.opset >= 12 and len(n) > 2 and n.get(2) is not None and n.number(2, "training mode"):
        raise Unsupported("it is in training mode; export the model in eval mode")
    if n.opset < 7 and not n.attr("is_test", 0):
        raise Unsupported("it is in training mode (is_test=0); export the model in eval mode")
    ratio = n.number(1, "ratio") if n.opset >= 12 else n.attr("ratio")
    y = n.layer(nn.Dropout(0.5 if ratio is None else float(ratio)), n[0])
    if len(n.wanted) < 2 or not n.wanted[1]:
        return y
    return Outputs((y, n.constant(torch.ones(n.shape(), dtype=torch.bool), TensorProto.BOOL)))


@reads("Softmax", "LogSoftmax", "Hardmax")
def softmax(n: OnnxNode) -> Value:
    """Before opset 13 over all axes from the named one on, flattened."""
    axis, x = n.axis(), n[0]
    shape = x.shape
    flat = n.opset < 13 and math.prod(shape[axis:]) != shape[axis] if x.rank else False
    if flat:
        x = n.call(torch.reshape, x, (*shape[:axis], math.prod(shape[axis:])))
    if n.operator == "Hardmax":
        one = n.call(torch.argmax, x, axis, keepdim=True)
        places = n.constant(torch.arange(x.shape[axis]).reshape(-1, *[1] * (x.rank - axis - 1)), TensorProto.INT64)
        y = n.call("to", n.call(torch.eq, places, one), torch.float32, kind=x.kind)
    else:
        y = n.layer({"Softmax": nn.Softmax, "LogSoftmax": nn.LogSoftmax}[n.operator](axis), x)
    return n.call(torch.reshape, y, shape) if flat else y


@reads("IsNaN")
def is_nan(n: OnnxNode) -> Value:
    return n.call(torch.isnan, n[0])


@reads("IsInf")
def is_inf(n: OnnxNode) -> Value:
    signs = bool(n.attr("detect_negative")), bool(n.attr("detect_positive"))
    if signs == (True, True):
        return n.call(torch.isinf, n[0])
    if signs == (False, False):
        return n.call(torch.zeros_like, n[0], dtype=torch.bool)
    return n.call(torch.eq, n[0], math.inf if signs[1] else -math.inf)
