"""Quotients that are rounded, and what remains of a division.

A quotient by a number is a true division: multiplied by the reciprocal, 49 / 49 would be less than 1. Of whole numbers
up to 2^24 all is exact. A quotient of others may round up to a whole number, as 1 / 0.1 does, and counts as that.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.composed.composer import WHOLE, Composer, composes, is_float
from edgeprune.graph.nodes import arguments

aten = torch.ops.aten


@composes(aten.div.Tensor_mode, aten.div.Scalar_mode)
def rounded_quotient(c: Composer, node: Node) -> Node | None:
    x, y = node.args[:2]
    if not _are_floats(x, y):
        return None
    match arguments(node)["rounding_mode"]:
        case "floor":
            return c(aten.floor.default, quotient(c, x, y))
        case "trunc":
            return c(aten.trunc.default, quotient(c, x, y))
    return quotient(c, x, y)


@composes(aten.floor_divide.default, aten.floor_divide.Scalar)
def floor_divide(c: Composer, node: Node) -> Node | None:
    x, y = node.args[:2]
    return c(aten.floor.default, quotient(c, x, y)) if _are_floats(x, y) else None


@composes(aten.remainder.Scalar, aten.remainder.Tensor, aten.remainder.Scalar_Tensor)
def with_sign_of_divisor(c: Composer, node: Node) -> Node | None:
    x, y = node.args[:2]
    return remainder(c, x, y, whole=_is_whole(node)) if _are_floats(x, y) else None


@composes(aten.fmod.Scalar, aten.fmod.Tensor)
def with_sign_of_dividend(c: Composer, node: Node) -> Node | None:
    x: Any = node.args[0]
    y: Any = node.args[1]
    if not _are_floats(x, y):
        return None
    if _is_whole(node):
        return _less_multiple(c, x, y, c(aten.trunc.default, quotient(c, x, y)))
    left = remainder(c, c(aten.abs.default, x), c(aten.abs.default, y) if isinstance(y, Node) else abs(y))
    return c(aten.mul.Tensor, left, c(aten.sign.default, x))


def quotient(c: Composer, x: Any, y: Any) -> Node:
    """x / y, of which one may be a number."""
    if isinstance(y, Node):
        return c(aten.div.Tensor, _tensor(c, x), y)
    exact = math.frexp(abs(y))[0] == 0.5  # a power of two: so is its reciprocal
    return c(aten.div.Tensor, x, float(y) if exact else _tensor(c, y))


def remainder(c: Composer, x: Any, y: Any, *, whole: bool = False) -> Node:
    """x - floor(x / y) * y; of numbers that are not whole twice, since what is left may be just below 0, or y."""
    left = _less_multiple(c, x, y, c(aten.floor.default, quotient(c, x, y)))
    return left if whole else _less_multiple(c, left, y, c(aten.floor.default, quotient(c, left, y)))


def wrapped(c: Composer, x: Any, dtype: torch.dtype) -> Node:
    """Whole numbers modulo what an integer type holds, within its bounds."""
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    return c(aten.add.Tensor, remainder(c, c(aten.sub.Tensor, x, low), high - low + 1, whole=True), low)


def _less_multiple(c: Composer, x: Any, y: Any, times: Node) -> Node:
    return c(aten.sub.Tensor, _tensor(c, x), c(aten.mul.Tensor, times, y))


def _tensor(c: Composer, x: Any) -> Node:
    return x if isinstance(x, Node) else c(aten.full.default, [], float(x))


def _are_floats(x: Any, y: Any) -> bool:
    return all(is_float(n) for n in (x, y) if isinstance(n, Node))


def _is_whole(node: Node) -> bool:
    return node.meta["val"].dtype in WHOLE
