"""An operator: what the anchor of a kernel is, apart from how it is computed.

The methods here say what holds of most operators: one width axis, the channels of the result, which all data inputs
share; no weights. A family that differs overrides what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from edgeprune.graph.spec import Attr, KernelSpec, TensorSpec

WALK = "walk"


@dataclass(frozen=True)
class Operator:
    """The anchor of a kernel.

    Attributes:
        name: ``KernelSpec.op``.
        attrs: names of the attributes that a spec of it has, each of them.
        fuses: whether steps of an epilogue may follow in the same kernel.
        folds: whether it has weights that a batch norm behind it can be folded into.
        walked: whether it reads its inputs through walks, one attribute ``walkN`` an input (graph/walks.py).
        overwrites: whether its own inputs are read where it writes next, one value each, so that the result may
            overwrite one of them; operands of an epilogue always are.
        optional: names of attributes that a spec of it may have beside those.
    """

    name: str
    attrs: tuple[str, ...] = ()
    fuses: bool = True

    folds: ClassVar[bool] = False
    walked: ClassVar[bool] = False
    overwrites: ClassVar[bool] = False
    optional: ClassVar[tuple[str, ...]] = ()

    def check(self, spec: KernelSpec) -> None:
        """Raises ValueError for a spec that is none of this operator: by its attributes or its epilogue."""
        self.check_attrs({name for name, _ in spec.attrs if not (self.walked and name.startswith(WALK))})
        if spec.epilogue and not self.fuses and set(spec.epilogue) != {"bias"}:
            raise ValueError(f"nothing can be fused into {self.name}: {spec.epilogue}")

    def check_attrs(self, names: set[str]) -> None:
        """Raises ValueError for names of attributes that are not this operator's."""
        if names - set(self.optional) != set(self.attrs):
            raise ValueError(f"{self.name} has the attributes {sorted(self.attrs)}, not {sorted(names)}")

    def widths(self, spec: KernelSpec) -> dict[str, int]:
        """Width axes and their sizes: the axes of the kernel's latency tables."""
        return {"out": spec.output.channels}

    def of_parts(self, spec: KernelSpec, elements: Sequence[int | None]) -> KernelSpec:
        """The kernel with what follows from how many values its inputs have, and not from its widths.

        Args:
            elements: of each input; None where it is not known.
        """
        return spec

    def resized(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> KernelSpec:
        """The kernel with ``out`` channels in its result.

        Args:
            new: all axes that change.

        Raises:
            ValueError: no kernel of this operator has these widths.
        """
        operands = tuple(
            t if t.channels == 1 < spec.output.channels else t.with_channels(out)
            for t in spec.inputs[spec.anchor_inputs :]
        )
        return replace(
            spec,
            inputs=self.resized_inputs(spec, out, new) + operands,
            output=spec.output.with_channels(out),
            attrs=self.resized_attrs(spec, out),
        )

    def resized_inputs(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        """The operator's own inputs at the new widths."""
        return tuple(t.with_channels(out) for t in spec.inputs[: spec.anchor_inputs])

    def resized_attrs(self, spec: KernelSpec, out: int) -> tuple[tuple[str, Attr], ...]:
        return spec.attrs

    def macs(self, spec: KernelSpec) -> int:
        """Multiply-accumulates; 0 for what has no weights."""
        return 0

    def family(self, spec: KernelSpec) -> Any:
        """The spec without its widths, as JSON, from which the key of a latency table is made."""
        data = spec.to_json()
        for t in (*data["inputs"], data["output"]):
            t[0][1] = 0
        # The axes are part of it: at one channel a depthwise and a plain convolution look the same.
        data["axes"] = sorted(spec.widths)
        return data

    def smallest(self, spec: KernelSpec) -> KernelSpec | None:
        """The kernel at its smallest width, where that is of another family by its looks; else None."""
        return None

    def said(self, spec: KernelSpec) -> str:
        """Details for messages, after the name: a kernel's size and stride."""
        return ""


@dataclass(frozen=True)
class Elementwise(Operator):
    """No anchor: the epilogue alone."""

    overwrites: ClassVar[bool] = True
