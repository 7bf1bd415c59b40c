"""Operators that move values or only look at them differently."""

from __future__ import annotations

import math
import operator
from dataclasses import replace

import torch
from torch.fx import Node

from edgeprune.graph.cutter import (
    Cutter,
    Value,
    argument,
    as_picture,
    as_seen,
    data,
    handles,
    images,
    static_shape,
    unsupported,
)
from edgeprune.graph.nodes import arguments
from edgeprune.graph.operators.elementwise import as_image
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@handles(aten.cat.default)
def _concat(cutter: Cutter, node: Node) -> None:
    shape, parts = static_shape(node), [p for p in node.args[0] if math.prod(static_shape(p))]  # type: ignore[union-attr, arg-type]
    axis = int(argument(node, 1, "dim", 0)) % len(shape)
    values = [as_image(cutter.value(p, node)) for p in parts]
    if axis == 1 and images(values):
        values = [cutter.blocked(v) for v in values]
        for value in values:
            if value.draft:
                value.draft.closed = True
        cutter.open("concat", node, TensorSpec(as_picture(shape)), values)
        cutter.values[node] = as_seen(cutter.values[node], View.whole(shape))
    else:
        _join(cutter, node, axis, [cutter.seen(p, node) for p in parts])


@handles(aten.stack.default)
def _stack(cutter: Cutter, node: Node) -> None:
    shape, parts = static_shape(node), []
    axis = int(argument(node, 1, "dim", 0)) % len(shape)
    for part in node.args[0]:  # type: ignore[union-attr]
        value, view = cutter.seen(part, node)
        single = view.reshaped((*shape[:axis], 1, *shape[axis + 1 :]))
        assert single is not None  # a dimension of size 1 has come
        parts.append((value, single))
    _join(cutter, node, axis, parts)


def _join(cutter: Cutter, node: Node, axis: int, parts: list[tuple[Value, View]]) -> None:
    """Plain tensors one behind the other along ``axis``, each read through its view."""
    walks = {f"walk{i}": view.walk.to_attr() for i, (_, view) in enumerate(parts)}
    sizes = tuple(view.shape[axis] for _, view in parts)
    shape = tuple(sum(sizes) if d == axis else n for d, n in enumerate(parts[0][1].shape))
    spec = TensorSpec(shape, "plain")
    cutter.open("join", node, spec, [data(*part) for part in parts], axis=axis, sizes=sizes, **walks)


@handles(
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.alias.default,
    aten.contiguous.default,
    aten.clone.default,
    aten.detach.default,
    aten.to.dtype,
    aten.type_as.default,
)
def _identity(cutter: Cutter, node: Node) -> None:
    if node.meta["val"].dtype != torch.float32:
        raise unsupported(node, f"a tensor of {node.meta['val'].dtype}", "compute in float32")
    cutter.alias(node, cutter.value(node.args[0], node))


@handles(aten._assert_tensor_metadata.default)
def _checked(cutter: Cutter, node: Node) -> None:
    """What the exporter says of a tensor's type, and nothing that runs."""


@handles(
    aten.flatten.using_ints,
    aten.view.default,
    aten.reshape.default,
    aten._unsafe_view.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.squeeze.default,
    aten.unsqueeze.default,
    aten.unflatten.int,
    aten.view_as.default,
    aten.reshape_as.default,
)
def _reshape(cutter: Cutter, node: Node) -> None:
    value, shape = cutter.value(node.args[0], node), static_shape(node)
    if shape == value.shape:
        cutter.alias(node, value)
    elif (view := value.seen.reshaped(shape)) is not None:
        cutter.show(node, value, view)
    elif named := _shuffled(cutter, node, value, shape):
        cutter.open("channel_shuffle", node, TensorSpec(shape), [replace(value, view=None)], **named)
    else:
        cutter.show(node, cutter.plain(node.args[0], node), View.whole(shape))


def _shuffled(cutter: Cutter, node: Node, value: Value, shape: tuple[int, ...]) -> dict[str, int]:
    """What a channel shuffle keeps while its channels are pruned, ``rows`` or ``columns``; empty if it is none.

    A shuffle sees the channels as rows, one behind the other, and transposes rows and columns.
    """
    if value.spec.layout != "blocked" or shape != value.spec.shape or len(value.shape) != 5:
        return {}
    _, columns, rows, height, width = value.shape
    pixels = height * width
    steps = value.seen.walk.steps(value.seen.base, 5)
    expected = (columns * rows * pixels, pixels, columns * pixels, width, 1)
    same = all(a == b or size == 1 for a, b, size in zip(steps, expected, value.shape, strict=True))
    if not same or shape[2:] != (height, width) or value.seen.walk.offset(value.seen.base):
        return {}
    binding = cutter.analysis.axes.get(value.node.name)
    narrower = node.name in cutter.analysis.shuffles or (binding is not None and binding.groups)
    return {"rows": rows} if narrower else {"columns": columns}


@handles(aten.permute.default, aten.transpose.int, aten.t.default, aten.mT.default)
def _permute(cutter: Cutter, node: Node) -> None:
    value, view = cutter.viewed(node.args[0], node)
    order = list(range(len(view.shape)))
    if node.target is aten.permute.default:
        order = [int(d) % len(order) for d in arguments(node)["dims"]]
    else:
        first, second = (-2, -1) if node.target is aten.mT.default else (0, 1)
        i, j = (arguments(node).get(d, n) for d, n in (("dim0", first), ("dim1", second)))
        order[i], order[j] = order[j], order[i]
    cutter.show(node, value, view.permuted(order))


@handles(aten.movedim.int)
def _movedim(cutter: Cutter, node: Node) -> None:
    value, view = cutter.viewed(node.args[0], node)
    order, named = list(range(len(view.shape))), arguments(node)
    order.insert(named["destination"] % len(order), order.pop(named["source"]))
    cutter.show(node, value, view.permuted(order))


@handles(aten.repeat.default)
def _repeat(cutter: Cutter, node: Node) -> None:
    """Every dimension once more beside itself: a view, and then a copy of what it shows."""
    value, view = cutter.seen(node.args[0], node)
    counts = [int(n) for n in node.args[1]]  # type: ignore[union-attr, arg-type]
    shape = (1,) * (len(counts) - len(view.shape)) + view.shape
    pairs, wide = [n for s in shape for n in (1, s)], [n for c, s in zip(counts, shape, strict=True) for n in (c, s)]
    shown = as_seen(value, view.reshaped(pairs)).seen.expanded(wide)
    cutter.show(node, cutter.copied(replace(value.of(node), view=shown)), View.whole(static_shape(node)))


@handles(aten.repeat_interleave.self_int)
def _repeat_each(cutter: Cutter, node: Node) -> None:
    """Every position of one dimension, several times in a row."""
    named, shape = arguments(node), static_shape(node)
    if named["dim"] is None:
        raise unsupported(node, "values of the flattened tensor, repeated", "say which dimension is repeated")
    value, view = cutter.seen(node.args[0], node)
    dim, count = named["dim"] % len(shape), named["repeats"]
    apart = as_seen(value, view.reshaped((*view.shape[: dim + 1], 1, *view.shape[dim + 1 :]))).seen
    shown = apart.expanded((*view.shape[: dim + 1], count, *view.shape[dim + 1 :]))
    cutter.show(node, cutter.copied(replace(value.of(node), view=shown)), View.whole(shape))


@handles(aten.narrow.default)
def _narrow(cutter: Cutter, node: Node) -> None:
    value, view = cutter.viewed(node.args[0], node)
    named = arguments(node)
    dim = named["dim"] % len(view.shape)
    cutter.show(node, value, view.sliced(dim, named["start"] % view.shape[dim], named["length"]))


@handles(aten.slice.Tensor)
def _slice(cutter: Cutter, node: Node) -> None:
    value, shape, named = cutter.value(node.args[0], node), static_shape(node), arguments(node)
    if shape == value.shape:
        cutter.alias(node, value)
        return
    value, view = cutter.viewed(node.args[0], node)
    dim, size = named["dim"] % len(shape), view.shape[named["dim"]]
    start = min(max(named["start"] or 0, -size), size) % size if named["start"] else 0
    cutter.show(node, value, view.sliced(dim, start, shape[dim], named["step"]))


@handles(aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int)
def _split(cutter: Cutter, node: Node) -> None:
    value, view = cutter.viewed(node.args[0], node)
    dim, start, parts = arguments(node)["dim"] % len(view.shape), 0, []
    for part in node.meta["val"]:
        size = 1 if node.target is aten.unbind.int else part.shape[dim]
        shown = view.sliced(dim, start, size).reshaped(tuple(part.shape))
        assert shown is not None  # a dimension of size 1 at most has gone
        parts.append((value, shown))
        start += size
    cutter.parts[node] = parts


@handles(operator.getitem)
def _part(cutter: Cutter, node: Node) -> None:
    source, index = node.args
    parts = cutter.parts.get(source, [])  # type: ignore[arg-type]
    if int(index) < len(parts):  # type: ignore[arg-type]
        cutter.show(node, *parts[int(index)])  # type: ignore[arg-type]
    elif node.users:
        raise unsupported(node, f"no kernel computes part {index} of '{source}'", "use the first part alone")


@handles(aten.pixel_shuffle.default)
def _pixel_shuffle(cutter: Cutter, node: Node) -> None:
    value, factor = cutter.plain(node.args[0], node), int(node.args[1])  # type: ignore[arg-type]
    n, c, h, w = value.shape
    view = View.whole((n, c // factor**2, factor, factor, h, w)).permuted((0, 1, 4, 2, 5, 3))
    cutter.show(node, cutter.copied(replace(value.of(node), view=view)), View.whole(static_shape(node)))


@handles(aten.pixel_unshuffle.default)
def _pixel_unshuffle(cutter: Cutter, node: Node) -> None:
    value, factor = cutter.plain(node.args[0], node), int(node.args[1])  # type: ignore[arg-type]
    n, c, h, w = value.shape
    view = View.whole((n, c, h // factor, factor, w // factor, factor)).permuted((0, 1, 3, 5, 2, 4))
    cutter.show(node, cutter.copied(replace(value.of(node), view=view)), View.whole(static_shape(node)))


@handles(aten.select.int)
def _select(cutter: Cutter, node: Node) -> None:
    value, view = cutter.viewed(node.args[0], node)
    named = arguments(node)
    dim = named["dim"] % len(view.shape)
    part = view.sliced(dim, named["index"] % view.shape[dim], 1).reshaped(static_shape(node))
    assert part is not None
    cutter.show(node, value, part)


@handles(aten.flip.default)
def _flip(cutter: Cutter, node: Node) -> None:
    value, view = cutter.viewed(node.args[0], node)
    for dim in arguments(node)["dims"]:
        size = view.shape[dim]
        view = view.sliced(dim % len(view.shape), size - 1, size, -1)
    cutter.show(node, value, view)


@handles(aten.roll.default)
def _roll(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    if not named["dims"]:
        raise unsupported(node, "a roll of the flattened tensor", "say which dimensions roll")
    value, view = cutter.seen(node.args[0], node)
    turns = [(int(d) % len(view.shape), int(n)) for d, n in zip(named["dims"], named["shifts"], strict=True)]
    for i, (dim, shift) in enumerate(turns):
        size, last = view.shape[dim], i == len(turns) - 1
        turn, yielding = shift % size, node if last else cutter.between(node, f"turn{i}")
        parts = [view.sliced(dim, size - turn, turn), view.sliced(dim, 0, size - turn)] if turn else [view]
        _join(cutter, yielding, dim, [(value, part) for part in parts])
        value, view = cutter.values[yielding], cutter.values[yielding].seen


@handles(aten.expand.default, aten.expand_as.default)
def _expand(cutter: Cutter, node: Node) -> None:
    value, view = cutter.viewed(node.args[0], node)
    cutter.show(node, value, view.expanded(static_shape(node)))


@handles(aten.softmax.int, aten.log_softmax.int)
def _softmax(cutter: Cutter, node: Node) -> None:
    if argument(node, 2, "dtype") not in (None, torch.float32):
        raise unsupported(node, "a softmax in another type", "compute it in float32")
    x, shape = cutter.plain(node.args[0], node), static_shape(node)
    axis, logarithm = int(argument(node, 1, "dim")) % len(shape), node.target is aten.log_softmax.int
    cutter.open("softmax", node, TensorSpec(shape, "plain"), [x], axis=axis, log=logarithm)
