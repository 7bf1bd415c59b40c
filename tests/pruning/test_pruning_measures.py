"""What is counted of a pruned network, against counting it by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.graph.network import Network, read_network
from edgeprune.pruning.measures import Sparsity, sparsity
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 1, bias=False), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.relu(self.a(x)))).mean((2, 3)))


@pytest.fixture
def dense() -> Network:
    torch.manual_seed(0)
    return read_network(Net(), (torch.randn(1, 2, 4, 4),))


def measured(dense: Network, widths: dict[str, int], zero: float = 0.0) -> Sparsity:
    plan = make_plan(dense.channels, widths, {"a": np.array([1, 4, 3, 2.0]), "b": np.arange(6.0)})
    module = shrink(dense.module, dense.channels, plan)
    if zero:
        with torch.no_grad():
            module.get_parameter("head.weight")[0] = 0
    return sparsity(dense, read_network(module, dense.example_inputs), plan)


def test_nothing_is_gone(dense: Network) -> None:
    found = measured(dense, {})
    assert set(found.shares().values()) == {0.0}
    assert found.absolute == 0
    assert (found.weights, found.units, found.layers) == (4 * 18 + 4 + 24 + 18 + 3, 13, 3)
    assert found.macs == 16 * (72 + 24) + 18


def test_channels_that_go_take_what_belongs_to_them(dense: Network) -> None:
    found = measured(dense, {"a": 2, "b": 3})
    assert found.weights_left == found.nonzero_left == 2 * 18 + 2 + 6 + 9 + 3
    assert found.absolute == 121 - 56
    assert found.parameter == pytest.approx(1 - 56 / 121)
    assert found.structural == pytest.approx(5 / 13)
    assert found.macs_left == 16 * (36 + 6) + 9
    assert found.of_layers == 0
    net = dense.module
    assert isinstance(net, Net)
    kept = [net.a.weight[1:3], net.a.bias[1:3], net.b.weight[3:, 1:3], net.head.weight[:, 3:], net.head.bias]
    mass, left = (sum(float(t.detach().abs().sum()) for t in ts) for ts in (net.parameters(), kept))
    assert found.relative == pytest.approx(1 - left / mass, rel=1e-5)


def test_zeros_count_as_gone_where_weights_are_counted(dense: Network) -> None:
    found, plain = measured(dense, {"b": 3}, zero=True), measured(dense, {"b": 3})
    assert found.absolute == plain.absolute + 3
    assert found.weights_left == plain.weights_left
    assert found.weighted == plain.weighted
