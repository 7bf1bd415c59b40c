"""Operators that move values or only look at them differently."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph.cutter import Cutter, argument, handles, static_shape, unsupported
from edgeprune.graph.flow import arguments
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@handles(aten.cat.default)
def _concat(cutter: Cutter, node: Node) -> None:
    if int(argument(node, 1, "dim", 0)) % len(static_shape(node)) != 1 or len(static_shape(node)) != 4:
        raise unsupported(node, "concatenation of anything but image channels", "concatenate along dimension 1")
    parts = [cutter.image(a, node) for a in node.args[0]]  # type: ignore[union-attr]
    for part in parts:
        if part.draft:
            part.draft.closed = True
    cutter.open("concat", node, TensorSpec(static_shape(node)), parts)


@handles(
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.alias.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.detach.default,
)
def _identity(cutter: Cutter, node: Node) -> None:
    cutter.alias(node, cutter.value(node.args[0], node))


@handles(
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze.default,
    aten.unsqueeze.default,
)
def _reshape(cutter: Cutter, node: Node) -> None:
    value, shape = cutter.value(node.args[0], node), static_shape(node)
    if shape == value.shape:
        cutter.alias(node, value)
        return
    view = (value.view or View.whole(value.spec.shape)).reshaped(shape)
    if view is None:
        value = cutter.plain(node.args[0], node)
        view = View.whole(shape)
    cutter.show(node, value, view)


@handles(aten.permute.default, aten.transpose.int, aten.t.default)
def _permute(cutter: Cutter, node: Node) -> None:
    value, view = cutter.seen(node.args[0], node)
    order = list(range(len(view.shape)))
    if node.target is aten.permute.default:
        order = [int(d) % len(order) for d in arguments(node)["dims"]]
    else:
        i, j = (arguments(node).get(d, n) for d, n in (("dim0", 0), ("dim1", 1)))
        order[i], order[j] = order[j], order[i]
    cutter.show(node, value, view.permuted(order))


@handles(aten.slice.Tensor)
def _slice(cutter: Cutter, node: Node) -> None:
    value, shape, named = cutter.value(node.args[0], node), static_shape(node), arguments(node)
    if shape == value.shape:
        cutter.alias(node, value)
        return
    value, view = cutter.seen(node.args[0], node)
    dim, size = named["dim"] % len(shape), view.shape[named["dim"]]
    start = min(max(named["start"] or 0, -size), size) % size if named["start"] else 0
    cutter.show(node, value, view.sliced(dim, start, shape[dim], named["step"]))


@handles(aten.select.int)
def _select(cutter: Cutter, node: Node) -> None:
    value, view = cutter.seen(node.args[0], node)
    named = arguments(node)
    dim = named["dim"] % len(view.shape)
    part = view.sliced(dim, named["index"] % view.shape[dim], 1).reshaped(static_shape(node))
    assert part is not None
    cutter.show(node, value, part)


@handles(aten.flip.default)
def _flip(cutter: Cutter, node: Node) -> None:
    value, view = cutter.seen(node.args[0], node)
    for dim in arguments(node)["dims"]:
        size = view.shape[dim]
        view = view.sliced(dim % len(view.shape), size - 1, size, -1)
    cutter.show(node, value, view)


@handles(aten.expand.default, aten.expand_as.default)
def _expand(cutter: Cutter, node: Node) -> None:
    value, view = cutter.seen(node.args[0], node)
    cutter.show(node, value, view.expanded(static_shape(node)))


@handles(aten.softmax.int)
def _softmax(cutter: Cutter, node: Node) -> None:
    if argument(node, 2, "dtype") not in (None, torch.float32):
        raise unsupported(node, "a softmax in another type", "compute it in float32")
    x, shape = cutter.plain(node.args[0], node), static_shape(node)
    cutter.open("softmax", node, TensorSpec(shape, "plain"), [x], axis=int(argument(node, 1, "dim")) % len(shape))
