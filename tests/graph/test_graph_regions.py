"""Regions without gradients or without autocast are part of the network like all else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.groups import analyse
from edgeprune.graph.network import read_network
from edgeprune.graph.trace import trace, user_outputs
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink


class Marked(nn.Module):
    """Regions within regions; a region's results are the network's."""

    def __init__(self, enabled: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)
        self.enabled = enabled

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.a(x)
        with torch.autocast("cpu", enabled=self.enabled):
            y = self.b(y.float()).relu()
            with torch.no_grad():
                z = y.mean((2, 3), keepdim=True)
            y = self.c(y * z)
        with torch.no_grad():
            return y, y.amax((2, 3))


X = (torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


def test_no_region_is_left() -> None:
    program = trace(Marked().eval(), X)
    assert not [n for n in program.graph.nodes if "wrap_with" in str(n.target)]
    assert [tuple(n.meta["val"].shape) for n in user_outputs(program)] == [(1, 4, 4, 4), (1, 4)]
    for expected, actual in zip(Marked.forward(m := Marked().eval(), *X), trace(m, X).module()(*X), strict=True):
        torch.testing.assert_close(actual, expected)


def test_channels_are_followed_through_regions() -> None:
    module = Marked().eval()
    graph = read_network(module, X).channels
    assert {g.name for g in graph.prunable} == {g.name for g in analyse(trace(module, X)).graph.prunable}
    assert len(graph.prunable) == 2
    plan = make_plan(
        graph, {g.name: 5 for g in graph.prunable}, {g.name: torch.arange(8.0).numpy() for g in graph.prunable}
    )
    check_equal(mask(module, graph, plan), shrink(module, graph, plan), X, graph=graph, plan=plan)


def test_an_autocast_that_is_enabled_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match="wrap_with_autocast"):
        read_network(Marked(enabled=True).eval(), X)
