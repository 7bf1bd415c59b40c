"""Data movement: operators that join values, select some of them, or read them at computed positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeprune.graph.ops.operator import Operator

if TYPE_CHECKING:
    from edgeprune.graph.spec import KernelSpec, TensorSpec


@dataclass(frozen=True)
class Concat(Operator):
    """Images one behind the other along channels; the width axis is their total."""

    def resized_inputs(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        parts = spec.inputs[: spec.anchor_inputs]
        cuts = shared_out([p.channels for p in parts], out)
        return tuple(p.with_channels(c) for p, c in zip(parts, cuts, strict=True))


@dataclass(frozen=True)
class ChannelSlice(Operator):
    """A slice of the channels of an image. Its width is the number of channels taken; the others keep their size."""

    def resized_inputs(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        return (spec.inputs[0].with_channels(spec.inputs[0].channels - spec.output.channels + out),)

    def family(self, spec: KernelSpec) -> Any:
        data = super().family(spec)
        data["attrs"]["start"] = 0
        return data


@dataclass(frozen=True)
class ChannelShuffle(Operator):
    """Channels seen as ``rows`` rows, or as rows of ``columns``, and transposed: a spec has one of the two."""

    def check_attrs(self, names: set[str]) -> None:
        if names not in ({"rows"}, {"columns"}):
            raise ValueError(f"{self.name} has the attribute rows or columns, not {sorted(names)}")


@dataclass(frozen=True)
class Reduce(Operator):
    """A sum or an extreme over dimensions; where channels are among them, the input keeps its own."""

    def resized_inputs(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        return spec.inputs[: spec.anchor_inputs] if 1 in spec.attr("dims") else super().resized_inputs(spec, out, new)


@dataclass(frozen=True)
class GridSample(Operator):
    """An image sampled at the positions (N, 2, H, W) of its second input."""

    def resized_inputs(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        return (spec.inputs[0].with_channels(out), spec.inputs[1])


@dataclass(frozen=True)
class Take(Operator):
    """A gather: values by their indices along ``axis``."""

    def resized_inputs(self, spec: KernelSpec, out: int, new: Mapping[str, int]) -> tuple[TensorSpec, ...]:
        values, indices = spec.inputs[: spec.anchor_inputs]
        along = spec.attr("axis") == 1
        return (
            (values, replace(indices, shape=(*indices.shape[:-1], out)))
            if along
            else (values.with_channels(out), indices)
        )

    def family(self, spec: KernelSpec) -> Any:
        return [spec.with_widths(out=len(spec.inputs)).to_json(), "walks"]


def shared_out(sizes: Sequence[int], total: int) -> list[int]:
    """``total`` in the proportions of ``sizes``, at least 1 each."""
    cuts = [max(1, round(size * total / sum(sizes))) for size in sizes]
    cuts[-1] = max(1, total - sum(cuts[:-1]))
    return cuts
