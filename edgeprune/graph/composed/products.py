"""Sums of products of more than two tensors, and masks of attention as numbers that are added."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.composed.choices import never
from edgeprune.graph.composed.composer import Composer, composes, is_float, rank, size
from edgeprune.graph.nodes import arguments

aten = torch.ops.aten


@composes(aten.einsum.default)
def sums_of_products(c: Composer, node: Node) -> Node | None:
    """Two operands after the other, from the left; one operand alone is a sum and a permutation."""
    equation, operands = str(node.args[0]).replace(" ", ""), list(node.args[1])  # type: ignore[arg-type]
    taken, arrow, given = equation.partition("->")
    names = taken.split(",")
    if "." in equation or any(len(set(n)) < len(n) for n in names) or not all(map(is_float, operands)):
        return None
    if not arrow:  # the letters that occur once, in the order of the alphabet
        given = "".join(sorted(letter for letter in set(taken) - {","} if taken.count(letter) == 1))
    if len(names) == 1:
        return _of_one(c, operands[0], names[0], given)
    for i, name in enumerate(names):  # what stands in one operand alone is summed there
        elsewhere = given + "".join(n for j, n in enumerate(names) if j != i)
        kept = "".join(letter for letter in name if letter in elsewhere)
        if kept != name:
            operands[i], names[i] = _of_one(c, operands[i], name, kept), kept
    while len(names) > 2:
        later = given + "".join(names[2:])
        kept = "".join(x for x in dict.fromkeys(names[0] + names[1]) if x in later)
        product = c(aten.einsum.default, f"{names[0]},{names[1]}->{kept}", operands[:2])
        names, operands = [kept, *names[2:]], [product, *operands[2:]]
    made = f"{names[0]},{names[1]}->{given}"
    return None if made == equation else c(aten.einsum.default, made, operands)


def _of_one(c: Composer, x: Node, name: str, given: str) -> Node:
    gone = [i for i, letter in enumerate(name) if letter not in given]
    if gone:
        x = c(aten.sum.dim_IntList, x, gone)
    left = [letter for letter in name if letter in given]
    if left == list(given):
        return x if gone else c(aten.alias.default, x)
    return c(aten.permute.default, x, [left.index(letter) for letter in given])


@composes(aten.addmm.default, aten.baddbmm.default)
def product_and_sum(c: Composer, node: Node) -> Node:
    a: dict[str, Any] = arguments(node)
    left, right = ("mat1", "mat2") if node.target is aten.addmm.default else ("batch1", "batch2")
    product = c(aten.matmul.default, a[left], a[right])
    product = c(aten.mul.Tensor, product, a["alpha"]) if a["alpha"] != 1 else product
    added = c(aten.mul.Tensor, a["self"], a["beta"]) if a["beta"] != 1 else a["self"]
    return c(aten.add.Tensor, product, added)


@composes(aten.scaled_dot_product_attention.default)
def masked_attention(c: Composer, node: Node) -> Node | None:
    """A mask of truth values, or the causal one, becomes one of numbers that are added."""
    a = arguments(node)
    mask = a["attn_mask"]
    if a["is_causal"] and mask is None:
        rows, keys = size(a["query"])[-2], size(a["key"])[-2]
        mask = c(aten.triu.default, c(aten.full.default, [rows, keys], float("-inf")), 1)
    elif isinstance(mask, Node) and mask.meta["val"].dtype == torch.bool and mask in c.constants:
        nothing, below = (c(aten.full.default, [], number) for number in (0.0, float("-inf")))
        mask = c(aten.where.self, mask, nothing, below)
    elif isinstance(mask, Node) and c.numbers.get(mask) == torch.bool:
        mask = never(c, mask)
    else:
        return None
    rest = {"scale": a["scale"]} | ({"enable_gqa": True} if a.get("enable_gqa") else {})
    return c(node.target, a["query"], a["key"], a["value"], mask, a["dropout_p"], False, **rest)


@composes(aten.matmul.default)
def product_with_a_vector(c: Composer, node: Node) -> Node | None:
    """A vector is a row on the left and a column on the right."""
    left: Any
    right: Any
    left, right = node.args[:2]
    if all(n in c.constants for n in (left, right)) or min(rank(left), rank(right)) > 1:
        return None
    if rank(left) == 1:
        left = c(aten.reshape.default, left, [1, size(left)[0]])
    if rank(right) == 1:
        right = c(aten.reshape.default, right, [size(right)[0], 1])
    return c(aten.reshape.default, c(aten.matmul.default, left, right), list(size(node)))
