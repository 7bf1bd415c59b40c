"""Kernels that store blocks of their weights: any pattern gives what torch gives of the whole weights.

Masks are drawn here; what is zero in a weight is what a kernel finds by itself.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from block_nets import Head, Pattern, X, masked, nothing, random, uneven
from kernel_harness import TARGETS, Array, apply_epilogue, assert_close, kernel, noise, run

import edgeprune
from edgeprune.compiler.compile import compile_network, weights_of
from edgeprune.compiler.in_blocks import choose_blocks, found_in_blocks, in_blocks
from edgeprune.compiler.kernels.registry import rule_named, schedules_for, stores_blocks
from edgeprune.compiler.kernels.stored_blocks import drawn_pattern, pattern_of, stored_of
from edgeprune.compiler.layouts import ALIGNMENT
from edgeprune.compiler.memory import aligned
from edgeprune.compiler.objects import build_object, machine_code
from edgeprune.compiler.program import timing_program, write_program
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.fake import FakeDevice
from edgeprune.errors import UsageError
from edgeprune.graph.network import Network, read_network
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.latency.records import KernelRecord
from edgeprune.targets import load_target

every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)


PATTERNS = (random, uneven, nothing)


def conv1x1(
    shape: tuple[int, int, int, int], out: int, stride: int, epilogue: tuple[str, ...], pattern: Pattern
) -> tuple[KernelSpec, list[Array], Array, Array, torch.Tensor]:
    x, bias, weight = noise(*shape), noise(out, seed=2), masked(out, shape[1], pattern)[:, :, None, None]
    y = F.conv2d(*(torch.from_numpy(v).double() for v in (x, weight, bias)), stride=stride)
    operands = [
        noise(*(y.shape if step == "add" else (*y.shape[:2], 1, 1)), seed=3)
        for step in epilogue
        if step in ("add", "mul")
    ]
    whole = kernel(
        "conv2d",
        [TensorSpec(shape), *(TensorSpec(o.shape) for o in operands)],
        TensorSpec(tuple(y.shape)),
        epilogue,
        **{"kernel": (1, 1), "stride": (stride, stride), "padding": (0, 0), "dilation": (1, 1), "groups": 1},
    )
    spec = in_blocks(whole, weight)
    assert spec is not None
    return spec, [x, *operands], weight, bias, apply_epilogue(y, epilogue, operands)


def schedules(spec: KernelSpec, target: Any) -> list[Any]:
    return [s for s in schedules_for(spec, target) if stores_blocks(s)]


CONVS = [
    ((1, 32, 7, 9), 32, 1, ("bias",)),
    ((2, 21, 5, 5), 37, 2, ("bias", "add", "relu")),
    ((1, 5, 4, 4), 6, 1, ("bias", "mul")),
    ((3, 40, 1, 1), 9, 1, ("bias", "hardswish")),
    ((1, 17, 3, 8), 60, 1, ("bias", "add", "mul", "silu")),
]


@every_target
@pytest.mark.parametrize("case", range(len(CONVS)))
def test_a_convolution_of_any_pattern_gives_what_torch_gives(case: int, target: Any) -> None:
    """Sizes with tails everywhere; NaN stands in all padding."""
    spec, inputs, weight, bias, expected = conv1x1(*CONVS[case], PATTERNS[case % len(PATTERNS)])
    one, other, *more = schedules(spec, target)
    assert {one["order"], other["order"]} == {"rows", "pixels"}
    for schedule in (one, other, *(more if case == 1 else ())):
        assert_close(run(spec, target, inputs, weight, bias, schedule), expected)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_kernel_serves_every_pattern(pattern: Pattern) -> None:
    """The same code: only constants differ."""
    target = TARGETS[-1]
    spec, inputs, weight, bias, expected = conv1x1((1, 24, 4, 7), 35, 1, ("bias", "relu"), pattern)
    roomy = spec.with_density(60)
    assert_close(run(roomy, target, inputs, weight, bias, schedules(roomy, target)[0]), expected)


DENSE = [((2, 37), 32, True), ((1, 70), 100, True), ((2, 20, 3, 3), 33, False), ((1, 3, 4, 4), 7, False)]


@every_target
@pytest.mark.parametrize("case", range(len(DENSE)))
def test_a_linear_layer_of_any_pattern_gives_what_torch_gives(case: int, target: Any) -> None:
    shape, out, plain = DENSE[case]
    x, bias, weight = noise(*shape), noise(out, seed=2), masked(out, int(np.prod(shape[1:])), PATTERNS[case % 3])
    other = noise(shape[0], out, seed=5)
    values = (torch.from_numpy(v).double() for v in (x.reshape(shape[0], -1), weight, bias))
    expected = torch.sigmoid(F.linear(*values) + torch.from_numpy(other).double())
    tensors = [TensorSpec(shape, "plain" if plain else "blocked"), TensorSpec(other.shape, "plain")]
    whole = kernel("dense", tensors, TensorSpec((shape[0], out), "plain"), ("bias", "add", "sigmoid"))
    spec = in_blocks(whole, weight)
    assert spec is not None
    assert len(schedules(spec, target)) == 2
    for schedule in schedules(spec, target):
        assert_close(run(spec, target, [x, other], weight, bias, schedule), expected)


@pytest.mark.parametrize("name", ["x86_64_avx512", "rpi4", "armv7_generic"])
def test_it_builds_for_processors_that_are_not_here(name: str) -> None:
    target = load_target(name)
    spec = conv1x1((1, 24, 4, 7), 40, 1, ("bias", "relu"), random)[0]
    for schedule in schedules(spec, target):
        assert machine_code("k", rule_named(schedule).build("k", spec, schedule, target), target)


def test_constants_are_of_the_blocks_that_are_stored() -> None:
    spec, _, weight, bias, _ = conv1x1((1, 64, 4, 4), 48, 1, ("bias",), random)
    target = TARGETS[-1]
    schedule = schedules(spec, target)[0]
    in_row = (np.abs(weight.reshape(3, 16, 64)).sum(axis=1) > 0).sum(axis=1)
    stored = int(in_row.sum())
    assert spec.density == -(-100 * stored // (3 * 64))
    values, places, _ = rule_named(schedule).pack(spec, schedule, target, weight, bias)
    assert len(values) / 16 == stored_of(spec)
    assert stored <= stored_of(spec) < stored + 3 * 64 / 100 + 1, "one per cent too many at most"
    assert list(places.view(np.int32)[:4]) == [0, *np.cumsum(in_row)]


def test_more_blocks_than_there_is_room_for_are_refused() -> None:
    spec, _, weight, bias, _ = conv1x1((1, 16, 2, 2), 32, 1, ("bias",), random)
    schedule, target = schedules(spec, TARGETS[0])[0], TARGETS[0]
    full = np.ones_like(weight)
    with pytest.raises(ValueError, match=r"32 blocks of .* are not zero; there is room for"):
        rule_named(schedule).pack(spec, schedule, target, full, bias)


def test_layers_that_no_kernel_stores_in_blocks_stay_as_they_are() -> None:
    spec, _, weight, _, _ = conv1x1((1, 16, 4, 4), 32, 1, ("bias",), random)
    whole = spec.with_density(None)
    assert in_blocks(whole, np.ones_like(weight)) is None, "no block is zero"
    attrs = dict(whole.attrs)
    for other in ({"kernel": (3, 3)}, {"padding": (1, 1)}, {"groups": 2}):
        window = kernel("conv2d", whole.inputs, whole.output, ("bias",), **{**attrs, **other})
        assert in_blocks(window, weight) is None
    plain = kernel("conv2d", [TensorSpec((1, 16, 4, 4), "plain")], whole.output, ("bias",), **attrs)
    assert in_blocks(plain, weight) is None
    volume = kernel("conv3d", whole.inputs, whole.output, ("bias",), **attrs, slices=(1, 1))
    assert in_blocks(volume, weight) is None


def test_the_pattern_that_is_timed_has_as_many_blocks_as_there_is_room_for() -> None:
    spec = conv1x1((1, 50, 2, 2), 40, 1, ("bias",), random)[0].with_density(37)
    pattern = drawn_pattern(spec)
    assert pattern.shape == (3, 50)
    assert pattern.sum() == stored_of(spec) == 56  # 55.5 blocks are 37 %
    assert (drawn_pattern(spec, seed=1) != pattern).any()


def test_timed_kernels_read_where_they_may(tmp_path: Path) -> None:
    """Weights are noise, from many stretches; as places noise would be read as anything between here and nowhere."""
    target = load_target("host")
    spec = conv1x1((1, 64, 4, 4), 64, 1, ("bias",), random)[0].with_density(25)
    rivals = [(s, schedule) for s in (spec, spec.with_density(None)) for schedule in schedules_for(s, target)[:2]]
    built = [(s, schedule, build_object(s, schedule, target)) for s, schedule in rivals]
    path = write_program(timing_program("timing", built, target), target, tmp_path)["program"]
    command = [path, "kernels", "--repeats", "2", "--min-ns", "200000", "--weight-span", "200000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["finite"] for row in rows] == [True] * len(built) == [True] * 4


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return read_network(Head().eval(), (X,))


def rules(manifest: Any) -> list[str]:
    return [k.schedule["rule"] for k in manifest.kernels if k.schedule["rule"] != "layout"]


def test_a_network_in_blocks_is_smaller_and_computes_the_same(network: Network, tmp_path: Path) -> None:
    target = load_target("host")
    whole = compile_network(network, target, tmp_path / "whole", weight_storage="dense")
    stored = compile_network(network, target, tmp_path / "stored", weight_storage="dense", block_sparse="always")
    assert rules(whole) == ["conv_direct", "conv_direct", "conv_direct", "dense"]
    assert rules(stored) == ["conv_direct", "conv_blocks", "conv_blocks", "dense_blocks"]
    with edgeprune.load_bundle(tmp_path / "stored") as model:
        (found,) = model(X.numpy())
    np.testing.assert_allclose(found, network.module(X).detach().numpy(), rtol=1e-5, atol=1e-5)
    saved = 0
    specs = found_in_blocks(network.kernels, weights_of(network))
    for node, spec in zip(network.kernels.nodes, specs, strict=True):
        if spec is not None:
            for sign, s in ((1, node.spec), (-1, spec)):
                schedule = schedules_for(s, target)[0]
                saved += sign * sum(aligned(4 * n) for n in rule_named(schedule).constants(s, schedule, target))
    assert whole.memory.weights - stored.memory.weights == saved > whole.memory.weights / 3
    assert whole.memory.flash - stored.memory.flash > saved - 16 * 1024, "the code is no larger than what it saves"
    assert ALIGNMENT == 64


def timed(spec: KernelSpec, rule: str, ns: float) -> KernelRecord:
    target = load_target("host")
    schedule = next(s for s in schedules_for(spec, target) if s["rule"] == rule)
    return KernelRecord(spec, schedule, "ok", ns, samples=1)


def chosen(network: Network, records: list[KernelRecord]) -> list[int | None]:
    """Densities of the two 1x1 convolutions as "profiled" chooses."""
    target = load_target("host")
    book = ScheduleBook(target, records)
    graph, _ = choose_blocks(network.kernels, weights_of(network), target, book, "profiled")
    return [n.spec.density for n in graph.nodes if n.spec.op == "conv2d"][1:]


def test_blocks_are_stored_where_a_profile_says_that_it_is_quicker(network: Network) -> None:
    found = found_in_blocks(network.kernels, weights_of(network))
    first, second = [s for s in found if s is not None and s.op == "conv2d"]
    density = first.density
    assert density is not None
    assert second.density is not None
    assert density < second.density
    whole = timed(first.with_density(None), "conv_direct", 100.0)
    assert chosen(network, []) == [None, None]
    assert chosen(network, [whole]) == [None, None]
    assert chosen(network, [whole, timed(first, "conv_blocks", 50.0)]) == [density, None]
    assert chosen(network, [whole, timed(first, "conv_blocks", 150.0)]) == [None, None], "slower"
    assert chosen(network, [whole, timed(first, "conv_direct", 50.0)]) == [None, None], "all weights are quicker"
    between, emptier = first.with_density(second.density - 1), first.with_density(density - 20)
    assert chosen(network, [whole, timed(between, "conv_blocks", 60.0)]) == [density, None], "it has more to do"
    assert chosen(network, [whole, timed(emptier, "conv_blocks", 60.0)]) == [None, None], "it has less to do"


def test_a_layer_is_chosen_for_by_one_that_ends_in_other_operations(network: Network) -> None:
    """The second convolution ends in an addition. Nobody timed such a one, but the first has more to do."""
    first, second = [s for s in found_in_blocks(network.kernels, weights_of(network)) if s and s.op == "conv2d"]
    assert first.density is not None
    assert second.density is not None
    assert first.family != second.family
    whole, fuller = timed(first.with_density(None), "conv_direct", 100.0), first.with_density(second.density + 1)
    own = timed(second.with_density(None), "conv_direct", 100.0)
    assert chosen(network, [whole, timed(fuller, "conv_blocks", 60.0)]) == [first.density, second.density]
    assert chosen(network, [whole, timed(fuller, "conv_blocks", 150.0)]) == [None, None]
    slower = timed(second, "conv_blocks", 150.0)
    known = [whole, timed(fuller, "conv_blocks", 60.0), own, slower]
    assert chosen(network, known) == [first.density, None], "a layer's own timings come first"


def test_a_profile_of_such_a_network_times_both_ways(network: Network, tmp_path: Path) -> None:
    """On the virtual clock; then the compiler has what it chooses by, and tables of whole weights are as they were."""
    made = edgeprune.profile(
        network.module,
        example_inputs=(X,),
        device=FakeDevice(tmp_path / "board"),
        store=tmp_path / "store",
        points=1,
        tune=2,
        sampled=False,
    )
    wanted = {s.key for s in found_in_blocks(network.kernels, weights_of(network)) if s is not None}
    assert len(wanted) == 3
    assert wanted < {r.spec.key for r in made.records if r.ok}
    assert {n.spec.key for n in network.kernels.nodes} < {r.spec.key for r in made.records if r.ok}


def test_choices_that_make_no_sense_are_refused(network: Network, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="block_sparse is 'sometimes'"):
        compile_network(network, load_target("host"), tmp_path / "b", block_sparse="sometimes")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="are for processors"):
        compile_network(network, load_target("jetson_nano"), tmp_path / "b", block_sparse="always")
    assert not (tmp_path / "b").exists()


def test_a_pattern_is_of_sixteen_filters_by_one_value() -> None:
    weight = np.zeros((20, 3, 1, 1), np.float32)
    weight[15, 0], weight[16, 2] = 1e-30, -1
    assert pattern_of(weight).tolist() == [[True, False, False], [False, False, True]]
