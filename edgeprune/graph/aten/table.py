"""What is known of each ATen overload, entered by the families in this folder.

``RULES``: how channels pass through it. ``HANDLERS``: which kernels compute it. ``ZEROS``: whether its result is zero
where channels were removed, and along which it may not be.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from edgeprune.graph.tables import filling

if TYPE_CHECKING:
    from edgeprune.graph.cutting.cutter import Cutter
    from edgeprune.graph.flow import Flow
    from edgeprune.graph.zeros import Holes, Zeros

Rule = Callable[["Flow", Node], None]
Handler = Callable[["Cutter", Node], None]
Zero = Callable[[Node, "Zeros"], "Holes | None"]

RULES: dict[Any, Rule] = {}
HANDLERS: dict[Any, Handler] = {}
ZEROS: dict[Any, Zero] = {}
ADVICE: dict[Any, str] = {}
"""Overload that no kernel computes -> what to write instead, where there is something."""

_rule, _zero = filling(RULES, "transfer rule"), filling(ZEROS, "rule of zeros")

handles = filling(HANDLERS, "handler")
"""Enter a handler for overloads."""


def overloads(names: str) -> tuple[Any, ...]:
    """ATen overloads by their names: ``relu`` is ``aten.relu.default``, ``add.Tensor`` is ``aten.add.Tensor``.

    Raises:
        AttributeError: torch knows no such overload.
    """
    split = [name.partition(".") for name in names.split()]
    return tuple(getattr(getattr(torch.ops.aten, name), overload or "default") for name, _, overload in split)


def rule(*entries: Any, zero: Zero | None = None) -> Callable[[Rule], Rule]:
    """Enter a transfer rule for overloads.

    Args:
        entries: the overloads.
        zero: one of those in :mod:`edgeprune.graph.zeros`; without it, a result counts as not zero.

    Raises:
        ValueError: (the decorator) an overload has a rule already.
    """

    def enter(function: Rule) -> Rule:
        if zero is not None:
            _zero(*entries)(zero)
        return _rule(*entries)(function)

    return enter
