"""Norms that look at the values they normalise: over rows of a plain tensor, then scaled and shifted."""

from __future__ import annotations

import math

import torch
from torch.fx import Node

from edgeprune.graph.cutting.cutter import Cutter, handles
from edgeprune.graph.cutting.values import walks
from edgeprune.graph.nodes import arguments, detached, static_shape, unsupported
from edgeprune.graph.spec import TensorSpec

aten = torch.ops.aten


@handles(aten.layer_norm.default)
def _layer_norm(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    normalized = tuple(named["normalized_shape"])
    _normalize(cutter, node, math.prod(normalized), (1,) * (len(shape) - len(normalized)) + normalized)


@handles(aten.group_norm.default)
def _group_norm(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    _normalize(cutter, node, math.prod(shape[1:]) // named["num_groups"], _per_channel(shape))


@handles(aten.instance_norm.default)
def _instance_norm(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    if not named["use_input_stats"]:
        raise unsupported(node, "an instance norm with running statistics", "use a batch norm, which it is then")
    _normalize(cutter, node, math.prod(shape[2:]), _per_channel(shape))


def _per_channel(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, shape[1], *(1 for _ in shape[2:]))


def _normalize(cutter: Cutter, node: Node, size: int, parameters: tuple[int, ...]) -> None:
    """Over ``size`` values at a time; then scaled and shifted by what is seen in the shape ``parameters``."""
    named, shape = arguments(node), static_shape(node)
    spec, given = TensorSpec(shape, "plain"), ((step, named[n]) for step, n in (("mul", "weight"), ("add", "bias")))
    steps = [(step, parameter) for step, parameter in given if parameter is not None]
    inner = detached(node, "normalized") if steps else node
    x, eps = cutter.plain(named["input"]), float(named["eps"])
    normalized = cutter.emit("normalize", inner, spec, [x], {"size": size, "eps": eps}, anchor=node)
    if not steps:
        return
    shown = [cutter.plain(parameter).reshaped(parameters).expanded(shape) for _, parameter in steps]
    cutter.emit(
        "strided",
        node,
        spec,
        [normalized],
        walks([normalized, *shown]),
        operands=[value.walked for value in shown],
        epilogue=[step for step, _ in steps],
    )
