"""Coupled channels of every kind (docs/FAULTS.md, 10): the pruned network computes what the masked one does."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coupling_nets import CASES, Net, conv, randomised
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from edgeprune.errors import VerificationError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.models.loading import wrap_module
from edgeprune.models.zoo import ZOO, build
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import Plan, make_plan
from edgeprune.pruning.shrink import shrink

X = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


@functools.cache
def prepared(name: str) -> tuple[nn.Module, ChannelGraph]:
    torch.manual_seed(0)
    module = randomised(CASES[name].net())
    return module, analyse(trace(module, X)).graph


def random_plan(graph: ChannelGraph, seed: int, least: int = 1) -> Plan:
    rng = np.random.default_rng(seed)
    widths = {g.name: int(rng.integers(min(least, g.size), g.size + 1)) for g in graph.prunable}
    return make_plan(graph, widths, {g.name: rng.random(g.size) for g in graph.prunable})


@pytest.mark.parametrize("name", CASES)
def test_what_is_prunable(name: str) -> None:
    _, graph = prepared(name)
    assert {g.name: g.size for g in graph.prunable} == CASES[name].prunable


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_masked_equals_shrunk(name: str, seed: int) -> None:
    module, graph = prepared(name)
    plan = random_plan(graph, seed)
    shrunk = shrink(module, graph, plan)
    result = check_equal(mask(module, graph, plan), shrunk, X, graph=graph, plan=plan)
    assert result.scale > 0
    before = {id(p): p.numel() for p in module.parameters()}
    after = {id(p): p.numel() for p in shrunk.parameters()}
    assert (sum(after.values()) < sum(before.values())) == bool(plan.keep)


@pytest.mark.parametrize("name", CASES)
def test_removed_channels_do_not_matter_in_the_shrunk_network_alone(name: str) -> None:
    """An oracle without mask(): poison what the plan removes; the shrunk network must not notice."""
    module, graph = prepared(name)
    plan = random_plan(graph, 1)
    poisoned = randomised(CASES[name].net())
    poisoned.load_state_dict(module.state_dict())
    tensors = dict(poisoned.named_parameters()) | dict(poisoned.named_buffers())
    for buffer, value in module.named_buffers():
        tensors[buffer].copy_(value)
    with torch.no_grad():
        for group, keep in plan.keep.items():
            for m in graph[group].members:
                for i in set(range(graph[group].size)) - set(keep):
                    tensors[m.param].movedim(m.dim, 0)[m.start + i * m.repeat : m.start + (i + 1) * m.repeat] = (
                        torch.nan
                    )
        assert torch.equal(shrink(poisoned, graph, plan)(*X), shrink(module, graph, plan)(*X))


@pytest.mark.parametrize("name", CASES)
def test_shrunk_network_traces_again_with_the_planned_widths(name: str) -> None:
    module, graph = prepared(name)
    plan = random_plan(graph, 2, least=2)  # with one channel a group, a grouped convolution becomes a depthwise one
    again = analyse(trace(shrink(module, graph, plan), X)).graph
    # names of blocks tell their place, which pruning moves: only sizes can be compared
    assert sorted(g.size for g in again.groups) == sorted(plan.width(g.name) for g in graph.groups)


class RandomNet(nn.Module):
    """A random chain of couplings over maps that are all alive at once."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        widths = [4]
        self.steps: list[tuple[str, int, int]] = []
        self.layers = nn.ModuleList([conv(3, 4)])
        for _ in range(int(rng.integers(3, 8))):
            kind = str(rng.choice(["conv", "depthwise", "add", "cat", "gate", "chunk", "norm", "grouped"]))
            a, b = (int(rng.integers(len(widths))) for _ in range(2))
            layer: nn.Module = nn.Identity()
            width = widths[a]
            if kind == "conv":
                width = int(rng.integers(2, 7)) * 2
                layer = conv(widths[a], width)
            elif kind == "depthwise":
                layer = conv(width, width, groups=width)
            elif kind == "grouped" and width % 2 == 0:
                layer = conv(width, width, groups=2)
            elif kind == "gate":
                layer = conv(widths[b], width, 1)
            elif kind == "norm":
                layer = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU())
            elif kind == "cat":
                width += widths[b]
            elif kind == "chunk" and width % 2 == 0:
                width //= 2
            elif kind == "add" and widths[b] == width:
                pass
            else:
                continue
            self.steps.append((kind, a, b))
            self.layers.append(layer)
            widths.append(width)
        self.head = nn.Linear(sum(widths), 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.layers[0](x)]
        for (kind, a, b), layer in zip(self.steps, list(self.layers)[1:], strict=True):
            if kind == "add":
                maps.append(maps[a] + maps[b])
            elif kind == "cat":
                maps.append(torch.cat([maps[a], maps[b]], 1))
            elif kind == "gate":
                maps.append(maps[a] * torch.sigmoid(layer(F.adaptive_avg_pool2d(maps[b], 1))))
            elif kind == "chunk":
                left, right = maps[a].chunk(2, 1)
                maps.append(F.hardswish(left) - right)
            else:
                maps.append(layer(maps[a]))
        return self.head(torch.cat([m.mean((2, 3)) for m in maps], 1))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_random_networks(seed: int) -> None:
    torch.manual_seed(seed)
    module = randomised(RandomNet(seed), seed)
    graph = analyse(trace(module, X)).graph
    assert graph.prunable
    for s in range(3):
        plan = random_plan(graph, seed + s)
        check_equal(mask(module, graph, plan), shrink(module, graph, plan), X, graph=graph, plan=plan)


@pytest.mark.parametrize("name", ZOO)
def test_zoo(name: str) -> None:
    module = randomised(build(name, num_classes=7))
    x = (torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)),)
    graph = analyse(trace(module, x)).graph
    frozen = {g.frozen.split(" '")[0] for g in graph.groups if g.frozen}
    assert frozen == {"graph input", "graph output"}
    plan = random_plan(graph, 0)
    check_equal(mask(module, graph, plan), shrink(module, graph, plan), x, graph=graph, plan=plan)


class TestCheckEqualFindsFaults:
    def setup_method(self) -> None:
        self.module, self.graph = prepared("depthwise")
        self.plan = random_plan(self.graph, 3, least=5)  # so few channels that activations die would hide faults
        self.masked = mask(self.module, self.graph, self.plan)
        self.shrunk = shrink(self.module, self.graph, self.plan)

    def check(self, x: tuple[Tensor, ...] = X) -> None:
        check_equal(self.masked, self.shrunk, x, graph=self.graph, plan=self.plan)

    @pytest.mark.parametrize("name", ["stem.0", "dw", "bn", "project", "head"])
    def test_the_first_differing_module_is_named(self, name: str) -> None:
        with torch.no_grad():
            self.shrunk.get_submodule(name).weight.add_(0.1)
        with pytest.raises(VerificationError, match=f"module '{name}' is the first to differ") as caught:
            self.check()
        assert caught.value.details["module"] == name

    def test_nan_is_a_difference(self) -> None:
        with torch.no_grad():
            self.shrunk.head.bias.fill_(torch.nan)
        with pytest.raises(VerificationError, match="'head'"):
            self.check()

    def test_nan_in_the_second_output_is_a_difference(self) -> None:
        for net in (self.masked, self.shrunk):
            net.register_forward_hook(lambda m, _inputs, out: (out, out * m.factor))
            net.factor = torch.tensor(1.0)
        self.check()
        self.shrunk.factor = torch.tensor(torch.nan)
        with pytest.raises(VerificationError, match="differ by inf"):
            self.check()

    def test_outputs_of_another_shape_differ_even_if_they_broadcast(self) -> None:
        for net in (self.masked, self.shrunk):
            torch.nn.init.zeros_(net.head.weight)
            torch.nn.init.ones_(net.head.bias)
        self.check()
        self.shrunk.register_forward_hook(lambda _m, _inputs, out: out[:, :1])
        with pytest.raises(VerificationError, match=r"differ by inf.*all layers agree"):
            self.check()

    def test_a_fault_that_dead_activations_hide_from_the_outputs(self) -> None:
        for net in (self.masked, self.shrunk):
            torch.nn.init.zeros_(net.project.weight)
        self.check()
        with torch.no_grad():
            self.shrunk.dw.weight.add_(0.1)
        with pytest.raises(VerificationError, match="'dw' is the first to differ"):
            self.check()

    def test_rounding_that_the_network_amplifies_is_no_fault(self) -> None:
        for net in (self.masked, self.shrunk):
            net.register_forward_hook(lambda _m, _inputs, out: torch.sin(out * 1e5))
        with torch.no_grad():
            single = [net(*X) for net in (self.masked.eval(), self.shrunk.eval())]
        assert (single[0] - single[1]).abs().max() > 1e-5
        self.check()
        with torch.no_grad():
            self.shrunk.head.bias.add_(1e-6)
        with pytest.raises(VerificationError, match="differ by"):
            self.check()

    def test_hooks_and_training_flags_are_left_as_they_were(self) -> None:
        self.shrunk.train()
        self.shrunk.bn.eval()
        self.check()
        assert self.shrunk.training
        assert not self.shrunk.bn.training
        assert not any(m._forward_hooks for m in self.shrunk.modules())

    def test_a_size_that_the_analysis_cannot_see(self) -> None:
        class Fixed(Net):
            def forward(self, x: Tensor) -> Tensor:
                y = self.stem(x)
                if y.shape[1] != 8:
                    raise ValueError("eight channels are wanted")
                return self.head(y.mean((2, 3)))

        module = Fixed()
        graph = analyse(trace(module, X)).graph
        plan = random_plan(graph, 0)
        with pytest.raises(VerificationError, match="does not run") as caught:
            check_equal(mask(module, graph, plan), shrink(module, graph, plan), X, graph=graph, plan=plan)
        assert "test_pruning_masked_equals_shrunk.py" in caught.value.details["source"]


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 0.5


def hooked() -> nn.Module:
    """Weights that hooks and parametrizations compute, under names that are not "weight"."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    prune.l1_unstructured(net[0], "weight", amount=0.3)
    prune.l1_unstructured(net[2], "weight", amount=0.3)
    parametrize.register_parametrization(net[4], "weight", Halved())
    return net


def test_weights_under_the_names_that_hooks_give_them() -> None:
    module = wrap_module(hooked(), X[0]).module
    graph = analyse(trace(module, X)).graph
    assert {g.name for g in graph.prunable}
    for seed in range(5):
        plan = random_plan(graph, seed)
        shrunk = shrink(module, graph, plan)
        assert check_equal(mask(module, graph, plan), shrunk, X, graph=graph, plan=plan).scale > 0
        assert sum(p.numel() for p in shrunk.parameters()) < sum(p.numel() for p in module.parameters())
