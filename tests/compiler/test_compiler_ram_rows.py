"""Peak RAM as rows: the largest is what the program allocates, and rows that never decide are left out."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.budget.problem import Row
from edgeprune.compiler.ram import MemoryModel
from edgeprune.compiler.ram_rows import ram_rows
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.graph.network import Network, read_network
from edgeprune.latency.grids import levels_of, with_blocks
from edgeprune.models.zoo import build
from edgeprune.targets import load_target

pytestmark = pytest.mark.xdist_group("ram rows")

TARGETS = [load_target("host"), load_target("rpi4")]
SIDES = {"resnet20": 16, "squeezenet": 64, "unet_small": 32}


@pytest.fixture(scope="module", params=SIDES)
def network(request: pytest.FixtureRequest) -> Network:
    side = SIDES[request.param]
    return read_network(build(request.param, width=0.5), (torch.zeros(1, 3, side, side),))


def bytes_at(row: Row, widths: Sequence[int]) -> float:
    """The sum of a row; every total is on the grids of its tables."""
    total = row.base
    for table in row.tables:
        totals = [axis.base + sum(widths[c] for c in axis.choices) for axis in table.axes]
        total += table.values[tuple(list(g).index(t) for g, t in zip(table.grids, totals, strict=True))]
    return total


def free_of(levels: Mapping[str, Sequence[int]]) -> dict[str, int]:
    return {name: i for i, name in enumerate(n for n, widths in levels.items() if len(widths) > 1)}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_the_largest_row_is_what_a_plan_needs(network: Network, target: object) -> None:
    model = MemoryModel(network.kernels, network.channels, target, ScheduleBook(target))  # type: ignore[arg-type]
    levels = levels_of(network.channels, 3, 4)  # irregular widths: padding lanes count
    index, random = free_of(levels), np.random.default_rng(0)
    rows = ram_rows(model, levels, index)
    for _ in range(40):
        widths = {name: int(random.choice(levels[name])) for name in index}
        found = model.at(widths)
        largest = max(bytes_at(row, list(widths.values())) for row in rows)
        assert largest == found.ram - found.arena + found.busiest
        assert largest == found.ram, "the arena is packed with a gap"


class Placed(nn.Module):
    """A table that two operators read, and one of channels that become fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.table, self.other = (nn.Parameter(torch.randn(1, 16, 8, 8)) for _ in range(2))
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.one(x)) + self.table
        x = torch.relu(self.two(x) + self.other) * self.table
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("name", ["host", "jetson_nano"])
def test_constants_that_are_read_as_tensors_count_where_they_are_copied(name: str) -> None:
    network, target = read_network(Placed(), (torch.zeros(1, 3, 8, 8),)), load_target(name)
    assert len(network.kernels.constants) == 2
    model = MemoryModel(network.kernels, network.channels, target, ScheduleBook(target))
    levels = levels_of(network.channels, 4, 3)
    index = free_of(levels)
    assert len(index) >= 1
    rows = ram_rows(model, levels, index)
    for widths in itertools.product(*(levels[n] for n in index)):
        assert max(bytes_at(row, widths) for row in rows) == model.at(dict(zip(index, widths, strict=True))).ram


@pytest.mark.parametrize("name", ["jetson_nano"])
def test_rows_of_a_gpu_have_its_weights(network: Network, name: str) -> None:
    target = load_target(name)
    model = MemoryModel(network.kernels, network.channels, target, ScheduleBook(target))
    levels = levels_of(network.channels, 3, 4)
    index, random = free_of(levels), np.random.default_rng(1)
    rows = ram_rows(model, levels, index)
    for _ in range(20):
        widths = {name: int(random.choice(levels[name])) for name in index}
        assert max(bytes_at(row, list(widths.values())) for row in rows) == model.at(widths).ram


def test_rows_that_never_decide_are_left_out(network: Network) -> None:
    model = MemoryModel(network.kernels, network.channels, TARGETS[0], ScheduleBook(TARGETS[0]))
    levels = levels_of(network.channels, 4, 4)
    rows = ram_rows(model, levels, free_of(levels))
    assert 0 < 3 * len(rows) < 2 * len(network.kernels.nodes)
    assert {row.name for row in rows} <= {"inputs", *(node.name for node in network.kernels.nodes)}


def test_a_width_of_zero_takes_nothing(network: Network) -> None:
    if not network.channels.blocks:
        pytest.skip("it has no block that could go")
    model = MemoryModel(network.kernels, network.channels, TARGETS[0], ScheduleBook(TARGETS[0]))
    levels = with_blocks(levels_of(network.channels, 4, 4), network.channels)
    index = free_of(levels)
    rows = ram_rows(model, levels, index)
    full = [levels[name][-1] for name in index]
    without = [0 if levels[name][0] == 0 else width for name, width in zip(index, full, strict=True)]
    assert max(bytes_at(r, full) for r in rows) == model.at({}).ram
    assert max(bytes_at(r, without) for r in rows) <= model.at({}).ram
