"""The one table of transfer rules: ATen overload -> how channels pass through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.fx import Node

from edgeprune.graph.flow import Flow
from edgeprune.graph.tables import filling

Rule = Callable[[Flow, Node], None]
RULES: dict[Any, Rule] = {}

rule = filling(RULES, "transfer rule")
"""Enter a rule for overloads."""
