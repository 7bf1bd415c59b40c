"""Norms that look at the values they normalise: over rows of a plain tensor, then scaled and shifted."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.cutter import Cutter, as_seen, data, handles, static_shape, unsupported
from edgeprune.graph.nodes import arguments
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@handles(aten.layer_norm.default)
def _layer_norm(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    normalized = tuple(named["normalized_shape"])
    _normalize(cutter, node, math.prod(normalized), named["eps"])
    _affine(cutter, node, named["weight"], named["bias"], (1,) * (len(shape) - len(normalized)) + normalized)


@handles(aten.group_norm.default)
def _group_norm(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    _normalize(cutter, node, math.prod(shape[1:]) // named["num_groups"], named["eps"])
    _affine(cutter, node, named["weight"], named["bias"], _per_channel(shape))


@handles(aten.instance_norm.default)
def _instance_norm(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    if not named["use_input_stats"]:
        raise unsupported(node, "an instance norm with running statistics", "use a batch norm, which it is then")
    _normalize(cutter, node, math.prod(shape[2:]), named["eps"])
    _affine(cutter, node, named["weight"], named["bias"], _per_channel(shape))


def _per_channel(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, shape[1], *(1 for _ in shape[2:]))


def _normalize(cutter: Cutter, node: Node, size: int, eps: float) -> None:
    x, spec = cutter.plain(node.args[0], node), TensorSpec(static_shape(node), "plain")
    cutter.open("normalize", node, spec, [x], size=size, eps=float(eps))


def _affine(cutter: Cutter, node: Node, weight: Any, bias: Any, shown: tuple[int, ...]) -> None:
    """Scale and shift what ``node`` yields so far; parameters are seen as ``shown`` and broadcast."""
    steps = [(operation, p) for operation, p in (("mul", weight), ("add", bias)) if p is not None]
    if not steps:
        return
    whole, inner = static_shape(node), cutter.between(node, "normalized")
    cutter.rename(node, inner)
    walks = {"walk0": View.whole(whole).walk.to_attr()}
    operands = []
    for i, (_, parameter) in enumerate(steps, 1):
        value = cutter.value(parameter, node)
        view = as_seen(value, View.whole(value.shape).reshaped(shown)).seen.expanded(whole)
        walks[f"walk{i}"] = view.walk.to_attr()
        operands.append(data(value, view))
    draft = cutter.open("strided", node, TensorSpec(whole, "plain"), [cutter.values[inner]], **walks)
    draft.operands.extend(operands)
    draft.epilogue.extend(operation for operation, _ in steps)
