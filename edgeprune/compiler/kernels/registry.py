"""Which rule builds a kernel: the first that matches, in this order."""

from __future__ import annotations

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.conv import DepthwiseConv, DirectConv
from edgeprune.compiler.kernels.dense import Dense
from edgeprune.compiler.kernels.movement import Concat, Elementwise, Layout, Resize
from edgeprune.compiler.kernels.pool import GlobalAveragePool, WindowPool
from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.spec import KernelSpec

RULES: tuple[Rule, ...] = (
    DirectConv(),
    DepthwiseConv(),
    Dense(),
    WindowPool(),
    GlobalAveragePool(),
    Elementwise(),
    Concat(),
    Resize(),
    Layout(),
)

SCHEDULES_VERSION = "2"
"""Raise it whenever the code a schedule stands for changes: old profiles then no longer match."""


def rule_for(spec: KernelSpec) -> Rule:
    """The rule that builds ``spec``.

    Raises:
        UnsupportedOperatorError: no rule does.
    """
    for rule in RULES:
        if rule.matches(spec):
            return rule
    raise UnsupportedOperatorError(
        f"no kernel rule builds {spec}",
        hint="rewrite the layer with an operator of docs/OPERATORS.md",
        spec=spec.to_json(),
    )


def rule_named(schedule: Schedule) -> Rule:
    """The rule a stored schedule belongs to."""
    for rule in RULES:
        if rule.name == schedule["rule"]:
            return rule
    raise UnsupportedOperatorError(f"no kernel rule is called {schedule['rule']!r}", known=[r.name for r in RULES])
