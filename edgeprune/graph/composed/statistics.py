"""Variances, norms and other figures of many values, by sums of simpler functions of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.composed.composer import Composer, composes, is_float, rank, size
from edgeprune.graph.nodes import arguments

aten = torch.ops.aten


@composes(
    aten.var.default,
    aten.var.dim,
    aten.var.correction,
    aten.std.default,
    aten.std.dim,
    aten.std.correction,
)
def variance(c: Composer, node: Node) -> Node | None:
    """The mean of squared differences from the mean."""
    found = _variance(c, node)
    if found is None or "std" not in str(node.target):
        return found
    return c(aten.sqrt.default, found)


@composes(aten.var_mean.dim, aten.var_mean.correction, aten.std_mean.dim, aten.std_mean.correction)
def variance_and_mean(c: Composer, node: Node) -> list[Node] | None:
    found = _variance(c, node)
    if found is None:
        return None
    if "std" in str(node.target):
        found = c(aten.sqrt.default, found)
    a = arguments(node)
    return [found, c(aten.mean.dim, a["self"], _dims(a), a.get("keepdim", False))]


def _variance(c: Composer, node: Node) -> Node | None:
    a = arguments(node)
    x, dims = a["self"], _dims(a)
    correction = a.get("correction", 1 if a.get("unbiased", True) else 0)
    count = math.prod(size(x)[d] for d in dims) - (1 if correction is None else correction)
    if not is_float(x) or count <= 0:
        return None
    apart = c(aten.square.default, c(aten.sub.Tensor, x, c(aten.mean.dim, x, dims, True)))
    return c(aten.mul.Tensor, c(aten.sum.dim_IntList, apart, dims, a.get("keepdim", False)), 1 / count)


@composes(aten.linalg_vector_norm.default)
def vector_norm(c: Composer, node: Node) -> Node | None:
    a = arguments(node)
    return _norm(c, a["self"], a["ord"], _dims(a), a["keepdim"])


@composes(aten.norm.ScalarOpt_dim, aten.norm.Scalar)
def norm(c: Composer, node: Node) -> Node | None:
    a = arguments(node)
    return _norm(c, a["self"], 2 if a["p"] is None else a["p"], _dims(a), a.get("keepdim", False))


def _norm(c: Composer, x: Node, order: Any, dims: list[int], keepdim: bool) -> Node | None:
    if not is_float(x):
        return None
    match float(order):
        case 1.0:
            return c(aten.sum.dim_IntList, c(aten.abs.default, x), dims, keepdim)
        case 2.0:
            return c(aten.sqrt.default, c(aten.sum.dim_IntList, c(aten.square.default, x), dims, keepdim))
        case math.inf:
            return c(aten.amax.default, c(aten.abs.default, x), dims, keepdim)
    return None


@composes(aten.rms_norm.default)
def rms_norm(c: Composer, node: Node) -> Node | None:
    """Zhang and Sennrich, 2019."""
    a = arguments(node)
    x, count = a["input"], len(a["normalized_shape"])
    if not is_float(x):
        return None
    eps = torch.finfo(torch.float32).eps if a["eps"] is None else a["eps"]
    mean = c(aten.mean.dim, c(aten.square.default, x), list(range(rank(x) - count, rank(x))), True)
    made = c(aten.mul.Tensor, x, c(aten.rsqrt.default, c(aten.add.Tensor, mean, eps)))
    return made if a["weight"] is None else c(aten.mul.Tensor, made, a["weight"])


@composes(aten.logsumexp.default)
def logsumexp(c: Composer, node: Node) -> Node | None:
    """With the largest value taken out, so that nothing overflows."""
    a = arguments(node)
    x, dims = a["self"], _dims(a)
    if not is_float(x):
        return None
    powers = c(aten.exp.default, c(aten.sub.Tensor, x, c(aten.amax.default, x, dims, True)))
    total = c(aten.log.default, c(aten.sum.dim_IntList, powers, dims, a["keepdim"]))
    return c(aten.add.Tensor, total, c(aten.amax.default, x, dims, a["keepdim"]))


def _dims(named: dict[str, Any]) -> list[int]:
    """Of ``dim``, all where it is not given, counted from the front."""
    count, dims = rank(named["self"]), named.get("dim")
    given = [dims] if isinstance(dims, int) else list(dims or range(count))
    return [d % count for d in given]


@composes(aten.prod.default, aten.prod.dim_int)
def product(c: Composer, node: Node) -> Node | None:
    """By halves."""
    a = arguments(node)
    x, dim = a["self"], a.get("dim")
    if x in c.constants or not is_float(x) or not rank(x):
        return None
    if dim is None:
        x, dim = c(aten.reshape.default, x, [math.prod(size(x))]), 0
    return c(aten.reshape.default, by_halves(c, x, dim), list(size(node)))


def by_halves(c: Composer, x: Node, dim: int) -> Node:
    """The product along a dimension, which stays with one place."""
    while (length := size(x)[dim]) > 1:
        half = length // 2
        parts = [c(aten.slice.Tensor, x, dim, start, start + half) for start in (0, half)]
        both = c(aten.mul.Tensor, *parts)
        rest = [c(aten.slice.Tensor, x, dim, 2 * half, length)] if length % 2 else []
        x = c(aten.cat.default, [both, *rest], dim) if rest else both
    return x


@composes(
    aten.sum.dim_IntList, aten.mean.dim, aten.amax.default, aten.amin.default, aten.sum.default, aten.mean.default
)
def of_a_line(c: Composer, node: Node) -> Node | None:
    """Of a single dimension: as the row that it is."""
    a = arguments(node)
    x = a["self"]
    if x in c.constants or not is_float(x) or rank(x) != 1:
        return None
    target = {aten.sum.default: aten.sum.dim_IntList, aten.mean.default: aten.mean.dim}.get(node.target, node.target)  # type: ignore[call-overload]
    made = c(target, c(aten.reshape.default, x, [1, size(x)[0]]), [1])
    return c(aten.reshape.default, made, list(size(node)))
