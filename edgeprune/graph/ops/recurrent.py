"""The recurrence of a layer over steps: its width is the number of its units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeprune.graph.ops.operator import Operator

if TYPE_CHECKING:
    from edgeprune.graph.spec import KernelSpec

GATES = {"lstm": 4, "gru": 3}
"""Gates of a unit, by the ``kind`` of a ``recurrent`` kernel."""


@dataclass(frozen=True)
class Recurrent(Operator):
    """Gates (T, N, G * H) -> states (T, N, H), H units; states before the first step (1, N, H) may follow."""

    def widths(self, spec: KernelSpec) -> dict[str, int]:
        return {"out": spec.output.shape[2]}

    def resized(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> KernelSpec:
        gates, *states = spec.inputs
        inputs = (gates.with_size(2, GATES[spec.attr("kind")] * out), *(s.with_size(2, out) for s in states))
        return replace(spec, inputs=inputs, output=spec.output.with_size(2, out))

    def macs(self, spec: KernelSpec) -> int:
        """Those of the state with its weights, in all steps."""
        steps, batch, gates = spec.inputs[0].shape
        return steps * batch * gates * spec.output.shape[2]

    def family(self, spec: KernelSpec) -> Any:
        data = spec.to_json()
        for t in (*data["inputs"], data["output"]):
            t[0][-1] = 0
        return data
