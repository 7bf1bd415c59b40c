"""Products of matrices, and attention."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout
from edgeprune.graph.nodes import arguments
from edgeprune.graph.rules.common import aligned, tensor
from edgeprune.graph.rules.table import rule

aten = torch.ops.aten


@rule(aten.matmul.default, aten.bmm.default, aten.mm.default)
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
    flow.summed(layout, *(n for n, _ in places))


@rule(aten.einsum.default)
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
