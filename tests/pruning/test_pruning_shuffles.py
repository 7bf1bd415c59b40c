"""Shuffles whose result is read in blocks: groups and widths of the paper, and any others."""

from __future__ import annotations

import functools
from math import lcm

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from architectures.mobile import ShuffleV1Unit, channel_shuffle
from coupling_nets import conv, randomised
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink

X = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


def agrees(module: nn.Module, graph: ChannelGraph, seed: int) -> nn.Module:
    """The shrunk network of a random plan, which has given what the masked one gives."""
    rng = np.random.default_rng(seed)
    widths = {g.name: int(rng.integers(1, g.size + 1)) for g in graph.prunable}
    plan = make_plan(graph, widths, {g.name: rng.random(g.size) for g in graph.prunable})
    small = shrink(module, graph, plan)
    assert check_equal(mask(module, graph, plan), small, X, graph=graph, plan=plan).scale > 0
    return small


class Units(nn.Module):
    """A strided unit after the stem, one that adds, a strided one: the beginning of ShuffleNet v1."""

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.stem = conv(3, 24)
        self.a = ShuffleV1Unit(24, width, 2, groups, True)
        self.b = ShuffleV1Unit(width, width, 1, groups, False)
        self.c = ShuffleV1Unit(width, 2 * width, 2, groups, False)
        self.head = nn.Linear(2 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.c(self.b(self.a(self.stem(x)))).mean((2, 3)))


@functools.cache
def units(groups: int, width: int) -> tuple[nn.Module, ChannelGraph]:
    torch.manual_seed(0)
    module = randomised(Units(groups, width))
    return module, analyse(trace(module, X)).graph


# Of each unit's inner channels: how many decisions, each takes groups * groups channels.
PAPER = {
    (2, 200): {"a": 12, "b": 12, "c": 25},
    (3, 240): {"a": 6, "b": 6, "c": 13},
    (4, 272): {"a": 4, "b": 4, "c": 8},
    (8, 384): {"c": 3},
    (8, 768): {"a": 3, "b": 3, "c": 6},
    (3, 120): {"a": 3, "b": 3, "c": 6},
}


@pytest.mark.parametrize(("groups", "width"), PAPER)
def test_the_paper_s_widths(groups: int, width: int) -> None:
    module, graph = units(groups, width)
    inner = {g.name[0]: g.size for g in graph.prunable if ".gconv1" in g.name}
    assert inner == PAPER[groups, width], {g.name: g.frozen for g in graph.groups}
    assert any(m.param == "a.gconv3.weight" and m.role == "out" for g in graph.prunable for m in g.members)
    for seed in range(4):
        small = agrees(module, graph, seed)
        assert small.c.gconv1.weight.shape[0] % groups == 0


def test_what_holds_no_two_units_is_frozen_and_the_stream_is_not() -> None:
    """96 channels, shuffled by 8 and read in 8 blocks of 12: one unit of 64 would be all that can go."""
    _, graph = units(8, 384)
    frozen = [g for g in graph.groups if any(m.param in ("a.gconv1.weight", "a.dwconv.weight") for m in g.members)]
    reasons = {g.frozen for g in frozen if "a.gconv1.weight" in {m.param for m in g.members if m.dim == 0}}
    assert all("end of a part" in reason and "a.gconv3" in reason for reason in reasons)
    assert reasons
    assert any(m.param == "stem.weight" and m.dim == 0 for g in graph.prunable for m in g.members)


class Shuffled(nn.Module):
    """Filters in groups, a shuffle, filters in other groups."""

    def __init__(self, before: int, groups: int, after: int, width: int, operator: bool = False) -> None:
        super().__init__()
        self.groups, self.operator = groups, operator
        self.stem, self.a = conv(3, 2 * before), conv(2 * before, width, 1, groups=before)
        self.each = nn.Sequential(conv(width, width, groups=width), nn.BatchNorm2d(width), nn.ReLU())
        self.b = conv(width, 2 * after, 1, groups=after)
        self.head = nn.Linear(2 * after, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(self.stem(x))
        y = F.channel_shuffle(y, self.groups) if self.operator else channel_shuffle(y, self.groups)
        return self.head(self.b(self.each(y)).mean((2, 3)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from([1, 2, 3]), st.integers(2, 5), st.integers(2, 5), st.integers(1, 6), st.booleans(), st.integers(0)
)
def test_any_groups(before: int, groups: int, after: int, times: int, operator: bool, seed: int) -> None:
    width = times * lcm(before, groups, after)
    assume(width <= 120 and width > max(before, groups, after))
    torch.manual_seed(seed % 1000)
    module = randomised(Shuffled(before, groups, after, width, operator))
    graph = analyse(trace(module, X)).graph
    inner = sum(g.size for g in graph.prunable if any(m.param == "each.0.weight" for m in g.members))
    block = width // after
    if before in (1, groups):
        # Units are of ``groups`` channels a block; frozen if there are no two, but for blocks they divide.
        assert inner == (block // groups if block >= 2 * groups or block % groups == 0 else 0)
    for s in range(2):
        agrees(module, graph, seed % 1000 + s)


class Chunked(nn.Module):
    """Halves of a shuffle of 2 x 7 channels; one is filtered, both are shuffled again: ShuffleNet v2 of odd width."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.a = conv(3, 7), conv(3, 7), conv(7, 7)
        self.head = nn.Linear(14, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = channel_shuffle(torch.cat([self.left(x), self.right(x)], 1), 2)
        a, b = y.chunk(2, 1)
        y = channel_shuffle(torch.cat([F.relu(self.a(a)), b], 1), 2)
        return self.head(y.mean((2, 3)))


def test_odd_halves() -> None:
    torch.manual_seed(0)
    module = randomised(Chunked())
    graph = analyse(trace(module, X)).graph
    assert {g.size for g in graph.prunable} == {3}, {g.name: (g.size, g.frozen) for g in graph.groups}
    for seed in range(4):
        agrees(module, graph, seed)


class Between(nn.Module):
    """Somebody else looks at the map between the views of a shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = conv(3, 18), conv(18, 6, 1, groups=3), nn.Linear(6 + 18, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        n, c, h, w = y.shape
        split = y.view(n, 3, c // 3, h, w)
        z = split.transpose(1, 2).reshape(n, c, h, w)
        return self.head(torch.cat([self.b(z), split.flatten(1, 2)], 1).mean((2, 3)))


def test_a_reader_between_the_views() -> None:
    torch.manual_seed(0)
    module = randomised(Between())
    graph = analyse(trace(module, X)).graph
    for seed in range(4):
        agrees(module, graph, seed)
