"""Results that take the place of an operand: never one that is read again, and with the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from compiler_nets import NETS, net
from kernel_harness import TARGETS, kernel, noise, run
from long_tests import long
from torch import Tensor, nn

from edgeprune.compiler.arena import lifetimes
from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.inplace import KEY, overwritten, places
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.compiler.layouts import stored_elements
from edgeprune.compiler.memory import plan_arena
from edgeprune.graph.network import Network, read_network
from edgeprune.graph.spec import TensorSpec
from edgeprune.models.zoo import ZOO, build
from edgeprune.targets import Target, load_target

TARGET = load_target("host")


class Twice(nn.Module):
    """A residual that is read again, one that is its own input, and one that is the network's input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        z = self.b(y) + y
        return self.c(z) * y + x  # type: ignore[no-any-return]


def network(name: str) -> Network:
    if name in ZOO:
        return read_network(build(name), (torch.zeros(ZOO[name].input_shape),))
    return read_network(*net(name))


def assert_every_read_finds_what_was_written(n: Network) -> int:
    """Replays the plan byte by byte; yields the size of the arena."""
    graph, over = n.kernels, overwritten(n.kernels)
    place = places(graph, over)
    schedules = [schedules_for(node.spec, TARGET)[0] for node in graph.nodes]
    plan = plan_arena(lifetimes(graph, schedules, TARGET, place))
    owner = np.full(plan.bytes // 4, -1)
    number = {t: i for i, t in enumerate(graph.tensors)}

    def slots(tensor: str) -> slice:
        start = plan.offsets[place.get(tensor, tensor)] // 4
        return slice(start, start + stored_elements(graph.tensors[tensor], TARGET.lanes))

    for port in graph.inputs:
        owner[slots(port.tensor)] = number[port.tensor]
    for step, node in enumerate(graph.nodes):
        for tensor in node.inputs:
            if tensor not in graph.constants:
                assert (owner[slots(tensor)] == number[tensor]).all(), f"{node.name} finds '{tensor}' overwritten"
        allowed = {-1, number[node.inputs[over[step]]]} if step in over else {-1}
        alive = {number[t] for later in graph.nodes[step:] for t in later.inputs} | {
            number[p.tensor] for p in graph.outputs
        }
        lost = set(np.unique(owner[slots(node.output)]).tolist()) & alive
        assert lost <= allowed, f"{node.name} overwrites what is read later"
        owner[slots(node.output)] = number[node.output]
    for port in (*graph.inputs, *graph.outputs):
        assert (owner[slots(port.tensor)] == number[port.tensor]).all() or port in graph.inputs
    return plan.bytes


@pytest.mark.parametrize("name", long([*ZOO, *(n for n in NETS if n not in ZOO)], ["resnet50"]))
def test_nothing_is_overwritten_that_is_read_again(name: str) -> None:
    assert_every_read_finds_what_was_written(network(name))


def test_what_is_read_again_or_belongs_to_the_caller_stays() -> None:
    n = read_network(Twice().eval(), (torch.randn(1, 3, 8, 8),))
    over = overwritten(n.kernels)
    written = {node.output: node.inputs[over[i]] for i, node in enumerate(n.kernels.nodes) if i in over}
    caller = {p.tensor for p in n.kernels.inputs}
    assert not caller & set(written.values())
    assert_every_read_finds_what_was_written(n)


@pytest.mark.parametrize(
    ("name", "share"), long([("resnet50", 0.85), ("resnet20", 0.85), ("mobilenet_v2", 1.0)], [("resnet50", 0.85)])
)
def test_residual_networks_need_less_memory(name: str, share: float) -> None:
    """``mobilenet_v2``: its busiest moment is an expansion, where there is no residual."""
    n = network(name)
    schedules = [schedules_for(node.spec, TARGET)[0] for node in n.kernels.nodes]
    apart = plan_arena(lifetimes(n.kernels, schedules, TARGET, {})).bytes
    assert len(overwritten(n.kernels)) >= 8
    assert assert_every_read_finds_what_was_written(n) <= share * apart


def test_the_bundle_says_which_operand_is_overwritten(tmp_path: Path) -> None:
    """The golden check of the bundle tests compares such a network with torch."""
    n = read_network(*net("residual"))
    manifest = compile_network(n, TARGET, tmp_path / "bundle", name="residual")
    assert [KEY in k.schedule for k in manifest.kernels] == [
        i in overwritten(n.kernels) for i in range(len(n.kernels.nodes))
    ]
    assert sum(KEY in k.schedule for k in manifest.kernels) >= 1


IMAGE = TensorSpec((2, 21, 6, 7))
WINDOW = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
ROW = TensorSpec((2, 37), "plain")
OPERANDS = {
    # spec whose last input is overwritten, weight
    "convolution": (
        kernel("conv2d", [IMAGE, IMAGE], IMAGE, ("bias", "add", "silu"), groups=1, **WINDOW),
        (21, 21, 3, 3),
    ),
    "depthwise": (kernel("conv2d", [IMAGE, IMAGE], IMAGE, ("bias", "mul", "relu"), groups=21, **WINDOW), (21, 1, 3, 3)),
    "grouped": (kernel("conv2d", [IMAGE, IMAGE], IMAGE, ("bias", "sub"), groups=3, **WINDOW), (21, 7, 3, 3)),
    "transposed": (
        kernel("conv_transpose2d", [IMAGE, IMAGE], IMAGE, ("bias", "add"), groups=1, **WINDOW),
        (21, 21, 3, 3),
    ),
    "dense": (kernel("dense", [ROW, ROW], ROW, ("bias", "add", "relu")), (37, 37)),
    "elementwise": (kernel("elementwise", [IMAGE, IMAGE], IMAGE, ("add", "gelu")), None),
    "rows": (kernel("elementwise", [ROW, ROW], ROW, ("rsub", "relu")), None),
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", OPERANDS)
def test_a_kernel_over_its_operand_gives_the_same(name: str, target: Target) -> None:
    spec, shape = OPERANDS[name]
    inputs = [noise(*t.shape, seed=i) for i, t in enumerate(spec.inputs)]
    weight, bias = (noise(*shape, seed=5), noise(shape[0], seed=6)) if shape else (None, None)
    rules = {s["rule"]: s for s in reversed(schedules_for(spec, target))}
    for schedule in rules.values():
        apart = run(spec, target, inputs, weight, bias, schedule)
        over = run(spec, target, inputs, weight, bias, {**schedule, KEY: len(inputs) - 1})
        assert np.array_equal(apart, over), schedule


def test_an_activation_over_its_input() -> None:
    spec, x = kernel("elementwise", [IMAGE], IMAGE, ("hardswish",)), noise(*IMAGE.shape)
    for schedule in schedules_for(spec, TARGETS[0]):
        over = run(spec, TARGETS[0], [x], schedule={**schedule, KEY: 0})
        assert np.array_equal(over, run(spec, TARGETS[0], [x], schedule=schedule))
