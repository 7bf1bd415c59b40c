"""Coupled channels in strangers' networks (docs/FAULTS.md, 10): masked equals shrunk, and frozen groups say why."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from coupling_nets import randomised
from hypothesis import given, settings
from hypothesis import strategies as st
from idiom_nets import IDIOMS
from random_nets import RandomNet
from torch import Tensor, nn

from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import Plan, make_plan
from edgeprune.pruning.shrink import shrink

X = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


@functools.cache
def prepared(name: str) -> tuple[nn.Module, ChannelGraph, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    module = randomised(IDIOMS[name].net())
    x = (torch.randn(IDIOMS[name].shape, generator=torch.Generator().manual_seed(0)),)
    return module, analyse(trace(module, x)).graph, x


def random_plan(graph: ChannelGraph, seed: int) -> Plan:
    rng = np.random.default_rng(seed)
    widths = {g.name: int(rng.integers(1, g.size + 1)) for g in graph.prunable}
    return make_plan(graph, widths, {g.name: rng.random(g.size) for g in graph.prunable})


@pytest.mark.parametrize("name", IDIOMS)
def test_what_is_prunable(name: str) -> None:
    _, graph, _ = prepared(name)
    found = {g.name: g.size for g in graph.prunable}
    assert found == IDIOMS[name].prunable, {g.name: g.frozen for g in graph.groups if g.frozen}


@pytest.mark.parametrize("name", IDIOMS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_masked_equals_shrunk(name: str, seed: int) -> None:
    module, graph, x = prepared(name)
    plan = random_plan(graph, seed)
    small = shrink(module, graph, plan)
    result = check_equal(mask(module, graph, plan), small, x, graph=graph, plan=plan)
    assert result.scale > 0
    assert (sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in module.parameters())) == bool(plan.keep)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_random_networks_of_blocks(seed: int) -> None:
    torch.manual_seed(seed)
    module = randomised(RandomNet(seed), seed)
    graph = analyse(trace(module, X)).graph
    assert graph.prunable
    for s in range(3):
        plan = random_plan(graph, seed + s)
        check_equal(mask(module, graph, plan), shrink(module, graph, plan), X, graph=graph, plan=plan)


class TestSizes:
    """Attributes that the code reads follow the widths, and only those that may."""

    def shrunk(self, name: str, **widths: int) -> nn.Module:
        module, graph, _ = prepared(name)
        named = {g.name: widths[key] for g in graph.prunable for key in widths if g.name.split("[")[0] == key}
        return shrink(module, graph, make_plan(graph, named, {g.name: np.arange(g.size) for g in graph.prunable}))

    def test_split(self) -> None:
        assert self.shrunk("SplitByAttribute", a=3).c == 3
        module, graph, _ = prepared("SplitByTwoAttributes")
        first, second = graph.prunable[:2]
        plan = make_plan(graph, {first.name: 1, second.name: 4}, {g.name: np.arange(g.size) for g in graph.prunable})
        assert shrink(module, graph, plan).sizes == [1, 4]
        assert module.sizes == [3, 5]

    def test_heads(self) -> None:
        small = self.shrunk("Heads", qkv=1)
        assert (small.heads, small.features) == (1, 4)
        assert small.qkv.weight.shape == (12, 8)

    def test_layers_of_torch(self) -> None:
        small = self.shrunk("GroupNorms", a=3, b=5)
        assert (small.gn.num_groups, small.gn.num_channels) == (3, 9)
        assert (small.each.num_groups, small.each.num_channels) == (5, 5)
        assert self.shrunk("InstanceNorms", b=3).bare.num_features == 3
        assert self.shrunk("Unflattened", fc=4).shape.unflattened_size == (4, 2, 2)
        up = self.shrunk("DepthwiseTransposed", a=4).up
        assert (up.in_channels, up.out_channels, up.groups) == (4, 8, 4)

    def test_the_original_is_as_it_was_after_tracing(self) -> None:
        module, _, _ = prepared("Heads")
        assert type(module.heads) is int
        assert type(prepared("SplitByTwoAttributes")[0].sizes[0]) is int


@pytest.mark.parametrize(
    ("name", "group", "reason"),
    [
        ("SplitAtNumbers", "stem.0", "split at sizes written in the network's code"),
        ("ShuffleWithNumbers", "a", "split into sizes that are written in the network's code"),
        ("ViewWithNumbers", "a", "the size 96 is written in the network's code"),
        ("FunctionalDepthwise", "stem.0", "the number of groups is written in the network's code"),
        ("FunctionalGroupNorm", "a", "the size 4 is written in the network's code"),
        ("AttributeUsedTwice", "stem.0", "split at sizes"),
        ("PositiveWeight", "stem.0", "removed channels would not count as zeros"),
        ("GroupNorms", "c", "normalised over channels"),
        ("SumOfChannels", "b", "removed channels would not count as zeros"),
        ("ConvNeXt", "stem.0", "normalised over channels"),
        ("TorchAttention", "stem.0", "channels are not followed through"),
    ],
)
def test_what_is_frozen_says_why_and_where(name: str, group: str, reason: str) -> None:
    frozen = next(g.frozen for g in prepared(name)[1].groups if g.name.split("[")[0] == group)
    assert reason in frozen
    assert "aten." in frozen
    assert "_nets.py:" in frozen
