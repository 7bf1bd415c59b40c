"""Functions of several tensors, value by value: sums, products, gates.

They join the epilogue of the kernel before them where they may, and are a kernel of their own elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph import zeros
from edgeprune.graph.aten.common import aligned, carried
from edgeprune.graph.aten.pointwise import step, unary
from edgeprune.graph.aten.table import handles, overloads, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import Value, are_images, as_picture, walks
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.nodes import arguments, static_shape, unsupported
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View, kept_shape

aten = torch.ops.aten


@rule(
    *overloads(
        """
        add.Tensor add_.Tensor sub.Tensor sub_.Tensor maximum minimum lerp.Scalar lerp.Tensor
        """
    ),
    zero=zeros.every,
)
@rule(aten.mul.Tensor, aten.mul_.Tensor, zero=zeros.some)
@rule(
    *overloads(
        """
        addcmul where.self where.ScalarOther where.ScalarSelf where.Scalar eq.Tensor ne.Tensor gt.Tensor ge.Tensor
        lt.Tensor le.Tensor logical_and logical_or logical_xor __and__.Tensor __or__.Tensor __xor__.Tensor
        bitwise_and.Tensor bitwise_or.Tensor
        """
    )
)
def broadcasting(flow: Flow, node: Node) -> None:
    """Several operands, aligned at the last dimension; an operand of size 1 follows the others."""
    flow.produce(node, aligned(flow, node, node.args))


@rule(aten.masked_fill.Scalar, aten.masked_fill_.Scalar)
def masked_fill(flow: Flow, node: Node) -> None:
    axes = aligned(flow, node, node.args)
    if not math.isfinite(float(arguments(node)["value"])):
        for layout in axes.values():
            flow.freeze_layout(layout, "filled with infinity")
    flow.produce(node, axes)


@rule(aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar, zero=zeros.widened)
def division(flow: Flow, node: Node) -> None:
    """By a number, or by one value for all channels: as a divisor, a removed channel would be zero."""
    dividend, divisor = node.args[:2]
    if isinstance(divisor, Node) and divisor.target in (aten.expand_as.default, aten.expand.default):
        divisor = divisor.args[0]
    if not isinstance(divisor, Node):
        flow.produce(node, carried(flow, dividend))
        return
    if flow.parameter(divisor) or any(flow.shape(divisor)[d] > 1 for d in flow.tracked(divisor)):
        raise Refused("division by a tensor")
    flow.produce(node, aligned(flow, node, (dividend, divisor)))


@rule(aten.prelu.default, zero=zeros.widened)
def prelu(flow: Flow, node: Node) -> None:
    """One slope for all channels, or one for each."""
    a = arguments(node)
    if not isinstance(a["weight"], Node):
        raise Refused("the slope is not a tensor")
    if flow.shape(a["weight"])[0] > 1:
        flow.bind(a["weight"], 0, flow.axis(a["self"], 1))
    flow.produce(node, flow.tracked(a["self"]))


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
"""The step for the kernel of the right operand."""
EITHER_ORDER = ("add", "mul", "max", "min")


def _orders(left: Value, right: Value, name: str) -> list[tuple[Value, Value, str]]:
    """Which operand's kernel may go on with which step, reading the other one: either, where the step can be turned."""
    turned = name if name in EITHER_ORDER else REVERSED.get(name)
    return [(left, right, name), *([(right, left, turned)] if turned else [])]


@handles(*OPERATIONS)
def _binary(cutter: Cutter, node: Node) -> None:
    name = OPERATIONS[node.target]
    if arguments(node).get("alpha", 1) != 1:
        raise unsupported(node, "an operand with a factor (alpha)", "write the factor as a separate layer")
    if isinstance(node.args[1], int | float):
        if name == "div" and not node.args[1]:
            raise unsupported(node, "a division by 0", "leave it out of the network")
        unary(cutter, node, _with_number(name, node.args[1]))
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
    unary(cutter, node, step("times", -1), step("plus", node.args[1]))  # type: ignore[arg-type]


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


def _fits(values: Sequence[Value]) -> bool:
    """Whether the values are images that an epilogue can combine: of one shape, or one of them holds one value a
    channel, one a pixel, or one for all."""
    shapes = [TensorSpec(v.shape) for v in values]
    return are_images(values) and any(
        a.shape == b.shape or _one_per_channel(b, a) or _one_per_pixel(b, a) for a, b in (shapes, shapes[::-1])
    )


def _of_images(cutter: Cutter, node: Node, name: str, values: Sequence[Value]) -> None:
    """Into the epilogue of the kernel before one operand, where the other is ready; else a kernel of its own."""
    shape = static_shape(node)
    left, right = (cutter.blocked(v) for v in values)
    whole = [o for o in _orders(left, right, name) if o[0].data.spec.shape == as_picture(shape)]
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
    kept = kept_shape(shape)
    for value, other, operation in _orders(left, right, name):
        draft = cutter.joinable(value) if value.view == View.whole(shape) else None
        if draft is None or other.draft is draft:
            continue
        if draft.op == "strided" and value.unviewed:
            return cutter.join(draft, node, operation, walked=[other.expanded(kept)])
        if draft.op != "strided" and other.view in (View.identity(shape), View.whole(shape)):
            # Seen as the kernel sees its own result: rows of a linear layer may be more than one dimension.
            return cutter.join(draft, node, operation, operands=[other.as_plain(draft.spec.shape)])
    both = [left.expanded(kept), right.expanded(kept)]
    spec, (first, second) = TensorSpec(kept, "plain"), (v.walked for v in both)
    return cutter.emit("strided", node, spec, [first], walks(both), operands=[second], epilogue=[name], seen=shape)


def _one_per_pixel(gate: TensorSpec, image: TensorSpec) -> bool:
    n, _, height, width = image.shape
    return gate.shape in ((n, 1, height, width), (n, 1, 1, 1))


def _one_per_channel(gate: TensorSpec, image: TensorSpec) -> bool:
    return gate.shape[:2] == image.shape[:2] and gate.pixels == 1
