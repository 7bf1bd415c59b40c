"""Blocks: which width groups may lose all their channels, because the network has a way around them.

Without channels in the branch of a residual block, what the branch adds no longer depends on the input, and the
skip still does. A branch of a concatenation, a squeeze-and-excitation gate or the inner half of a U-Net are the
same case: only the values between the emptied channels and the place where another way joins stop to matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile

import torch
from torch.fx import Node

from edgeprune.graph.channels import Block, WidthGroup
from edgeprune.graph.nodes import module_path


def find_blocks(
    calls: Sequence[Node],
    inputs: Sequence[Node],
    outputs: Sequence[Node],
    carried: Mapping[Node, Sequence[set[str]]],
    groups: Sequence[WidthGroup],
) -> tuple[Block, ...]:
    """Blocks of a traced network, smallest first, of which any number may go together.

    Of parallel branches that cannot all go (those of a concatenation), the largest stays. Cost: for each group
    about as many steps as there are nodes in its block.

    Args:
        calls: the operators, in running order.
        carried: for each of them, for each dimension that carries channels, the groups that make it up.
    """
    ways = _Ways(calls, inputs, outputs, carried)
    candidates: dict[tuple[str, ...], Block] = {}
    names = [g.name for g in groups if not g.frozen]
    # One channel may stand beside many (a mask of pixels), none may not.
    single = {g.name for g in groups if g.size == 1}
    for name in names:
        idle = ways.without({name})
        if idle is None or not ways.joined(idle, {name}):
            continue
        whole = tuple(n for n in names if n == name or (ways.carriers(n) <= idle.keys() and n not in single))
        candidates.setdefault(whole, Block(_name(idle, whole[0]), whole, frozenset(n.name for n in idle)))
    accepted: list[Block] = []
    together: set[str] = set()
    used: set[str] = set()
    sizes = {g.name: g.size for g in groups}
    for block in sorted(candidates.values(), key=lambda b: (len(b.idle), sum(sizes[g] for g in b.groups))):
        if ways.without(together | set(block.groups)) is not None:
            together |= set(block.groups)
            accepted.append(Block(_unique(block, used), block.groups, block.idle))
    return tuple(accepted)


class _Ways:
    """Liveness of values when groups are empty: which still depend on the inputs and are needed for the outputs."""

    def __init__(
        self,
        calls: Sequence[Node],
        inputs: Sequence[Node],
        outputs: Sequence[Node],
        carried: Mapping[Node, Sequence[set[str]]],
    ) -> None:
        self._inputs, self._outputs = set(inputs), set(outputs)
        varying: set[Node] = set(inputs)
        for node in calls:
            if any(n in varying for n in node.all_input_nodes):
                varying.add(node)
        self._sources = {n: [i for i in n.all_input_nodes if i in varying] for n in calls if n in varying}
        self._axes = {n: axes for n, axes in carried.items() if n in varying}
        self._carriers: dict[str, set[Node]] = {}
        for node, axes in self._axes.items():
            for name in set().union(*axes):
                self._carriers.setdefault(name, set()).add(node)

    def carriers(self, group: str) -> set[Node]:
        """Values that have channels of ``group``."""
        return self._carriers.get(group, set())

    def joined(self, idle: Mapping[Node, None], empty: set[str]) -> bool:
        """Whether the rest of the network still fits together where ``idle`` values meet others.

        A concatenation bears values without channels, and nothing but a concatenation does. Constants with
        channels do not belong in one: the block that is worth removing is the larger one that takes these away too.
        """
        return all(
            (user.target is torch.ops.aten.cat.default) == self._vanished(node, empty)
            for node in idle
            for user in node.users
            if user in self._sources and user not in idle
        )

    def _vanished(self, node: Node, empty: set[str]) -> bool:
        return any(groups and groups <= empty for groups in self._axes[node])

    def without(self, empty: set[str]) -> dict[Node, None] | None:
        """Nodes made constant or dead by emptying the groups ``empty``; None if a network output becomes constant.

        In the order in which they were found.
        """
        started = (n for g in empty for n in self.carriers(g))
        todo = [n for n in started if self._vanished(n, empty)]
        idle: dict[Node, None] = dict.fromkeys(todo)
        while todo:
            node = todo.pop()
            if node in self._outputs:
                return None
            for user in node.users:
                if user in self._sources and user not in idle and idle.keys() >= set(self._sources[user]):
                    idle[user] = None
                    todo.append(user)
        # What only fed them is needed by nobody.
        todo = list(idle)
        while todo:
            for source in self._sources[todo.pop()]:
                needed = source in self._inputs or source in self._outputs or not idle.keys() >= source.users.keys()
                if source not in idle and not needed:
                    idle[source] = None
                    todo.append(source)
        return idle


def _name(idle: Iterable[Node], group: str) -> str:
    """The innermost module that holds all of ``idle``; without one, the group."""
    paths = [path.split(".") for n in idle if (path := module_path(n))]
    steps = zip(*paths, strict=False)
    return ".".join(step[0] for step in takewhile(lambda step: len(set(step)) == 1, steps)) or group


def _unique(block: Block, used: set[str]) -> str:
    name = block.name if block.name not in used else f"{block.name} ({block.groups[0]})"
    used.add(name)
    return name
