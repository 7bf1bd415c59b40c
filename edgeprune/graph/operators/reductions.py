"""Sums, means and extremes over dimensions: pooling where it is the pixels of an image, else of plain tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.fx import Node

from edgeprune.graph.cutter import Cutter, as_picture, as_seen, handles, images, static_shape, unsupported
from edgeprune.graph.nodes import arguments
from edgeprune.graph.operators.elementwise import as_image, step
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

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
    inner = cutter.between(node, "values")
    _reduce(cutter, inner, kind, [arguments(node)["dim"]], result, operand=node)
    value = cutter.values[inner]
    cutter.parts[node] = [(value, value.seen)]


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
    operand: Node | None = None,
) -> None:
    source = (operand or node).args[0]
    before = cutter.value(source, node)
    dims = sorted({int(d) % len(before.shape) for d in dims})
    kept = tuple(1 if d in dims else n for d, n in enumerate(before.shape))
    pixels = as_image(before)
    if dims == list(range(2, len(kept))) and kind != "min" and images([pixels]):
        op = "global_max_pool" if kind == "max" else "global_avg_pool"
        draft = cutter.open(op, node, TensorSpec(as_picture(kept)), [cutter.blocked(pixels)])
        cutter.values[node] = as_seen(cutter.values[node], View.whole(kept))
        if kind == "sum" and not mean:
            draft.epilogue.append(step("times", math.prod(before.shape[2:])))
    else:
        if len(kept) < 2:
            raise unsupported(node, "a reduction of a single dimension", "give the tensor a batch dimension")
        x, spec = cutter.plain(source, node), TensorSpec(kept, "plain")
        draft = cutter.open("reduce", node, spec, [x], kind=kind, dims=tuple(dims))
        if mean:
            draft.epilogue.append(step("times", 1 / math.prod(before.shape[d] for d in dims)))
    if result != kept:
        cutter.values[node] = as_seen(
            cutter.values[node], cutter.values[node].seen.reshaped(result) or View.whole(result)
        )
