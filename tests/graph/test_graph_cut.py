"""Which kernels a network is cut into, and that pruning changes nothing in them but widths."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import edgeprune
from edgeprune.compiler.compile import compile_network
from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.channels import KernelGraph, KernelNode
from edgeprune.graph.cutting.cut import cut
from edgeprune.graph.groups import analyse
from edgeprune.graph.network import read_network
from edgeprune.graph.spec import KernelSpec
from edgeprune.graph.trace import trace
from edgeprune.models.zoo import build
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import load_target

IMAGE = torch.randn(1, 3, 8, 8)


class Net(nn.Module):
    """A network from a function; layers by name."""

    def __init__(self, forward: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.function = forward

    def forward(self, *inputs: Tensor) -> object:
        return self.function(self, *inputs)


def conv(c_in: int = 3, c_out: int = 3, kernel: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, **options)  # type: ignore[arg-type]


def kernels(module: nn.Module, *inputs: Tensor) -> KernelGraph:
    program = trace(module, inputs or (IMAGE,))
    return cut(program, analyse(program))


def shown(graph: KernelGraph) -> list[str]:
    """``op+epilogue`` of every kernel in order, without the bias that all convolutions have."""
    return ["+".join([n.spec.op, *(e for e in n.spec.epilogue if e != "bias")]) for n in graph.nodes]


def only(graph: KernelGraph, op: str) -> KernelNode:
    (node,) = [n for n in graph.nodes if n.spec.op == op]
    return node


# -- fusion ---------------------------------------------------------------------------------------


def test_convolution_batch_norm_and_activation_are_one_kernel() -> None:
    net = nn.Sequential(conv(bias=False), nn.BatchNorm2d(3, eps=1e-3), nn.ReLU())
    graph = kernels(net)
    assert shown(graph) == ["conv2d+relu", "layout"]
    node = graph.nodes[0]
    assert node.weights.weight == "0.weight"
    assert node.weights.bias == ""
    assert node.weights.norm == ("1.weight", "1.bias", "1.running_mean", "1.running_var")
    assert node.weights.eps == 1e-3
    assert (node.name, node.module) == ("0", "0")
    assert node.spec.inputs[0].layout == "plain", "the first convolution reads the caller's image in place"


ACTIVATIONS = {
    "relu": nn.ReLU(inplace=True),
    "relu6": nn.Hardtanh(0.0, 6.0),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "sigmoid": nn.Sigmoid(),
    "silu": nn.SiLU(inplace=True),
    "tanh": nn.Tanh(),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_join(name: str) -> None:
    assert shown(kernels(nn.Sequential(conv(), ACTIVATIONS[name]))) == [f"conv2d+{name}", "layout"]


@pytest.mark.parametrize(
    ("clip", "name"), [(lambda x: x.clamp(min=0), "relu"), (lambda x: x.clamp(0, 6), "relu6"), (F.relu6, "relu6")]
)
def test_clips_are_activations(clip: Callable[[Tensor], Tensor], name: str) -> None:
    assert shown(kernels(Net(lambda s, x: clip(s.c(x)), c=conv()))) == [f"conv2d+{name}", "layout"]


STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "clip:-1.0,1.0": F.hardtanh,
    "clip:-inf,2.0": lambda x: x.clamp(max=2),
    "leaky_relu:0.01": F.leaky_relu,
    "leaky_relu:0.2": lambda x: F.leaky_relu_(x, 0.2),
    "elu:1.0": F.elu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "plus:3.0": lambda x: x + 3,
    "plus:-0.5": lambda x: x - 0.5,
    "times:2.0": lambda x: 2.0 * x,
    "times:0.25": lambda x: x / 4,
}


@pytest.mark.parametrize("step", STEPS)
def test_steps_with_numbers_join(step: str) -> None:
    assert shown(kernels(Net(lambda s, x: STEPS[step](s.c(x)), c=conv()))) == [f"conv2d+{step}", "layout"]


@pytest.mark.parametrize(("kernel", "dilation", "padding"), [(3, 1, 1), (5, 1, 2), (3, 2, 2), (1, 1, 0), (2, 2, 1)])
def test_the_same_padding_is_a_number(kernel: int, dilation: int, padding: int) -> None:
    module = nn.Conv2d(3, 4, kernel, dilation=dilation, padding="same")
    (node, _) = kernels(module).nodes
    assert node.spec.attr("padding") == (padding, padding)


def test_residual_and_its_activation_join_the_last_convolution() -> None:
    net = Net(lambda s, x: F.relu((y := F.relu(s.a(x))) + s.c(s.b(y))), a=conv(), b=conv(), c=conv())
    graph = kernels(net)
    assert shown(graph) == ["conv2d+relu", "conv2d", "conv2d+add+relu", "layout"]
    last = graph.nodes[2]
    assert last.inputs == (graph.nodes[1].output, graph.nodes[0].output)


def test_a_projected_shortcut_runs_before_the_kernel_that_adds_it() -> None:
    net = Net(lambda s, x: F.relu(s.a(x) + s.b(x)), a=conv(), b=conv(kernel=1))
    graph = kernels(net)
    assert shown(graph) == ["conv2d", "conv2d+add+relu", "layout"]
    assert graph.nodes[0].spec.attr("kernel") == (1, 1)
    assert graph.nodes[1].inputs == (graph.inputs[0].tensor, graph.nodes[0].output)


def test_a_value_with_two_readers_is_kept() -> None:
    net = Net(lambda s, x: s.b(F.relu(y := s.a(x))) + s.c(y), a=conv(), b=conv(), c=conv())
    assert shown(kernels(net)) == ["conv2d", "elementwise+relu", "conv2d", "conv2d+add", "layout"]


def test_an_output_that_is_also_read_is_kept() -> None:
    net = Net(lambda s, x: (y := s.a(x), F.relu(y)), a=conv())
    graph = kernels(net)
    assert shown(graph) == ["conv2d", "layout", "elementwise+relu", "layout"]
    assert [p.tensor for p in graph.outputs] == [graph.nodes[1].output, graph.nodes[3].output]


def test_a_batch_norm_behind_an_activation_stands_alone() -> None:
    graph = kernels(nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(3)))
    assert shown(graph) == ["conv2d+relu", "conv2d", "layout"]
    assert graph.nodes[1].spec.depthwise
    assert graph.nodes[1].weights.weight == ""
    assert graph.nodes[1].weights.norm is not None


def test_a_squeeze_and_excite_gate() -> None:
    def forward(s: nn.Module, x: Tensor) -> Tensor:
        y = s.a(x)
        return s.d(y * F.hardsigmoid(s.c(F.relu(s.b(y.mean((2, 3), keepdim=True))))))

    graph = kernels(Net(forward, a=conv(), b=conv(3, 2, 1), c=conv(2, 3, 1), d=conv()))
    expected = ["conv2d", "global_avg_pool", "conv2d+relu", "conv2d+hardsigmoid", "elementwise+mul", "conv2d", "layout"]
    assert shown(graph) == expected
    gate = graph.nodes[4]
    assert gate.inputs == (graph.nodes[0].output, graph.nodes[3].output)
    assert [t.shape for t in gate.spec.inputs] == [(1, 3, 8, 8), (1, 3, 1, 1)]


def test_a_gate_on_a_value_of_its_own_joins() -> None:
    net = Net(lambda s, x: s.b(x.mean((2, 3), keepdim=True)) * s.a(x), a=conv(), b=conv(kernel=1))
    assert shown(kernels(net)) == ["layout", "global_avg_pool", "conv2d", "conv2d+mul", "layout"]


def test_a_dense_layer_reads_a_flattened_image_in_place() -> None:
    graph = kernels(nn.Sequential(conv(3, 5), nn.Flatten(), nn.Linear(5 * 64, 4)))
    assert shown(graph) == ["conv2d", "dense"]
    dense = graph.nodes[1].spec
    assert dense.inputs[0].shape == (1, 5, 8, 8)
    assert dense.inputs[0].layout == "blocked"
    assert dense.output.layout == "plain"
    assert graph.nodes[1].axes["in"].groups == ("0",), "the width is channels, not features"


def test_a_dense_layer_reads_a_flattened_input_in_place() -> None:
    graph = kernels(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4)))
    assert shown(graph) == ["dense"]
    assert graph.nodes[0].spec.inputs[0].shape == (1, 192)
    assert graph.nodes[0].spec.inputs[0].layout == "plain"


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda x: F.adaptive_avg_pool2d(x, 1).view(1, -1),
        lambda x: F.adaptive_avg_pool2d(x, 1).squeeze((2, 3)),
        lambda x: x.mean((2, 3)),
        lambda x: x.mean((-1, -2), keepdim=True).flatten(1),
    ],
)
def test_global_pooling_and_a_dense_layer(pool: Callable[[Tensor], Tensor]) -> None:
    net = Net(lambda s, x: s.fc(F.dropout(pool(s.a(x)), 0.2, s.training)), a=conv(3, 5), fc=nn.Linear(5, 4))
    graph = kernels(net)
    assert shown(graph) == ["conv2d", "global_avg_pool", "dense"]
    assert graph.nodes[2].spec.inputs[0].shape == (1, 5, 1, 1)


def test_dense_residual_and_activation() -> None:
    net = Net(lambda s, x: F.relu(s.a(x) + x), a=nn.Linear(6, 6))
    graph = kernels(net, torch.randn(2, 6))
    assert shown(graph) == ["dense+add+relu"]
    assert graph.nodes[0].inputs == (graph.inputs[0].tensor,) * 2


def test_a_concat_takes_nothing_in_and_lets_nothing_behind_it_join() -> None:
    net = Net(lambda s, x: F.relu(torch.cat([s.a(x), F.relu(s.b(x))], 1)), a=conv(3, 5), b=conv(3, 4))
    graph = kernels(net)
    assert shown(graph) == ["conv2d", "conv2d+relu", "concat", "elementwise+relu", "layout"]
    assert only(graph, "concat").spec.output.channels == 9


def test_pooling_takes_activations_in() -> None:
    net = nn.Sequential(
        conv(), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.ReLU(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1)
    )
    graph = kernels(net)
    assert shown(graph) == ["conv2d", "max_pool2d+relu", "avg_pool2d", "global_avg_pool", "layout"]
    assert only(graph, "max_pool2d").spec.output.shape == (1, 3, 5, 5)


def test_pooling_of_an_input_converts_it_once() -> None:
    net = Net(lambda s, x: F.max_pool2d(x, 2) + F.avg_pool2d(x, 2))
    graph = kernels(net)
    assert shown(graph) == ["layout", "avg_pool2d", "max_pool2d+add", "layout"]


def test_adaptive_pooling_that_divides_is_a_window() -> None:
    graph = kernels(nn.Sequential(conv(), nn.AdaptiveAvgPool2d((2, 4)), nn.AdaptiveAvgPool2d((2, 4))))
    assert shown(graph) == ["conv2d", "avg_pool2d", "layout"]
    assert only(graph, "avg_pool2d").spec.attr("kernel") == (4, 2)


def test_every_image_that_leaves_is_plain() -> None:
    net = Net(lambda s, x: {"a": s.a(x), "b": s.b(x).flatten(1), "c": s.b(x).mean((2, 3))}, a=conv(), b=conv(3, 4))
    graph = kernels(net)
    assert [p.shape for p in graph.outputs] == [(1, 3, 8, 8), (1, 256), (1, 4)]
    assert all(graph.tensors[p.tensor].layout == "plain" for p in graph.outputs)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "squeezenet", "vgg11_bn"])
def test_the_plan_of_a_whole_network_is_in_order(name: str) -> None:
    """Each tensor is written once, before it is read, and has the shape and layout its readers expect."""
    size = 32 if name == "vgg11_bn" else 64
    graph = kernels(build(name, width=0.25), torch.randn(1, 3, size, size))
    written = {p.tensor for p in graph.inputs}
    for node in graph.nodes:
        assert set(node.inputs) <= written
        assert node.output not in written
        written.add(node.output)
        for tensor, spec in zip((*node.inputs, node.output), (*node.spec.inputs, node.spec.output), strict=True):
            assert math.prod(graph.tensors[tensor].shape) == math.prod(spec.shape)
            assert graph.tensors[tensor].layout == spec.layout
    assert {p.tensor for p in graph.outputs} <= written
    assert len({n.name for n in graph.nodes}) == len(graph.nodes)


def test_a_name_of_the_users_does_not_meet_one_of_ours() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, x_blocked: Tensor) -> Tensor:
            return F.max_pool2d(x, 2) + F.max_pool2d(x_blocked, 2)

    graph = kernels(Two(), IMAGE, IMAGE.clone())
    outputs = [n.output for n in graph.nodes]
    assert [p.name for p in graph.inputs] == ["x", "x_blocked"]
    assert len({*outputs, "x", "x_blocked"}) == len(outputs) + 2


# -- the hinge ------------------------------------------------------------------------------------


def predicted(node: KernelNode, width: Callable[[str], int]) -> KernelSpec:
    """The spec of a node at the widths a plan gives to the groups of its axes."""
    return node.spec.with_widths(**{a: b.base + sum(map(width, b.groups)) for a, b in node.axes.items()})


class Branches(nn.Module):
    """Concat of unlike branches, a flatten with pixels, a depthwise convolution and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 12), conv(3, 7)
        self.dw, self.c = conv(19, 19, groups=19), conv(19, 19)
        self.fc, self.out = nn.Linear(19 * 16, 9), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dw(torch.cat([F.relu(self.a(x)), self.b(x)], 1))
        y = F.max_pool2d(F.relu(y + self.c(y)), 2)
        return self.out(F.relu(self.fc(y.flatten(1))))  # type: ignore[no-any-return]


class Grouped(nn.Module):
    """Grouped convolutions of unlike numbers of groups, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 24), conv(24, 48, groups=4)
        self.c, self.d = conv(48, 12, groups=2), conv(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.d(F.relu(self.c(F.relu(self.b(F.relu(self.a(x)))))))  # type: ignore[no-any-return]


HINGE: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet20": (lambda: build("resnet20"), 16),
    "mobilenet_v3_small": (lambda: build("mobilenet_v3_small", width=0.5), 32),
    "branches": (Branches, 8),
    "grouped": (Grouped, 8),
}


@pytest.mark.parametrize("name", HINGE)
@pytest.mark.parametrize("narrowest", [False, True])
def test_a_pruned_network_is_cut_into_the_kernels_that_were_predicted(name: str, narrowest: bool) -> None:
    factory, size = HINGE[name]
    module, x = factory().eval(), torch.randn(1, 3, size, size)
    program = trace(module, (x,))
    analysis = analyse(program)
    before = cut(program, analysis)
    random = np.random.default_rng(3)
    groups = analysis.graph.prunable
    widths = {g.name: 1 if narrowest else int(random.integers(1, g.size + 1)) for g in groups}
    plan = make_plan(analysis.graph, widths, {g.name: random.random(g.size) for g in groups})
    after = kernels(shrink(module, analysis.graph, plan), x)
    assert [n.name for n in after.nodes] == [n.name for n in before.nodes]
    assert len(groups) >= 3
    for old, new in zip(before.nodes, after.nodes, strict=True):
        spec = predicted(old, plan.width)
        if spec.op == "concat":  # how a total is shared out is the one thing with_widths guesses
            assert (spec.output, spec.widths) == (new.spec.output, new.spec.widths)
        else:
            assert new.spec == spec, old.name


@pytest.mark.parametrize("name", HINGE)
def test_axes_add_up_to_the_widths(name: str) -> None:
    factory, size = HINGE[name]
    program = trace(factory().eval(), (torch.randn(1, 3, size, size),))
    analysis = analyse(program)
    for node in cut(program, analysis).nodes:
        assert predicted(node, lambda g: analysis.graph[g].size) == node.spec
        assert set(node.axes) == set(node.spec.widths)


# -- what cannot be compiled ----------------------------------------------------------------------

UNSUPPORTED: dict[str, tuple[nn.Module, str]] = {
    "no kernel": (Net(lambda s, x: torch.lgamma(s.c(x)), c=conv()), "aten.lgamma.default"),
    "no kernel, no layer": (Net(lambda s, x: s.c(x).cummax(1)[0], c=conv()), "aten.cummax.default"),
    "softmax in double": (Net(lambda s, x: s.c(x).softmax(1, torch.float64), c=conv()), "another type"),
    "alpha": (Net(lambda s, x: torch.add(s.c(x), x, alpha=2), c=conv()), "alpha"),
    "uneven padding": (nn.Conv2d(3, 4, 2, padding="same"), "differs from side to side"),
    "places of a maximum": (Net(lambda s, x: F.max_pool2d(s.c(x), 2, return_indices=True)[1], c=conv()), "part 1 of"),
    "computed projection": (
        Net(lambda s, x: s.g(x[0])[0], g=weight_norm(nn.LSTM(8, 4, proj_size=3), "weight_hr_l0")),
        "its weight .* is computed, not a parameter",
    ),
    "drawn at random": (Net(lambda s, x: s.c(x) + torch.rand(1, 3, 8, 8), c=conv()), "aten.rand.default"),
    "computed weight": (
        Net(lambda s, x: F.conv2d(x, s.c.weight * x.mean()), c=conv()),
        "not an activation|computed",
    ),
    "norm without statistics": (nn.Sequential(conv(), nn.BatchNorm2d(3, track_running_stats=False)), "running stat"),
    "its own buffer": (
        Net(lambda s, x: (s.bn(s.c(x)), s.bn.running_mean[None]), c=conv(), bn=nn.BatchNorm2d(3)),
        "bn.running_mean",
    ),
    "its own parameter": (Net(lambda s, x: (s.c(x), s.c.weight), c=conv()), "returns 'c.weight', a parameter"),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_no_kernel_computes_is_refused(case: str) -> None:
    module, text = UNSUPPORTED[case]
    channels = getattr(module, "in_channels", 3)
    with pytest.raises(UnsupportedOperatorError, match=text) as caught:
        kernels(module, torch.randn(1, channels, 8, 8))
    assert caught.value.hint


class Deep(nn.Module):
    """The fault lies two modules down."""

    class Bad(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cummax(x, 1)[0]  # the line that is named

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(), self.Bad())

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)  # type: ignore[no-any-return]


def test_the_message_names_node_module_and_line() -> None:
    """An operator that no kernel can be made of (docs/FAULTS.md, 5)."""
    lines = Path(__file__).read_text().splitlines()
    source = f"{__file__}:{next(i for i, line in enumerate(lines, 1) if 'the line that is named' in line)}"
    with pytest.raises(UnsupportedOperatorError) as caught:
        kernels(Deep())
    error = caught.value
    assert error.details == {
        "node": "cummax",
        "operator": "aten.cummax.default",
        "module": "body.1",
        "source": source,
    }
    for part in ("aten.cummax.default", "'cummax'", "'body.1'", source):
        assert part in error.message
    assert "OPERATORS.md" in error.hint


class Returning(nn.Module):
    """What no kernel computes: its inputs, one of them seen from the side, and constants."""

    def forward(self, image: Tensor, row: Tensor, one: Tensor) -> tuple[Tensor, ...]:
        return image, image.mT, row, one, row.relu() + one, torch.ones(2, 3), torch.arange(3), torch.tensor(2.5)


def test_inputs_of_any_rank_and_results_that_nothing_computes(tmp_path: Path) -> None:
    inputs = (torch.randn(1, 3, 4, 5), torch.randn(3), torch.randn(()))
    compile_network(read_network(Returning(), inputs), load_target("host"), tmp_path / "bundle")
    with edgeprune.load_bundle(tmp_path / "bundle") as program:
        found = program(*(x.numpy() for x in inputs))
    for actual, expected in zip(found, Returning()(*inputs), strict=True):
        np.testing.assert_allclose(actual, expected.float().numpy(), rtol=1e-6)


# -- in-place operators ---------------------------------------------------------------------------


def copy_before(s: nn.Module, x: Tensor) -> Tensor:
    y = s.c(x)
    z = y.clone()
    y.relu_()
    return y + z


def same_name(s: nn.Module, x: Tensor) -> Tensor:
    y = s.c(x)
    z = y
    F.relu(y, inplace=True)
    return F.avg_pool2d(y, 2) + F.max_pool2d(z, 2)


def read_before(s: nn.Module, x: Tensor) -> Tensor:
    y = s.c(x)
    z = F.max_pool2d(y, 2)
    y.sigmoid_()
    return z + F.avg_pool2d(y, 2)


def added_in_place(s: nn.Module, x: Tensor) -> Tensor:
    y = s.c(x)
    y += x
    y.add_(y)
    return y.tanh_()  # type: ignore[no-any-return]


def changed_input(s: nn.Module, x: Tensor) -> Tensor:
    y = s.c(x)
    x.sigmoid_()
    return s.c(x) + y  # type: ignore[no-any-return]


def through_a_view(s: nn.Module, x: Tensor) -> Tensor:
    """Read through the name that was changed."""
    y = s.c(x)
    y.flatten(1).relu_()
    return y.tanh_()  # type: ignore[no-any-return]


def view_before(s: nn.Module, x: Tensor) -> Tensor:
    y = s.c(x)
    row = y.flatten(1)
    y.relu_()
    return row


def dropped(s: nn.Module, x: Tensor) -> Tensor:
    """In evaluation, dropout gives its operand back, not a copy."""
    y = s.c(x)
    F.dropout(y, 0.5, s.training).sigmoid_()
    return F.avg_pool2d(y, 2)


def detached(s: nn.Module, x: Tensor) -> Tensor:
    y = s.c(x)
    z = y.detach()
    y.sigmoid_()
    return F.max_pool2d(z, 2)


@pytest.mark.parametrize("forward", [copy_before, same_name, read_before, added_in_place, changed_input])
def test_in_place_operators_compute_what_torch_computes(forward: Callable[..., Tensor], tmp_path: Path) -> None:
    module = Net(forward, c=conv()).eval()
    compile_network(read_network(module, (IMAGE,)), edgeprune.load_target("host"), tmp_path / "bundle")
    with edgeprune.load_bundle(tmp_path / "bundle") as model:
        (actual,) = model(IMAGE.numpy())
    with torch.no_grad():
        expected = module(IMAGE.clone())
    np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-4, atol=1e-5)


def permuted(s: nn.Module, x: Tensor) -> Tensor:
    y = s.c(x)
    z = y.permute(0, 2, 3, 1)
    y.sigmoid_()
    return z


def half(s: nn.Module, x: Tensor) -> Tensor:
    y = s.c(x)
    first, _ = y.chunk(2, 2)
    y.sigmoid_()
    return first


def literals(s: nn.Module, x: Tensor) -> Tensor:
    """A map of coordinates, made of lists of tensors that depend on nothing."""
    line = torch.linspace(-1, 1, 8)
    place = torch.stack(
        [line[None].expand(8, 8), line[:, None].expand(8, 8), torch.cat([line, line]).view(2, 8)[:1].expand(8, 8)]
    )
    return s.c(x) + place


def two_shapes(s: nn.Module, x: Tensor) -> Tensor:
    """The same plain data as images of two shapes, and copied for readers of different rank."""
    rows = x.softmax(3)
    wide, tall = rows.reshape(1, 3, 4, 16), rows.reshape(1, 3, 16, 4)
    turned = rows.permute(0, 1, 3, 2)
    return (
        F.max_pool2d(wide, 2).mean((2, 3), keepdim=True)
        + F.max_pool2d(tall, 4).mean((2, 3), keepdim=True)
        + s.c(turned)
        + turned.unsqueeze(2).squeeze(2)
    )


@pytest.mark.parametrize("forward", [literals, two_shapes])
def test_data_that_is_seen_in_many_ways_gives_what_torch_gives(forward: Callable[..., Tensor], tmp_path: Path) -> None:
    module = Net(forward, c=conv()).eval()
    compile_network(read_network(module, (IMAGE,)), edgeprune.load_target("host"), tmp_path / "bundle")
    with edgeprune.load_bundle(tmp_path / "bundle") as model:
        (actual,) = model(IMAGE.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(actual, module(IMAGE).numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("forward", [through_a_view, view_before, dropped, detached, permuted, half])
def test_a_change_that_another_name_shows_is_refused(forward: Callable[..., Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export on aliased names
        with pytest.raises(UnsupportedOperatorError, match=r"in place, which '.*' reads afterwards") as caught:
            kernels(Net(forward, c=conv()).eval())
    assert caught.value.details["operator"].split(".")[1].endswith("_")
    assert "inplace=False" in caught.value.hint


def test_a_kernel_that_goes_on_runs_behind_what_it_goes_on_with() -> None:
    """The mask of attention is computed before the scores that are added to it in the mask's own kernel."""
    linear = {"q": nn.Linear(8, 8), "b": nn.Linear(8, 5)}
    net = Net(lambda m, x: F.scaled_dot_product_attention(y := m.q(x), y, y, attn_mask=m.b(x)), **linear)
    graph = kernels(net, torch.randn(1, 5, 8))
    ready = {p.tensor for p in graph.inputs}
    for node in graph.nodes:
        assert ready.issuperset(node.inputs), node.name
        ready.add(node.output)
    assert "dense+add" in shown(graph)


def test_a_step_that_cannot_be_turned_is_not_joined_by_the_kernel_of_its_right_operand() -> None:
    net = Net(lambda m, x: F.prelu(y := m.a(x), y.abs().mean(0)), a=nn.Linear(4, 6))
    assert [s for s in shown(kernels(net, torch.randn(1, 4))) if "prelu" in s] == ["strided+prelu"]


def test_channels_are_known_behind_pooling_that_changes_nothing() -> None:
    net = Net(lambda m, x: m.b(F.adaptive_max_pool2d(m.a(x), x.shape[2:])), a=conv(3, 6), b=conv(6, 2))
    *_, last = (n for n in kernels(net).nodes if n.spec.op == "conv2d")
    assert last.axes["in"].groups


def test_a_volume_without_a_batch_is_refused_by_name() -> None:
    net = Net(lambda m, x: m.up(x), up=nn.ConvTranspose3d(2, 3, 2, stride=2))
    with pytest.raises(UnsupportedOperatorError, match="conv_transpose3d"):
        kernels(net, torch.randn(2, 4, 4, 4))
