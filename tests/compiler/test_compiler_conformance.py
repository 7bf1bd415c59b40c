"""What holds of every operator of the table, on small networks of sizes that are chosen at random.

Pruned, it computes what the masked network does. Compiled, it computes what torch does, by every schedule that is
offered. It can be built at other widths. What follows it is computed in the same kernel, or refused there. A GPU builds
it, or says which operator it lacks. Every kernel rule is pinned by the TensorIR of one small kernel (golden files:
``pytest --update-golden`` writes them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_harness import TARGETS, run
from operator_nets import EXAMPLES, SIZES, Made, Sizes
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeprune.compiler.folding import folded
from edgeprune.compiler.kernels.base import Rule, Schedule
from edgeprune.compiler.kernels.registry import GPU_RULES, RULES, rule_named, schedules_for
from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.channels import KernelNode
from edgeprune.graph.network import Network, read_network
from edgeprune.graph.ops.convolution import pixelwise
from edgeprune.graph.ops.table import OPERATORS
from edgeprune.graph.spec import KernelSpec
from edgeprune.models.image_input import ImageInput
from edgeprune.models.interface import Interface
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import Target, load_target

CPU, GPU = TARGETS[-1], load_target("jetson_xavier_nx")

IN_NETWORKS = [op for op in OPERATORS if op != "image"]
"""No network holds ``image``: it stands in front of one (graph/image_input.py), and test_compiler_image_input.py holds
it to torch."""


def made(op: str, sizes: Sizes) -> Made:
    torch.manual_seed(sizes.width)
    module, inputs = EXAMPLES[op](sizes)
    return module.eval(), inputs


def holding(network: Network, op: str) -> list[KernelNode]:
    nodes = [node for node in network.kernels.nodes if node.spec.op == op]
    assert nodes, f"the example has no {op}: {[n.spec.op for n in network.kernels.nodes]}"
    return nodes


def executed(network: Network, inputs: Sequence[Tensor], target: Target) -> dict[str, np.ndarray]:
    """Every tensor of the network, kernel after kernel, each by its first schedule."""
    graph, state = network.kernels, {k: v.numpy() for k, v in network.module.state_dict().items()}
    state |= {name: recipe.values(state) for name, recipe in graph.computed.items()}
    values = {p.tensor: x.numpy() for p, x in zip(graph.inputs, inputs, strict=True)}
    for name, held in graph.constants.items():
        values[name] = np.asarray(state[held] if isinstance(held, str) else held, np.float32)
    for node in graph.nodes:
        values[node.output] = one(node, values, state, schedules_for(node.spec, target)[0], target)
    return values


def one(
    node: KernelNode, values: dict[str, np.ndarray], state: dict[str, np.ndarray], schedule: Schedule, target: Target
) -> np.ndarray:
    inputs = [values[t].reshape(s.shape) for t, s in zip(node.inputs, node.spec.inputs, strict=True)]
    return run(node.spec, target, inputs, *folded(node, state), schedule)


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.size == wanted.size
    assert np.abs(found.reshape(-1) - wanted.reshape(-1)).max() <= 1e-5 * max(np.abs(wanted).max(), 1e-3)


def test_every_operator_has_an_example():
    assert set(EXAMPLES) == set(IN_NETWORKS)


@pytest.mark.parametrize("op", IN_NETWORKS)
@settings(max_examples=2, deadline=None, derandomize=True)
@given(sizes=SIZES, seed=st.integers(0, 2**31))
def test_pruned_it_computes_what_the_masked_network_does(op: str, sizes: Sizes, seed: int) -> None:
    module, inputs = made(op, sizes)
    channels = read_network(module, inputs).channels
    rng = np.random.default_rng(seed)
    widths = {g.name: int(rng.integers(1, g.size + 1)) for g in channels.prunable}
    plan = make_plan(channels, widths, {g.name: rng.random(g.size) for g in channels.prunable})
    smaller = shrink(module, channels, plan)
    check_equal(mask(module, channels, plan), smaller, inputs, graph=channels, plan=plan)
    assert read_network(smaller, inputs).kernels.nodes


@pytest.mark.parametrize("op", IN_NETWORKS)
@settings(max_examples=1, deadline=None, derandomize=True)
@given(sizes=SIZES)
def test_compiled_it_computes_what_torch_does_by_every_schedule(op: str, sizes: Sizes) -> None:
    module, inputs = made(op, sizes)
    network = read_network(module, inputs)
    values = executed(network, inputs, CPU)
    with torch.no_grad():
        results = tree_leaves(module(*inputs))
    for port, wanted in zip(network.kernels.outputs, results, strict=True):
        close(values[port.tensor], wanted.numpy())
    state = {k: v.numpy() for k, v in module.state_dict().items()}
    node = holding(network, op)[0]
    for schedule in schedules_for(node.spec, CPU)[1:]:
        close(one(node, values, state, schedule, CPU), values[node.output])


def examples(op: str) -> list[KernelSpec]:
    module, inputs = made(op, Sizes(3, 12, 7, 6)) if op in EXAMPLES else RARE[op]
    return [node.spec for node in holding(read_network(module.eval(), inputs, INTERFACES.get(op)), op)]


def built(spec: KernelSpec, target: Target, number: int = 0) -> Schedule:
    """The schedule of this number, by which the kernel builds."""
    schedule = schedules_for(spec, target)[number]
    assert rule_named(schedule).build("k", spec, schedule, target) is not None
    return schedule


def offered(spec: KernelSpec, target: Target) -> Sequence[Schedule]:
    """All schedules, by each of which the kernel builds."""
    return [built(spec, target, number) for number in range(len(schedules_for(spec, target)))]


@pytest.mark.parametrize("op", OPERATORS)
def test_at_other_widths_it_can_be_built(op: str) -> None:
    """The profiler times a kernel at widths that no network has yet."""
    for spec in examples(op):
        for axis, size in spec.widths.items():
            for width in (1, 2, max(size // 2, 1), size + 2):
                other = spec.with_widths(**{axis: width * (spec.multiplier if spec.depthwise else 1)})
                assert other.family == spec.family or other == OPERATORS[op].smallest(spec)
                schedules = offered(other, CPU) if width > size else [built(other, CPU)]
                assert schedules


@pytest.mark.parametrize("op", IN_NETWORKS)
def test_what_follows_is_computed_in_the_same_kernel_or_refused(op: str) -> None:
    module, inputs = made(op, Sizes(3, 12, 7, 6))
    network = read_network(module, inputs)
    node = holding(network, op)[0]
    spec = node.spec
    if not OPERATORS[op].fuses:
        with pytest.raises(ValueError, match="nothing can be fused"):
            replace(spec, epilogue=(*spec.epilogue, "relu"))
        return
    values, state = executed(network, inputs, CPU), {k: v.numpy() for k, v in module.state_dict().items()}
    before = values[node.output]
    middle = float(np.median(before))
    longer = replace(node, spec=replace(spec, epilogue=(*spec.epilogue, f"plus:{-middle!r}", "relu")))
    for schedule in {s["rule"]: s for s in schedules_for(longer.spec, CPU)}.values():
        close(one(longer, values, state, schedule, CPU), np.maximum(before - np.float32(middle), 0))


@pytest.mark.parametrize("op", OPERATORS)
def test_a_gpu_builds_it_or_says_what_it_lacks(op: str) -> None:
    for spec in examples(op):
        if any(rule.matches(spec) for rule in GPU_RULES):
            assert offered(spec, GPU)
        else:
            with pytest.raises(UnsupportedOperatorError, match="cannot be built for a GPU yet") as caught:
                schedules_for(spec, GPU)
            assert caught.value.details["op"] == op


RARE: dict[str, Made] = {
    "conv_winograd": (nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3)), (torch.zeros(1, 8, 6, 6),)),
    "conv_grouped": (nn.Conv2d(16, 16, 3, groups=2), (torch.zeros(1, 16, 6, 6),)),
    "image": (nn.Conv2d(3, 8, 3), (torch.zeros(1, 3, 6, 6),)),
    "conv_blocks": (nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 20, 1)), (torch.zeros(1, 8, 6, 6),)),
}
"""Networks for rules that build nothing of the operators' examples."""

INTERFACES = {"image": Interface(image=ImageInput.parse("bgr:imagenet"))}
"""Of the programs of some of them."""


def small(networks: Iterable[Made], interface: Interface | None = None) -> Iterator[KernelSpec]:
    for module, inputs in networks:
        yield from (node.spec for node in read_network(module.eval(), inputs, interface).kernels.nodes)


def storing(spec: KernelSpec) -> bool:
    """Whether blocks of its weights may be stored alone, as no network says of itself."""
    return spec.op == "dense" or (spec.op == "conv2d" and pixelwise(spec))


@pytest.mark.parametrize("rule", [*RULES, *GPU_RULES], ids=lambda rule: rule.name)
def test_every_rule_writes_the_code_that_it_wrote(rule: Rule, golden: Callable[[str, str], None]) -> None:
    """The TensorIR of the first small kernel that the rule builds, by its first schedule; one target for all."""
    target = GPU if rule in GPU_RULES else load_target("x86_64_avx2")
    networks = [RARE[rule.name]] if rule.name in RARE else (made(op, Sizes(2, 6, 5, 5)) for op in IN_NETWORKS)
    known = small(networks, INTERFACES.get(rule.name))
    specs = (s.with_density(50) for s in known if storing(s)) if rule.in_blocks else known
    spec = next(s for s in specs if rule.matches(s) and rule.space(s, target))
    schedule = rule.space(spec, target)[0]
    text = rule.build("kernel", spec, schedule, target).script()
    golden(f"{rule.name}.tir", f"# {spec}\n# {dict(schedule)}\n{text}\n")
