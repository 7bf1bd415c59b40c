"""Activations, sums and products: epilogue of the kernel before where they may be, else a kernel of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.cutting.cutter import Cutter, handles
from edgeprune.graph.cutting.values import Value, are_images, as_picture, walks
from edgeprune.graph.nodes import arguments, static_shape, unsupported
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


ACTIVATIONS: dict[Any, str] = {
    aten.relu.default: "relu",
    aten.relu_.default: "relu",
    aten.relu6.default: "relu6",
    aten.relu6_.default: "relu6",
    aten.hardswish.default: "hardswish",
    aten.hardswish_.default: "hardswish",
    aten.hardsigmoid.default: "hardsigmoid",
    aten.hardsigmoid_.default: "hardsigmoid",
    aten.sigmoid.default: "sigmoid",
    aten.sigmoid_.default: "sigmoid",
    aten.silu.default: "silu",
    aten.silu_.default: "silu",
    aten.tanh.default: "tanh",
    aten.tanh_.default: "tanh",
    aten.abs.default: "abs",
    aten.exp.default: "exp",
    aten.log.default: "log",
    aten.sqrt.default: "sqrt",
    aten.rsqrt.default: "rsqrt",
    aten.reciprocal.default: "reciprocal",
    aten.sign.default: "sign",
    aten.square.default: "square",
    aten.mish.default: "mish",
    aten.mish_.default: "mish",
}


@handles(*ACTIVATIONS)
def _activation(cutter: Cutter, node: Node) -> None:
    _unary(cutter, node, ACTIVATIONS[node.target])


@handles(aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default, aten.clamp_.default)
def _clip(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    low, high = (named.get(f"{end}_val", named.get(end)) for end in ("min", "max"))
    bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    _unary(cutter, node, {(0.0, 6.0): "relu6", (0.0, math.inf): "relu"}.get(bounds) or step("clip", *bounds))


@handles(aten.leaky_relu.default, aten.leaky_relu_.default)
def _leaky_relu(cutter: Cutter, node: Node) -> None:
    _unary(cutter, node, step("leaky_relu", arguments(node)["negative_slope"]))


@handles(aten.elu.default, aten.elu_.default)
def _elu(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    if named["scale"] != 1 or named["input_scale"] != 1:
        raise unsupported(node, "an ELU with scales", "use nn.ELU")
    _unary(cutter, node, step("elu", named["alpha"]))


@handles(aten.selu.default, aten.selu_.default)
def _selu(cutter: Cutter, node: Node) -> None:
    """Constants of Klambauer et al., 2017."""
    _unary(cutter, node, step("elu", 1.6732632423543772), step("times", 1.0507009873554805))


@handles(aten.softplus.default)
def _softplus(cutter: Cutter, node: Node) -> None:
    beta = float(arguments(node)["beta"])
    _unary(cutter, node, step("times", beta), "softplus", step("times", 1 / beta))


@handles(aten.neg.default)
def _negative(cutter: Cutter, node: Node) -> None:
    _unary(cutter, node, step("times", -1))


@handles(aten.pow.Tensor_Scalar)
def _power(cutter: Cutter, node: Node) -> None:
    known: dict[Any, list[str]] = {2: ["square"], 0.5: ["sqrt"], 1: [], 4: ["square", "square"]}
    steps = known.get(node.args[1])
    if steps is None:
        raise unsupported(node, f"the power {node.args[1]}", "write it with mul and sqrt")
    _unary(cutter, node, *steps)


@handles(aten.prelu.default)
def _prelu(cutter: Cutter, node: Node) -> None:
    """One slope for all channels, or one for each."""
    x, slopes = cutter.value(node.args[0]), cutter.value(node.args[1])
    shape = (1, slopes.shape[0], *(1 for _ in x.shape[2:]))
    if _fits(values := [x.image, slopes.reshaped(as_picture(shape))]):
        _of_images(cutter, node, "prelu", values)
    else:
        of_plain_tensors(
            cutter, node, "prelu", (cutter.row_major(node.args[0]), slopes.reshaped(shape)), static_shape(node)
        )


@handles(aten.gelu.default)
def _gelu(cutter: Cutter, node: Node) -> None:
    _unary(cutter, node, "gelu_tanh" if arguments(node)["approximate"] == "tanh" else "gelu")


def step(name: str, *numbers: float) -> str:
    """An epilogue step with numbers, as the kernel rules read it."""
    return f"{name}:{','.join(repr(float(n)) for n in numbers)}"


def _unary(cutter: Cutter, node: Node, *steps: str) -> None:
    value = cutter.value(node.args[0])
    if draft := cutter.joinable(value):
        cutter.join(draft, node, *steps)
        return
    value = cutter.blocked(value.image) if are_images([value.image]) else cutter.plain(node.args[0])
    cutter.emit("elementwise", node, value.data.spec, [value], epilogue=steps, seen=static_shape(node))


OPERATIONS: dict[Any, str] = {
    aten.add.Tensor: "add",
    aten.add_.Tensor: "add",
    aten.sub.Tensor: "sub",
    aten.sub_.Tensor: "sub",
    aten.mul.Tensor: "mul",
    aten.mul_.Tensor: "mul",
    aten.div.Tensor: "div",
    aten.div_.Tensor: "div",
    aten.maximum.default: "max",
    aten.minimum.default: "min",
}
REVERSED = {"sub": "rsub", "div": "rdiv"}
"""The step for the kernel of the right operand; the others do not care for the order."""


@handles(*OPERATIONS)
def _binary(cutter: Cutter, node: Node) -> None:
    name = OPERATIONS[node.target]
    if arguments(node).get("alpha", 1) != 1:
        raise unsupported(node, "an operand with a factor (alpha)", "write the factor as a separate layer")
    if isinstance(node.args[1], int | float):
        _unary(cutter, node, _with_number(name, node.args[1]))
        return
    shape = static_shape(node)
    values = [cutter.operand(a, len(shape)).image for a in node.args[:2]]
    if _fits(values) and any(v.shape == as_picture(shape) for v in values):
        _of_images(cutter, node, name, values)
    else:
        left, right = (cutter.row_major(a) for a in node.args[:2])
        of_plain_tensors(cutter, node, name, (left, right), shape)


@handles(aten.rsub.Scalar)
def _number_less(cutter: Cutter, node: Node) -> None:
    if arguments(node)["alpha"] != 1:
        raise unsupported(node, "an operand with a factor (alpha)", "write the factor as a separate layer")
    _unary(cutter, node, step("times", -1), step("plus", node.args[1]))  # type: ignore[arg-type]


def _with_number(name: str, number: float) -> str:
    match name:
        case "add":
            return step("plus", number)
        case "sub":
            return step("plus", -number)
        case "mul":
            return step("times", number)
        case _:
            return step("times", 1 / number)


def _fits(values: Sequence[Value]) -> bool:
    """Whether they are images of which an epilogue reads one beside the other: same shape, one value a channel,
    one a pixel, or one for all."""
    shapes = [TensorSpec(v.shape) for v in values]
    return are_images(values) and any(
        a.shape == b.shape or _one_per_channel(b, a) or _one_per_pixel(b, a) for a, b in (shapes, shapes[::-1])
    )


def _of_images(cutter: Cutter, node: Node, name: str, values: Sequence[Value]) -> None:
    """Into the epilogue of the kernel before one operand, where the other is ready; else a kernel of its own."""
    shape = static_shape(node)
    left, right = (cutter.blocked(v) for v in values)
    orders = [(left, right, name), (right, left, REVERSED.get(name, name))]
    whole = [o for o in orders if o[0].data.spec.shape == as_picture(shape)]
    for value, other, operation in whole:
        draft = cutter.joinable(value)
        if draft and other.draft is not draft:
            cutter.join(draft, node, operation, operands=[other], seen=shape)
            return
    value, other, operation = whole[0]
    cutter.emit("elementwise", node, value.data.spec, [value], operands=[other], epilogue=[operation], seen=shape)


def of_plain_tensors(
    cutter: Cutter, node: Node, name: str, operands: tuple[Value, Value], shape: tuple[int, ...]
) -> Value:
    """Any two tensors that broadcast to ``shape``: each is read as it lies, through the walk of its view."""
    left, right = operands
    for value, other, operation in ((left, right, name), (right, left, REVERSED.get(name, name))):
        draft = cutter.joinable(value) if value.view == View.whole(shape) else None
        if draft is None or other.draft is draft:
            continue
        if draft.op == "strided" and value.whole:
            return cutter.join(draft, node, operation, walked=[other.expanded(shape)])
        if draft.op != "strided" and other.view == View.whole(shape):
            # Seen as the kernel sees its own result: rows of a linear layer may be more than one dimension.
            return cutter.join(draft, node, operation, operands=[other.as_plain(draft.spec.shape)])
    both = [left.expanded(shape), right.expanded(shape)]
    spec, (first, second) = TensorSpec(shape, "plain"), (v.walked for v in both)
    return cutter.emit("strided", node, spec, [first], walks(both), operands=[second], epilogue=[name])


def _one_per_pixel(gate: TensorSpec, image: TensorSpec) -> bool:
    n, _, height, width = image.shape
    return gate.shape in ((n, 1, height, width), (n, 1, 1, 1))


def _one_per_channel(gate: TensorSpec, image: TensorSpec) -> bool:
    return gate.shape[:2] == image.shape[:2] and gate.pixels == 1
