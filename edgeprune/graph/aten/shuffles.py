"""Channel shuffles, and how many channels must go at once where their result is read in blocks.

A shuffle of ``g`` groups turns channel (j, i), the i-th of group j, into channel i * g + j. Alone it asks for
one thing only: all groups keep equally many. So channel i of all groups is one decision, ``g`` neighbours in the
result. A grouped convolution that reads the result in blocks of ``B`` cuts through these neighbours unless
``g`` divides ``B``, and then everything hangs together. But g neighbours counted *from the start of each block*
also hold one channel of each group. Removed from every block at once, they leave all that stays in the group,
block and order that it had, since whatever moves does so by multiples of ``g``. What is left over at the end of
a block stays.
"""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph.aten.common import tied_runs
from edgeprune.graph.flow import Flow
from edgeprune.graph.intervals import Layout, joined, positions, widened, window
from edgeprune.graph.nodes import module_path, shape_of

aten = torch.ops.aten
_VIEWS = (aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.flatten.using_ints)
_COPIES = (aten.contiguous.default, aten.clone.default, aten.alias.default)
_SWAPS = (aten.transpose.int, aten.swapaxes.default, aten.permute.default)


def shuffle_result(view: Node, dim: int) -> Node | None:
    """The node that ends a shuffle by view, transpose, view, if ``view`` begins one by splitting ``dim`` in two.

    ``None`` also where something between them has other readers.
    """
    before, after = shape_of(view.all_input_nodes[0]), shape_of(view)
    swap = _only_reader(view)
    if swap is None or swap.target not in _SWAPS or before is None or after is None:
        return None
    order = list(range(len(after)))
    order[dim], order[dim + 1] = dim + 1, dim
    end: Node | None = swap
    while end is not None and (end is swap or end.target in _COPIES):
        end = _only_reader(end)
    if end is None or end.target not in _VIEWS or _order(swap, len(after)) != order:
        return None
    if len({module_path(n) for n in (view, swap, end)}) > 1:  # so that rules see all of it, or nothing
        return None
    result = shape_of(end)
    split = (*before[:dim], before[dim] // after[dim + 1], after[dim + 1])
    return end if after[: dim + 2] == split and result is not None and result[: dim + 1] == before[: dim + 1] else None


def _only_reader(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _order(node: Node, rank: int) -> list[int]:
    if node.target is aten.permute.default:
        return [d % rank for d in node.args[1]]  # type: ignore[union-attr,operator,misc]
    order = list(range(rank))
    i, j = (int(d) for d in node.args[1:3])  # type: ignore[arg-type]
    order[i], order[j] = order[j], order[i]
    return order


def shuffled(flow: Flow, result: Node, layout: Layout, groups: int) -> tuple[Layout, Layout]:
    """Layouts of one group of a shuffle's operand, and of its result; the operand's is ``layout``.

    In units that fit the runs into which an earlier pass saw ``result`` cut, if it did.
    """
    fitting = _fitting(flow, result, positions(layout), groups)
    if fitting is None:
        group = tied_runs(flow, layout, groups)
        out = widened(group, groups)
        flow.shuffles.setdefault(out, result)
        return group, out
    before, after = fitting
    flow.equate(layout, joined(before))
    return before[0], after


def _fitting(flow: Flow, result: Node, size: int, groups: int) -> tuple[list[Layout], Layout] | None:
    """Layouts of a shuffle's operand, one for each group, and of its result.

    ``None`` where no runs are known, or a run does not hold two units.
    """
    runs = flow.known_runs.get(result.name, 1)
    if runs == 1 or size % runs or size // runs < 2 * groups:
        return None
    run = size // runs
    whole = run // groups * groups
    unit, rest = flow.space.source(result.name, whole // groups), flow.space.source(result.name, run - whole)
    flow.freeze_layout(rest, f"{run} channels of a run are no multiple of the {groups} groups of a shuffle")
    # After the units a run has at most one channel of each group: the place where its turn comes.
    turns = [[(group - k * run - whole) % groups for k in range(runs)] for group in range(groups)]
    before = [joined(part for turn in row for part in (unit, window(rest, turn, turn + 1) or ())) for row in turns]
    return before, joined([*(widened(unit, groups), rest)] * runs)
