"""Comparisons, truth values, and choices by them."""

from __future__ import annotations

import torch

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.ops.arithmetic import operand
from edgeprune.models.onnx.table import reads
from edgeprune.models.onnx.types import FLOATS
from edgeprune.models.onnx.values import Value

_COMPARISONS = {
    "Equal": (torch.eq, torch.eq),
    "Greater": (torch.gt, torch.lt),
    "GreaterOrEqual": (torch.ge, torch.le),
    "Less": (torch.lt, torch.gt),
    "LessOrEqual": (torch.le, torch.ge),
}
"""Operator -> torch's function, and the one with the operands exchanged."""


@reads(*_COMPARISONS)
def compare(n: OnnxNode) -> Value:
    function, turned = _COMPARISONS[n.operator]
    a, b = operand(n, n[0], n[1]), operand(n, n[1], n[0])
    return n.call(function, a, b) if isinstance(a, Value) else n.call(turned, b, a)


@reads("And", "Or", "Xor")
def logical(n: OnnxNode) -> Value:
    function = {"And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor}[n.operator]
    return n.call(function, n[0], n[1])


@reads("Not")
def logical_not(n: OnnxNode) -> Value:
    return n.call(torch.logical_not, n[0])


@reads("Where")
def where(n: OnnxNode) -> Value:
    """Real numbers that are constant stay plain ones; integers as such would decide the result's type."""
    condition, yes, no = n[0], n[1], n[2]
    if yes.kind not in FLOATS:
        return n.call(torch.where, condition, yes, no, kind=yes.kind)
    rank = max(v.rank for v in (condition, yes, no))
    sides = [v.tensor.item() if v.known and v.tensor.numel() == 1 and v.rank <= rank else v for v in (yes, no)]
    broadest = max((v.rank for v in (condition, *sides) if isinstance(v, Value)), default=0)
    return n.call(torch.where, condition, *(sides if broadest == rank else (yes, no)), kind=yes.kind)
