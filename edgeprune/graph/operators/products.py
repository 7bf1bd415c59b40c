"""Products of activations: matrices, attention, and linear layers over more than one row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.fx import Node

from edgeprune.graph.cutting.cutter import Cutter, handles
from edgeprune.graph.cutting.values import Value
from edgeprune.graph.nodes import arguments, detached, static_shape, unsupported
from edgeprune.graph.operators.elementwise import of_plain_tensors, step
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


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
    seen = View.whole(tuple(size[c] for c in made)).permuted([made.index(c) for c in given])
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
