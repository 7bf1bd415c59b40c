"""Comparisons and what depends on them: truth values are kept as the numbers 0 and 1.

``where(c, a, b)`` is ``a * c + b * (1 - c)``: exact for finite values. A side that no input of the network decides may
be infinite (a mask of attention): it is chosen beforehand, and added.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgeprune.graph.composed.composer import COMPOSED, Composer, composes, is_float
from edgeprune.graph.nodes import arguments

aten = torch.ops.aten

_LOOKS = (
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.expand.default,
    aten.expand_as.default,
    aten.flatten.using_ints,
    aten.permute.default,
    aten.reshape.default,
    aten.select.int,
    aten.slice.Tensor,
    aten.squeeze.dim,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
)
"""What only looks at truth values."""

# name -> whether a larger left side is true, and whether equality is
_ORDERS = {"gt": (True, False), "ge": (True, True), "lt": (False, False), "le": (False, True)}


@composes(*(getattr(getattr(aten, name), kind) for name in _ORDERS for kind in ("Scalar", "Tensor")))
def order(c: Composer, node: Node) -> Node | None:
    left, right = node.args[:2]
    if not _depends(c, left, right) or not _as_numbers(node):
        return None
    larger, equal = _ORDERS[node.target.__name__.split(".")[0]]  # type: ignore[union-attr]
    # a > b: 1 where a - b is above 0; a >= b: 0 where b - a is.
    difference = c(aten.sub.Tensor, left, right) if larger != equal else _less(c, right, left)
    above = c(aten.relu.default, c(aten.sign.default, difference))
    return _negated(c, above) if equal else above


@composes(aten.eq.Scalar, aten.ne.Scalar, aten.eq.Tensor, aten.ne.Tensor)
def equality(c: Composer, node: Node) -> Node | None:
    left, right = node.args[:2]
    if not _depends(c, left, right) or not _as_numbers(node):
        return None
    differs = c(aten.abs.default, c(aten.sign.default, c(aten.sub.Tensor, left, right)))
    return differs if node.target in (aten.ne.Scalar, aten.ne.Tensor) else _negated(c, differs)


@composes(
    aten.logical_and.default,
    aten.__and__.Tensor,
    aten.bitwise_and.Tensor,
    aten.logical_or.default,
    aten.__or__.Tensor,
    aten.bitwise_or.Tensor,
    aten.logical_xor.default,
    aten.__xor__.Tensor,
    aten.bitwise_xor.Tensor,
)
def combined(c: Composer, node: Node) -> Node | None:
    """Of truth values that are numbers by now; of other numbers torch asks whether they are zero."""
    if c.numbers.isdisjoint(node.args[:2]) or not all(a in c.numbers or _is_truth(a) for a in node.args[:2]):
        return None
    left, right = (a if a in c.numbers else c(aten._to_copy.default, a, dtype=torch.float32) for a in node.args[:2])
    name = node.target.__name__.split(".")[0].strip("_").split("_")[-1]  # type: ignore[union-attr]
    match name:
        case "and":
            return c(aten.mul.Tensor, left, right)
        case "or":
            return c(aten.maximum.default, left, right)
        case _:
            return c(aten.abs.default, c(aten.sub.Tensor, left, right))


@composes(aten.logical_not.default, aten.bitwise_not.default)
def negation(c: Composer, node: Node) -> Node | None:
    x = node.args[0]
    return _negated(c, x) if isinstance(x, Node) and x in c.numbers else None


@composes(aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar)
def where(c: Composer, node: Node) -> Node | None:
    condition, yes, no = node.args[:3]
    return _chosen(c, condition, yes, no)


@composes(aten.masked_fill.Scalar, aten.masked_fill_.Scalar, aten.masked_fill.Tensor)
def masked_fill(c: Composer, node: Node) -> Node | None:
    a = arguments(node)
    return _chosen(c, a["mask"], a["value"], a["self"])


@composes(aten.threshold.default, aten.threshold_.default)
def threshold(c: Composer, node: Node) -> Node | None:
    a = arguments(node)
    return _chosen(c, _above(c, a["self"], a["threshold"]), a["self"], a["value"])


@composes(aten.hardshrink.default)
def hardshrink(c: Composer, node: Node) -> Node:
    x, lambd = node.args[0], arguments(node)["lambd"]
    return c(aten.mul.Tensor, x, _above(c, c(aten.abs.default, x), lambd))


def _above(c: Composer, x: Any, number: float) -> Node:
    return c(aten.relu.default, c(aten.sign.default, c(aten.sub.Tensor, x, number) if number else x))


def _chosen(c: Composer, condition: Any, yes: Any, no: Any) -> Node | None:
    """``yes`` where the condition holds, else ``no``."""
    mask = _number(c, condition)
    if mask is None or (mask in c.constants and all(_constant(c, side) for side in (yes, no))):
        return None
    if not all(is_float(side) for side in (yes, no) if isinstance(side, Node)):
        return None
    parts = []
    for side, holds in ((yes, True), (no, False)):
        share = _share(c, condition, mask, side, holds=holds)
        if share is None:
            return None
        parts.append(share)
    return c(aten.add.Tensor, *parts)


def _share(c: Composer, condition: Node, mask: Node, side: Any, *, holds: bool) -> Node | None:
    """``side`` where the condition does (or does not) hold, zero elsewhere."""
    if mask in c.constants and _constant(c, side):
        if not isinstance(side, Node):
            side = c(aten.full.default, [], float(side))
        truth = condition if _is_truth(condition) else c(aten._to_copy.default, condition, dtype=torch.bool)
        nothing = c(aten.full.default, [], 0.0)
        return c(aten.where.self, truth, side, nothing) if holds else c(aten.where.self, truth, nothing, side)
    if not isinstance(side, Node) and not math.isfinite(side):
        return None  # infinity times nothing is no number
    factor = mask if holds else _negated(c, mask)
    return c(aten.mul.Tensor, side, factor) if isinstance(side, Node) else c(aten.mul.Tensor, factor, float(side))


def _constant(c: Composer, side: Any) -> bool:
    return not isinstance(side, Node) or side in c.constants


def _number(c: Composer, truth: Any) -> Node | None:
    """Truth values as numbers; None where an input of the network is one."""
    if is_float(truth):
        return truth  # type: ignore[no-any-return]
    if isinstance(truth, Node) and truth in c.constants:
        return c(aten._to_copy.default, truth, dtype=torch.float32)
    return None


def _is_truth(node: Any) -> bool:
    return isinstance(node, Node) and node.meta["val"].dtype == torch.bool


def _negated(c: Composer, mask: Node) -> Node:
    return c(aten.rsub.Scalar, mask, 1)


def _less(c: Composer, left: Any, right: Any) -> Node:
    """left - right, of which the left one may be a number."""
    return c(aten.sub.Tensor, left, right) if isinstance(left, Node) else c(aten.rsub.Scalar, right, left)


def _depends(c: Composer, *sides: Any) -> bool:
    """Whether floats that an input of the network decides are compared."""
    nodes = [s for s in sides if isinstance(s, Node)]
    return all(is_float(n) for n in nodes) and not all(n in c.constants for n in nodes)


def _as_numbers(truth: Node) -> bool:
    """Whether all that reads these truth values can read numbers in their place."""
    return all(_reads_numbers(user, truth) for user in truth.users)


def _reads_numbers(user: Node, truth: Node) -> bool:
    value = user.meta.get("val")
    yields_float = isinstance(value, Tensor) and value.dtype == torch.float32
    if user.target in (aten.mul.Tensor, aten.to.dtype, aten._to_copy.default, aten.type_as.default):
        return yields_float
    if COMPOSED.get(user.target) in (where, masked_fill):
        sides = [a for n, a in arguments(user).items() if n not in ("condition", "mask")]
        chosen = all(is_float(s) if isinstance(s, Node) else math.isfinite(s) for s in sides)
        return yields_float and chosen and truth not in sides
    if COMPOSED.get(user.target) in (combined, negation) or user.target in _LOOKS:
        return _as_numbers(user)
    return user.target is aten._assert_tensor_metadata.default
