"""Comparisons and what depends on them: truth values are kept as the numbers 0 and 1.

``where(c, a, b)`` is ``a * c + b * (1 - c)``: exact for finite values. A side that no input of the network decides may
be infinite (a mask of attention): under a constant condition it is chosen beforehand, under another one it is
``1 - 1 / c``, and added.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.composed.composer import WHOLE, Composer, composes, is_float
from edgeprune.graph.composed.division import wrapped
from edgeprune.graph.nodes import arguments

aten = torch.ops.aten

# name -> whether a larger left side is true, and whether equality is
_ORDERS = {"gt": (True, False), "ge": (True, True), "lt": (False, False), "le": (False, True)}


@composes(*(getattr(getattr(aten, name), kind) for name in _ORDERS for kind in ("Scalar", "Tensor")))
def order(c: Composer, node: Node) -> Node | None:
    left, right = node.args[:2]
    if not _depends(c, left, right):
        return None
    larger, equal = _ORDERS[node.target.__name__.split(".")[0]]  # type: ignore[union-attr]
    # a > b: 1 where a - b is above 0; a >= b: 0 where b - a is.
    difference = c(aten.sub.Tensor, left, right) if larger != equal else _less(c, right, left)
    above = c(aten.relu.default, c(aten.sign.default, difference))
    return _negated(c, above) if equal else above


@composes(aten.eq.Scalar, aten.ne.Scalar, aten.eq.Tensor, aten.ne.Tensor)
def equality(c: Composer, node: Node) -> Node | None:
    left: Any
    right: Any
    left, right = node.args[:2]
    if not _depends(c, left, right):
        return None
    if not isinstance(right, Node) and math.isinf(right):
        above = c(aten.relu.default, c(aten.sign.default, left if right > 0 else c(aten.neg.default, left)))
        same = c(aten.mul.Tensor, c(aten.to.dtype, c(aten.isinf.default, left), torch.float32), above)
        return same if node.target in (aten.eq.Scalar, aten.eq.Tensor) else _negated(c, same)
    differs = differing(c, left, right)
    return differs if node.target in (aten.ne.Scalar, aten.ne.Tensor) else _negated(c, differs)


def differing(c: Composer, left: Any, right: Any) -> Node:
    """1 where two finite numbers differ, else 0."""
    return c(aten.abs.default, c(aten.sign.default, c(aten.sub.Tensor, left, right)))


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
    """Of truth values that are numbers by now; of other numbers the logical ones ask whether they are zero."""
    if all(a in c.constants for a in node.args[:2]):
        return None
    name = node.target.__name__.split(".")[0]  # type: ignore[union-attr]
    sides = [_truth(c, a, logical=name.startswith("logical")) for a in node.args[:2]]
    if None in sides:
        return None
    left, right = sides
    match name.strip("_").split("_")[-1]:
        case "and":
            return c(aten.mul.Tensor, left, right)
        case "or":
            return c(aten.maximum.default, left, right)
        case _:
            return c(aten.abs.default, c(aten.sub.Tensor, left, right))


@composes(aten.logical_not.default, aten.bitwise_not.default)
def negation(c: Composer, node: Node) -> Node | None:
    x = node.args[0]
    if not isinstance(x, Node) or x in c.constants:
        return None
    truth = _truth(c, x, logical=node.target is aten.logical_not.default)
    return None if truth is None else _negated(c, truth)


@composes(aten.to.dtype, aten._to_copy.default)
def converted(c: Composer, node: Node) -> Node | None:
    """To integers numbers lose their fraction; what lies beyond the type's bounds comes in again at the other end."""
    x, wanted = node.args[0], arguments(node)["dtype"]
    if not isinstance(x, Node) or x in c.constants or not is_float(x):
        return None
    given = c.numbers.get(x, torch.float32)
    if wanted == given or (given != torch.float32 and wanted == torch.float32):
        return c(aten.alias.default, x)
    if wanted == torch.bool:
        return _truth(c, x, logical=True)
    if wanted not in WHOLE:
        return None
    if given == torch.float32:
        return c(aten.trunc.default, x)
    low, high = torch.iinfo(wanted).min, torch.iinfo(wanted).max
    inside = given == torch.bool or (low <= torch.iinfo(given).min and torch.iinfo(given).max <= high)
    if inside or wanted in (torch.int32, torch.int64):
        return c(aten.alias.default, x)
    return wrapped(c, x, wanted)


@composes(aten.isnan.default, aten.isinf.default)
def unusual(c: Composer, node: Node) -> Node | None:
    """Computed as numbers, which the traced graph has to be told."""
    x = node.args[0]
    if not isinstance(x, Node) or x in c.constants or not is_float(x):
        return None
    return c(aten.to.dtype, c(node.target, x), torch.float32)


@composes(aten.any.default, aten.any.dim, aten.any.dims, aten.all.default, aten.all.dim, aten.all.dims)
def some(c: Composer, node: Node) -> Node | None:
    a = arguments(node)
    x = a["self"]
    if x in c.constants:
        return None
    truth, dims = _truth(c, x, logical=True), a.get("dim")
    dims = [] if dims is None else [dims] if isinstance(dims, int) else list(dims)
    name = aten.amax.default if "any" in node.target.__name__ else aten.amin.default  # type: ignore[union-attr]
    return None if truth is None else c(name, truth, dims, a.get("keepdim", False))


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
    factor = mask if holds else _negated(c, mask)
    known = c.known(side) if isinstance(side, Node) and side in c.constants else None
    if known is not None and not bool(known.isfinite().all()):
        if not bool((known == known.flatten()[0]).all()):
            return None
        side = float(known.flatten()[0])
    if not isinstance(side, Node) and math.isnan(side):
        return None
    if not isinstance(side, Node) and math.isinf(side):  # infinity times nothing is no number
        below = never(c, _negated(c, factor))
        return below if side < 0 else c(aten.neg.default, below)
    return c(aten.mul.Tensor, side, factor) if isinstance(side, Node) else c(aten.mul.Tensor, factor, float(side))


def never(c: Composer, mask: Node) -> Node:
    """0 where a mask of 0 and 1 is 1, minus infinity where it is 0: what is added to scores of attention."""
    return c(aten.rsub.Scalar, c(aten.reciprocal.default, mask), 1)


def _constant(c: Composer, side: Any) -> bool:
    return not isinstance(side, Node) or side in c.constants


def _number(c: Composer, truth: Any) -> Node | None:
    """Truth values as numbers; None where an input of the network is one."""
    if is_float(truth):
        return truth  # type: ignore[no-any-return]
    if isinstance(truth, Node) and truth in c.constants:
        return c(aten._to_copy.default, truth, dtype=torch.float32)
    return None


def _truth(c: Composer, x: Any, *, logical: bool) -> Node | None:
    """Truth values as 0 and 1; of other numbers, where ``logical``, whether they are not zero."""
    if isinstance(x, Node) and (x in c.constants or not is_float(x)):
        if x not in c.constants:
            return None
        truth = x if _is_truth(x) else c(aten._to_copy.default, x, dtype=torch.bool)
        return c(aten._to_copy.default, truth, dtype=torch.float32) if logical or _is_truth(x) else None
    if c.numbers.get(x) == torch.bool:
        return x  # type: ignore[no-any-return]
    return c(aten.abs.default, c(aten.sign.default, x)) if logical else None


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
