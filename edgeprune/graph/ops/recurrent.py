"""The recurrence of a layer over steps: its width is the number of its units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeprune.graph.ops.operator import Operator

if TYPE_CHECKING:
    from edgeprune.graph.spec import KernelSpec, TensorSpec

GATES = {"lstm": 4, "gru": 3}
"""Gates of a unit, by the ``kind`` of a ``recurrent`` kernel."""


@dataclass(frozen=True)
class Recurrent(Operator):
    """Gates (T, N, G * H) -> states (T, N, H), H units; states before the first step (1, N, H) may follow."""

    def widths(self, spec: KernelSpec) -> dict[str, int]:
        return {"out": spec.output.shape[-1]}

    def resized(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> KernelSpec:
        gates, *states = spec.inputs
        units = new.get("out", spec.output.shape[-1])
        inputs = (_with_last(gates, GATES[spec.attr("kind")] * units), *(_with_last(s, units) for s in states))
        return replace(spec, inputs=inputs, output=_with_last(spec.output, units))

    def macs(self, spec: KernelSpec) -> int:
        """Those of the state with its weights, in all steps."""
        steps, batch, gates = spec.inputs[0].shape
        return steps * batch * gates * int(spec.output.shape[-1])

    def family(self, spec: KernelSpec) -> Any:
        data = spec.to_json()
        for t in (*data["inputs"], data["output"]):
            t[0][-1] = 0
        return data


def _with_last(tensor: TensorSpec, size: int) -> TensorSpec:
    return replace(tensor, shape=(*tensor.shape[:-1], size))
