"""Kernels that are built in no time, for tests of who builds them."""

from __future__ import annotations

from kernel_harness import kernel

from edgeprune.compiler.elsewhere import Request
from edgeprune.compiler.objects import default_schedule
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import load_target

TARGET = load_target("x86_64_avx2")


def relu(channels: int) -> KernelSpec:
    image = TensorSpec((1, channels, 2, 2))
    return kernel("elementwise", [image], image, ("relu",))


def requests(*channels: int) -> list[Request]:
    return [(relu(n), default_schedule(relu(n), TARGET)) for n in channels]
