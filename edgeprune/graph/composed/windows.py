"""Windows that the kernels do not know, and padding of channels: by slices, maxima and joins."""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch.fx import Node

from edgeprune.graph.composed.composer import Composer, composes, is_float, rank, size
from edgeprune.graph.nodes import arguments, spread

aten = torch.ops.aten


@composes(aten.max_pool1d.default, aten.max_pool2d.default)
def dilated_maximum(c: Composer, node: Node) -> Node | None:
    """The maximum over shifted views, one for each place in the window."""
    a, count = arguments(node), rank(node) - 2
    x: Node = a["self"]
    dilation = spread(a["dilation"], count)
    if set(dilation) == {1} or a["ceil_mode"] or not is_float(x) or rank(x) != rank(node):
        return None
    kernel, padding = spread(a["kernel_size"], count), spread(a["padding"], count)
    stride = spread(a["stride"] or a["kernel_size"], count)
    if any(padding):
        around = [p for pad in reversed(padding) for p in (pad, pad)]
        x = c(aten.pad.default, x, around, "constant", -math.inf)
    after, views = size(node)[2:], []
    for place in itertools.product(*map(range, kernel)):
        view = x
        for d, (at, n) in enumerate(zip(place, after, strict=True)):
            start = at * dilation[d]
            view = c(aten.slice.Tensor, view, d + 2, start, start + (n - 1) * stride[d] + 1, stride[d])
        views.append(view)
    return functools.reduce(lambda left, right: c(aten.maximum.default, left, right), views)


@composes(aten.adaptive_max_pool1d.default, aten.adaptive_max_pool2d.default)
def adaptive_maximum(c: Composer, node: Node) -> list[Node] | None:
    """Where windows are not of one size: the maxima of slices, joined. Of the places nobody knows."""
    x = node.args[0]
    after = tuple(node.meta["val"][0].shape)[2:]
    before = size(x)[2:]  # type: ignore[arg-type]
    if not is_float(x) or len(before) != len(after) or not any(b % a for b, a in zip(before, after, strict=True)):
        return None
    if any(u.args[1] != 0 for u in node.users if u.users):
        return None
    for dim, (n, m) in enumerate(zip(before, after, strict=True), 2):
        ends = [(i * n // m, -(-(i + 1) * n // m)) for i in range(m)]
        parts = [c(aten.amax.default, c(aten.slice.Tensor, x, dim, *e), [dim], True) for e in ends]
        x = c(aten.cat.default, parts, dim)
    return [x]  # type: ignore[list-item]


@composes(aten.pad.default, aten.constant_pad_nd.default)
def padding(c: Composer, node: Node) -> Node | None:
    """Rows and columns of images have a kernel. Beside other dimensions (channels beside an image's own: the shortcuts
    of ResNet on CIFAR) constants are joined to them, or their own entries by number.
    """
    a = arguments(node)
    x: Node = a["self"]
    amounts, mode = [int(n) for n in a["pad"]], a.get("mode", "constant")
    dims = {rank(node) - 1 - i: amounts[2 * i : 2 * i + 2] for i in range(len(amounts) // 2)}
    outer = {d: ends for d, ends in dims.items() if any(ends) and (d < 2 or rank(node) not in (3, 4))}
    if not outer or min(amounts) < 0 or not is_float(x) or (x in c.constants):
        return None
    value = float(a.get("value") or 0.0)
    inner = [n for i in range(rank(node)) if (d := rank(node) - 1 - i) not in outer for n in dims.get(d, [0, 0])]
    if any(inner):
        inner = inner[: 2 * (rank(node) - 2)]
        x = c(aten.pad.default, x, inner, mode, value if mode == "constant" else None)
    for dim, (before, behind) in outer.items():
        x = (
            _joined(c, x, dim, before, behind, value)
            if mode == "constant"
            else _by_number(c, x, dim, before, behind, mode)
        )
    return x


def _joined(c: Composer, x: Node, dim: int, before: int, behind: int, value: float) -> Node:
    shape = size(x)
    parts = [
        x if n is None else c(aten.full.default, [*shape[:dim], n, *shape[dim + 1 :]], value)
        for n in (before, None, behind)
        if n != 0
    ]
    return c(aten.cat.default, parts, dim)


def _by_number(c: Composer, x: Node, dim: int, before: int, behind: int, mode: str) -> Node:
    length = size(x)[dim]
    places = c(aten.arange.start, -before, length + behind)
    if mode == "replicate":
        places = c(aten.clamp.default, places, 0, length - 1)
    elif mode == "circular":
        places = c(aten.remainder.Scalar, places, length)
    else:  # as far from the end as it is beyond it
        places = c(aten.abs.default, places)
        places = c(aten.rsub.Scalar, c(aten.abs.default, c(aten.rsub.Scalar, places, length - 1)), length - 1)
    return c(aten.index_select.default, x, dim, places)


@composes(aten.new_zeros.default, aten.new_ones.default, aten.new_full.default)
def made_of_size(c: Composer, node: Node) -> Node | None:
    """What is made in ``forward`` holds nothing of the tensor it was asked of."""
    a = arguments(node)
    value = node.meta["val"]
    if value.dtype != torch.float32:
        return None
    number = a["fill_value"] if "fill_value" in a else float(node.target is aten.new_ones.default)
    return c(aten.full.default, list(value.shape), float(number))
