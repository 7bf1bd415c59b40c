"""Activations, sums and products: epilogue of the kernel before where they may be, else a kernel of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.cutter import (
    Cutter,
    Value,
    argument,
    as_picture,
    as_seen,
    data,
    handles,
    images,
    static_shape,
    unsupported,
)
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


@handles(aten.selu.default, aten.selu_.default)
def _selu(cutter: Cutter, node: Node) -> None:
    """Constants of Klambauer et al., 2017."""
    _unary(cutter, node, step("elu", 1.6732632423543772), step("times", 1.0507009873554805))


@handles(aten.softplus.default)
def _softplus(cutter: Cutter, node: Node) -> None:
    beta = float(argument(node, 1, "beta", 1))
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
    x, slopes = cutter.value(node.args[0], node), cutter.value(node.args[1], node)
    shape = (1, slopes.shape[0], *(1 for _ in x.shape[2:]))
    if _fits(values := [as_image(x), as_seen(slopes, slopes.seen.reshaped(as_picture(shape)))]):
        _of_images(cutter, node, "prelu", values)
    else:
        shown = as_seen(slopes, slopes.seen.reshaped(shape))
        of_plain_tensors(cutter, node, "prelu", (cutter.seen(node.args[0], node), (shown, shown.seen)))


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
    value = as_image(value)
    value = cutter.blocked(value) if images([value]) else cutter.plain(node.args[0], node)
    cutter.open("elementwise", node, value.spec, [value]).epilogue.extend(steps)
    cutter.values[node] = as_seen(cutter.values[node], View.whole(static_shape(node)))


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
    if isinstance(node.args[1], int | float):
        _unary(cutter, node, _with_number(name, node.args[1]))
        return
    values = [cutter.operand(a, node, len(static_shape(node))) for a in node.args[:2]]
    pictures = [as_image(v) for v in values]
    if _fits(pictures) and any(v.shape == as_picture(static_shape(node)) for v in pictures):
        _of_images(cutter, node, name, pictures)
    else:
        left, right = (cutter.seen(a, node) for a in node.args[:2])
        of_plain_tensors(cutter, node, name, (left, right))


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


def as_image(value: Value) -> Value:
    """A line or a volume whose data is kept as an image, as that image; anything else as it is."""
    whole = value.view == View.whole(value.shape) and as_picture(value.shape) == value.spec.shape
    return replace(value, view=None) if whole and value.spec.layout == "blocked" else value


def _fits(values: Sequence[Value]) -> bool:
    """Whether they are images of which an epilogue reads one beside the other: same shape, one value a channel,
    one a pixel, or one for all."""
    shapes = [TensorSpec(v.shape) for v in values]
    return images(values) and any(
        a.shape == b.shape or _one_per_channel(b, a) or _one_per_pixel(b, a) for a, b in (shapes, shapes[::-1])
    )


def _of_images(cutter: Cutter, node: Node, name: str, values: Sequence[Value]) -> None:
    """Into the epilogue of the kernel before one operand, where the other is ready; else a kernel of its own."""
    shape = static_shape(node)
    left, right = (cutter.blocked(v) for v in values)
    orders = [(left, right, name), (right, left, REVERSED.get(name, name))]
    whole = [o for o in orders if o[0].spec.shape == as_picture(shape)]
    for value, other, operation in whole:
        draft = cutter.extend(value, node)
        if draft and other.draft is not draft:
            draft.operands.append(other)
            cutter.grow(draft, node, operation)
            break
    else:
        value, other, operation = whole[0]
        draft = cutter.open("elementwise", node, value.spec, [value])
        draft.operands.append(other)
        draft.epilogue.append(operation)
    cutter.values[node] = as_seen(replace(cutter.values[node], view=None), View.whole(shape))


def of_plain_tensors(
    cutter: Cutter, node: Node, name: str, operands: tuple[tuple[Value, View], tuple[Value, View]]
) -> None:
    """Any two tensors that broadcast: each is read as it lies, through the walk that its view amounts to."""
    shape = static_shape(node)
    left, right = operands
    for (value, view), (other, other_view), operation in (
        (left, right, name),
        (right, left, REVERSED.get(name, name)),
    ):
        draft = cutter.extend(value, node) if view == View.whole(shape) else None
        if draft is None or other.draft is draft:
            continue
        if draft.op == "strided" and value.view is None:
            draft.attrs[f"walk{1 + len(draft.operands)}"] = other_view.expanded(shape).walk.to_attr()
            draft.operands.append(data(other, other_view))
        elif draft.op != "strided" and other_view == View.whole(shape):
            # Seen as the kernel sees its own result: rows of a linear layer may be more than one dimension.
            draft.operands.append(replace(other, spec=TensorSpec(draft.spec.shape, "plain"), view=None))
        else:
            continue
        cutter.grow(draft, node, operation)
        return
    walks = {f"walk{i}": view.expanded(shape).walk.to_attr() for i, (_, view) in enumerate((left, right))}
    draft = cutter.open("strided", node, TensorSpec(shape, "plain"), [data(*left)], **walks)
    draft.operands.append(data(*right))
    draft.epilogue.append(name)


def _one_per_pixel(gate: TensorSpec, image: TensorSpec) -> bool:
    n, _, height, width = image.shape
    return gate.shape in ((n, 1, height, width), (n, 1, 1, 1))


def _one_per_channel(gate: TensorSpec, image: TensorSpec) -> bool:
    return gate.shape[:2] == image.shape[:2] and gate.pixels == 1
