"""Transposed convolution, as the convolutions of stride 1 that it is made of.

With stride s, results that lie s apart see the same taps: those whose distance to the result is a
multiple of s. So the output falls into s * s interleaved images, each the result of a plain
convolution with some of the taps, and nothing is multiplied by the zeros that the textbook puts
between the inputs (Dumoulin and Visin, 2016, section 4).

With groups, filters are filled up with zeros to a convolution without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.compiler.kernels.base import Constants, Rule, Schedule
from edgeprune.compiler.kernels.blocks import block_widths
from edgeprune.compiler.kernels.conv import Part, packed, padded_bias, register_tiles, write_part
from edgeprune.compiler.kernels.emit import Emitter, Function, function
from edgeprune.compiler.kernels.rows import Window
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class Phase:
    """Along one axis: every ``stride``-th result from ``start`` on.

    Result ``start + i * stride`` sums ``input[i + first + j * step] * filter[taps[j]]`` over j.
    """

    start: int
    results: int
    taps: tuple[int, ...]
    first: int
    step: int


def phases(kernel: int, stride: int, padding: int, dilation: int, results: int) -> list[Phase]:
    """The phases of one axis: tap k takes input (o + padding - k * dilation) / stride to result o, if it is whole."""
    found = []
    for start in range(min(stride, results)):
        # From the tap with the least input to that with the greatest.
        taps = [k for k in range(kernel - 1, -1, -1) if (start + padding - k * dilation) % stride == 0]
        first = (start + padding - taps[0] * dilation) // stride if taps else 0
        count = -(-(results - start) // stride)
        found.append(Phase(start, count, tuple(taps), first, dilation // math.gcd(dilation, stride)))
    return found


class TransposedConv(Rule):
    """conv_transpose2d, any stride, dilation, output padding and groups."""

    name = "conv_transposed"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "conv_transpose2d"

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        width = max(p.window.output[1] for p in _parts(spec))
        tiles = register_tiles(width, spec.output.channels, target)
        return [{"rule": self.name, "blocks": b, "columns": c} for b, c in tiles]

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        kh, kw = spec.attr("kernel")
        widths = block_widths(spec.output.channels, target.lanes)
        return [sum(widths) * spec.inputs[0].channels * kh * kw, len(widths) * target.lanes]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """(O, C / groups, KH, KW) -> as for a convolution, phase after phase, each with its taps alone."""
        whole = _without_groups(np.asarray(weight), spec.attr("groups"))
        rows, columns = _axes(spec)
        filters = [whole[:, :, list(r.taps)][:, :, :, list(c.taps)] for r in rows for c in columns]
        return [np.concatenate([packed(spec, target, f) for f in filters]), padded_bias(spec, target, bias)]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        def body(e: Emitter) -> None:
            for part in _parts(spec):
                write_part(e, part, schedule, target)

        return function(name, spec, schedule, target, self.constants(spec, schedule, target), body)


def _axes(spec: KernelSpec) -> tuple[list[Phase], list[Phase]]:
    windows = zip(
        *(spec.attr(a) for a in ("kernel", "stride", "padding", "dilation")), spec.output.shape[2:], strict=True
    )
    rows, columns = (phases(*axis) for axis in windows)
    return rows, columns


def _parts(spec: KernelSpec) -> list[Part]:
    """One window for each pair of phases, in the order in which their weights lie."""
    rows, columns = _axes(spec)
    parts, taps = [], 0
    for r in rows:
        for c in columns:
            window = Window(
                (spec.inputs[0].shape[2], spec.inputs[0].shape[3]),
                (r.results, c.results),
                (len(r.taps), len(c.taps)),
                (1, 1),
                (-r.first, -c.first),
                (r.step, c.step),
            )
            parts.append(Part(window, spec.output.shape[3], (r.start, c.start), spec.attr("stride"), taps))
            taps += len(r.taps) * len(c.taps)
    return parts


def _without_groups(weight: np.ndarray[Any, Any], groups: int) -> np.ndarray[Any, Any]:
    """(O, C / groups, KH, KW) -> (O, C, KH, KW), zeros where a filter does not look."""
    o, c = weight.shape[:2]
    whole = np.zeros((o, c * groups, *weight.shape[2:]), weight.dtype)
    for g in range(groups):
        out = slice(g * o // groups, (g + 1) * o // groups)
        whole[out, g * c : (g + 1) * c] = weight[out]
    return whole
