"""Which rules build a kernel, and their schedules: those of the first rule that matches come first."""

from __future__ import annotations

from itertools import zip_longest

from edgeprune.compiler.cuda.rules import ChannelsPerThread, ResultPerThread
from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.conv import DirectConv
from edgeprune.compiler.kernels.dense import Dense
from edgeprune.compiler.kernels.depthwise import DepthwiseConv
from edgeprune.compiler.kernels.gather import ChannelGather
from edgeprune.compiler.kernels.grouped import GroupedConv
from edgeprune.compiler.kernels.matmul import MatMul
from edgeprune.compiler.kernels.movement import Elementwise, Layout, Resize
from edgeprune.compiler.kernels.pad import Pad
from edgeprune.compiler.kernels.places import MaxPlaces, MaxUnpool
from edgeprune.compiler.kernels.pool import GlobalPool, WindowPool
from edgeprune.compiler.kernels.recurrent import Recurrent
from edgeprune.compiler.kernels.reduce import Normalize, Reduce
from edgeprune.compiler.kernels.sample import GridSample
from edgeprune.compiler.kernels.softmax import Softmax
from edgeprune.compiler.kernels.strided import Join, Strided
from edgeprune.compiler.kernels.take import Take
from edgeprune.compiler.kernels.transposed import TransposedConv
from edgeprune.compiler.kernels.winograd import WinogradConv
from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

RULES: tuple[Rule, ...] = (
    DirectConv(),
    WinogradConv(),
    DepthwiseConv(),
    GroupedConv(),
    TransposedConv(),
    Dense(),
    WindowPool(),
    GlobalPool(),
    MaxPlaces(),
    MaxUnpool(),
    GridSample(),
    Softmax(),
    Elementwise(),
    Strided(),
    Join(),
    Take(),
    Pad(),
    Reduce(),
    Normalize(),
    MatMul(),
    Recurrent(),
    ChannelGather(),
    Resize(),
    Layout(),
)

GPU_RULES: tuple[Rule, ...] = (ResultPerThread(), ChannelsPerThread())

SCHEDULES_VERSIONS = {"cpu": "5", "cuda": "3"}
"""By kind of target. Raise it whenever the code a schedule stands for changes: old profiles then no longer match."""


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
