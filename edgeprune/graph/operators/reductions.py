"""Sums, means and extremes over dimensions: pooling where it is the pixels of an image, else of plain tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.cutting.cutter import Cutter, handles
from edgeprune.graph.cutting.values import are_images, as_picture
from edgeprune.graph.nodes import arguments, detached, static_shape, unsupported
from edgeprune.graph.operators.elementwise import step
from edgeprune.graph.spec import TensorSpec

aten = torch.ops.aten


@handles(aten.mean.dim, aten.mean.default)
def _mean(cutter: Cutter, node: Node) -> None:
    _reduce(cutter, node, "sum", _dims(node), static_shape(node), mean=True)


@handles(aten.sum.dim_IntList, aten.sum.default)
def _sum(cutter: Cutter, node: Node) -> None:
    _reduce(cutter, node, "sum", _dims(node), static_shape(node))


@handles(aten.amax.default)
def _largest(cutter: Cutter, node: Node) -> None:
    _reduce(cutter, node, "max", _dims(node), static_shape(node))


@handles(aten.amin.default)
def _smallest(cutter: Cutter, node: Node) -> None:
    _reduce(cutter, node, "min", _dims(node), static_shape(node))


@handles(aten.max.dim, aten.min.dim)
def _extreme(cutter: Cutter, node: Node) -> None:
    """The values; whoever asks for the places is refused."""
    kind, result = ("max" if node.target is aten.max.dim else "min"), tuple(node.meta["val"][0].shape)
    inner = detached(node, "values")
    _reduce(cutter, inner, kind, [arguments(node)["dim"]], result, operand=node.args[0])
    cutter.yield_parts(node, [cutter.value(inner)])


def _dims(node: Node) -> list[int]:
    operand = node.args[0]
    dims = arguments(node).get("dim")
    return list(dims) if dims else list(range(len(static_shape(operand))))  # type: ignore[arg-type]


def _reduce(
    cutter: Cutter,
    node: Node,
    kind: str,
    dims: Sequence[int],
    result: tuple[int, ...],
    *,
    mean: bool = False,
    operand: Any = None,
) -> None:
    source = node.args[0] if operand is None else operand
    before = cutter.value(source)
    dims = sorted({int(d) % len(before.shape) for d in dims})
    kept = tuple(1 if d in dims else n for d, n in enumerate(before.shape))
    if dims == list(range(2, len(kept))) and kind != "min" and are_images([before.image]):
        op = "global_max_pool" if kind == "max" else "global_avg_pool"
        steps = [step("times", math.prod(before.shape[2:]))] if kind == "sum" and not mean else []
        spec, sources = TensorSpec(as_picture(kept)), [cutter.blocked(before.image)]
        cutter.emit(op, node, spec, sources, epilogue=steps, seen=result)
        return
    if len(kept) < 2:
        raise unsupported(node, "a reduction of a single dimension", "give the tensor a batch dimension")
    steps = [step("times", 1 / math.prod(before.shape[d] for d in dims))] if mean else []
    spec, sources = TensorSpec(kept, "plain"), [cutter.plain(source)]
    cutter.emit("reduce", node, spec, sources, {"kind": kind, "dims": tuple(dims)}, epilogue=steps, seen=result)
