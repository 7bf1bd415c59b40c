"""Arithmetic of two tensors or more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnx import TensorProto

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import reads
from edgeprune.models.onnx.types import FLOATS, HELD, wrapped
from edgeprune.models.onnx.values import Unsupported, Value

_LINEAR: dict[str, Callable[..., Any]] = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul}
_SEVERAL: dict[str, Callable[..., Any]] = {
    "Sum": torch.add,
    "Mean": torch.add,
    "Max": torch.maximum,
    "Min": torch.minimum,
}


def operand(n: OnnxNode, value: Value, other: Value) -> Any:
    """A plain number for a constant that is one, where broadcasting loses nothing by it; networks read better so."""
    single = value.known and value.tensor.numel() == 1 and value.rank <= other.rank and not value.tensor.is_complex()
    return value.tensor.item() if single and not other.known else value


def pair(n: OnnxNode) -> tuple[Any, Any]:
    """The two operands; broadcast as operators before opset 7 did it is refused by not being read."""
    a, b = n[0], n[1]
    return operand(n, a, b), operand(n, b, a)


def binary(n: OnnxNode, function: Callable[..., Any], a: Any, b: Any, **options: Any) -> Value:
    """The function, whose first argument has to be a tensor."""
    if not isinstance(a, Value):
        a = n[0]
    kind = n[0].kind
    result: Value = n.call(function, a, b, kind=kind, **options)
    wide = HELD[kind] != result.tensor.dtype or kind in (TensorProto.UINT16, TensorProto.UINT32)
    return (
        n.call(wrapped, result, kind, kind=kind) if wide and kind not in FLOATS and kind != TensorProto.BOOL else result
    )


@reads("Add", "Sub", "Mul")
def linear(n: OnnxNode) -> Value:
    a, b = pair(n)
    function = _LINEAR[n.operator]
    if not isinstance(a, Value) and n.operator != "Sub":
        a, b = b, a  # a number is the second operand
    if not isinstance(a, Value):
        return n.call(torch.rsub, b, a, kind=n[0].kind)
    return binary(n, function, a, b)


@reads("Div")
def div(n: OnnxNode) -> Value:
    """Integers lose their fraction: towards 0."""
    a, b = pair(n)
    if n[0].kind in FLOATS:
        if not isinstance(a, Value) and a == 1:
            return n.call(torch.reciprocal, b)
        return binary(n, torch.div, a, b)
    if not isinstance(b, Value) and b == 0:
        raise ZeroDivisionError("it divides by 0")
    return binary(n, torch.div, a, b, rounding_mode="trunc")


@reads("Pow")
def power(n: OnnxNode) -> Value:
    x, exponent = n[0], n[1]
    number = operand(n, exponent, x)
    integral = x.kind not in FLOATS
    if integral and (isinstance(number, float) or exponent.kind in FLOATS):
        y = n.call(
            torch.pow, n.call("to", x, torch.float64 if x.known else torch.float32, kind=TensorProto.FLOAT), number
        )
        return n.call("to", y, HELD[x.kind], kind=x.kind)
    if number == 2 and not isinstance(number, Value):
        return n.call(torch.square, x)
    if number == 0.5 and not isinstance(number, Value):
        return n.call(torch.sqrt, x)
    if not integral and isinstance(number, Value) and exponent.kind not in FLOATS:
        number = n.call("to", number, x.tensor.dtype, kind=x.kind)
    return binary(n, torch.pow, x, number)


@reads("Mod")
def mod(n: OnnxNode) -> Value:
    """With ``fmod`` the sign of the dividend, as C has it; else that of the divisor, as Python has it."""
    a, b = pair(n)
    return binary(n, torch.fmod if n.attr("fmod") else torch.remainder, a, b)


@reads("Sum", "Max", "Min", "Mean")
def several(n: OnnxNode) -> Value:
    function = _SEVERAL[n.operator]
    values = n.all()
    result = values[0]
    for value in values[1:]:
        result = n.call(function, result, value)
    return n.call(torch.div, result, len(values)) if n.operator == "Mean" and len(values) > 1 else result


@reads("BitShift")
def bit_shift(n: OnnxNode) -> Value:
    direction = n.attr("direction")
    if direction not in ("LEFT", "RIGHT"):
        raise Unsupported(f"its direction is {direction!r}")
    left = direction == "LEFT"
    result = n.call(torch.bitwise_left_shift if left else torch.bitwise_right_shift, n[0], n[1], kind=n[0].kind)
    return n.call(wrapped, result, n[0].kind, kind=n[0].kind)


@reads("BitwiseAnd", "BitwiseOr", "BitwiseXor")
def bitwise(n: OnnxNode) -> Value:
    function = {
        "BitwiseAnd": torch.bitwise_and,
        "BitwiseOr": torch.bitwise_or,
        "BitwiseXor": torch.bitwise_xor,
    }[n.operator]
    return n.call(function, n[0], n[1], kind=n[0].kind)


@reads("BitwiseNot")
def bitwise_not(n: OnnxNode) -> Value:
    return n.call(wrapped, n.call(torch.bitwise_not, n[0]), n[0].kind, kind=n[0].kind)
