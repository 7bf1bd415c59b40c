from __future__ import annotations

import operator
import time
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.graph.aten.families import RULES
from edgeprune.graph.aten.table import rule
from edgeprune.graph.channels import AxisBinding, ChannelGraph, Member
from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.models.zoo import build

X = (torch.randn(1, 3, 32, 32),)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1)
        self.fc = nn.Linear(6 * 4, 5)

    def between(self, x: Tensor) -> Tensor:
        return F.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self.b(self.between(self.bn(self.a(x)))), 2), 1))


def test_members_axes_and_frozen_ends() -> None:
    analysis = analyse(trace(Small(), X))
    graph = analysis.graph
    assert [(g.name, g.size, g.frozen) for g in graph.groups] == [
        ("x", 3, "graph input 'x'"),
        ("a", 4, ""),
        ("b", 6, ""),
        ("fc", 5, "graph output 'linear'"),
    ]
    assert graph["a"].members == (
        Member("a.weight", 0),
        Member("a.bias", 0),
        Member("bn.weight", 0),
        Member("bn.bias", 0),
        Member("bn.running_mean", 0),
        Member("bn.running_var", 0),
        Member("b.weight", 1, role="in"),
    )
    assert Member("fc.weight", 1, 0, 4, "in") in graph["b"].members
    assert analysis.axes["relu"] == AxisBinding(("a",))
    assert analysis.axes["flatten"] == AxisBinding(("b",) * 4)
    assert analysis.axes["x"] == AxisBinding(("x",))


def assert_consistent(graph: ChannelGraph, module: nn.Module) -> None:
    """Every position of a parameter belongs to one group at most, and names are those of the state dict."""
    tensors = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers())
    claimed: set[tuple[str, int, int]] = set()
    for group in graph.groups:
        for m in group.members:
            stop = m.start + group.size * m.repeat
            assert stop <= tensors[m.param].shape[m.dim]
            here = {(m.param, m.dim, i) for i in range(m.start, stop)}
            assert not here & claimed
            claimed |= here


class Channels(nn.Module):
    """An unusual operator between two convolutions."""

    def __init__(self, between: Any) -> None:
        super().__init__()
        self.a, self.b, self.between = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), between

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x))).mean((2, 3)) * 0 + 1


@torch.library.custom_op("edgeprune_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return 2 * x


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class TestUnknownOperators:
    """An unknown operator (docs/FAULTS.md, 5): never taken for element-wise, and named in the reason."""

    @pytest.mark.parametrize(
        ("between", "operator"),
        [
            (lambda x: torch.ops.edgeprune_test.twice(x), "edgeprune_test.twice.default"),
            (lambda x: torch.cumsum(x, 1), "aten.cumsum.default"),
            (lambda x: torch.flip(x, (1,)), "aten.flip.default"),
            (lambda x: torch.sort(x, 1)[0], "aten.sort.default"),
            (lambda x: torch.roll(x, 1, 1), "aten.roll.default"),
            (lambda x: x.view(1, 2, 2, 32, 32).sum(2).repeat(1, 2, 1, 1), "aten.view.default"),
        ],
    )
    def test_freeze_what_they_touch_and_are_named(self, between: Any, operator: str) -> None:
        graph = analyse(trace(Channels(between), X)).graph
        reason = graph["a"].frozen
        assert operator in reason
        assert "test_graph_groups.py" in reason
        reads_b = next(g for g in graph.groups if any(m.param == "b.weight" and m.dim == 1 for m in g.members))
        assert reads_b.frozen

    def test_computed_weights_are_frozen(self) -> None:
        class Standardised(nn.Conv2d):
            def forward(self, input: Tensor) -> Tensor:
                return F.conv2d(input, self.weight / self.weight.std((1, 2, 3), keepdim=True), self.bias)

        module = nn.Sequential(nn.Conv2d(3, 4, 1), Standardised(4, 4, 1), nn.Conv2d(4, 4, 1))
        graph = analyse(trace(module, X)).graph
        assert not graph.prunable

    def test_parameter_of_an_unknown_operator_is_frozen_also_where_it_is_used_later(self) -> None:
        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(3, 4, 1)

            def forward(self, x: Tensor) -> Tensor:
                penalty = torch.cumsum(self.conv.weight, 0).sum()
                return self.conv(x).mean((1, 2, 3)) + penalty

        graph = analyse(trace(Both(), X)).graph
        assert "cumsum" in graph["conv"].frozen

    @pytest.mark.parametrize(
        ("between", "reason"),
        [
            (lambda x: x + x.mean(1, keepdim=True), "reduced over channels"),
            (lambda x: x.softmax(1), "softmax over channels"),
            (lambda x: torch.cat([x[:, 1:], x[:, :1]], 1), "sliced"),
            (lambda x: torch.cat(torch.split(x, [1, 3], 1), 1), "split at sizes"),
            (lambda x: F.pad(x, (0, 0, 0, 0, 1, 0))[:, 1:], "sliced"),
            (lambda x: F.pad(x, (0, 0, 0, 0, 0, 1), mode="replicate")[:, 1:], "part of aten.pad"),
            (lambda x: x / (x.abs() + 1), "division by a tensor"),
            (lambda x: F.max_pool2d(x.permute(0, 2, 1, 3), 1).permute(0, 2, 1, 3), "pools or resizes"),
        ],
    )
    def test_rules_that_refuse_say_why(self, between: Any, reason: str) -> None:
        frozen = analyse(trace(Channels(between), X)).graph["a"].frozen
        assert reason in frozen
        assert "test_graph_groups.py" in frozen


def test_second_rule_for_an_overload_fails_loudly() -> None:
    before = dict(RULES)
    with pytest.raises(ValueError, match="getitem"):
        rule(operator.getitem)(lambda flow, node: None)
    assert before == RULES


def test_input_that_is_also_output_and_several_inputs() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            return self.b(self.a(x)) + self.a(y), x

    graph = analyse(trace(Two(), (X[0], X[0]))).graph
    assert {g.name: g.size for g in graph.groups if g.frozen} == {"x": 3, "a": 4}
    assert not graph.prunable


@pytest.mark.parametrize(
    "name", ["resnet20", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "squeezenet", "vgg11_bn", "densenet"]
)
def test_groups_equal_torch_prunings(name: str) -> None:
    """The oracle: for each layer, the out- and in-slices that fall with its channel 0, and with all of them."""
    module = densenet((2, 3), 16, 8).eval() if name == "densenet" else build(name)
    graph = analyse(trace(module, X)).graph
    assert_consistent(graph, module)
    layers = {n: m for n, m in module.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    checked = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch_pruning as tp

        oracle = tp.DependencyGraph().build_dependency(module, example_inputs=X[0])
        for root, layer in layers.items():
            group = next(g for g in graph.groups if Member(f"{root}.weight", 0) in g.members)
            if group.frozen:
                continue
            for channels in ([0], list(range(group.size))):
                theirs = _slices_of_oracle(tp, oracle.get_pruning_group(layer, _prune_out(tp, layer), idxs=channels))
                ours = {
                    (m.param, m.dim, tuple(m.start + c * m.repeat + r for c in channels for r in range(m.repeat)))
                    for m in group.members
                    if m.param.removesuffix(".weight") in layers
                }
                assert ours == theirs, root
            checked += 1
    assert checked > 5


def _prune_out(tp: Any, layer: nn.Module) -> Any:
    if isinstance(layer, nn.Linear):
        return tp.prune_linear_out_channels
    return tp.prune_depthwise_conv_out_channels if layer.groups > 1 else tp.prune_conv_out_channels


def _slices_of_oracle(tp: Any, group: Any) -> set[tuple[str, int, tuple[int, ...]]]:
    slices = set()
    for dependency, idxs in group:
        layer, handler = dependency.target.module, dependency.handler.__name__
        if not isinstance(layer, (nn.Conv2d, nn.Linear)):
            continue
        depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
        dim = 0 if depthwise or "out" in handler else 1
        name = dependency.target.name.split(" ")[0]
        slices.add((f"{name}.weight", dim, tuple(idxs)))
    return slices


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.norm(self.conv(x)))


class Dense(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.n1, self.c1 = nn.BatchNorm2d(width), nn.Conv2d(width, 4 * growth, 1, bias=False)
        self.n2, self.c2 = nn.BatchNorm2d(4 * growth), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.c2(F.relu(self.n2(self.c1(F.relu(self.n1(x))))))], 1)


def densenet(blocks: tuple[int, ...], width: int, growth: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, width, 7, 2, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for i, n in enumerate(blocks):
        for _ in range(n):
            layers.append(Dense(width, growth))
            width += growth
        if i < len(blocks) - 1:
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1), nn.AvgPool2d(2)]
            width //= 2
    head = [nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(*layers, *head)


class TestTimeOfAnalysis:
    """It follows the number of layers, not of channels; limits are some hundred times what it takes."""

    def seconds(self, module: nn.Module) -> tuple[float, ChannelGraph]:
        program = trace(module, (torch.randn(1, 3, 32, 32),))
        start = time.process_time()
        graph = analyse(program).graph
        return time.process_time() - start, graph

    def test_densenet121(self) -> None:
        took, graph = self.seconds(densenet((6, 12, 24, 16), 64, 32))
        assert len(graph.prunable) == 120
        assert took < 5

    def test_long_chain_of_residuals(self) -> None:
        layers = [nn.Conv2d(3, 512, 1), *(Residual(512) for _ in range(200)), nn.Conv2d(512, 4, 1)]
        took, graph = self.seconds(nn.Sequential(*layers))
        assert [g.size for g in graph.prunable] == [512]
        assert len(graph.prunable[0].members) == 2 + 200 * 6 + 1
        assert took < 5
