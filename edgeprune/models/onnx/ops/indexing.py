"""Places: slices, look-ups, orders, and what is put back."""

from __future__ import annotations

import math
from typing import Any

import torch
from onnx import TensorProto

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import Outputs, reads
from edgeprune.models.onnx.types import FLOATS, HELD
from edgeprune.models.onnx.values import Unsupported, Value


def places(n: OnnxNode, index: Value, size: int) -> Value:
    """Indices as int64, counted from the front; those that may be negative are moved."""
    if index.known:
        tensor = index.tensor.long()
        if tensor.numel() and not -size <= int(tensor.min()) <= int(tensor.max()) < size:
            raise IndexError(f"index {int(tensor.max())} of an axis of {size}")
        return Value(TensorProto.INT64, torch.where(tensor < 0, tensor + size, tensor))
    if index.tensor.dtype != torch.int64:
        index = n.call("to", index, torch.int64, kind=TensorProto.INT64)
    return n.call(torch.where, n.call(torch.lt, index, 0), n.call(torch.add, index, size), index)


@reads("Slice")
def sliced(n: OnnxNode) -> Value:
    x = n[0]
    starts, ends = n.ints("starts", 1), n.ints("ends", 2)
    axes, steps = n.ints("axes", 3), n.ints("steps", 4)
    if starts is None or ends is None or len(starts) != len(ends):
        raise Unsupported("its starts or ends are missing")
    axes = list(range(len(starts))) if axes is None else [n.place(a, x.rank) for a in axes]
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        if not step:
            raise Unsupported("its step is 0")
        taken = _taken(x.shape[axis], start, end, step)
        if len(taken) == x.shape[axis] and step == 1:
            continue
        if step == 1 or len(taken) < 2:
            x = n.call(torch.narrow, x, axis, taken[0] if len(taken) else 0, len(taken))
        elif step < 0:
            if list(taken) == list(range(x.shape[axis]))[::-1]:
                x = n.call(torch.flip, x, (axis,))
            else:
                x = n.call(torch.index_select, x, axis, n.constant(list(taken), TensorProto.INT64, torch.int64))
        else:
            x = n.call(torch.ops.aten.slice.Tensor, x, axis, taken[0], taken[-1] + 1, step)
    return x


def _taken(size: int, start: int, end: int, step: int) -> range:
    """Places from ``start`` to before ``end``, which are brought to the axis as the standard says."""
    start, end = (v + size if v < 0 else v for v in (start, end))
    if step > 0:
        return range(min(max(start, 0), size), min(max(end, 0), size), step)
    return range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), step)


@reads("Gather")
def gather(n: OnnxNode) -> Value:
    """One constant place of an axis is a view; others are looked up."""
    x, index, axis = n[0], n[1], n.axis()
    if index.known and index.rank == 0:
        return n.call(torch.select, x, axis, int(places(n, index, x.shape[axis]).tensor))
    index = places(n, index, x.shape[axis])
    flat = index if index.rank == 1 else n.call(torch.reshape, index, (-1,))
    if axis == 0 and x.known and not index.known and x.rank == 2 and x.kind in FLOATS:
        weight = Value(x.kind, x.tensor, name=x.name)
        rows, size = x.shape
        embedding = torch.nn.Embedding(rows, size, device="meta")
        return n.layer(embedding, index, weight=weight, kind=x.kind)
    taken = n.call(torch.index_select, x, axis, flat, kind=x.kind)
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    return taken if taken.shape == shape else n.call(torch.reshape, taken, shape)


@reads("GatherElements")
def gather_elements(n: OnnxNode) -> Value:
    x, axis = n[0], n.axis()
    return n.call(torch.gather, x, axis, places(n, n[1], x.shape[axis]), kind=x.kind)


@reads("GatherND")
def gather_nd(n: OnnxNode) -> Value:
    """As a look-up in the flattened tensor."""
    x, index, batch = n[0], n[1], n.attr("batch_dims", 0)
    depth = index.shape[-1]
    if not 1 <= depth <= x.rank - batch:
        raise Unsupported(f"its indices have {depth} numbers each, for {x.rank - batch} axes")
    inner = x.shape[batch : batch + depth]
    flat = _flat_places(n, index, inner)
    leading, rest = x.shape[:batch], x.shape[batch + depth :]
    wanted = (*index.shape[:-1], *rest)
    rows = math.prod(leading)
    table = n.call(torch.reshape, x, (rows * math.prod(inner), math.prod(rest)))
    flat = n.call(torch.reshape, flat, (rows, -1)) if rows else flat
    base = n.constant((torch.arange(rows) * math.prod(inner)).reshape(-1, 1), TensorProto.INT64)
    flat = n.call(torch.reshape, n.call(torch.add, flat, base), (-1,)) if batch else n.call(torch.reshape, flat, (-1,))
    return n.call(torch.reshape, n.call(torch.index_select, table, 0, flat, kind=x.kind), wanted)


def _flat_places(n: OnnxNode, index: Value, sizes: tuple[int, ...]) -> Value:
    """Tuples of indices along the last axis as places in a tensor of ``sizes``."""
    parts = []
    for i, size in enumerate(sizes):
        part = places(n, n.call(torch.select, index, index.rank - 1, i), size)
        stride = math.prod(sizes[i + 1 :])
        parts.append(part if stride == 1 else n.call(torch.mul, part, stride))
    total = parts[0]
    for part in parts[1:]:
        total = n.call(torch.add, total, part)
    return total


_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scattered(n: OnnxNode, x: Value, axis: int, index: Value, updates: Value, reduction: str) -> Value:
    if reduction == "none":
        return n.call(torch.scatter, x, axis, index, updates, kind=x.kind)
    if reduction not in _REDUCE:
        raise Unsupported(f"its reduction is {reduction!r}")
    return n.call("scatter_reduce", x, axis, index, updates, _REDUCE[reduction], kind=x.kind)


@reads("ScatterElements", "Scatter")
def scatter_elements(n: OnnxNode) -> Value:
    x, axis = n[0], n.axis()
    index = places(n, n[1], x.shape[axis])
    return _scattered(n, x, axis, index, n[2], n.attr("reduction", "none"))


@reads("ScatterND")
def scatter_nd(n: OnnxNode) -> Value:
    x, index, updates = n[0], n[1], n[2]
    depth = index.shape[-1]
    if not 1 <= depth <= x.rank:
        raise Unsupported(f"its indices have {depth} numbers each, for {x.rank} axes")
    inner, rest = x.shape[:depth], x.shape[depth:]
    each = math.prod(rest)
    table = n.call(torch.reshape, x, (math.prod(inner), each))
    flat = n.call(torch.reshape, _flat_places(n, index, inner), (-1, 1))
    flat = n.call("expand", flat, (-1, each))
    given = n.call(torch.reshape, updates, (-1, each))
    y = _scattered(n, table, 0, flat, given, n.attr("reduction", "none"))
    return n.call(torch.reshape, y, x.shape)


@reads("TensorScatter")
def tensor_scatter(n: OnnxNode) -> Value:
    """An update written into a cache from a place on, for each batch its own."""
    cache, update, write = n[0], n[1], n.get(2)
    axis, mode = n.axis(), n.attr("mode")
    size, length = cache.shape[axis], update.shape[axis]
    steps = n.constant(torch.arange(length), TensorProto.INT64)
    if write is None:
        index = n.call(torch.reshape, steps, (1, length))
        batch = 1
    else:
        batch = write.shape[0]
        start = n.call("to", n.call(torch.reshape, write, (batch, 1)), torch.int64, kind=TensorProto.INT64)
        index = n.call(torch.add, start, steps)
    if mode == "circular":
        index = n.call(torch.remainder, index, size)
    elif mode != "linear":
        raise Unsupported(f"its mode is {mode!r}")
    shape = [1] * cache.rank
    shape[0], shape[axis] = batch, length
    index = n.call("expand", n.call(torch.reshape, index, tuple(shape)), update.shape)
    return n.call(torch.scatter, cache, axis, index, update, kind=cache.kind)


@reads("OneHot")
def one_hot(n: OnnxNode) -> Value:
    """Indices outside the depth select nothing."""
    index, values = n[0], n[2]
    depth = n.number(1, "depth")
    assert depth is not None
    size, axis = int(depth), n.place(n.attr("axis"), index.rank + 1)
    n.build.spend(size)
    if index.kind in FLOATS:
        index = n.call("to", index, torch.int64, kind=TensorProto.INT64)
    index = n.call(torch.unsqueeze, index, axis)
    index = n.call(torch.where, n.call(torch.lt, index, 0), n.call(torch.add, index, size), index)
    steps = torch.arange(size).reshape(-1, *[1] * (index.rank - axis - 1))
    hot = n.call(torch.eq, index, n.constant(steps, TensorProto.INT64))
    off, on = (n.call(torch.select, values, 0, i) for i in (0, 1))
    return n.call(torch.where, hot, on, off, kind=values.kind)


@reads("ArgMax", "ArgMin")
def arg_extreme(n: OnnxNode) -> Value:
    """The first of equals, or the last where the node says so."""
    x, axis, keep = n[0], n.axis(), bool(n.attr("keepdims"))
    function = torch.argmax if n.operator == "ArgMax" else torch.argmin
    if not n.attr("select_last_index", 0):
        return n.call(function, x, axis, keep, kind=TensorProto.INT64)
    place = n.call(function, n.call(torch.flip, x, (axis,)), axis, keep, kind=TensorProto.INT64)
    return n.call(torch.rsub, place, x.shape[axis] - 1)


@reads("TopK")
def top_k(n: OnnxNode) -> Outputs:
    count = n.attr("k") if n.opset < 10 else n.number(1, "k")
    assert count is not None
    largest = bool(n.attr("largest", 1))
    n.ignore("sorted")
    axis, x = n.axis(default=-1), n[0]
    order = n.calls(torch.sort, x, dim=axis, descending=largest, stable=True)
    values, index = (n.call(torch.narrow, v, axis, 0, int(count)) for v in order)
    return Outputs((Value(x.kind, values.tensor, values.node), Value(TensorProto.INT64, index.tensor, index.node)))


@reads("Trilu")
def triangle(n: OnnxNode) -> Value:
    k = n.number(1, "k")
    return n.call(torch.triu if n.attr("upper") else torch.tril, n[0], int(k or 0))


@reads("CumSum", "CumProd")
def cumulative(n: OnnxNode) -> Value:
    """From the front or the back; ``exclusive`` leaves each element itself out."""
    x = n[0]
    given = n.number(1, "axis")
    assert given is not None
    axis = n.place(int(given), x.rank)
    backward = bool(n.attr("reverse"))
    size = x.shape[axis]
    if backward:
        x = n.call(torch.flip, x, (axis,))
    if n.attr("exclusive"):
        first: Any = 0 if n.operator == "CumSum" else 1
        around = [0, 0] * (x.rank - 1 - axis) + [1, 0]
        x = n.call(torch.nn.functional.pad, n.call(torch.narrow, x, axis, 0, size - 1), around, "constant", first)
    x = n.call(torch.cumsum if n.operator == "CumSum" else torch.cumprod, x, axis, dtype=x.tensor.dtype, kind=x.kind)
    return n.call(torch.flip, x, (axis,)) if backward else x


@reads("ReverseSequence")
def reverse_sequence(n: OnnxNode) -> Value:
    """For each batch the first elements, as many as its length says, in the opposite order."""
    x, lengths = n[0], n[1]
    batch, time = n.axis("batch_axis"), n.axis("time_axis")
    size = x.shape[time]
    shape = [1] * x.rank
    shape[batch] = x.shape[batch]
    ends = n.call("to", n.call(torch.reshape, lengths, tuple(shape)), torch.int64, kind=TensorProto.INT64)
    steps = n.constant(torch.arange(size).reshape([-1 if i == time else 1 for i in range(x.rank)]), TensorProto.INT64)
    turned = n.call(torch.sub, n.call(torch.sub, ends, steps), 1)
    index = n.call(torch.where, n.call(torch.lt, steps, ends), turned, steps)
    return n.call(torch.gather, x, time, n.call("expand", index, x.shape), kind=x.kind)


@reads("Compress")
def compress(n: OnnxNode) -> Value:
    x, axis = n[0], n.attr("axis", None)
    chosen = n.known(1, "condition").flatten().nonzero().flatten()
    if axis is None:
        x, axis = n.call(torch.reshape, x, (-1,)), 0
    return n.call(torch.index_select, x, n.place(axis, x.rank), n.constant(chosen, TensorProto.INT64), kind=x.kind)


@reads("NonZero")
def non_zero(n: OnnxNode) -> Value:
    return n.constant(n.known(0, "input").nonzero().T.contiguous(), TensorProto.INT64)


@reads("Unique")
def unique(n: OnnxNode) -> Outputs:
    """Of constants: how many there are is not known otherwise."""
    x = n.known(0, "input")
    axis = n.attr("axis", None)
    ordered = bool(n.attr("sorted"))
    flat = x.flatten() if axis is None else x
    dim = 0 if axis is None else n.place(axis, x.dim())
    values, inverse, counts = torch.unique(flat, sorted=True, return_inverse=True, return_counts=True, dim=dim)
    first = torch.full((len(counts),), len(inverse)).scatter_reduce(0, inverse, torch.arange(len(inverse)), "amin")
    if not ordered:
        order = first.argsort()
        values, first, counts = values.index_select(dim, order), first[order], counts[order]
        inverse = order.argsort()[inverse]
    kind = n[0].kind
    return Outputs(
        (Value(kind, values.to(HELD[kind])), *(Value(TensorProto.INT64, v) for v in (first, inverse, counts)))
    )
