"""Where sizes come from: numbers, tensors and attributes are told apart though the graph shows only numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.fx import Node

from edgeprune.graph.groups import analyse
from edgeprune.graph.sizes import Attribute, Origin, Read, origins
from edgeprune.graph.trace import trace

X = (torch.randn(2, 3, 4, 4),)


class Sizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.c, self.parts, self.groups = nn.Conv2d(3, 8, 1), 4, (6, 2), 2

    def forward(self, x: Tensor) -> list[Tensor]:
        n, _, h, w = x.shape
        y = self.conv(x)
        return [
            y.view(n, 8, -1),
            y.reshape(n, self.c, y.shape[1] // self.c, h * w),
            y.unflatten(1, (self.groups, 4)),
            y.view((y.size(0), y.size(1), h * w)),
            *y.split(self.groups, 1),
            *torch.split(y, self.parts, dim=1),
            y[:, : y.shape[1] // 2, 1:],
            self.helper(y),
        ]

    def helper(self, y: Tensor) -> Tensor:
        return y.expand(y.shape[0], 8, self.parts[1] + 2, 4)


def sizes(module: nn.Module) -> list[tuple[str, list[object]]]:
    found = []
    for node in trace(module, X).graph.nodes:
        given = node.meta.get("edgeprune.sizes")
        if given:
            values = node.args[2:4] if "slice" in node.name else node.args[2 if "unflatten" in node.name else 1]
            seen = origins(node, values if isinstance(values, (list, tuple)) else [values])
            found.append((node.name, [plain(s) for s in seen]))
    return found


def plain(size: object) -> object:
    if isinstance(size, Read):
        return tuple((n.name, d) for n, d in size.axes if isinstance(n, Node))
    return str(size) if isinstance(size, Attribute) else size


def test_origins_of_every_kind() -> None:
    n, h, w = (("x", d) for d in (0, 2, 3))
    channels = ("conv2d", 1)
    written, left_open = Origin.WRITTEN, Origin.OPEN
    assert sizes(Sizes()) == [
        ("view", [(n,), written, left_open]),
        # An attribute that arithmetic was done with is no size that could follow.
        ("reshape", [(n,), written, (channels,), (h, w)]),
        ("unflatten", ["groups", written]),
        ("view_1", [(("conv2d", 0),), (channels,), (h, w)]),
        ("split", ["groups"]),
        ("split_with_sizes", ["parts[0]", written]),
        ("slice_1", [left_open, (channels,)]),
        ("slice_2", [written, left_open]),
        ("expand", [(("conv2d", 0),), written, written, written]),
    ]


def test_a_network_that_wants_plain_integers_is_traced_without_origins() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            if type(y.shape[0]) is not int:
                raise TypeError("an integer is wanted")
            return self.b(y.view(y.shape[0], -1)) + self.b(y.view(y.shape[0], y.shape[1] * 16))

    graph = analyse(trace(Plain(), X)).graph
    assert "written in the network's code" in graph["a"].frozen


def test_the_module_is_left_as_it_was() -> None:
    class Stores(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.seen, self.width = nn.Conv2d(3, 4, 1), 0, 4

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            self.seen = y.shape[1]
            return y.view(y.shape[0], self.width, -1)

    module = Stores()
    trace(module, X)
    assert type(module.seen) is int
    assert type(module.width) is int


def test_sizes_kept_by_a_cache_are_not_trusted() -> None:
    cache: dict[tuple[int, ...], list[int]] = {}

    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            n, c, h, w = y.shape
            return self.b(y.view(cache.setdefault((n, c, h, w), [n, c * h * w])))

    assert not analyse(trace(Cached(), X)).graph["a"].frozen
    assert "written" in analyse(trace(Cached(), X)).graph["a"].frozen
