"""Names of kernels for people: the module of the network, and more only where one module has several kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol


class Named(Protocol):
    """What has a node, a module and a kernel spec in words: a layer of a report, or of a profile."""

    @property
    def node(self) -> str: ...
    @property
    def module(self) -> str: ...
    @property
    def spec(self) -> str: ...


def kernel_names(layers: Sequence[Named]) -> tuple[str, ...]:
    """A name of its own for every kernel: its module, with its operator, or its node, where that is not enough."""
    ladders = [_ladder(layer) for layer in layers]
    taken: list[str] = []
    for ladder in ladders:
        # unique among all that any kernel could be called: no name may be the short form of another kernel's
        free = (name for name in ladder if sum(name in other for other in ladders) == 1)
        taken.append(next(free, ladder[-1]))
    several = Counter(taken)
    return tuple(name if several[name] == 1 else f"{name} #{i}" for i, name in enumerate(taken, start=1))


def _ladder(layer: Named) -> tuple[str, ...]:
    """What a kernel can be called, from short to long. A node is often its module and an operator already."""
    operator = layer.spec.partition(" ")[0]
    inside = layer.node.removeprefix(f"{layer.module}.")
    long = f"{layer.module} · {inside}" if layer.module and inside != layer.module else layer.node
    return (*((layer.module, f"{layer.module} · {operator}") if layer.module else ()), long)
