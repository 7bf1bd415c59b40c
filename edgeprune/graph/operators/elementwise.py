"""Activations, sums and products: epilogue of the kernel before where they may be, else a kernel of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.cutter import Cutter, Value, argument, data, handles, images, static_shape, unsupported
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
}


@handles(*ACTIVATIONS)
def _activation(cutter: Cutter, node: Node) -> None:
    _unary(cutter, node, ACTIVATIONS[node.target])


@handles(aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default, aten.clamp_.default)
def _clip(cutter: Cutter, node: Node) -> None:
    default = -1.0 if "hardtanh" in str(node.target) else None
    low = argument(node, 1, "min_val", node.kwargs.get("min", default))
    high = argument(node, 2, "max_val", node.kwargs.get("max", None if default is None else 1.0))
    bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    _unary(cutter, node, {(0.0, 6.0): "relu6", (0.0, math.inf): "relu"}.get(bounds) or step("clip", *bounds))


@handles(aten.leaky_relu.default, aten.leaky_relu_.default)
def _leaky_relu(cutter: Cutter, node: Node) -> None:
    _unary(cutter, node, step("leaky_relu", argument(node, 1, "negative_slope", 0.01)))


@handles(aten.elu.default, aten.elu_.default)
def _elu(cutter: Cutter, node: Node) -> None:
    if argument(node, 2, "scale", 1) != 1 or argument(node, 3, "input_scale", 1) != 1:
        raise unsupported(node, "an ELU with scales", "use nn.ELU")
    _unary(cutter, node, step("elu", argument(node, 1, "alpha", 1.0)))


@handles(aten.gelu.default)
def _gelu(cutter: Cutter, node: Node) -> None:
    _unary(cutter, node, "gelu_tanh" if node.kwargs.get("approximate", "none") == "tanh" else "gelu")


def step(name: str, *numbers: float) -> str:
    """An epilogue step with numbers, as the kernel rules read it."""
    return f"{name}:{','.join(repr(float(n)) for n in numbers)}"


def _unary(cutter: Cutter, node: Node, *steps: str) -> None:
    value = cutter.value(node.args[0], node)
    if draft := cutter.extend(value, node):
        cutter.grow(draft, node, *steps)
        return
    value = cutter.image(node.args[0], node) if images([value]) else cutter.plain(node.args[0], node)
    cutter.open("elementwise", node, value.spec, [value]).epilogue.extend(steps)


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
    if node.kwargs.get("alpha", 1) != 1:
        raise unsupported(node, "an operand with a factor (alpha)", "write the factor as a separate layer")
    left, right = node.args[:2]
    if isinstance(right, int | float):
        _unary(cutter, node, _with_number(name, right))
    elif images(values := [cutter.value(left, node), cutter.value(right, node)]) and _fits(values):
        _of_images(cutter, node, name)
    else:
        _of_plain_tensors(cutter, node, name)


@handles(aten.rsub.Scalar)
def _number_less(cutter: Cutter, node: Node) -> None:
    if argument(node, 2, "alpha", 1) != 1:
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
    """Whether an epilogue reads one beside the other: same shape, one value a channel, or one a pixel."""
    shapes = [v.spec for v in values]
    return any(a.shape == b.shape or _one_per_channel(b, a) or _one_per_pixel(b, a) for a, b in (shapes, shapes[::-1]))


def _of_images(cutter: Cutter, node: Node, name: str) -> None:
    """Into the epilogue of the kernel before one operand, where the other is ready; else a kernel of its own."""
    values = [cutter.image(a, node) for a in node.args[:2]]
    orders = [(values[0], values[1], name), (values[1], values[0], REVERSED.get(name, name))]
    whole = [o for o in orders if o[0].spec.shape == static_shape(node)]
    for value, other, operation in whole:
        draft = cutter.extend(value, node)
        if draft and other.draft is not draft:
            draft.operands.append(other)
            cutter.grow(draft, node, operation)
            return
    value, other, operation = whole[0]
    draft = cutter.open("elementwise", node, value.spec, [value])
    draft.operands.append(other)
    draft.epilogue.append(operation)


def _of_plain_tensors(cutter: Cutter, node: Node, name: str) -> None:
    """Any two tensors that broadcast: each is read as it lies, through the walk that its view amounts to."""
    shape = static_shape(node)
    left, right = (cutter.seen(a, node) for a in node.args[:2])
    for (value, view), (other, other_view), operation in (
        (left, right, name),
        (right, left, REVERSED.get(name, name)),
    ):
        draft = cutter.extend(value, node) if view == View.whole(shape) else None
        if draft is None or other.draft is draft:
            continue
        if draft.op == "strided":
            draft.attrs[f"walk{1 + len(draft.operands)}"] = other_view.expanded(shape).walk.to_attr()
        elif other_view != View.whole(shape):
            continue
        draft.operands.append(data(other, other_view))
        cutter.grow(draft, node, operation)
        return
    walks = {f"walk{i}": view.expanded(shape).walk.to_attr() for i, (_, view) in enumerate((left, right))}
    draft = cutter.open("strided", node, TensorSpec(shape, "plain"), [data(*left)], **walks)
    draft.operands.append(data(*right))
    draft.epilogue.append(name)


def _one_per_pixel(gate: TensorSpec, image: TensorSpec) -> bool:
    n, _, height, width = image.shape
    return gate.shape == (n, 1, height, width)


def _one_per_channel(gate: TensorSpec, image: TensorSpec) -> bool:
    return gate.shape[:2] == image.shape[:2] and gate.pixels == 1
