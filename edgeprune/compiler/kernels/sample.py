"""Images sampled at computed places: each pixel of the result says where in the image it comes from."""

from __future__ import annotations

from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class GridSample(Rule):
    """grid_sample: a blocked image at plain places (N, 2, H, W), x before y, from -1 to 1 across the image.

    ``mode``: ``bilinear`` or ``nearest``. ``padding``, beside the image: ``zeros``, or the ``border`` goes on.
    """

    name = "grid_sample"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "grid_sample" and (spec.inputs[0].layout, spec.inputs[1].layout) == ("blocked", "plain")

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        sizes, (rows, columns) = spec.inputs[0].shape[2:], spec.output.shape[2:]
        pixels = rows * columns

        def body(e: Emitter) -> None:
            blocks = block_count(spec.output.channels, e.lanes)
            with T.parallel(0, spec.output.shape[0] * rows) as index, T.serial(0, columns) as ow:
                n, pixel = index // rows, index % rows * columns + ow
                # Where to read and with which weight, once for all channels.
                down, across = (
                    _axis(e, e.inputs[1][(2 * n + i) * pixels + pixel], size)
                    for i, size in zip((1, 0), sizes, strict=True)
                )
                weights = e.keep(*(y * x for _, y in down for _, x in across), lanes=1)
                places = [(y, x) for y, _ in down for x, _ in across]
                with T.serial(0, blocks) as block:
                    plane = n * blocks + block
                    total = e.const(0.0)
                    for (y, x), weight in zip(places, weights, strict=True):
                        at = ((plane * sizes[0] + y) * sizes[1] + x) * e.lanes
                        total = total + e.load(e.inputs[0], at) * e.splat(weight)
                    e.store(e.output, e.epilogue(total, plane, pixel), (plane * pixels + pixel) * e.lanes)

        return function(name, spec, schedule, target, [], body)


def _axis(e: Emitter, place: Expr, size: int) -> list[tuple[Expr, Expr]]:
    """Position (always inside the image) and weight of each pixel that counts along one axis."""
    spec, one, half = e.spec, T.float32(1.0), T.float32(0.5)
    zeros = spec.attr("padding") == "zeros"
    at = (place + one) * half * T.float32(size - 1)
    if not spec.attr("align_corners"):
        at = ((place + one) * T.float32(size) - one) * half
    # Farther out nothing changes any more; and what becomes an integer must be small enough to be one.
    low, high = (-1.0, float(size)) if zeros else (0.0, float(size - 1))
    (at,) = e.keep(T.min(T.max(at, T.float32(low)), T.float32(high)), lanes=1)
    (floor,) = e.keep(T.floor(at), lanes=1)
    first, (rest,) = T.cast(floor, "int32"), e.keep(at - floor, lanes=1)
    if spec.attr("mode") == "nearest":
        # Halves go to the even neighbour, as in torch.
        up = T.Or(rest > half, T.And(rest >= half, first % 2 != 0))
        found = [(first + T.Select(up, T.int32(1), T.int32(0)), one)]
    else:
        found = [(first, one - rest), (first + 1, rest)]
    if zeros:
        found = [(p, T.Select(T.And(p >= 0, p < size), w, T.float32(0.0))) for p, w in found]
    return [(T.min(T.max(p, 0), size - 1), w) for p, w in found]
