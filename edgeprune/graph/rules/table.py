"""The one table of transfer rules: ATen overload -> how channels pass through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Node

from edgeprune.graph.flow import Flow

Rule = Callable[[Flow, Node], None]
RULES: dict[Any, Rule] = {}


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
