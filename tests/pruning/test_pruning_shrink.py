from __future__ import annotations

import pytest
import torch
from coupling_nets import CASES
from torch import nn

from edgeprune.errors import PlanError
from edgeprune.graph.channels import ChannelGraph, Member, WidthGroup
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.pruning.mask import mask
from edgeprune.pruning.plan import Plan, make_plan
from edgeprune.pruning.shrink import shrink

X = (torch.randn(1, 3, 8, 8),)


def pruned(name: str, **widths: int) -> tuple[nn.Module, nn.Module]:
    module = CASES[name].net()
    graph = analyse(trace(module, X)).graph
    named = {k.replace("_0", ".0"): v for k, v in widths.items()}
    plan = make_plan(graph, named, {g.name: torch.rand(g.size).numpy() for g in graph.prunable})
    return module, shrink(module, graph, plan)


def test_layers_know_their_sizes() -> None:
    _, small = pruned("depthwise", stem_0=5, expand=7, project=2)
    shown = str(small)
    assert "Conv2d(3, 5," in shown
    assert "Conv2d(5, 7, kernel_size=(1, 1)" in shown
    assert "Conv2d(7, 7, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=7, bias=False)" in shown
    assert "BatchNorm2d(7," in shown
    assert "in_features=2, out_features=5" in shown


def test_transposed_and_multiplied_sizes() -> None:
    _, small = pruned("skip", stem_0=3, down=4, up=5)
    assert (small.up.in_channels, small.up.out_channels) == (4, 5)
    assert small.join.in_channels == 3 + 5 + 4
    _, small = pruned("depth_multiplier", stem_0=3)
    assert (small.dw.in_channels, small.dw.out_channels, small.dw.groups) == (3, 6, 3)


def test_exact_slices() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    graph = analyse(trace(module, X)).graph
    small = shrink(module, graph, make_plan(graph, {"0": 2}, {"0": torch.tensor([0.0, 9, 1, 5]).numpy()}))
    assert torch.equal(small[0].weight, module[0].weight[[1, 3]])
    assert torch.equal(small[0].bias, module[0].bias[[1, 3]])
    assert torch.equal(small[1].running_var, module[1].running_var[[1, 3]])
    assert torch.equal(small[2].weight, module[2].weight[:, [1, 3]])
    assert torch.equal(small[2].bias, module[2].bias)


def test_the_rest_is_kept() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).train()
    module[0].weight.requires_grad_(False)
    module[1].eval()
    calls: list[tuple[int, ...]] = []
    module[0].register_forward_hook(lambda _m, _i, out: calls.append(tuple(out.shape)))
    graph = analyse(trace(module, X)).graph
    state = {k: v.clone() for k, v in module.state_dict().items()}
    calls.clear()
    small = shrink(module, graph, make_plan(graph, {"0": 2}, {"0": torch.rand(4).numpy()}))
    small(*X)
    assert calls == [(1, 2, 8, 8)]
    assert small.training
    assert not small[1].training
    assert not small[0].weight.requires_grad
    assert small[0].bias.requires_grad
    assert isinstance(small[0].weight, nn.Parameter)
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert set(small.state_dict()) == set(state)


def test_tied_weights_stay_tied() -> None:
    _, small = pruned("tied_weight", stem_0=3)
    assert small.a.weight is small.b.weight
    assert small.a.weight.shape == (3, 3, 3, 3)


def test_mask_leaves_the_original_and_zeroes_both_sides() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    graph = analyse(trace(module, X)).graph
    plan = Plan({"0": (1, 3)}, {g.name: g.size for g in graph.groups}, {}, {}, {})
    masked = mask(module, graph, plan)
    assert masked[0].weight.shape == module[0].weight.shape
    for tensor in (masked[0].weight, masked[0].bias, masked[1].weight, masked[1].bias, masked[2].weight.movedim(1, 0)):
        assert (tensor[[0, 2]] == 0).all()
    assert (masked[1].running_var == 1).all()
    assert torch.equal(masked[0].weight[[1, 3]], module[0].weight[[1, 3]])
    assert (module[1].weight == 1).all()


@pytest.mark.parametrize(
    "member", [Member("0.weight", 0, 2), Member("0.weight", 5), Member("0.gone", 0), Member("0.weight", 0, 0, 2)]
)
@pytest.mark.parametrize("apply", [shrink, mask])
def test_graph_of_another_network(apply: object, member: Member) -> None:
    graph = ChannelGraph((WidthGroup("g", 4, (member,)),))
    plan = Plan({"g": (0, 1)}, {"g": 4}, {}, {}, {})
    with pytest.raises(PlanError, match=r"width group 'g' owns dimension"):
        apply(nn.Sequential(nn.Conv2d(3, 4, 1)), graph, plan)  # type: ignore[operator]


def test_a_convolution_of_one_input_channel_is_not_depthwise() -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    graph = analyse(trace(net, (torch.zeros(1, 1, 8, 8),))).graph
    plan = Plan({"0": (1, 5)}, {g.name: g.size for g in graph.groups}, {}, {}, {})
    small = shrink(net, graph, plan)
    assert (small[0].groups, small[0].in_channels, small[0].out_channels) == (1, 1, 2)
    assert small(torch.zeros(1, 1, 8, 8)).shape == (1, 4, 4, 4)
