"""The one table of transfer rules: ATen overload -> how channels pass through it.

A rule reads the layouts of a node's operands, binds the parameters it uses and gives the result
its layouts. It may raise :class:`~edgeprune.graph.flow.Refused`. Overloads that are not in the
table, and refused nodes, freeze the channels of their operands and results; nothing is ever taken
for element-wise silently.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.flow import Flow, Refused, arguments
from edgeprune.graph.intervals import Layout, joined, widened, window

Rule = Callable[[Flow, Node], None]
RULES: dict[Any, Rule] = {}

aten = torch.ops.aten


def rule(*targets: Any) -> Callable[[Rule], Rule]:
    """Register a rule for overloads.

    Raises:
        ValueError: an overload has a rule already.
    """

    def register(fn: Rule) -> Rule:
        for target in targets:
            if target in RULES:
                raise ValueError(f"{target} has a transfer rule already: {RULES[target].__name__}")
            RULES[target] = fn
        return fn

    return register


@rule(aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding, aten.conv3d.default)
def convolution(flow: Flow, node: Node) -> None:
    """Weight is (out, in / groups, ...)."""
    a = arguments(node)
    weight, groups = a["weight"], a["groups"]
    channels = _only_axis(flow, a["input"], 1)
    if groups == 1:
        flow.bind(weight, 1, channels, role="in")
        out = flow.axis(weight, 0)
    elif flow.shape(weight)[1] == 1:
        out = widened(channels, flow.shape(weight)[0] // groups)
        flow.bind(weight, 0, out)
    else:
        block = _tied_blocks(flow, channels, groups)
        flow.bind(weight, 1, block, role="in")
        out = flow.axis(weight, 0)
        _tied_blocks(flow, out, groups)
    if a["bias"] is not None:
        flow.bind(a["bias"], 0, out)
    flow.produce(node, {1: out})


@rule(aten.conv_transpose2d.input)
def transposed_convolution(flow: Flow, node: Node) -> None:
    """Weight is (in, out / groups, kh, kw)."""
    a = arguments(node)
    if a["groups"] != 1:
        raise Refused("grouped transposed convolution")
    flow.bind(a["weight"], 0, _only_axis(flow, a["input"], 1), role="in")
    out = flow.axis(a["weight"], 1)
    if a["bias"] is not None:
        flow.bind(a["bias"], 0, out)
    flow.produce(node, {1: out})


@rule(aten.linear.default)
def linear(flow: Flow, node: Node) -> None:
    """Weight is (out, in); acts on the last dimension, the others pass."""
    a = arguments(node)
    axes = flow.tracked(a["input"])
    last = len(flow.shape(a["input"])) - 1
    flow.bind(a["weight"], 1, flow.axis(a["input"], last), role="in")
    axes[last] = flow.axis(a["weight"], 0)
    if a["bias"] is not None:
        flow.bind(a["bias"], 0, axes[last])
    flow.produce(node, axes)


@rule(aten.batch_norm.default)
def batch_norm(flow: Flow, node: Node) -> None:
    a = arguments(node)
    channels = flow.axis(a["input"], 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if a[name] is not None:
            flow.bind(a[name], 0, channels)
    flow.produce(node, flow.tracked(a["input"]))


@rule(aten.prelu.default)
def prelu(flow: Flow, node: Node) -> None:
    """One slope for all channels, or one for each."""
    source, slope = _tensor(node.args[0]), _tensor(node.args[1])
    if flow.shape(slope)[0] > 1:
        flow.bind(slope, 0, flow.axis(source, 1))
    flow.produce(node, flow.tracked(source))


@rule(
    aten.relu.default,
    aten.relu_.default,
    aten.relu6.default,
    aten.relu6_.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
    aten.hardswish.default,
    aten.hardswish_.default,
    aten.hardsigmoid.default,
    aten.hardsigmoid_.default,
    aten.silu.default,
    aten.silu_.default,
    aten.sigmoid.default,
    aten.sigmoid_.default,
    aten.tanh.default,
    aten.tanh_.default,
    aten.gelu.default,
    aten.mish.default,
    aten.elu.default,
    aten.elu_.default,
    aten.softplus.default,
    aten.leaky_relu.default,
    aten.leaky_relu_.default,
    aten.clamp.default,
    aten.clamp_.default,
    aten.abs.default,
    aten.neg.default,
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.detach_.default,
    aten.to.dtype,
)
def pointwise(flow: Flow, node: Node) -> None:
    """One operand, same shape out."""
    flow.produce(node, _carried(flow, node.args[0]))


@rule(
    aten.add.Tensor,
    aten.add_.Tensor,
    aten.sub.Tensor,
    aten.sub_.Tensor,
    aten.mul.Tensor,
    aten.mul_.Tensor,
    aten.maximum.default,
    aten.minimum.default,
)
def broadcasting(flow: Flow, node: Node) -> None:
    """Two operands, aligned at the last dimension; an operand of size 1 follows the other."""
    shape = flow.shape(node)
    operands = [n for n in node.args[:2] if isinstance(n, Node)]
    axes: dict[int, Layout] = {}
    for dim, size in enumerate(shape):
        here = [
            (n, d) for n in operands if (d := dim - len(shape) + len(flow.shape(n))) >= 0 and flow.shape(n)[d] == size
        ]
        leader = next(((n, d) for n, d in here if d in flow.tracked(n)), None)
        if leader is None and size > 1:
            leader = next(((n, d) for n, d in here if flow.parameter(n)), None)
        if leader is None:
            continue
        axes[dim] = flow.axis(*leader)
        for n, d in here:
            if (n, d) != leader:
                flow.bind(n, d, axes[dim])
    flow.produce(node, axes)


@rule(aten.div.Tensor, aten.div_.Tensor)
def division(flow: Flow, node: Node) -> None:
    """By a number only: removed channels of a divisor would be zeros in the masked network."""
    if isinstance(node.args[1], Node):
        raise Refused("division by a tensor")
    flow.produce(node, _carried(flow, node.args[0]))


@rule(
    aten.max_pool2d.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool2d.default,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest2d.default,
    aten.upsample_bilinear2d.vec,
    aten.upsample_bilinear2d.default,
)
def spatial(flow: Flow, node: Node) -> None:
    """Acts on the last two dimensions; the others pass."""
    axes = _carried(flow, node.args[0])
    if any(dim >= len(flow.shape(node)) - 2 for dim in axes):
        raise Refused("pools or resizes a dimension of channels")
    flow.produce(node, axes)


@rule(aten.pad.default, aten.constant_pad_nd.default)
def padding(flow: Flow, node: Node) -> None:
    """The amounts are constants of the network's code, so padded channels cannot be pruned."""
    source = node.args[0]
    pads = arguments(node)["pad"]
    rank = len(flow.shape(node))
    axes = _carried(flow, source)
    for pair in range(len(pads) // 2):
        if pads[2 * pair] or pads[2 * pair + 1]:
            _drop(flow, axes, rank - 1 - pair, "channels are padded by a constant")
    flow.produce(node, axes)


@rule(aten.mean.dim, aten.sum.dim_IntList, aten.amax.default)
def reduction(flow: Flow, node: Node) -> None:
    a = arguments(node)
    source = node.args[0]
    rank = len(flow.shape(_tensor(source)))
    gone = {d % rank for d in (a["dim"] or range(rank))}
    axes = _carried(flow, source)
    for dim in gone:
        _drop(flow, axes, dim, "reduced over channels")
    shift = {d: d if a["keepdim"] else d - sum(g < d for g in gone) for d in axes}
    flow.produce(node, {shift[d]: layout for d, layout in axes.items()})


@rule(aten.softmax.int, aten.log_softmax.int)
def softmax(flow: Flow, node: Node) -> None:
    """A removed channel would still take its share of the sum in the masked network."""
    axes = _carried(flow, node.args[0])
    dim = arguments(node)["dim"] % len(flow.shape(node))
    if dim in axes:
        flow.freeze_layout(axes[dim], "softmax over channels")
    flow.produce(node, axes)


@rule(aten.cat.default)
def concatenation(flow: Flow, node: Node) -> None:
    a = arguments(node)
    rank = len(flow.shape(node))
    dim = a["dim"] % rank
    parts: list[Node] = list(a["tensors"])
    axes: dict[int, Layout] = {dim: joined(flow.axis(p, dim) for p in parts)}
    for other in set().union(*(flow.tracked(p) for p in parts)) - {dim}:
        axes[other] = flow.axis(parts[0], other)
        for p in parts[1:]:
            flow.bind(p, other, axes[other])
    flow.produce(node, axes)


@rule(aten.chunk.default)
def chunk(flow: Flow, node: Node) -> None:
    """Equal halves, thirds ...: tied, so that the same call still cuts at the same channels."""
    a = arguments(node)
    source, n = a["self"], a["chunks"]
    shape = flow.shape(source)
    dim = a["dim"] % len(shape)
    axes = flow.tracked(source)
    layout = axes.pop(dim, None)
    if layout is None:
        flow.produce_tuple(node, [dict(axes) for _ in range(n)])
        return
    if shape[dim] % n:
        raise Refused(f"{shape[dim]} channels do not divide into {n} chunks")
    blocks = _blocks(layout, n)
    for block in blocks[1:]:
        flow.equate(blocks[0], block)
    flow.produce_tuple(node, [{**axes, dim: block} for block in blocks])


@rule(aten.split.Tensor, aten.split_with_sizes.default)
def split(flow: Flow, node: Node) -> None:
    """The sizes are constants of the network's code, so what is split cannot be pruned."""
    a = arguments(node)
    axes = flow.tracked(a["self"])
    dim = a["dim"] % len(flow.shape(a["self"]))
    _drop(flow, axes, dim, "split at sizes written in the network's code (chunk would follow)")
    flow.produce_tuple(node, [dict(axes) for _ in node.meta["val"]])


@rule(operator.getitem)
def getitem(flow: Flow, node: Node) -> None:
    source, index = node.args
    flow.produce(node, flow.part(_tensor(source), int(index)))  # type: ignore[arg-type]


@rule(aten.slice.Tensor)
def slicing(flow: Flow, node: Node) -> None:
    source = _tensor(node.args[0])
    axes = _carried(flow, source)
    dim = arguments(node)["dim"] % len(flow.shape(source))
    whole = flow.shape(source)[dim] == flow.shape(node)[dim] and arguments(node)["step"] == 1
    if not whole:
        _drop(flow, axes, dim, "sliced at places written in the network's code")
    flow.produce(node, axes)


@rule(aten.permute.default)
def permute(flow: Flow, node: Node) -> None:
    source = _tensor(node.args[0])
    rank = len(flow.shape(source))
    axes = _carried(flow, source)
    order = [d % rank for d in arguments(node)["dims"]]
    flow.produce(node, {new: axes[old] for new, old in enumerate(order) if old in axes})


@rule(aten.transpose.int)
def transpose(flow: Flow, node: Node) -> None:
    source = _tensor(node.args[0])
    rank = len(flow.shape(source))
    i, j = (arguments(node)[k] % rank for k in ("dim0", "dim1"))
    swap = {i: j, j: i}
    flow.produce(node, {swap.get(d, d): layout for d, layout in _carried(flow, source).items()})


@rule(
    aten.flatten.using_ints,
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.squeeze.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.unsqueeze.default,
)
def reshaping(flow: Flow, node: Node) -> None:
    """Channels may move and gain trailing positions (flatten); they may not be split."""
    source = _tensor(node.args[0])
    before, after = flow.shape(source), flow.shape(node)
    axes = _carried(flow, source)
    out: dict[int, Layout] = {}
    for old, new in _matched_dims(before, after):
        olds, news = ([d for d in dims if shape[d] > 1] for dims, shape in ((old, before), (new, after)))
        for dim in (d for d in old if d in axes):
            if olds == news == [] and new:
                out[new[min(old.index(dim), len(new) - 1)]] = axes[dim]
            elif olds and dim == olds[0] and len(news) == 1:
                rest = 1
                for d in olds[1:]:
                    rest *= before[d]
                out[news[0]] = widened(axes[dim], rest)
            elif before[dim] > 1:
                raise Refused(f"reshapes channels {before} to {after}")
    flow.produce(node, out)


def _matched_dims(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions of both shapes that hold the same number of positions."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        old, new, p, q = [i], [j], before[i], after[j]
        i, j = i + 1, j + 1
        while p != q:
            if p < q:
                p, old, i = p * before[i], [*old, i], i + 1
            else:
                q, new, j = q * after[j], [*new, j], j + 1
        blocks.append((old, new))
    if blocks:
        blocks[-1][0].extend(range(i, len(before)))
        blocks[-1][1].extend(range(j, len(after)))
    return blocks


def _tensor(value: Any) -> Node:
    if not isinstance(value, Node):
        raise Refused("an operand is not a tensor of the network")
    return value


def _carried(flow: Flow, value: Any) -> dict[int, Layout]:
    """Layouts of an operand; a parameter's are made first, so that work on it is followed too."""
    source = _tensor(value)
    if flow.parameter(source):
        for dim, size in enumerate(flow.shape(source)):
            if size > 1:
                flow.axis(source, dim)
    return flow.tracked(source)


def _only_axis(flow: Flow, source: Node, dim: int) -> Layout:
    """Layout of ``dim``; an operand that carries channels elsewhere too is refused."""
    if set(flow.tracked(source)) - {dim}:
        raise Refused(f"channels stand in another dimension than {dim}")
    return flow.axis(source, dim)


def _drop(flow: Flow, axes: dict[int, Layout], dim: int, reason: str) -> None:
    """Freeze one dimension's channels and stop following them."""
    if dim in axes:
        flow.freeze_layout(axes.pop(dim), reason)


def _blocks(layout: Layout, n: int) -> list[Layout]:
    size = sum(s.positions for s in layout) // n
    blocks = [window(layout, i * size, (i + 1) * size) for i in range(n)]
    if any(b is None for b in blocks):
        raise Refused("a block boundary falls inside a flattened channel")
    return [b for b in blocks if b is not None]


def _tied_blocks(flow: Flow, layout: Layout, groups: int) -> Layout:
    """Channel i of every convolution group is one decision, which keeps the groups equal in size."""
    blocks = _blocks(layout, groups)
    for block in blocks[1:]:
        flow.equate(blocks[0], block)
    return blocks[0]
