"""The recurrence of a layer over steps: its widths are the numbers of its units and, if fewer, of its states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from edgeprune.graph.ops.operator import Operator

if TYPE_CHECKING:
    from edgeprune.graph.spec import KernelSpec

PROJECTED = "projected"
"""Attribute of a recurrence whose units are projected: how many states they give."""
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
"""Gates of a unit, by the ``kind`` of a ``recurrent`` kernel."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The sizes of a ``recurrent`` kernel.

    Attributes:
        gates: of a unit.
        units: H.
        states: values that the next step sees: P with a projection, else H, what units give.
        projected: units become states by a matrix.
        cells: the cells that an LSTM ends with are part of the output, as one step more. Then its steps are what units
            give, for cells are as many: states that are projected are computed from it.
    """

    steps: int
    batch: int
    gates: int
    units: int
    states: int
    projected: bool
    cells: bool

    @classmethod
    def of(cls, spec: KernelSpec) -> Recurrence:
        gates = GATES[spec.attr("kind")]
        steps, batch, wide = spec.inputs[0].shape
        shown = spec.output.shape[0]
        units, states = wide // gates, dict(spec.attrs).get(PROJECTED)
        return cls(steps, batch, gates, units, states or units, states is not None, shown > steps)  # type: ignore[arg-type]

    @property
    def row(self) -> int:
        """Values of a step and sample in the output."""
        return self.units if self.cells else self.states


@dataclass(frozen=True)
class Recurrent(Operator):
    """Gates (T, N, G * H) -> states (T, N, H), H units; states before the first step (1, N, H) may follow.

    With attribute ``projected``, P, states are (T, N, P), as those before; the cells before are (1, N, H).
    """

    optional: ClassVar[tuple[str, ...]] = (PROJECTED,)

    def widths(self, spec: KernelSpec) -> dict[str, int]:
        sizes = Recurrence.of(spec)
        return {"in": sizes.units, "out": sizes.states} if sizes.projected else {"out": sizes.states}

    def resized(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> KernelSpec:
        sizes = Recurrence.of(spec)
        sizes = replace(sizes, states=out, units=new.get("in", sizes.units) if sizes.projected else out)
        gates, *before = spec.inputs
        wide = (sizes.states, sizes.units)
        states = (s.with_size(2, size) for s, size in zip(before, wide, strict=False))
        inputs = (gates.with_size(2, sizes.gates * sizes.units), *states)
        attrs = tuple((name, out if name == PROJECTED else value) for name, value in spec.attrs)
        return replace(spec, inputs=inputs, output=spec.output.with_size(2, sizes.row), attrs=attrs)

    def macs(self, spec: KernelSpec) -> int:
        """Those of the state with its weights, in all steps."""
        sizes = Recurrence.of(spec)
        each = sizes.gates * sizes.units * sizes.states + sizes.projected * sizes.units * sizes.states
        return sizes.steps * sizes.batch * each

    def family(self, spec: KernelSpec) -> Any:
        data = spec.to_json()
        for t in (*data["inputs"], data["output"]):
            t[0][-1] = 0
        if PROJECTED in data["attrs"]:
            data["attrs"][PROJECTED] = 0
        return data
