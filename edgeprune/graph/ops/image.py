"""A camera frame as the network's input: what only the first kernel of a network reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeprune.graph.ops.operator import Operator

if TYPE_CHECKING:
    from edgeprune.graph.spec import Attr, KernelSpec, TensorSpec


@dataclass(frozen=True)
class Image(Operator):
    """A frame (N, H, W, C) of uint8 as an image (N, C, H, W): ``frame[order[c]] * scale[c] + shift[c]``."""

    def check(self, spec: KernelSpec) -> None:
        super().check(spec)
        (frame,), (n, channels, height, width) = spec.inputs, spec.output.shape
        if frame.shape != (n, height, width, channels) or (frame.layout, frame.dtype) != ("plain", "uint8"):
            raise ValueError(f"{frame} is no frame of {spec.output}")
        if any(len(spec.attr(name)) != channels for name in self.attrs):
            raise ValueError(f"{self.name} has other than {channels} of each of {self.attrs}")

    def resized_inputs(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        (frame,) = spec.inputs
        return (replace(frame, shape=(*frame.shape[:-1], out)),)

    def resized_attrs(self, spec: KernelSpec, out: int) -> tuple[tuple[str, Attr], ...]:
        """No network prunes its frame; tables ask for all widths alike."""
        numbers = [(name, spec.attr(name)[0]) for name in ("scale", "shift")]
        return (("order", tuple(range(out))), *((name, (value,) * out) for name, value in numbers))

    def family(self, spec: KernelSpec) -> Any:
        """The frame's channels are its last dimension; they and what is done to each stand for the width."""
        data = spec.to_json()
        data["inputs"][0][0][3] = data["output"][0][1] = 0
        data["attrs"] = {}
        data["axes"] = sorted(spec.widths)
        return data
