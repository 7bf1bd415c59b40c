"""Curves: sums of scores, and losses that are measured, on networks whose losses are known on paper."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.network import Network, read_network
from edgeprune.importance.curves import Saliency
from edgeprune.importance.measured import FLOOR, POINTS, joint_loss, loss_curves


class Sums(nn.Module):
    """Twice a sum of channels, each a weight times the only input: removing one takes its weight from the output."""

    def __init__(self, *weights: list[float]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(1, len(w), bias=False) for w in weights)
        self.heads = nn.ModuleList(nn.Linear(len(w), 1, bias=False) for w in weights)
        with torch.no_grad():
            for part, head, w in zip(self.parts, self.heads, weights, strict=True):
                part.weight.copy_(torch.tensor(w)[:, None])
                head.weight.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([head(part(x)) for part, head in zip(self.parts, self.heads, strict=True)], 1)


def missing(outputs: Tensor, targets: Tensor) -> Tensor:
    return (targets - outputs).sum(1).mean()


ONES = [(torch.ones(3, 1), torch.tensor([[10.0, 6.0]] * 3)), (torch.ones(1, 1), torch.tensor([[10.0, 6.0]]))]
WEIGHTS = ([4.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
SCORES = {"parts.0": np.array(WEIGHTS[0]), "parts.1": np.array(WEIGHTS[1])}


@pytest.fixture
def sums() -> Network:
    return read_network(Sums(*WEIGHTS), (torch.ones(1, 1),))


def every(network: Network) -> dict[str, tuple[int, ...]]:
    return {g.name: tuple(range(1, g.size + 1)) for g in network.channels.groups}


def test_the_loss_of_a_cut_is_what_its_lowest_channels_held(sums: Network) -> None:
    """Retained of four channels 4, 3, 2, 1: at one channel nothing of what can be lost, then 3, 5 and all 6."""
    curves = loss_curves(sums, SCORES, every(sums), ONES, missing)
    assert {g: c.shape for g, c in curves.items()} == {"parts.0": (5,), "parts.1": (4,)}
    np.testing.assert_allclose(curves["parts.0"], [0, 0, 3, 5, 6], atol=2e-5)
    np.testing.assert_allclose(curves["parts.1"], [0, 0, 2, 3], atol=2e-5)


def test_more_channels_are_worth_more_where_the_loss_does_not_tell(sums: Network) -> None:
    curves = loss_curves(sums, SCORES, every(sums), ONES, lambda outputs, targets: outputs.sum() * 0 + 1)
    for name, curve in curves.items():
        np.testing.assert_allclose(np.diff(curve), FLOOR / sums.channels[name].size)


def test_a_cut_that_lowers_the_loss_makes_no_curve_fall(sums: Network) -> None:
    """The loss wants channel 3 gone, which goes last but one: between worse points its rise is their mean."""
    wanted = [(x, torch.tensor([[10.0, 6.0 - 2.0]] * len(x))) for x, _ in ONES]
    curves = loss_curves(sums, SCORES, every(sums), wanted, lambda o, t: (o - t).square().sum(1).mean())
    assert all((np.diff(c) > 0).all() for c in curves.values())
    # Errors at widths 1, 2, 3 of the second group: (3 - 4)² = 1, (5 - 4)² = 1, (6 - 4)² = 4: no cut costs anything.
    np.testing.assert_allclose(curves["parts.1"], 0, atol=1e-3)
    np.testing.assert_allclose(curves["parts.0"], [0, 0, 27, 35, 36], atol=1e-3)


def test_widths_between_measured_ones_lie_between_them(sums: Network) -> None:
    curves = loss_curves(sums, SCORES, {**every(sums), "parts.0": (1, 4)}, ONES, missing)
    np.testing.assert_allclose(curves["parts.0"], [0, 0, 2, 4, 6], atol=2e-5)


def test_a_group_is_measured_at_a_handful_of_widths() -> None:
    network = read_network(Sums([1.0] * 64), (torch.ones(1, 1),))
    asked: list[float] = []

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        asked.append(float(outputs.mean()))
        return -outputs.mean()

    scores = {"parts.0": np.ones(64)}
    curves = loss_curves(network, scores, every(network), [(torch.ones(2, 1), None)], loss)
    assert len(asked) == POINTS
    assert {1.0, 64.0} <= set(asked)
    np.testing.assert_allclose(curves["parts.0"][1:], np.arange(64), atol=1e-3)


class Net(nn.Module):
    """Batch norms, a residual branch, a branch of two groups inside of it, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.first, self.inner = nn.Conv2d(6, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.second, self.last = nn.Conv2d(5, 4, 3, padding=1), nn.Conv2d(4, 6, 1)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.last(F.relu(self.second(F.relu(self.inner(self.first(x))))))
        return self.head(self.drop(x.mean((2, 3))))


@pytest.fixture
def net() -> Network:
    torch.manual_seed(0)
    return read_network(Net(), (torch.randn(1, 1, 6, 6),))


GENERATOR = torch.Generator().manual_seed(1)
DATA = [(torch.randn(n, 1, 6, 6, generator=GENERATOR), torch.arange(n) % 3) for n in (8, 5)]


def score(network: Network) -> dict[str, np.ndarray]:
    return {g.name: np.random.default_rng(0).random(g.size) for g in network.channels.prunable}


def test_the_network_is_left_as_it_was_bit_for_bit(net: Network) -> None:
    net.module.train()
    net.module.norm.eval()
    state = {k: v.clone() for k, v in net.module.state_dict().items()}
    first = loss_curves(net, score(net), every(net), DATA)
    assert all(torch.equal(v, state[k]) for k, v in net.module.state_dict().items())
    assert [m.training for m in (net.module, net.module.norm, net.module.drop)] == [True, False, True]
    assert not any(p.grad is not None or not p.requires_grad for p in net.module.parameters())
    second = loss_curves(net, score(net), every(net), DATA)
    assert all(np.array_equal(first[g], second[g]) for g in first)


def test_it_is_left_so_after_a_failure_too(net: Network) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        assert (net.module.stem.weight[:4] == 0).any()
        raise RuntimeError("stop")

    state = {k: v.clone() for k, v in net.module.state_dict().items()}
    with pytest.raises(RuntimeError, match="stop"):
        joint_loss(net, score(net), {"stem": 2}, DATA, loss)
    assert all(torch.equal(v, state[k]) for k, v in net.module.state_dict().items())
    assert not any(b is None for b in net.module.norm._buffers.values())


@pytest.mark.parametrize("blocks", [False, True])
def test_a_block_costs_what_the_network_costs_without_it(net: Network, blocks: bool) -> None:
    levels = every(net)
    (block,) = net.channels.blocks
    if blocks:
        levels |= {g: (0, *levels[g]) for g in block.groups}
    assert len(block.groups) > 1
    curves = loss_curves(net, score(net), levels, DATA)
    lost = sum(curves[g][-1] - curves[g][0] for g in block.groups)
    whole, gone = (joint_loss(net, score(net), widths, DATA) for widths in ({}, dict.fromkeys(block.groups, 0)))
    smallest = sum(curves[g][-1] - curves[g][1] for g in block.groups)
    expected = max(smallest, gone - whole) if blocks else smallest
    assert lost == pytest.approx(expected, rel=1e-4)


def test_what_cannot_be_measured_is_refused(net: Network) -> None:
    with pytest.raises(UsageError, match="empty data set"):
        loss_curves(net, score(net), every(net), [])
    bad = [(DATA[0][0] * torch.nan, DATA[0][1])]
    with pytest.raises(BadInputError, match="not finite with no group cut"):
        loss_curves(net, score(net), every(net), bad)


@pytest.mark.parametrize(("scores", "channel"), [([1.0, -1.0, 2.0], 1), ([1.0, 2.0, np.inf], 2), ([np.nan, 1], 0)])
def test_scores_that_are_none_are_refused(scores: list[float], channel: int) -> None:
    with pytest.raises(BadInputError, match=f"'a' is negative or not finite for channel {channel}"):
        Saliency.summed({"a": np.array(scores)})
