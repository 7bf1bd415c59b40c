"""Blocks that go whole: the network without them is the masked one, runs, trains, and is saved and read again."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from architectures import ARCHITECTURES
from coupling_nets import randomised
from long_tests import long
from torch import Tensor, nn

from edgeprune.errors import PlanError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.models.onnx.export import export_onnx
from edgeprune.pruning.blocks import removable
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import Plan, make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.pruning.widths import load_pruned, save_pruned

NAMES = (
    "resnet20", "resnet50", "preact_resnet", "mobilenet_v2", "mobilenet_v3_small", "efficientnet", "regnet_y",
    "googlenet", "squeezenet", "densenet", "dual_path", "yolo", "sknet", "cbam_resnet", "ghostnet", "hourglass",
    "group_norm_resnet", "convnext", "vit", "mlp_mixer", "tcn", "edsr",
)  # fmt: skip


@functools.cache
def prepared(name: str) -> tuple[nn.Module, ChannelGraph, tuple[Tensor, ...]]:
    module, x = randomised(ARCHITECTURES[name].factory()), ARCHITECTURES[name].inputs()
    return module, analyse(trace(module, x)).graph, x


def without(graph: ChannelGraph, *names: str) -> Plan:
    """The plan that removes these blocks; all without a name."""
    gone = [b for b in graph.blocks if not names or b.name in names]
    return make_plan(graph, {g: 0 for b in gone for g in b.groups}, {})


LARGE = {"hourglass", "googlenet", "efficientnet", "densenet", "resnet50", "regnet_y", "ghostnet"}


@pytest.mark.parametrize("name", long(NAMES, LARGE))
def test_the_network_without_its_blocks_is_the_masked_one(name: str) -> None:
    module, graph, x = prepared(name)
    found, refused = removable(module, graph, x)
    assert not refused
    assert found.blocks == graph.blocks != ()
    for plan in (without(graph), without(graph, graph.blocks[0].name)):
        small = shrink(module, graph, plan)
        assert check_equal(mask(module, graph, plan), small, x, graph=graph, plan=plan).scale > 0
        assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in module.parameters())


def test_blocks_and_channels_go_together() -> None:
    module, graph, x = prepared("mobilenet_v3_small")
    halves = {g.name: g.size // 2 for g in graph.prunable}
    scores = {g.name: torch.rand(g.size).double().numpy() for g in graph.prunable}
    gone = {g: 0 for b in graph.blocks[-3:] for g in b.groups}
    plan = make_plan(graph, halves | gone, scores)
    assert {b.name for b in graph.removed(plan.empty)} >= {b.name for b in graph.blocks[-3:]}
    check_equal(mask(module, graph, plan), shrink(module, graph, plan), x, graph=graph, plan=plan)


class Pooled(nn.Module):
    """The branch pools its own channels, which torch cannot do without any; the other branch can go."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 2, 1)
        self.a, self.b, self.c, self.d = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.b(torch.max_pool2d(self.a(x), 3, 1, 1))
        return self.head(x + self.d(self.c(x)))


def test_a_block_that_does_not_run_without_channels_stays_and_says_why() -> None:
    module, x = Pooled().eval(), (torch.randn(1, 3, 8, 8),)
    graph = analyse(trace(module, x)).graph
    assert [b.groups for b in graph.blocks] == [("c",), ("a",)]
    found, refused = removable(module, graph, x)
    assert [b.groups for b in found.blocks] == [("c",)]
    (why,) = refused.values()
    assert "does not run" in why
    assert "test_pruning_blocks.py" in why


def test_a_group_cannot_be_emptied_alone() -> None:
    _, graph, _ = prepared("resnet50")
    first, *_ = graph.blocks
    with pytest.raises(PlanError, match=f"only the whole of block '{first.name}' can") as caught:
        make_plan(graph, {first.groups[0]: 0}, {})
    assert all(g in caught.value.hint for g in first.groups)


def test_layers_stay_what_they_are() -> None:
    module, graph, x = prepared("resnet20")
    small = shrink(module, graph, without(graph))
    assert [type(m).__name__ for m in small.modules()] == [type(m).__name__ for m in module.modules()]
    assert [n for n, _ in small.named_parameters()] == [n for n, _ in module.named_parameters()]
    assert all(isinstance(m, nn.Conv2d) for m in small.modules() if type(m).__name__ == "Conv2d")
    seen: list[torch.Size] = []
    small.stages[0][0].body[0][0].register_forward_hook(lambda _m, _x, y: seen.append(y.shape))
    small(*x)
    assert seen == [torch.Size([1, 0, 32, 32])]


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 4, 3, stride=2, padding=1, dilation=2),
        nn.Conv2d(6, 4, (1, 5), padding="same"),
        nn.Conv2d(6, 4, 4, padding="valid", bias=False),
        nn.Conv1d(6, 4, 3, stride=3),
        nn.Conv3d(6, 4, (1, 3, 3), padding=(0, 1, 1)),
        nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose1d(6, 4, 4, stride=3, dilation=2),
        nn.Linear(6, 4),
    ],
    ids=str,
)
@pytest.mark.parametrize("removed", ["in", "out"])
def test_an_emptied_layer_gives_what_the_masked_one_gives(layer: nn.Module, removed: str) -> None:
    rank = layer.weight.dim() - 2
    outer = [nn.Identity(), nn.Identity()]
    before, after = (nn.Linear(5, 6), nn.Linear(4, 5)) if not rank else outer
    if rank:
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        before, after = conv(5, 6, 1), conv(4, 5, 1)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.layer, self.after, self.head = before, layer, after, nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.after(self.layer(self.before(x)))
            return y.flatten(1).sum(1, keepdim=True) + x.flatten(1).sum(1, keepdim=True)

    x = (torch.randn(2, 5, *[9] * rank),)
    module = randomised(Net())
    graph = analyse(trace(module, x)).graph
    name = {"in": "before", "out": "layer"}[removed]
    (block,) = [b for b in graph.blocks if name in b.groups]
    plan = without(graph, block.name)
    found = check_equal(mask(module, graph, plan), shrink(module, graph, plan), x, graph=graph, plan=plan)
    assert found.scale > 0


def test_what_is_left_trains() -> None:
    module, graph, x = prepared("mobilenet_v3_small")
    small = shrink(module, graph, without(graph)).train()
    optimizer = torch.optim.SGD(small.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)
    before = {n: p.clone() for n, p in small.named_parameters()}
    small(x[0].repeat(2, 1, 1, 1)).square().sum().backward()
    optimizer.step()
    assert all(torch.isfinite(p).all() for p in small.parameters())
    assert any(not torch.equal(p, before[n]) for n, p in small.named_parameters())


def test_it_is_saved_and_read_again(tmp_path: Path) -> None:
    module, graph, x = prepared("mobilenet_v2")
    plan = without(graph)
    small = shrink(module, graph, plan)
    save_pruned(small, plan, tmp_path)
    again = load_pruned(randomised(ARCHITECTURES["mobilenet_v2"].factory(), 5), graph, tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(*x), small.eval()(*x))
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v3_small", "googlenet"])
def test_it_is_written_as_onnx(name: str, tmp_path: Path) -> None:
    module, graph, x = prepared(name)
    small = shrink(module, graph, without(graph)).eval()
    assert export_onnx(small, x, tmp_path / "net.onnx") <= 1e-5
