"""What asks where values are: places of extremes, orders, look-ups by computed places, and what is put back there.

Places are whole numbers in float32, as everything that a program computes: exact up to 2^24.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.composed.choices import differing
from edgeprune.graph.composed.composer import Composer, composes, is_float, rank, size
from edgeprune.graph.composed.division import wrapped
from edgeprune.graph.composed.statistics import by_halves
from edgeprune.graph.nodes import arguments

aten = torch.ops.aten

MOST = 2**22
"""Comparisons of everything with everything that are still made."""
EXACT = 2**24


@composes(aten.argmax.default, aten.argmin.default)
def extreme(c: Composer, node: Node) -> Node | None:
    """The first place whose value is the extreme one."""
    a = arguments(node)
    x, dim, keep = a["self"], a["dim"], a["keepdim"]
    if x in c.constants or not is_float(x):
        return None
    if dim is None:
        row = c(aten.reshape.default, x, [1, math.prod(size(x))])
        place = _place(c, row, 1, largest="max" in str(node.target), keep=False)
        return c(aten.reshape.default, place, list(size(node)))
    return _place(c, x, dim, largest="max" in str(node.target), keep=keep)


@composes(aten.max.dim, aten.min.dim)
def extreme_and_place(c: Composer, node: Node) -> Sequence[Node] | None:
    a = arguments(node)
    x, dim, keep = a["self"], a["dim"], a["keepdim"]
    if x in c.constants or not is_float(x):
        return None
    largest = node.target is aten.max.dim
    if rank(x) == 1:
        x, dim = c(aten.reshape.default, x, [1, size(x)[0]]), 1
        value = c(aten.amax.default if largest else aten.amin.default, x, [1], False)
        value, place = (
            c(aten.reshape.default, v, [1] if keep else [])
            for v in (value, _place(c, x, 1, largest=largest, keep=False))
        )
        return value, place
    value = c(aten.amax.default if largest else aten.amin.default, x, [dim], keep)
    # Mostly nobody asks for the place.
    asked = any(u.users and u.args[1] == 1 for u in node.users)
    return value, _place(c, x, dim, largest=largest, keep=keep) if asked else value


def _place(c: Composer, x: Node, dim: int, *, largest: bool, keep: bool) -> Node:
    if rank(x) == 1:
        place = _place(c, c(aten.reshape.default, x, [1, size(x)[0]]), 1, largest=largest, keep=False)
        return c(aten.reshape.default, place, [1] if keep else [])
    length = size(x)[dim]
    best = c(aten.amax.default if largest else aten.amin.default, x, [dim], True)
    other = differing(c, x, best)
    # What is not the extreme counts as a place behind the last one.
    candidates = c(aten.add.Tensor, c(aten.mul.Tensor, other, float(length)), _steps(c, x, dim))
    return c(aten.amin.default, candidates, [dim], keep)


def _steps(c: Composer, x: Node, dim: int) -> Node:
    """0, 1, 2, … along a dimension of ``x``, to be broadcast."""
    shape = [1] * rank(x)
    shape[dim] = -1
    return c(aten.reshape.default, c(aten.arange.default, size(x)[dim], dtype=torch.float32), shape)


@composes(aten.argsort.default, aten.argsort.stable)
def order_alone(c: Composer, node: Node) -> Node | None:
    found = _ordered(c, node)
    return None if found is None else found[1]


@composes(aten.sort.default, aten.sort.stable, aten.topk.default)
def order(c: Composer, node: Node) -> Sequence[Node] | None:
    return _ordered(c, node)


def _ordered(c: Composer, node: Node) -> tuple[Node, Node] | None:
    """By counting for each value how many go before it; equal ones stay in order."""
    a = arguments(node)
    x, dim = a["self"], a["dim"]
    if x in c.constants or not is_float(x) or not rank(x):
        return None
    dim, length = dim % rank(x), size(x)[dim]
    count = a.get("k", length)
    if math.prod(size(x)) * length > MOST:
        return None
    largest = a["largest"] if "k" in a else a["descending"]
    mine, others = c(aten.unsqueeze.default, x, dim), c(aten.unsqueeze.default, x, dim + 1)  # (…, others, mine, …)
    difference = c(aten.sub.Tensor, others, mine)
    before = c(aten.sign.default, difference if largest else c(aten.neg.default, difference))
    ranked = [1] * (rank(x) + 1)
    ranked[dim], ranked[dim + 1] = length, length
    earlier = c(aten.reshape.default, c(aten.tril.default, c(aten.full.default, [length, length], 1.0), -1), ranked)
    earlier = c(aten.transpose.int, earlier, dim, dim + 1)
    # 1 of those that go before, 0 of equals; of equals only the earlier ones go before.
    equal = c(aten.rsub.Scalar, c(aten.abs.default, before), 1)
    goes = c(aten.add.Tensor, c(aten.relu.default, before), c(aten.mul.Tensor, equal, earlier))
    places = c(aten.sum.dim_IntList, goes, [dim])
    return _sorted(c, x, places, dim, count)


def _sorted(c: Composer, x: Node, places: Node, dim: int, count: int) -> tuple[Node, Node]:
    """The first ``count`` values, and where they were, from the place of each among them."""
    shape = [1] * (rank(x) + 1)
    shape[dim] = -1
    wanted = c(aten.reshape.default, c(aten.arange.default, count, dtype=torch.float32), shape)
    taken = _equal(c, c(aten.unsqueeze.default, places, dim), wanted)  # (…, wanted, given, …)
    values = c(aten.sum.dim_IntList, c(aten.mul.Tensor, taken, c(aten.unsqueeze.default, x, dim)), [dim + 1])
    steps = c(aten.unsqueeze.default, _steps(c, x, dim), dim)
    return values, c(aten.sum.dim_IntList, c(aten.mul.Tensor, taken, steps), [dim + 1])


def _equal(c: Composer, a: Node, b: Node) -> Node:
    return c(aten.rsub.Scalar, differing(c, a, b), 1)


@composes(aten.gather.default)
def gathered(c: Composer, node: Node) -> Node | None:
    """As a look-up in the flattened values."""
    a = arguments(node)
    x, dim, index = a["self"], a["dim"], a["index"]
    if (index in c.constants and x in c.constants) or not is_float(x) or not rank(x) or math.prod(size(x)) > EXACT:
        return None
    index = c.places(index)
    dim, shape = dim % rank(x), size(x)
    steps = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    place = c(aten.mul.Tensor, index, float(steps[dim])) if steps[dim] != 1 else index
    for d, step in enumerate(steps):
        if d != dim and size(index)[d] > 1:
            along = c(aten.arange.default, size(index)[d], dtype=torch.float32)
            ends = [1] * len(shape)
            ends[d] = -1
            place = c(aten.add.Tensor, place, c(aten.reshape.default, c(aten.mul.Tensor, along, float(step)), ends))
    flat = c(aten.reshape.default, x, [math.prod(shape)])
    return _looked_up(c, flat, place, size(index))


def _looked_up(c: Composer, flat: Node, place: Node, shape: tuple[int, ...]) -> Node:
    row = c(aten.reshape.default, place, [math.prod(shape)])
    made = _selected(c, flat, row)
    return c(aten.reshape.default, made, list(shape))


def _selected(c: Composer, x: Node, places: Node) -> Node:
    """Entries along the first dimension, by places in float32."""
    return c(aten.index_select.default, x, 0, c(aten._to_copy.default, places, dtype=torch.int64))


_EXTREMES = {"amax": (aten.amax.default, aten.maximum.default), "amin": (aten.amin.default, aten.minimum.default)}


@composes(aten.scatter.src, aten.scatter.value, aten.scatter_reduce.two)
def scattered(c: Composer, node: Node) -> Node | None:
    """Each place compares itself with all places that are written to."""
    a: dict[str, Any] = arguments(node)
    x, dim, index = a["self"], a["dim"], a["index"]
    source: Any = a.get("src", a.get("value"))
    how = a.get("reduce") or "none"
    if not rank(x) or (index in c.constants and x in c.constants) or how not in (*_EXTREMES, "none", "sum", "prod"):
        return None
    dim = dim % rank(x)
    others = [s for d, s in enumerate(size(x)) if d != dim] == [s for d, s in enumerate(size(index)) if d != dim]
    floats = is_float(x) and (not isinstance(source, Node) or is_float(source))
    if not others or not floats or math.prod(size(x)) * size(index)[dim] > MOST or not a.get("include_self", True):
        return None
    if isinstance(source, Node) and size(source) != size(index):
        return None
    index = c.places(index)
    places = c(aten.unsqueeze.default, _steps(c, x, dim), dim)  # (…, writes, places, …)
    hit = _equal(c, c(aten.unsqueeze.default, index, dim + 1), places)
    given = c(aten.unsqueeze.default, source, dim + 1) if isinstance(source, Node) else float(source)
    if how in ("none", "sum"):
        total = c(aten.sum.dim_IntList, c(aten.mul.Tensor, hit, given), [dim])
        if how == "sum":
            return c(aten.add.Tensor, x, total)
        kept = c(aten.rsub.Scalar, c(aten.amax.default, hit, [dim]), 1)
        return c(aten.add.Tensor, c(aten.mul.Tensor, x, kept), total)
    missed = c(aten.rsub.Scalar, hit, 1)
    if how == "prod":
        factors = c(aten.add.Tensor, c(aten.mul.Tensor, hit, given), missed)
        return c(aten.mul.Tensor, x, c(aten.squeeze.dim, by_halves(c, factors, dim), dim))
    mine = c(aten.mul.Tensor, missed, c(aten.unsqueeze.default, x, dim))
    candidates = c(aten.add.Tensor, c(aten.mul.Tensor, hit, given), mine)
    of_writes, of_both = _EXTREMES[how]
    return c(of_both, x, c(of_writes, candidates, [dim]))


@composes(aten.embedding.default)
def looked_up_in_a_table(c: Composer, node: Node) -> Node | None:
    """Rows of an activation; those of a parameter have a kernel that knows their channels."""
    table, index = node.args[:2]
    if table in c.constants or not isinstance(table, Node) or not isinstance(index, Node) or index in c.constants:
        return None
    row = c(aten.reshape.default, c.places(index), [math.prod(size(index))])
    return c(aten.reshape.default, _selected(c, table, row), [*size(index), *size(table)[1:]])


@composes(
    aten.bitwise_left_shift.Tensor,
    aten.bitwise_right_shift.Tensor,
    aten.__lshift__.Tensor,
    aten.__rshift__.Tensor,
)
def shifted(c: Composer, node: Node) -> Node | None:
    """Times or over a power of 2, which is looked up."""
    x, count = node.args[:2]
    if not isinstance(x, Node) or not isinstance(count, Node) or not is_float(x) or not is_float(count):
        return None
    powers = c(aten.exp2.default, c(aten.arange.default, 25, dtype=torch.float32))
    flat = c(aten.reshape.default, c(aten.clamp.default, count, 0, 24), [math.prod(size(count))])
    power = c(aten.reshape.default, _selected(c, powers, flat), list(size(count)))
    if node.target in (aten.bitwise_left_shift.Tensor, aten.__lshift__.Tensor):
        product, dtype = c(aten.mul.Tensor, x, power), c.numbers.get(x)
        # Of wider types what would come in again at the other end is no longer exact.
        return wrapped(c, product, dtype) if dtype in (torch.uint8, torch.int8, torch.int16) else product
    return c(aten.floor.default, c(aten.div.Tensor, x, power))


@composes(aten.tril.default, aten.triu.default)
def triangle(c: Composer, node: Node) -> Node | None:
    """Times a triangle of ones."""
    a = arguments(node)
    x = a["self"]
    if x in c.constants or not is_float(x):
        return None
    ones = c(aten.full.default, list(size(x))[-2:], 1.0)
    return c(aten.mul.Tensor, x, c(node.target, ones, a["diagonal"]))


@composes(aten.tile.default)
def tiled(c: Composer, node: Node) -> Node | None:
    x, dims = arguments(node)["self"], list(arguments(node)["dims"])
    return c(aten.repeat.default, x, [1] * (rank(x) - len(dims)) + dims) if is_float(x) else None


@composes(aten.unfold.default)
def windows(c: Composer, node: Node) -> Node | None:
    """Windows along a dimension, by the numbers of their entries."""
    a = arguments(node)
    x, dim, length, step = a["self"], a["dimension"] % rank(a["self"]), a["size"], a["step"]
    if x in c.constants or not is_float(x):
        return None
    count = (size(x)[dim] - length) // step + 1
    starts = c(aten.reshape.default, c(aten.arange.start_step, 0, count * step, step), [count, 1])
    places = c(aten.reshape.default, c(aten.add.Tensor, starts, c(aten.arange.default, length)), [count * length])
    made = c(aten.index_select.default, x, dim, places)
    split = c(aten.reshape.default, made, [*size(x)[:dim], count, length, *size(x)[dim + 1 :]])
    order = [d for d in range(rank(x) + 1) if d != dim + 1]
    return c(aten.permute.default, split, [*order, dim + 1])
