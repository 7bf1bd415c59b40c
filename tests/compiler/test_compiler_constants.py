"""Constants that are made of parameters: computed by the compiler, from the parameters as they are by then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from long_tests import long
from torch import Tensor, nn

import edgeprune
from edgeprune.compiler.compile import compile_network
from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.network import Network, read_network
from edgeprune.models.zoo import build
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import load_target

IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


class Standardised(nn.Module):
    """Weights of mean 0, a table read at fixed places, and a bias that is a sum of two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 4)
        self.table, self.scale = nn.Parameter(torch.randn(5)), nn.Parameter(torch.rand(16, 1, 1))
        self.register_buffer("places", torch.randint(0, 5, (16, 16)))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight - self.conv.weight.mean((1, 2, 3), keepdim=True)
        x = F.conv2d(x, weight, self.conv.bias, padding=1) * (1 + self.scale.square())
        x = torch.relu(x + self.table[self.places])
        return self.head(x.mean((2, 3)))


def differs(network: Network, folder: Path) -> float:
    """From torch, over the largest output."""
    compile_network(network, load_target("host"), folder)
    with torch.no_grad(), edgeprune.load_bundle(folder) as program:
        expected = network.module(*network.example_inputs).numpy()
        (actual,) = program(*(x.numpy() for x in network.example_inputs))
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def test_they_follow_the_parameters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Standardised().eval()
    network = read_network(module, (IMAGE,))
    assert differs(network, tmp_path / "a") <= 1e-5
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(1.7).add_(0.1)
    assert differs(network, tmp_path / "b") <= 1e-5, "trained after it was read"


def test_a_value_that_is_the_same_at_every_pixel_is_stored_once() -> None:
    module = build("resnet20")
    channels = read_network(module, (IMAGE,)).channels
    plan = make_plan(channels, {g: 0 for b in channels.blocks for g in b.groups}, {})
    network = read_network(shrink(module, channels, plan), (IMAGE,))
    assert sorted({c.shape for c in network.kernels.computed.values()}) == [(1, n, 1, 1) for n in (16, 32, 64)]
    assert len(network.kernels.nodes) == 5, [str(n.spec) for n in network.kernels.nodes]


def test_zeros_of_today_are_not_taken_for_the_same_everywhere() -> None:
    """A position bias begins as zeros and is trained later: it keeps a value for each place."""

    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bias = nn.Conv2d(3, 8, 1), nn.Parameter(torch.zeros(1, 8, 16, 16))

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) + self.bias * 2

    (recipe,) = read_network(Positions().eval(), (IMAGE,)).kernels.computed.values()
    assert recipe.shape == (1, 8, 16, 16)


def test_attention_with_a_bias_for_each_head_and_place(tmp_path: Path) -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.qkv, self.head = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 48), nn.Linear(16, 4)
            self.table = nn.Parameter(torch.randn(31, 2))
            self.register_buffer("places", (torch.arange(16)[:, None] - torch.arange(16)) + 15)

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.conv(x).flatten(2).transpose(1, 2)
            q, k, v = self.qkv(tokens).reshape(1, 16, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
            bias = self.table[self.places].permute(2, 0, 1).unsqueeze(0)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            return self.head(y.transpose(1, 2).reshape(1, 16, 16).mean(1))

    torch.manual_seed(0)
    assert differs(read_network(Attention().eval(), (IMAGE,)), tmp_path / "bundle") <= 1e-5


@pytest.mark.parametrize("name", long(["mobilenet_v3_small", "squeezenet"], ["mobilenet_v3_small"]))
def test_networks_without_their_blocks_compile(name: str, tmp_path: Path) -> None:
    module, image = build(name).eval(), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    channels = read_network(module, (image,)).channels
    plan = make_plan(channels, {g: 0 for b in channels.blocks for g in b.groups}, {})
    small = read_network(shrink(module, channels, plan), (image,))
    assert len(small.kernels.nodes) < len(read_network(module, (image,)).kernels.nodes)
    assert differs(small, tmp_path / "bundle") <= 1e-4


def test_a_weight_that_depends_on_the_input_is_still_refused() -> None:
    class Dynamic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.conv.weight * x.mean())

    with pytest.raises(UnsupportedOperatorError, match="is computed"):
        read_network(Dynamic().eval(), (IMAGE,))
