"""Which rules build a kernel, and their schedules: those of the first rule that matches come first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from types import ModuleType

from edgeprune.compiler.cuda.rules import ChannelsPerThread, ResultPerThread
from edgeprune.compiler.kernels import (
    conv,
    conv_blocks,
    dense,
    dense_blocks,
    depthwise,
    gather,
    grouped,
    image,
    matmul,
    movement,
    pad,
    places,
    pool,
    recurrent,
    reduce,
    sample,
    softmax,
    strided,
    take,
    transposed,
    winograd,
)
from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

FILES = (
    conv_blocks,
    conv,
    winograd,
    depthwise,
    grouped,
    transposed,
    dense_blocks,
    dense,
    pool,
    places,
    sample,
    softmax,
    strided,
    take,
    pad,
    reduce,
    matmul,
    recurrent,
    gather,
    movement,
    image,
)
"""Modules with kernel rules. Where rules of two match a kernel, the schedules of the first come first."""


def _rules_of(file: ModuleType) -> Iterator[Rule]:
    """Kernel rules that a module defines, in the order of their classes."""
    for found in vars(file).values():
        if isinstance(found, type) and issubclass(found, Rule) and found.__module__ == file.__name__:
            yield found()


RULES: tuple[Rule, ...] = tuple(rule for file in FILES for rule in _rules_of(file))

GPU_RULES: tuple[Rule, ...] = (ResultPerThread(), ChannelsPerThread())

SCHEDULES_VERSIONS = {"x86_64": "7", "aarch64": "6", "armv7l": "6", "cuda": "3"}
"""By architecture of processors, and of GPUs. Raise it whenever the code a schedule stands for changes: old profiles
then no longer match.
"""


def schedules_version(target: Target) -> str:
    """That of a target's kernels."""
    return SCHEDULES_VERSIONS["cuda" if target.kind == "cuda" else target.arch]


def schedules_for(spec: KernelSpec, target: Target) -> list[Schedule]:
    """Schedules worth measuring: the one to use unmeasured, then one of each rule in turn, best first.

    Raises:
        UnsupportedOperatorError: no rule builds ``spec``.
    """
    rules = GPU_RULES if target.kind == "cuda" else RULES
    spaces = [rule.space(spec, target) for rule in rules if rule.matches(spec)]
    if not any(spaces) and target.kind == "cuda":
        raise UnsupportedOperatorError(
            f"{spec} cannot be built for a GPU yet",
            hint=f"docs/JETSON.md lists what can; {target.cores_hint}",
            spec=spec.to_json(),
            op=spec.op,
        )
    if not any(spaces):
        raise UnsupportedOperatorError(
            f"no kernel rule builds {spec}",
            hint="rewrite the layer with an operator of docs/OPERATORS.md",
            spec=spec.to_json(),
        )
    return [point for points in zip_longest(*spaces) for point in points if point is not None]


def rule_named(schedule: Schedule) -> Rule:
    """The rule a stored schedule belongs to."""
    for rule in (*RULES, *GPU_RULES):
        if rule.name == schedule["rule"]:
            return rule
    raise UnsupportedOperatorError(
        f"no kernel rule is called {schedule['rule']!r}", known=[r.name for r in (*RULES, *GPU_RULES)]
    )


def builds_in_blocks(spec: KernelSpec) -> bool:
    """Whether a rule builds a kernel that stores blocks of its weights."""
    return any(rule.in_blocks and rule.matches(spec) for rule in RULES)


def stores_blocks(schedule: Schedule) -> bool:
    """Whether kernels with this schedule store blocks of their weights, and no others."""
    return any(rule.in_blocks and rule.name == schedule.get("rule") for rule in RULES)
