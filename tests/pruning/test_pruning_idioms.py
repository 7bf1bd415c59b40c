"""FAULTS 10 for networks nobody here wrote: masked equals shrunk under each idiom, and what is frozen says why."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from coupling_nets import randomised
from hypothesis import given, settings
from hypothesis import strategies as st
from idiom_nets import IDIOMS
from torch import Tensor, nn

from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import Plan, make_plan
from edgeprune.pruning.shrink import shrink


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
