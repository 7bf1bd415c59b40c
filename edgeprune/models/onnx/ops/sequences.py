"""Sequences of tensors: as long as they are while the file is read, and gone in the module."""

from __future__ import annotations

import torch

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import Outputs, reads
from edgeprune.models.onnx.values import Unsupported, Value


@reads("SequenceConstruct")
def construct(n: OnnxNode) -> Outputs:
    return Outputs((tuple(n.all()),))


@reads("SequenceEmpty")
def empty(n: OnnxNode) -> Outputs:
    n.ignore("dtype")
    return Outputs(((),))


@reads("SequenceAt")
def at(n: OnnxNode) -> Value:
    place = n.number(1, "position")
    assert place is not None
    return n.sequence(0)[int(place)]


@reads("SequenceLength")
def length(n: OnnxNode) -> Value:
    return n.constant(len(n.sequence(0)), 7, torch.int64)


@reads("SequenceInsert")
def insert(n: OnnxNode) -> Outputs:
    items = list(n.sequence(0))
    place = n.number(2, "position")
    items.insert(len(items) if place is None else int(place), n[1])
    return Outputs((tuple(items),))


@reads("SequenceErase")
def erase(n: OnnxNode) -> Outputs:
    items = list(n.sequence(0))
    place = n.number(1, "position")
    del items[-1 if place is None else int(place)]
    return Outputs((tuple(items),))


@reads("ConcatFromSequence")
def concat(n: OnnxNode) -> Value:
    return n.call(torch.stack if n.attr("new_axis") else torch.cat, list(n.sequence(0)), n.attr("axis"))


@reads("SplitToSequence")
def split(n: OnnxNode) -> Outputs:
    x, axis = n[0], n.axis()
    size, keep = n.maybe_known(1, "split"), bool(n.attr("keepdims"))
    total = x.shape[axis]
    if size is None:
        parts = [n.call(torch.narrow, x, axis, i, 1) for i in range(total)]
        return Outputs((tuple(parts if keep else [n.call(torch.squeeze, p, axis) for p in parts]),))
    n.ignore("keepdims")
    if size.dim():
        sizes = [int(v) for v in size]
    else:
        each = int(size)
        if each < 1:
            raise Unsupported(f"it splits into parts of {each}")
        sizes = [min(each, total - i) for i in range(0, total, each)]
    if sum(sizes) != total or min(sizes, default=0) < 0:
        raise Unsupported(f"it takes {sizes} out of {total}")
    return Outputs((tuple(n.call(torch.narrow, x, axis, sum(sizes[:i]), s) for i, s in enumerate(sizes)),))
