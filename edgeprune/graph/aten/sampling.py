"""Sampling: images that are read at the positions of a grid."""

from __future__ import annotations

import torch
from torch.fx import Node

from edgeprune.graph.aten.common import only_axis, tensor
from edgeprune.graph.aten.products import multiply
from edgeprune.graph.aten.table import handles, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.flow import Flow
from edgeprune.graph.nodes import arguments, static_shape, unsupported
from edgeprune.graph.spec import TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@rule(aten.grid_sampler.default, aten.grid_sampler_2d.default)
def sampling(flow: Flow, node: Node) -> None:
    """The grid says where to read, the same for all channels."""
    grid = tensor(node.args[1])
    for layout in flow.tracked(grid).values():
        flow.freeze_layout(layout, "used as places to read from")
    flow.produce(node, {1: only_axis(flow, tensor(node.args[0]), 1)})


@handles(aten.affine_grid_generator.default)
def _affine_grid(cutter: Cutter, node: Node) -> None:
    """The matrix of each sample times the places of all pixels. Seen (N, H, W, 2), kept (N, 2, H, W)."""
    named, (n, height, width, *_) = arguments(node), static_shape(node)
    if len(static_shape(node)) != 4:
        raise unsupported(node, "an affine grid of a volume", "sample images")
    unit = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    base = torch.ones(3, height * width)
    base[:2] = aten.affine_grid_generator(unit, [1, 1, height, width], named["align_corners"]).reshape(-1, 2).t()
    points = cutter.constant(node, "points", base)
    product = multiply(cutter, node, cutter.row_major(named["theta"]), points, (n, 2, height * width))
    cutter.show(node, product.seen(View.whole((n, 2, height, width)).permuted((0, 2, 3, 1))))


@handles(aten.grid_sampler.default, aten.grid_sampler_2d.default)
def _grid_sample(cutter: Cutter, node: Node) -> None:
    named, shape = arguments(node), static_shape(node)
    modes, paddings = ("bilinear", "nearest"), ("zeros", "border")
    if named["interpolation_mode"] >= len(modes) or named["padding_mode"] >= len(paddings):
        raise unsupported(node, "bicubic sampling or reflection", "use bilinear or nearest, zeros or border")
    if len(shape) != 4:
        raise unsupported(node, "sampling of a volume", "sample images")
    planes = cutter.row_major(named["grid"]).permuted((0, 3, 1, 2))
    if not planes.view.contiguous:
        planes = cutter.copied(planes, f"{node.name}.places")
    cutter.emit(
        "grid_sample",
        node,
        TensorSpec(shape),
        [cutter.picture(node.args[0]), planes.as_plain(planes.shape)],
        {
            "mode": modes[named["interpolation_mode"]],
            "padding": paddings[named["padding_mode"]],
            "align_corners": bool(named["align_corners"]),
        },
    )
