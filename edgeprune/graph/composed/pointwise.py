"""Functions of one value, or of those at one place, by simpler ones."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.composed.composer import Composer, composes, is_float
from edgeprune.graph.composed.division import quotient
from edgeprune.graph.nodes import arguments

aten = torch.ops.aten

NOT_NEGATIVE = (
    aten.relu.default,
    aten.relu_.default,
    aten.relu6.default,
    aten.abs.default,
    aten.square.default,
    aten.exp.default,
    aten.sigmoid.default,
    aten.softplus.default,
)


@composes(aten.clamp_min.default, aten.clamp_max.default, aten.clip.default)
def clip(c: Composer, node: Node) -> Node | None:
    a = arguments(node)
    return c(aten.clamp.default, a["self"], a.get("min"), a.get("max")) if is_float(a["self"]) else None


@composes(aten.clamp_min.Tensor, aten.clamp_max.Tensor)
def clip_by_tensor(c: Composer, node: Node) -> Node | None:
    name = aten.maximum.default if node.target is aten.clamp_min.Tensor else aten.minimum.default
    return c(name, *node.args[:2]) if is_float(node.args[0]) else None


@composes(aten.addcmul.default, aten.addcdiv.default)
def added_product(c: Composer, node: Node) -> Node:
    a = arguments(node)
    name = aten.mul.Tensor if node.target is aten.addcmul.default else aten.div.Tensor
    return c(aten.add.Tensor, a["self"], _times(c, c(name, a["tensor1"], a["tensor2"]), a["value"]))


@composes(aten.lerp.Scalar, aten.lerp.Tensor)
def interpolated(c: Composer, node: Node) -> Node:
    a = arguments(node)
    return c(aten.add.Tensor, a["self"], c(aten.mul.Tensor, c(aten.sub.Tensor, a["end"], a["self"]), a["weight"]))


@composes(aten.softshrink.default)
def softshrink(c: Composer, node: Node) -> Node:
    """x - clamp(x, -lambd, lambd)."""
    x, lambd = node.args[0], float(arguments(node)["lambd"])
    return c(aten.sub.Tensor, x, c(aten.clamp.default, x, -lambd, lambd))


@composes(aten.celu.default)
def celu(c: Composer, node: Node) -> Node:
    """alpha * elu(x / alpha)."""
    x, alpha = node.args[0], float(arguments(node)["alpha"])
    return _times(c, c(aten.elu.default, _times(c, x, 1 / alpha)), alpha)


@composes(aten.log_sigmoid.default)
def log_sigmoid(c: Composer, node: Node) -> Node:
    """-softplus(-x)."""
    return c(aten.neg.default, c(aten.softplus.default, c(aten.neg.default, node.args[0])))


@composes(aten.expm1.default)
def expm1(c: Composer, node: Node) -> Node:
    return c(aten.sub.Tensor, c(aten.exp.default, node.args[0]), 1.0)


@composes(aten.log1p.default)
def log1p(c: Composer, node: Node) -> Node:
    return c(aten.log.default, c(aten.add.Tensor, node.args[0], 1.0))


@composes(aten.log2.default, aten.log10.default)
def other_logarithm(c: Composer, node: Node) -> Node:
    base = 2 if node.target is aten.log2.default else 10
    return _times(c, c(aten.log.default, node.args[0]), 1 / math.log(base))


@composes(aten.exp2.default)
def exp2(c: Composer, node: Node) -> Node:
    return c(aten.exp.default, _times(c, node.args[0], math.log(2)))


@composes(aten.pow.Scalar)
def power_of_number(c: Composer, node: Node) -> Node | None:
    base = float(arguments(node)["self"])
    x = arguments(node)["exponent"]
    return c(aten.exp.default, _times(c, x, math.log(base))) if base > 0 and is_float(x) else None


@composes(aten.pow.Tensor_Scalar)
def power(c: Composer, node: Node) -> Node | None:
    """By squares where the exponent is a whole number, which keeps the sign of odd powers; else by the logarithm: of a
    negative base torch has none either.
    """
    x, exponent = arguments(node)["self"], float(arguments(node)["exponent"])
    if exponent in (0.5, 1.0, 2.0, 4.0) or not is_float(x):
        return None
    if exponent == -1.0:
        return c(aten.reciprocal.default, x)
    if exponent == -0.5:
        return c(aten.rsqrt.default, x)
    if exponent == 3.0:
        return c(aten.mul.Tensor, c(aten.square.default, x), x)
    if exponent == 0:
        return c(aten.ones_like.default, x)
    if exponent.is_integer():
        whole = _by_squares(c, x, int(abs(exponent)))
        return c(aten.reciprocal.default, whole) if exponent < 0 else whole
    return c(aten.exp.default, _times(c, c(aten.log.default, x), exponent))


def _by_squares(c: Composer, x: Node, exponent: int) -> Node:
    result = x if exponent % 2 else None
    while exponent := exponent // 2:
        x = c(aten.square.default, x)
        if exponent % 2:
            result = x if result is None else c(aten.mul.Tensor, result, x)
    assert result is not None
    return result


@composes(aten.pow.Tensor_Tensor)
def power_of_tensor(c: Composer, node: Node) -> Node | None:
    """By the logarithm, of a base that was made not negative: generalised mean pooling."""
    base, exponent = node.args[:2]
    if not (isinstance(base, Node) and is_float(base) and _not_negative(base)):
        return None
    return c(aten.exp.default, c(aten.mul.Tensor, c(aten.log.default, base), exponent))


def _not_negative(node: Node) -> bool:
    if node.target is aten.clamp.default:
        low = arguments(node)["min"]
        return isinstance(low, (int, float)) and low >= 0
    averages = (aten.mean.dim, aten.avg_pool2d.default, aten.adaptive_avg_pool2d.default, aten.mean.default)
    if node.target in averages and isinstance(node.args[0], Node):
        source = node.args[0]
        power = source.target is aten.exp.default  # of a generalised mean
        return power or _not_negative(source)
    return node.target in NOT_NEGATIVE


@composes(aten.atan2.default)
def atan2(c: Composer, node: Node) -> Node | None:
    """The angle between 0 and 45 degrees, mirrored into its octant; 0 where both sides are."""
    y, x = node.args[:2]
    if not (is_float(y) and is_float(x)):
        return None
    height, width = c(aten.abs.default, y), c(aten.abs.default, x)
    smaller, larger = c(aten.minimum.default, height, width), c(aten.maximum.default, height, width)
    larger = c(aten.clamp.default, larger, torch.finfo(torch.float32).tiny)
    angle = c(aten.atan.default, c(aten.div.Tensor, smaller, larger))
    steep, left, below = _positive(c, c(aten.sub.Tensor, height, width)), _negative(c, x), _negative(c, y)
    for mirrored, total in ((steep, math.pi / 2), (left, math.pi), (below, 0.0)):
        # angle where it is not mirrored, total - angle where it is
        change = c(aten.add.Tensor, _times(c, angle, -2.0), total)
        angle = c(aten.add.Tensor, angle, c(aten.mul.Tensor, change, mirrored))
    return angle


@composes(aten.hypot.default)
def hypot(c: Composer, node: Node) -> Node | None:
    """The root of a sum of squares, which overflow from 1e19 on."""
    if not all(is_float(x) for x in node.args[:2]):
        return None
    return c(aten.sqrt.default, c(aten.add.Tensor, *(c(aten.square.default, x) for x in node.args[:2])))


@composes(aten.logaddexp.default)
def logaddexp(c: Composer, node: Node) -> Node | None:
    """The larger one + log(1 + e ** -difference)."""
    x, y = node.args[:2]
    if not (is_float(x) and is_float(y)):
        return None
    apart = c(aten.neg.default, c(aten.abs.default, c(aten.sub.Tensor, x, y)))
    return c(aten.add.Tensor, c(aten.maximum.default, x, y), c(aten.softplus.default, apart))


@composes(aten.round.decimals)
def rounded(c: Composer, node: Node) -> Node | None:
    """As torch does it: the whole number of these decimals, divided again."""
    x, decimals = node.args[0], arguments(node)["decimals"]
    if not is_float(x):
        return None
    power = float(10 ** abs(decimals))
    if decimals < 0:
        return _times(c, c(aten.round.default, quotient(c, x, power)), power)
    return quotient(c, c(aten.round.default, _times(c, x, power)), power)


@composes(aten.glu.default)
def gated(c: Composer, node: Node) -> Node | None:
    """The first half of the channels times the sigmoid of the second."""
    a = arguments(node)
    if not is_float(a["self"]):
        return None
    parts = c(aten.chunk.default, a["self"], 2, a["dim"])
    value, gate = (c(operator.getitem, parts, i) for i in (0, 1))
    return c(aten.mul.Tensor, value, c(aten.sigmoid.default, gate))


def _positive(c: Composer, x: Any) -> Node:
    """1 where x is above 0, else 0."""
    return c(aten.relu.default, c(aten.sign.default, x))


def _negative(c: Composer, x: Any) -> Node:
    return _positive(c, c(aten.neg.default, x))


def _times(c: Composer, x: Any, factor: float) -> Node:
    return c(aten.mul.Tensor, x, factor) if factor != 1 else x
