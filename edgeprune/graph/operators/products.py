"""Products of activations: matrices, attention, and linear layers over more than one row."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch.fx import Node

from edgeprune.graph.cutter import Cutter, Value, argument, as_seen, data, handles, static_shape, unsupported
from edgeprune.graph.nodes import arguments
from edgeprune.graph.operators.elementwise import of_plain_tensors, step
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@handles(aten.matmul.default, aten.bmm.default, aten.mm.default)
def _matmul(cutter: Cutter, node: Node) -> None:
    left, right = (cutter.seen(a, node) for a in node.args[:2])
    if min(len(left[1].shape), len(right[1].shape)) < 2:
        raise unsupported(node, "a product with a vector", "give both operands two dimensions")
    multiply(cutter, node, left, right, static_shape(node))


def multiply(
    cutter: Cutter, node: Node, left: tuple[Value, View], right: tuple[Value, View], shape: tuple[int, ...]
) -> None:
    """A product of two views; ``node`` yields it. The columns of the right one are copied side by side."""
    rank, depth = len(shape), left[1].shape[-1]
    (a, a_view), (b, b_view) = left, right
    if b_view.walk.steps(b_view.base, len(b_view.shape))[-1] != 1:
        b = cutter.copied(replace(b, view=b_view), name=f"{node.name}.columns")
        b_view = b.seen
    a_view = a_view.expanded((*shape[:-1], depth))
    b_view = b_view.expanded((*shape[:-2], depth, shape[-1]))
    # Loops: the batch, then row m, column n and depth k.
    m, n, k = rank - 2, rank - 1, rank
    walks = {
        "walk0": a_view.walk.moved({**_same(rank - 2), rank - 2: m, rank - 1: k}).to_attr(),
        "walk1": b_view.walk.moved({**_same(rank - 2), rank - 2: k, rank - 1: n}).to_attr(),
    }
    cutter.open("matmul", node, TensorSpec(shape, "plain"), [data(a, a_view), data(b, b_view)], depth=depth, **walks)


def _same(loops: int) -> dict[int, int]:
    return {d: d for d in range(loops)}


@handles(aten.scaled_dot_product_attention.default)
def _attention(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    mask = named["attn_mask"]
    if named["is_causal"] or named["dropout_p"] or (mask is not None and mask.meta["val"].dtype != torch.float32):
        hint = "use plain attention in evaluation, or a mask of numbers that are added"
        raise unsupported(node, "attention with dropout or a mask of truth values", hint)
    query, key, value = (cutter.seen(a, node) for a in node.args[:3])
    *batch, rows, depth = query[1].shape
    keys = key[1].shape[-2]
    if key[1].shape[:-2] != tuple(batch):
        raise unsupported(node, "attention with fewer heads of keys than of queries", "repeat the keys")
    scale = named["scale"] if named["scale"] is not None else 1 / math.sqrt(depth)
    order = (*range(len(batch)), len(batch) + 1, len(batch))
    scores = cutter.between(node, "scores")
    multiply(cutter, scores, query, (key[0], key[1].permuted(order)), (*batch, rows, keys))
    cutter.grow(cutter.drafts[-1], scores, step("times", scale))
    if mask is not None:
        biased = cutter.between(node, "biased")
        biased.meta["val"] = torch.empty((*batch, rows, keys), device="meta")
        of_plain_tensors(
            cutter, biased, "add", ((cutter.values[scores], cutter.values[scores].seen), cutter.seen(mask, node))
        )
        scores = biased
    weights, spec = cutter.between(node, "weights"), TensorSpec((*batch, rows, keys), "plain")
    cutter.open("softmax", weights, spec, [cutter.values[scores]], axis=len(batch) + 1, log=False)
    multiply(cutter, node, (cutter.values[weights], View.whole(spec.shape)), value, static_shape(node))


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
    views = [cutter.seen(o, node) for o in operands]
    size = {c: n for name, (_, view) in zip(names, views, strict=True) for c, n in zip(name, view.shape, strict=True)}

    def brought(part: int, order: list[list[str]]) -> tuple[Value, View]:
        value, view = views[part]
        view = view.permuted([names[part].index(c) for group in order for c in group])
        shape = [math.prod(size[c] for c in group) for group in order]
        if (merged := view.reshaped(shape)) is None:
            value = cutter.copied(as_seen(value, view), name=f"{node.name}.operand{part}")
            merged = View.whole(tuple(shape))
        return value, merged

    shape = tuple(math.prod(size[c] for c in group) for group in (batch, rows, columns))
    multiply(cutter, node, brought(0, [batch, rows, depth]), brought(1, [batch, depth, columns]), shape)
    made = batch + rows + columns
    view = View.whole(tuple(size[c] for c in made)).permuted([made.index(c) for c in given])
    cutter.show(node, cutter.values[node], view)


@handles(aten.linear.default)
def _linear(cutter: Cutter, node: Node) -> None:
    shape, x = static_shape(node), cutter.value(node.args[0], node)
    if not cutter.is_parameter(node.args[1]):
        _linear_of_computed(cutter, node)
        return
    # A flattened blocked image is read in place; weights are packed to match.
    if not (x.flat and x.spec.layout == "blocked"):
        x = cutter.plain(node.args[0], node)
    rows, features = math.prod(shape[:-1]), shape[-1]
    if len(x.shape) != 2:
        x = replace(x, spec=TensorSpec((rows, x.shape[-1]), "plain"), view=None)
    draft = cutter.open("dense", node, TensorSpec((rows, features), "plain"), [x])
    draft.weights = cutter.weights(node, node.args[1], argument(node, 2, "bias"))
    draft.epilogue.append("bias")
    if len(shape) != 2:
        draft.features = True
        cutter.values[node] = as_seen(cutter.values[node], View.whole(shape))


def _linear_of_computed(cutter: Cutter, node: Node) -> None:
    """Weights that are a part of a parameter, or no parameter at all: a product of two tensors."""
    x, (weight, view) = cutter.seen(node.args[0], node), cutter.seen(node.args[1], node)
    multiply(cutter, node, x, (weight, view.permuted((1, 0))), static_shape(node))
    if (bias := argument(node, 2, "bias")) is not None:
        inner = cutter.between(node, "product")
        cutter.rename(node, inner)
        product = cutter.values[inner]
        of_plain_tensors(cutter, node, "add", ((product, product.seen), cutter.seen(bias, node)))
