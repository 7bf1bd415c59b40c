"""Operators that move values or only look at them differently."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch.fx import Node

from edgeprune.graph.cutting.cutter import Cutter, handles
from edgeprune.graph.cutting.values import Value, are_images, as_picture, walks
from edgeprune.graph.nodes import arguments, detached, static_shape, unsupported
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@handles(aten.cat.default)
def _concat(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    parts, axis = [p for p in named["tensors"] if math.prod(static_shape(p))], named["dim"] % len(shape)
    values = [cutter.value(p).image for p in parts]
    if axis == 1 and are_images(values):
        cutter.emit(
            "concat", node, TensorSpec(as_picture(shape)), [cutter.blocked(v, ends=True) for v in values], seen=shape
        )
    else:
        _join(cutter, node, axis, [cutter.row_major(p) for p in parts])


@handles(aten.stack.default)
def _stack(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    axis = named["dim"] % len(shape)
    single = (*shape[:axis], 1, *shape[axis + 1 :])
    _join(cutter, node, axis, [cutter.row_major(part).reshaped(single) for part in named["tensors"]])


def _join(cutter: Cutter, node: Node, axis: int, parts: Sequence[Value]) -> Value:
    """Plain tensors one behind the other along ``axis``, each read through its view."""
    sizes = tuple(part.shape[axis] for part in parts)
    shape = tuple(sum(sizes) if d == axis else n for d, n in enumerate(parts[0].shape))
    sources = [part.walked for part in parts]
    return cutter.emit(
        "join", node, TensorSpec(shape, "plain"), sources, {"axis": axis, "sizes": sizes, **walks(parts)}
    )


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
    cutter.alias(node, cutter.value(node.args[0]))


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
    value, shape = cutter.value(node.args[0]), static_shape(node)
    if shape == value.shape:
        cutter.alias(node, value)
    elif (view := value.view.reshaped(shape)) is not None:
        cutter.show(node, value.seen(view))
    elif named := _shuffled(cutter, node, value, shape):
        cutter.emit("channel_shuffle", node, TensorSpec(shape), [value], named)
    else:
        cutter.show(node, cutter.plain(node.args[0]).seen(View.whole(shape)))


def _shuffled(cutter: Cutter, node: Node, value: Value, shape: tuple[int, ...]) -> dict[str, int]:
    """What a channel shuffle keeps while its channels are pruned, ``rows`` or ``columns``; empty if it is none.

    A shuffle sees the channels as rows, one behind the other, and transposes rows and columns.
    """
    if value.layout != "blocked" or shape != value.data.spec.shape or len(value.shape) != 5:
        return {}
    _, columns, rows, height, width = value.shape
    pixels = height * width
    steps = value.view.steps
    expected = (columns * rows * pixels, pixels, columns * pixels, width, 1)
    same = all(a == b or size == 1 for a, b, size in zip(steps, expected, value.shape, strict=True))
    if not same or shape[2:] != (height, width) or value.view.offset:
        return {}
    binding = cutter.analysis.axes.get(value.node.name)
    narrower = node.name in cutter.analysis.shuffles or (binding is not None and binding.groups)
    return {"rows": rows} if narrower else {"columns": columns}


@handles(aten.permute.default, aten.transpose.int, aten.t.default, aten.mT.default)
def _permute(cutter: Cutter, node: Node) -> None:
    value, named = cutter.value(node.args[0]), arguments(node)
    order = list(range(len(value.shape)))
    if node.target is aten.permute.default:
        order = [int(d) % len(order) for d in named["dims"]]
    else:
        first, second = (-2, -1) if node.target is aten.mT.default else (0, 1)
        i, j = (named.get(d, n) for d, n in (("dim0", first), ("dim1", second)))
        order[i], order[j] = order[j], order[i]
    cutter.show(node, value.permuted(order))


@handles(aten.movedim.int)
def _movedim(cutter: Cutter, node: Node) -> None:
    value, named = cutter.value(node.args[0]), arguments(node)
    order = list(range(len(value.shape)))
    order.insert(named["destination"] % len(order), order.pop(named["source"]))
    cutter.show(node, value.permuted(order))


@handles(aten.repeat.default)
def _repeat(cutter: Cutter, node: Node) -> None:
    """Every dimension once more beside itself: a view, and then a copy of what it shows."""
    value = cutter.row_major(node.args[0])
    counts = [int(n) for n in node.args[1]]  # type: ignore[union-attr, arg-type]
    shape = (1,) * (len(counts) - len(value.shape)) + value.shape
    pairs, wide = [n for s in shape for n in (1, s)], [n for c, s in zip(counts, shape, strict=True) for n in (c, s)]
    _copy(cutter, node, value.reshaped(pairs).expanded(wide))


@handles(aten.repeat_interleave.self_int)
def _repeat_each(cutter: Cutter, node: Node) -> None:
    """Every position of one dimension, several times in a row."""
    named, shape = arguments(node), static_shape(node)
    if named["dim"] is None:
        raise unsupported(node, "values of the flattened tensor, repeated", "say which dimension is repeated")
    value = cutter.row_major(node.args[0])
    dim, count = named["dim"] % len(shape), named["repeats"]
    apart = value.reshaped((*value.shape[: dim + 1], 1, *value.shape[dim + 1 :]))
    _copy(cutter, node, apart.expanded((*value.shape[: dim + 1], count, *value.shape[dim + 1 :])))


def _copy(cutter: Cutter, node: Node, value: Value) -> None:
    """``node`` is what is seen, in another shape."""
    cutter.show(node, cutter.copied(value.at(node)).seen(View.whole(static_shape(node))))


@handles(aten.narrow.default)
def _narrow(cutter: Cutter, node: Node) -> None:
    value, named = cutter.value(node.args[0]), arguments(node)
    dim = named["dim"] % len(value.shape)
    cutter.show(node, value.sliced(dim, named["start"] % value.shape[dim], named["length"]))


@handles(aten.slice.Tensor)
def _slice(cutter: Cutter, node: Node) -> None:
    value, shape, named = cutter.value(node.args[0]), static_shape(node), arguments(node)
    if shape == value.shape:
        cutter.alias(node, value)
        return
    dim, size = named["dim"] % len(shape), value.shape[named["dim"]]
    start = min(max(named["start"] or 0, -size), size) % size if named["start"] else 0
    cutter.show(node, value.sliced(dim, start, shape[dim], named["step"]))


@handles(aten.chunk.default, aten.split.Tensor, aten.split_with_sizes.default, aten.unbind.int)
def _split(cutter: Cutter, node: Node) -> None:
    value = cutter.value(node.args[0])
    dim, start, parts = arguments(node)["dim"] % len(value.shape), 0, []
    for part in node.meta["val"]:
        size = 1 if node.target is aten.unbind.int else part.shape[dim]
        parts.append(value.sliced(dim, start, size).reshaped(tuple(part.shape)))
        start += size
    cutter.yield_parts(node, parts)


@handles(operator.getitem)
def _part(cutter: Cutter, node: Node) -> None:
    source, index = node.args
    if (part := cutter.part(source, int(index))) is not None:  # type: ignore[arg-type]
        cutter.show(node, part)
    elif node.users:
        raise unsupported(node, f"no kernel computes part {index} of '{source}'", "use the first part alone")


@handles(aten.pixel_shuffle.default)
def _pixel_shuffle(cutter: Cutter, node: Node) -> None:
    value, factor = cutter.plain(node.args[0]), int(node.args[1])  # type: ignore[arg-type]
    n, c, h, w = value.shape
    apart = value.seen(View.whole((n, c // factor**2, factor, factor, h, w)))
    _copy(cutter, node, apart.permuted((0, 1, 4, 2, 5, 3)))


@handles(aten.pixel_unshuffle.default)
def _pixel_unshuffle(cutter: Cutter, node: Node) -> None:
    value, factor = cutter.plain(node.args[0]), int(node.args[1])  # type: ignore[arg-type]
    n, c, h, w = value.shape
    apart = value.seen(View.whole((n, c, h // factor, factor, w // factor, factor)))
    _copy(cutter, node, apart.permuted((0, 1, 3, 5, 2, 4)))


@handles(aten.select.int)
def _select(cutter: Cutter, node: Node) -> None:
    value, named = cutter.value(node.args[0]), arguments(node)
    dim = named["dim"] % len(value.shape)
    cutter.show(node, value.sliced(dim, named["index"] % value.shape[dim], 1).reshaped(static_shape(node)))


@handles(aten.flip.default)
def _flip(cutter: Cutter, node: Node) -> None:
    value = cutter.value(node.args[0])
    for dim in arguments(node)["dims"]:
        size = value.shape[dim]
        value = value.sliced(dim % len(value.shape), size - 1, size, -1)
    cutter.show(node, value)


@handles(aten.roll.default)
def _roll(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    if not named["dims"]:
        raise unsupported(node, "a roll of the flattened tensor", "say which dimensions roll")
    value = cutter.row_major(node.args[0])
    turns = [(int(d) % len(value.shape), int(n)) for d, n in zip(named["dims"], named["shifts"], strict=True)]
    for i, (dim, shift) in enumerate(turns):
        size, last = value.shape[dim], i == len(turns) - 1
        turn, yielding = shift % size, node if last else detached(node, f"turn{i}")
        cuts = [(size - turn, turn), (0, size - turn)] if turn else [(0, size)]
        value = _join(cutter, yielding, dim, [value.sliced(dim, *part) for part in cuts])


@handles(aten.expand.default, aten.expand_as.default)
def _expand(cutter: Cutter, node: Node) -> None:
    cutter.show(node, cutter.value(node.args[0]).expanded(static_shape(node)))


@handles(aten.softmax.int, aten.log_softmax.int)
def _softmax(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    if named["dtype"] not in (None, torch.float32):
        raise unsupported(node, "a softmax in another type", "compute it in float32")
    axis, log = named["dim"] % len(shape), node.target is aten.log_softmax.int
    cutter.emit("softmax", node, TensorSpec(shape, "plain"), [cutter.plain(node.args[0])], {"axis": axis, "log": log})
