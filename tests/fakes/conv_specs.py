"""Specs of convolutions by their sizes."""

from __future__ import annotations

from edgeprune.graph.spec import Attr, KernelSpec, TensorSpec


def conv(cin: int, cout: int, size: int, kernel: int = 1) -> KernelSpec:
    """Square, with a stride of 1, padded to the size of its input; bias and ReLU."""
    attrs: dict[str, Attr] = {
        "dilation": (1, 1),
        "groups": 1,
        "kernel": (kernel, kernel),
        "padding": (kernel // 2, kernel // 2),
        "stride": (1, 1),
    }
    shapes = TensorSpec((1, cin, size, size)), TensorSpec((1, cout, size, size))
    return KernelSpec("conv2d", shapes[:1], shapes[1], tuple(sorted(attrs.items())), ("bias", "relu"))
