"""Small networks, records and fingerprints for the latency tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from typing import Any

from edgeprune.graph.channels import AxisBinding, ChannelGraph, KernelGraph, KernelNode, Port, WeightRef, WidthGroup
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.latency.records import Fingerprint, KernelRecord


def conv(cin: int, cout: int, size: int = 8, *, groups: int = 1) -> KernelSpec:
    attrs: dict[str, Any] = {
        "dilation": (1, 1),
        "groups": groups,
        "kernel": (3, 3),
        "padding": (1, 1),
        "stride": (1, 1),
    }
    shapes = TensorSpec((1, cin, size, size)), TensorSpec((1, cout, size, size))
    return KernelSpec("conv2d", shapes[:1], shapes[1], tuple(sorted(attrs.items())), ("bias", "relu"))


def depthwise(channels: int, size: int = 8) -> KernelSpec:
    return conv(channels, channels, size, groups=channels)


def concat(*parts: int, size: int = 8) -> KernelSpec:
    inputs = tuple(TensorSpec((1, c, size, size)) for c in parts)
    return KernelSpec(
        "concat",
        inputs,
        TensorSpec((1, sum(parts), size, size)),
    )


def record(spec: KernelSpec, median_ns: float = 1000.0, **changes: Any) -> KernelRecord:
    base = KernelRecord(
        spec,
        {"rule": "direct", "tile": [4, 16]},
        "ok",
        median_ns=median_ns,
        spread_ns=median_ns / 50,
        min_ns=median_ns * 0.98,
        samples=20,
        object_bytes=900,
        weight_bytes=max(0, spec.macs // spec.output.pixels * 4),
    )
    return replace(base, **changes)


def failed(spec: KernelSpec, error: str = "no tile fits") -> KernelRecord:
    return KernelRecord(spec, {}, "failed", error=error)


def bilinear(spec: KernelSpec) -> float:
    """ns: affine in each width, so interpolation must give it back."""
    ns = 500.0
    for w in spec.widths.values():
        ns *= 3.0 + w
    return ns


def swept(
    spec: KernelSpec, grids: dict[str, Iterable[int]], cost: Callable[[KernelSpec], float] = bilinear
) -> list[KernelRecord]:
    """Records of a kernel over a full grid of widths."""
    specs = [spec.with_widths(**dict(zip(grids, cell, strict=True))) for cell in product(*grids.values())]
    return [record(s, cost(s)) for s in specs]


def fingerprint(**changes: Any) -> Fingerprint:
    base = Fingerprint(
        target="rpi4",
        target_hash="ab12",
        device={"cpu": "Cortex-A72", "machine": "aarch64", "cores": 4, "features": ("asimd", "fp")},
        compiler={"apache-tvm": "0.27.0", "ziglang": "0.15.1"},
        schedules="3",
        threads=1,
    )
    return replace(base, **changes)


def node(spec: KernelSpec, name: str, **axes: AxisBinding) -> KernelNode:
    axes = {k.rstrip("_"): v for k, v in axes.items()}
    return KernelNode(name, spec, ("x",), f"{name}.y", WeightRef(), axes)


def network() -> tuple[KernelGraph, ChannelGraph]:
    """conv 3→a, depthwise a, conv a→b, concat (a, b, 4 frozen), dense-like conv (a+b+4)→8 frozen."""
    groups = (
        WidthGroup("a", 16, ()),
        WidthGroup("b", 24, ()),
        WidthGroup("f", 4, (), frozen="an operator without a rule"),
        WidthGroup("out", 8, (), frozen="network output"),
    )
    a, b, out = AxisBinding(("a",)), AxisBinding(("b",)), AxisBinding(("out",))
    both = AxisBinding(("a", "b", "f"))
    nodes = (
        node(conv(3, 16), "stem", in_=AxisBinding((), 3), out=a),
        node(depthwise(16), "dw", out=a),
        node(conv(16, 24), "mid", in_=a, out=b),
        node(conv(3, 4, 16), "side", in_=AxisBinding((), 3), out=AxisBinding(("f",))),
        node(concat(16, 24, 4), "cat", out=both),
        node(conv(44, 8), "head", in_=both, out=out),
    )
    inputs, outputs = (Port("x", (1, 3, 8, 8), "x"),), (Port("y", (1, 8, 8, 8), "head.y"),)
    return KernelGraph(nodes, {}, inputs, outputs), ChannelGraph(groups)
