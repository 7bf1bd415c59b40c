"""Layers as matrices, and their weights re-solved after channels went."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.errors import BadInputError
from edgeprune.graph.network import Network, read_network
from edgeprune.models import linear_layers as linear_layers_module
from edgeprune.models.linear_layers import drawn_positions, linear_layers, matrix, outputs, rows, set_matrix
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.pruning.slices import survivors
from edgeprune.training import reconstruct as reconstruct_module
from edgeprune.training.reconstruct import reconstruct

LAYERS = {
    "linear": (nn.Linear(5, 3), (4, 5)),
    "linear, more dimensions, no bias": (nn.Linear(5, 3, bias=False), (2, 7, 5)),
    "1x1": (nn.Conv2d(4, 6, 1), (2, 4, 5, 5)),
    "stride and dilation": (nn.Conv2d(4, 6, 3, stride=2, dilation=2, padding=(1, 2)), (2, 4, 9, 11)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2, padding=1), (3, 4, 5, 6)),
    "depthwise": (nn.Conv2d(4, 4, 3, groups=4, bias=False), (2, 4, 5, 6)),
    "same": (nn.Conv2d(2, 3, (3, 5), padding="same"), (2, 2, 6, 7)),
    "reflected": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 2, 6, 7)),
    "one dimension": (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 9)),
    "one dimension, circular": (nn.Conv1d(2, 3, 3, padding=2, padding_mode="circular"), (2, 2, 9)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_products_of_matrices(name: str) -> None:
    layer, shape = LAYERS[name]
    torch.manual_seed(0)
    x = torch.randn(shape)
    with torch.no_grad():
        y = outputs(layer, layer(x))
        product = (rows(layer, x) @ matrix(layer)).transpose(0, 1).flatten(1)
        product = product if layer.bias is None else product + layer.bias
        assert product.shape == y.shape
        torch.testing.assert_close(product, y, rtol=1e-4, atol=1e-5)
        before = layer.weight.clone()
        set_matrix(layer, matrix(layer).clone())
        assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("at_once", [1, 500, 2**24])
def test_some_positions_are_those_of_all(name: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many samples are laid out at once."""
    layer, shape = LAYERS[name]
    x = torch.randn(shape)
    every = rows(layer, x)
    monkeypatch.setattr(linear_layers_module, "AT_ONCE", at_once)
    for most in (1, 3, every.shape[1] - 1):
        at = drawn_positions(every.shape[1], most)
        assert at is not None
        assert len(at) == most
        assert torch.equal(rows(layer, x, at), every[:, at])
    assert drawn_positions(every.shape[1], every.shape[1]) is None


def test_weights_that_are_computed_are_left_out() -> None:
    net = nn.Sequential(nn.Conv2d(2, 2, 1), nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1)), nn.Linear(2, 2))
    assert [*linear_layers(net)] == ["0", "2"]


class Net(nn.Module):
    """Batch norm, a residual sum, a depthwise convolution, a layer that is called twice, flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 10, 3, padding=1), nn.Conv2d(10, 8, 1)
        self.dw, self.twice = nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.Conv2d(8, 8, 1)
        self.fc, self.head = nn.Linear(8 * 4, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = F.relu(x + self.outer(F.relu(self.inner(x))))
        x = self.twice(F.relu(self.twice(self.dw(x))))
        return self.head(F.relu(self.fc(F.adaptive_avg_pool2d(x, 2).flatten(1))))


SAMPLES = [torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(8)]
FRESH = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(99))


def made(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    net = Net().eval()
    net.bn.running_mean.normal_()
    net.bn.running_var.uniform_(0.5, 2)
    return read_network(net, (FRESH[:1],))


def pruned(network: Network, widths: dict[str, int], seed: int = 0) -> tuple[nn.Module, dict[str, Tensor]]:
    draw = np.random.default_rng(seed)
    plan = make_plan(network.channels, widths, {g.name: draw.random(g.size) for g in network.channels.groups})
    alive = survivors(network.module, network.channels, plan)
    kept = {
        name.removesuffix(".weight"): dims[0].nonzero().flatten()
        for name, dims in alive.items()
        if name.endswith(".weight") and 0 in dims
    }
    return shrink(network.module, network.channels, plan), kept


def error(small: nn.Module, dense: nn.Module) -> float:
    with torch.no_grad():
        y = dense(FRESH)
        return float((small(FRESH) - y).square().sum() / (y - y.mean(0)).square().sum())


@pytest.mark.parametrize("seed", range(4))
def test_outputs_get_nearer_to_those_of_the_dense_network(seed: int) -> None:
    network = made(seed)
    small, kept = pruned(network, {g.name: g.size * 3 // 4 for g in network.channels.prunable}, seed)
    before = error(small, network.module)
    found = reconstruct(small, network.module, kept, SAMPLES)
    assert error(small, network.module) < 0.5 * before
    assert all(layer.after <= layer.before for layer in found)
    assert {"outer", "fc", "head", "twice", "dw"} <= {layer.layer for layer in found}


def test_what_others_can_say_is_won_back_completely() -> None:
    """Of two channels that go one is constant, and the other the same as one that stays."""
    network = made()
    net = network.module
    assert isinstance(net, Net)
    with torch.no_grad():
        net.inner.weight[4] = 0
        net.inner.bias[4] = 1
        net.inner.weight[2] = net.inner.weight[7]
        net.inner.bias[2] = net.inner.bias[7]
    group = next(g.name for g in network.channels.prunable if g.size == 10)
    scores = np.ones(10)
    scores[[2, 4]] = 0
    plan = make_plan(network.channels, {group: 8}, {group: scores})
    small = shrink(net, network.channels, plan)
    before = error(small, net)
    kept = {"inner": torch.tensor([i for i in range(10) if i not in (2, 4)])}
    reconstruct(small, net, kept, SAMPLES)
    assert error(small, net) < 1e-4 * before


def test_a_network_that_lost_nothing_stays_as_it_is() -> None:
    network = made()
    small, kept = pruned(network, {})
    state = {k: v.clone() for k, v in small.state_dict().items()}
    assert reconstruct(small, network.module, kept, SAMPLES) == ()
    assert all(torch.equal(v, state[k]) for k, v in small.state_dict().items())


def test_training_flags_hooks_and_gradients_are_as_they_were() -> None:
    network = made()
    small, kept = pruned(network, {g.name: g.size // 2 for g in network.channels.prunable})
    small.train()
    reconstruct(small, network.module, kept, SAMPLES)
    assert small.training
    assert not network.module.training
    assert all(p.requires_grad and p.grad is None for p in small.parameters())
    assert not any(m._forward_hooks for net in (small, network.module) for m in net.modules())


@pytest.mark.parametrize("count", [1, 3])
def test_few_batches_are_enough(count: int) -> None:
    network = made()
    small, kept = pruned(network, {g.name: g.size // 2 for g in network.channels.prunable})
    before = error(small, network.module)
    reconstruct(small, network.module, kept, SAMPLES[:count])
    assert error(small, network.module) < before


def test_no_samples_and_samples_that_are_no_numbers_change_nothing() -> None:
    network = made()
    small, kept = pruned(network, {g.name: g.size // 2 for g in network.channels.prunable})
    state = {k: v.clone() for k, v in small.state_dict().items()}
    with pytest.raises(BadInputError, match="no batches"):
        reconstruct(small, network.module, kept, [])
    bad = SAMPLES[1].clone()
    bad[3, 0, 2, 2] = torch.nan
    with pytest.raises(BadInputError, match="not finite"):
        reconstruct(small, network.module, kept, [*SAMPLES, bad])
    assert all(torch.equal(v, state[k]) for k, v in small.state_dict().items())


def wide_pair(zeros: Tensor) -> tuple[nn.Module, nn.Module]:
    """A dense network of two layers, and the same where the second has zeros where ``zeros`` says so."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 32)).eval()
    small = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 32)).eval()
    small.load_state_dict(dense.state_dict())
    with torch.no_grad():
        small[2].weight.masked_fill_(zeros, 0)
    return dense, small


def vectors(count: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(256, 12, generator=generator) for _ in range(count)]


def test_what_is_zero_stays_zero_and_the_rest_makes_up_for_it() -> None:
    draw = torch.Generator().manual_seed(1)
    blocks = (torch.rand(2, 24, generator=draw) < 0.5).repeat_interleave(16, 0)
    blocks[3] = True  # one filter is gone whole
    dense, small = wide_pair(blocks)
    gone = small[2].bias[3].item()
    found = reconstruct(small, dense, {}, vectors(8, 0))
    assert [layer.layer for layer in found] == ["2"]
    assert found[0].after < found[0].before
    assert torch.equal(small[2].weight == 0, blocks)
    assert small[2].bias[3].item() == gone, "a filter that writes nothing says nothing new"
    # Each output beside least squares of its own over the inputs that it still reads.
    (x,) = vectors(1, 5)
    x = torch.cat([x, *vectors(40, 6)])
    with torch.no_grad():
        h, y, now = small[1](small[0](x)).double(), dense(x).double(), small(x).double()
    for unit in (0, 20):
        reads = torch.cat([h[:, ~blocks[unit]], torch.ones(len(h), 1, dtype=torch.double)], 1)
        best = reads @ torch.linalg.lstsq(reads, y[:, unit]).solution
        optimum, reached = ((best - y[:, unit]) ** 2).mean(), ((now[:, unit] - y[:, unit]) ** 2).mean()
        assert optimum <= reached <= 1.1 * optimum


def test_a_layer_with_too_many_patterns_of_zeros_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = torch.rand(32, 24, generator=torch.Generator().manual_seed(2)) < 0.5
    dense, small = wide_pair(zeros)
    before = small[2].weight.clone()
    monkeypatch.setattr(reconstruct_module, "MOST_WORK", 1000)
    assert reconstruct(small, dense, {}, vectors(8, 0)) == ()
    assert torch.equal(small[2].weight, before)
    monkeypatch.undo()
    (layer,) = reconstruct(small, dense, {}, vectors(8, 0))
    assert layer.after < layer.before
    assert torch.equal(small[2].weight == 0, zeros)


def test_a_channel_that_is_shut_leaves_the_others_to_be_solved() -> None:
    """Its filters are 0, and so is what reads it: a plan may keep it all the same."""
    dense, small = wide_pair(torch.zeros(32, 24, dtype=torch.bool))
    with torch.no_grad():
        small[0].weight[5], small[0].bias[5], small[2].weight[:, 5] = 0, 0, 0
    found = {layer.layer: layer for layer in reconstruct(small, dense, {}, vectors(8, 0))}
    assert found["2"].after < found["2"].before
    assert not small[0].weight[5].any()
    assert small[0].bias[5] == 0
    assert not small[2].weight[:, 5].any()
