"""Products of matrices, linear layers, attention."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph import zeros
from edgeprune.graph.aten.arithmetic import of_plain_tensors
from edgeprune.graph.aten.common import aligned, tensor
from edgeprune.graph.aten.convolution import reads
from edgeprune.graph.aten.pointwise import step
from edgeprune.graph.aten.table import handles, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import Value
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout
from edgeprune.graph.nodes import arguments, detached, static_shape, unsupported
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@rule(aten.linear.default, zero=zeros.written(1, 2, axis=-1))
def linear(flow: Flow, node: Node) -> None:
    """Weight is (out, in); acts on the last dimension, the others pass."""
    a = arguments(node)
    axes = flow.tracked(a["input"])
    last = len(flow.shape(a["input"])) - 1
    reads(flow, (a["input"], last), (a["weight"], 1), flow.axis(a["input"], last))
    axes[last] = flow.axis(a["weight"], 0)
    if a["bias"] is not None:
        flow.bind(a["bias"], 0, axes[last])
    flow.produce(node, axes)


@rule(aten.embedding.default, zero=zeros.written(0, axis=-1))
def embedding(flow: Flow, node: Node) -> None:
    """Rows are looked up by number, so only features can go."""
    a = arguments(node)
    flow.freeze_layout(flow.axis(a["weight"], 0), "rows are looked up by number")
    axes = flow.tracked(a["indices"])
    axes[len(flow.shape(node)) - 1] = flow.axis(a["weight"], 1)
    flow.produce(node, axes)


@rule(aten.matmul.default, aten.bmm.default, aten.mm.default, zero=zeros.product)
def matrix_product(flow: Flow, node: Node) -> None:
    flow.produce(node, _product(flow, node, tensor(node.args[0]), tensor(node.args[1])))


@rule(aten.baddbmm.default, aten.addmm.default)
def matrix_product_and_sum(flow: Flow, node: Node) -> None:
    axes = _product(flow, node, tensor(node.args[1]), tensor(node.args[2]))
    flow.produce(node, axes)
    added = aligned(flow, node, (node, node.args[0]))
    flow.produce(node, {**added, **axes})


def _product(flow: Flow, node: Node, a: Node, b: Node) -> dict[int, Layout]:
    """(..., n, k) times (..., k, m): k is summed up, the leading dimensions are aligned."""
    if min(len(flow.shape(a)), len(flow.shape(b))) < 2:
        raise Refused("a product with a vector")
    axes = aligned(flow, node, (a, b), ignore=2)
    _contracted(flow, [(a, len(flow.shape(a)) - 1), (b, len(flow.shape(b)) - 2)])
    rank = len(flow.shape(node))
    for source, dim, out in ((a, len(flow.shape(a)) - 2, rank - 2), (b, len(flow.shape(b)) - 1, rank - 1)):
        if flow.parameter(source) or dim in flow.tracked(source):
            axes[out] = flow.axis(source, dim)
    return axes


def _contracted(flow: Flow, places: list[tuple[Node, int]]) -> None:
    """These axes meet and are summed up."""
    leader = next(((n, d) for n, d in places if d in flow.tracked(n)), None)
    leader = leader or next(((n, d) for n, d in places if flow.parameter(n)), None)
    if leader is None:
        return
    layout = flow.axis(*leader)
    for n, d in places:
        if (n, d) != leader:
            flow.bind(n, d, layout, role="in")
    flow.summed(layout, *places)


@rule(aten.einsum.default, zero=zeros.contraction)
def einsum(flow: Flow, node: Node) -> None:
    """Letters are axes: equal letters meet, those that the result lacks are summed up."""
    equation: Any = node.args[0]
    operands: Any = node.args[1]
    match = re.fullmatch(r"([a-zA-Z,]+)->([a-zA-Z]*)", equation.replace(" ", ""))
    if match is None:
        raise Refused(f"the equation '{equation}'")
    terms, result = match[1].split(","), match[2]
    places: dict[str, list[tuple[Node, int]]] = {}
    for term, operand in zip(terms, operands, strict=True):
        if len(set(term)) != len(term):
            raise Refused(f"the equation '{equation}' takes a diagonal")
        for dim, letter in enumerate(term):
            if flow.shape(operand)[dim] > 1:
                places.setdefault(letter, []).append((operand, dim))
    axes: dict[int, Layout] = {}
    for letter, found in places.items():
        if letter not in result:
            _contracted(flow, found)
        elif any(flow.parameter(n) or d in flow.tracked(n) for n, d in found):
            leader = next(((n, d) for n, d in found if d in flow.tracked(n)), found[0])
            axes[result.index(letter)] = flow.axis(*leader)
            for n, d in found:
                if (n, d) != leader:
                    flow.bind(n, d, axes[result.index(letter)])
    flow.produce(node, axes)


@rule(aten.scaled_dot_product_attention.default)
def attention(flow: Flow, node: Node) -> None:
    """(batch, heads, tokens, features). Heads go whole; features of the values pass.

    The usual scale is taken from the number of features of queries and keys, so these are frozen
    unless another scale is given. Tokens meet in a softmax.
    """
    a = arguments(node)
    if a.get("enable_gqa"):
        raise Refused("queries that share keys")
    query, key, value = a["query"], a["key"], a["value"]
    rank = len(flow.shape(query))
    mask = a.get("attn_mask")
    axes = aligned(flow, node, (query, key, value, mask), ignore=2)
    for n in (query, key, value):
        if rank - 2 in flow.tracked(n):
            flow.freeze_layout(flow.axis(n, rank - 2), "softmax over channels")
    _contracted(flow, [(query, rank - 1), (key, rank - 1)])
    if a.get("scale") is None and rank - 1 in flow.tracked(query):
        flow.freeze_layout(flow.axis(query, rank - 1), "the scale of attention follows the number of features")
    if isinstance(mask, Node):  # one for each head goes with its head
        for dim, layout in flow.tracked(mask).items():
            if dim >= len(flow.shape(mask)) - 2:
                flow.freeze_layout(layout, "an attention mask")
    if rank - 1 in flow.tracked(value):
        axes[rank - 1] = flow.axis(value, rank - 1)
    flow.produce(node, axes)


@handles(aten.matmul.default, aten.bmm.default, aten.mm.default)
def _matmul(cutter: Cutter, node: Node) -> None:
    left, right = (cutter.row_major(a) for a in node.args[:2])
    if min(len(left.shape), len(right.shape)) < 2:
        raise unsupported(node, "a product with a vector", "give both operands two dimensions")
    multiply(cutter, node, left, right, static_shape(node))


def multiply(
    cutter: Cutter,
    node: Node,
    left: Value,
    right: Value,
    shape: tuple[int, ...],
    *,
    yields: Node | None = None,
    epilogue: Sequence[str] = (),
) -> Value:
    """A product of two views. The columns of the right one are copied side by side.

    Args:
        yields: whose value it is, if it is not yet that of ``node``.
    """
    rank, depth = len(shape), left.shape[-1]
    if right.view.steps[-1] != 1:
        right = cutter.copied(right, f"{node.name}.columns")
    left = left.expanded((*shape[:-1], depth))
    right = right.expanded((*shape[:-2], depth, shape[-1]))
    # Loops: the batch, then row m, column n and depth k.
    m, n, k = rank - 2, rank - 1, rank
    walks = {
        "walk0": left.view.walk.moved({**_same(rank - 2), rank - 2: m, rank - 1: k}).to_attr(),
        "walk1": right.view.walk.moved({**_same(rank - 2), rank - 2: k, rank - 1: n}).to_attr(),
    }
    return cutter.emit(
        "matmul",
        yields or node,
        TensorSpec(shape, "plain"),
        [left.walked, right.walked],
        {"depth": depth, **walks},
        epilogue=epilogue,
        anchor=node,
    )


def _same(loops: int) -> dict[int, int]:
    return {d: d for d in range(loops)}


@handles(aten.scaled_dot_product_attention.default)
def _attention(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    mask = named["attn_mask"]
    if named["is_causal"] or named["dropout_p"] or (mask is not None and mask.meta["val"].dtype != torch.float32):
        hint = "use plain attention in evaluation, or a mask of numbers that are added"
        raise unsupported(node, "attention with dropout or a mask of truth values", hint)
    query, key, value = (cutter.row_major(a) for a in node.args[:3])
    *batch, rows, depth = query.shape
    keys = key.shape[-2]
    if key.shape[:-2] != tuple(batch):
        raise unsupported(node, "attention with fewer heads of keys than of queries", "repeat the keys")
    scale = named["scale"] if named["scale"] is not None else 1 / math.sqrt(depth)
    transposed = key.permuted((*range(len(batch)), len(batch) + 1, len(batch)))
    shape = (*batch, rows, keys)
    scores = multiply(cutter, detached(node, "scores"), query, transposed, shape, epilogue=[step("times", scale)])
    if mask is not None:
        scores = of_plain_tensors(cutter, detached(node, "biased"), "add", (scores, cutter.row_major(mask)), shape)
    spec, axis = TensorSpec(shape, "plain"), len(batch) + 1
    weights = cutter.emit("softmax", detached(node, "weights"), spec, [scores], {"axis": axis, "log": False})
    multiply(cutter, node, weights, value, static_shape(node))


@handles(aten.einsum.default)
def _einsum(cutter: Cutter, node: Node) -> None:
    """Two operands: brought to (batch, rows, depth) and (batch, depth, columns), multiplied, and brought back."""
    equation, operands = str(node.args[0]).replace(" ", ""), list(node.args[1])  # type: ignore[arg-type]
    taken, _, given = equation.partition("->")
    names = taken.split(",")
    if not given or len(names) != 2 or any(len(set(n)) < len(n) or "." in n for n in names):
        raise unsupported(node, f"the sum of products {equation!r}", "write it with matmul")
    left, right = names
    batch = [c for c in left if c in right and c in given]
    depth = [c for c in left if c in right and c not in given]
    rows, columns = ([c for c in n if c not in batch + depth] for n in (left, right))
    if sorted(batch + rows + columns) != sorted(given):
        raise unsupported(node, f"the sum of products {equation!r}", "sum over what stands in one operand first")
    values = [cutter.row_major(o) for o in operands]
    size = {c: n for name, value in zip(names, values, strict=True) for c, n in zip(name, value.shape, strict=True)}

    def brought(part: int, order: list[list[str]]) -> Value:
        value = values[part].permuted([names[part].index(c) for group in order for c in group])
        shape = tuple(math.prod(size[c] for c in group) for group in order)
        if value.view.reshaped(shape) is None:
            value = cutter.copied(value, f"{node.name}.operand{part}").as_plain(shape)
        return value.reshaped(shape)

    shape = tuple(math.prod(size[c] for c in group) for group in (batch, rows, columns))
    made = batch + rows + columns
    seen = View.identity(tuple(size[c] for c in made)).permuted([made.index(c) for c in given])
    left_value, right_value = brought(0, [batch, rows, depth]), brought(1, [batch, depth, columns])
    product = multiply(cutter, node, left_value, right_value, shape)
    cutter.show(node, product.seen(seen))


@handles(aten.linear.default)
def _linear(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    if not cutter.is_parameter(named["weight"]):
        _linear_of_computed(cutter, node)
        return
    # A flattened blocked image is read in place; weights are packed to match.
    x = cutter.value(named["input"])
    if not (x.flat and x.layout == "blocked"):
        x = cutter.plain(named["input"])
    rows, features = math.prod(shape[:-1]), shape[-1]
    cutter.emit(
        "dense",
        node,
        TensorSpec((rows, features), "plain"),
        [x if len(x.shape) == 2 else x.as_plain((rows, x.shape[-1]))],
        weights=cutter.weights(named["weight"], named["bias"]),
        epilogue=["bias"],
        seen=shape,
        features=len(shape) != 2,
    )


def _linear_of_computed(cutter: Cutter, node: Node) -> None:
    """Weights that are a part of a parameter, or no parameter at all: a product of two tensors."""
    named, shape = arguments(node), static_shape(node)
    x, weight = cutter.row_major(named["input"]), cutter.row_major(named["weight"]).permuted((1, 0))
    if named["bias"] is None:
        multiply(cutter, node, x, weight, shape)
        return
    product = multiply(cutter, node, x, weight, shape, yields=detached(node, "product"))
    of_plain_tensors(cutter, node, "add", (product, cutter.row_major(named["bias"])), shape)
