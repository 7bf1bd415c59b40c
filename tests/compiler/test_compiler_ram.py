"""The memory of a program is known from the dense network's graph, to the byte."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from long_tests import long

from edgeprune.compiler.arena import lifetimes
from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.inplace import overwritten, places
from edgeprune.compiler.memory import plan_arena
from edgeprune.compiler.ram import MemoryModel
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.errors import PlanError
from edgeprune.graph.network import Network, read_network
from edgeprune.models.zoo import build
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import Target, load_target

pytestmark = pytest.mark.xdist_group("arenas")

HOST, NEON = load_target("host"), load_target("rpi4")
SIDES = {"resnet20": 16, "squeezenet": 64, "mobilenet_v2": 64, "unet_small": 32}


@pytest.fixture(scope="module")
def networks() -> Mapping[str, Network]:
    return {n: read_network(build(n, width=0.5), (torch.zeros(1, 3, s, s),)) for n, s in SIDES.items()}


def drawn(network: Network, seed: int) -> dict[str, int]:
    """Any width of any group, irregular ones included."""
    random = np.random.default_rng(seed)
    return {g.name: int(random.integers(1, g.size + 1)) for g in network.channels.prunable}


def small(network: Network, widths: Mapping[str, int]) -> Network:
    scores = {g.name: np.arange(g.size, dtype=float) for g in network.channels.groups}
    module = shrink(network.module, network.channels, make_plan(network.channels, widths, scores))
    return read_network(module, network.example_inputs)


def planned_arena(network: Network, target: Target) -> int:
    """As the compiler lays out a network that was traced, without building its kernels."""
    graph, over = network.kernels, overwritten(network.kernels)
    schedules = [ScheduleBook(target).choose(node.spec).schedule for node in graph.nodes]
    return plan_arena(lifetimes(graph, schedules, target, places(graph, over))).bytes


@pytest.mark.parametrize("target", [HOST, NEON], ids=lambda t: t.name)
@pytest.mark.parametrize("name", long(SIDES, ["mobilenet_v2"]))
def test_the_arena_of_a_plan_is_that_of_the_shrunk_network(
    name: str, target: Target, networks: Mapping[str, Network]
) -> None:
    network = networks[name]
    model = MemoryModel(network.kernels, network.channels, target, ScheduleBook(target))
    assert model.at({}).arena == planned_arena(network, target)
    for seed in range(3):
        widths = drawn(network, seed)
        traced = small(network, widths)
        assert [c.spec for c in model.calls(widths)] == [node.spec for node in traced.kernels.nodes]
        assert model.at(widths).arena == planned_arena(traced, target), widths


@pytest.mark.parametrize("name", long(["resnet20", "squeezenet"], ["squeezenet"]))
def test_a_compiled_plan_allocates_what_was_predicted(
    name: str, networks: Mapping[str, Network], tmp_path: Path
) -> None:
    network, widths = networks[name], drawn(networks[name], 7)
    manifest = compile_network(small(network, widths), HOST, tmp_path / "bundle")
    predicted = MemoryModel(network.kernels, network.channels, HOST, ScheduleBook(HOST)).at(widths)
    said = (manifest.memory.arena, manifest.memory.peak_ram, manifest.memory.weights)
    assert (predicted.arena, predicted.ram, predicted.weights) == said
    command = [str(tmp_path / "bundle" / manifest.program), "bench", "--warmup", "0", "--repeats", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["allocated_bytes"] == predicted.ram


def test_a_group_without_channels_is_refused(networks: Mapping[str, Network]) -> None:
    network = networks["resnet20"]
    gone = network.channels.prunable[0].name
    with pytest.raises(PlanError, match=gone):
        MemoryModel(network.kernels, network.channels, HOST, ScheduleBook(HOST)).at({gone: 0})


def test_the_arena_is_never_below_its_busiest_step(networks: Mapping[str, Network]) -> None:
    for network in networks.values():
        model = MemoryModel(network.kernels, network.channels, HOST, ScheduleBook(HOST))
        for seed in range(20):
            found = model.at(drawn(network, seed))
            assert found.busiest <= found.arena <= 1.1 * found.busiest
