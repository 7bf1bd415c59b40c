"""Whole networks at any widths, timed without their weights."""

from __future__ import annotations

import time

import numpy as np
import pytest
from profiling_clocks import Clocked

from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.local.device import LocalDevice
from edgeprune.devices.protocol import Completed
from edgeprune.errors import VerificationError
from edgeprune.graph.network import read_network
from edgeprune.graph.resized import at_widths
from edgeprune.profiling.figures import Clock
from edgeprune.profiling.networks import NetworkTiming, random_widths, whole_networks, widths_apart
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.shrink import shrink


@pytest.fixture
def random(network) -> dict[str, int]:
    return random_widths(network.channels, np.random.default_rng(3))


def test_random_widths_are_irregular_and_leave_frozen_groups_alone(network):
    generator = np.random.default_rng(0)
    drawn = [random_widths(network.channels, generator) for _ in range(50)]
    for group in network.channels.groups:
        widths = {d[group.name] for d in drawn}
        assert widths == {group.size} if group.frozen else len(widths) > 5
        assert all(1 <= w <= group.size for w in widths)


def test_widths_apart_come_from_all_parts_of_the_range(network):
    drawn = widths_apart(network.channels, 8)
    assert drawn == widths_apart(network.channels, 8)
    assert drawn[:3] == widths_apart(network.channels, 3)
    for group in network.channels.groups:
        shares = sorted(d[group.name] / group.size for d in drawn)
        if group.frozen:
            assert set(shares) == {1.0}
        else:
            assert shares[0] < 0.3 < 0.8 < shares[-1], "of eight, one in each eighth"


def test_networks_take_what_their_kernels_take(network, target, device, random):
    info, book = device.describe(), ScheduleBook(target)
    with whole_networks(device, info, threads=1) as whole:
        graphs = [network.kernels, at_widths(network.kernels, random)]
        for graph in graphs:
            whole.put(graph, target, book)
        whole.launch(3)
        whole.settle(Clock())
        assert whole.rounds == 1, "a clock that counts says it all at once"
        records = whole.records(Clock())
    for graph, record in zip(graphs, records, strict=True):
        assert record.kernels == tuple(n.spec for n in graph.nodes)
        assert record.latency_ns == sum(virtual_cost_ns(s) for s in record.kernels)
        assert (record.spread_ns, record.evidence, record.reference_ns) == (0, "simulated", 0)
        assert [p.spec for p in record.placed] == list(dict.fromkeys(record.kernels))
        assert [p.latency_ns for p in record.placed] == [virtual_cost_ns(p.spec) for p in record.placed]
        assert [p.schedule for p in record.placed] == [book.choose(p.spec).schedule for p in record.placed]
    assert list(device.root.rglob("*")) == [device.root / "profiling"], "nothing stays on the device"


def test_they_are_the_networks_that_shrinking_would_give(network, random):
    keep = {g.name: tuple(range(random[g.name])) for g in network.channels.prunable}
    plan = Plan(keep, {g.name: g.size for g in network.channels.groups}, {}, {}, {})
    small = read_network(shrink(network.module, network.channels, plan), network.example_inputs)
    graph = at_widths(network.kernels, random)
    assert [n.spec for n in graph.nodes] == [n.spec for n in small.kernels.nodes]


def test_a_real_clock_takes_enough_launches(network, target, tmp_path):
    device = LocalDevice(tmp_path / "device")
    timing = NetworkTiming(rounds=8, most_rounds=16)
    with whole_networks(device, device.describe(), threads=1, timing=timing) as whole:
        whole.put(network.kernels, target, ScheduleBook(target))
        clock = Clock()
        whole.settle(clock)
        assert timing.rounds // 2 <= whole.rounds <= timing.most_rounds
        (record,) = whole.records(clock)
    assert record.latency_ns > 0
    assert record.evidence == "measured"


class Unpaced(Clocked):
    """A clock of time without a reference loop, as that of a GPU."""

    def slowed(self, rows) -> None: ...


def test_a_clock_without_a_reference_takes_the_fewest_rounds(network, target, tmp_path):
    device = Unpaced(tmp_path / "device")
    with whole_networks(device, device.describe(), threads=1) as whole:
        whole.put(network.kernels, target, ScheduleBook(target))
        whole.settle(Clock())
        assert whole.rounds == NetworkTiming().rounds // 2
        (record,) = whole.records(Clock())
    assert record.latency_ns == sum(virtual_cost_ns(n.spec) for n in network.kernels.nodes)
    assert record.reference_ns == 0


def test_when_the_time_is_over_one_round_is_enough(network, target, tmp_path):
    device, over = Unpaced(tmp_path / "device"), time.monotonic() - 1
    with whole_networks(device, device.describe(), threads=1) as whole:
        whole.put(network.kernels, target, ScheduleBook(target))
        whole.launch(5, over)
        whole.settle(Clock(), over)
        assert whole.rounds == 1
        assert len(whole.records(Clock())) == 1


class Dying(Unpaced):
    """Programs whose names end with one of ``dead`` crash."""

    dead: tuple[str, ...] = ("network0",)

    def run(self, argv, *, timeout_s=60.0) -> Completed:
        if argv[0].endswith(self.dead):
            return Completed(139, "", "Segmentation fault\n")
        return super().run(argv, timeout_s=timeout_s)


def test_a_program_that_crashes_is_left_out(network, target, tmp_path):
    device = Dying(tmp_path / "device")
    with whole_networks(device, device.describe(), threads=1) as whole:
        with pytest.raises(VerificationError, match="Segmentation fault"):
            whole.put(network.kernels, target, ScheduleBook(target))
        whole.launch(3)
        whole.settle(Clock())
        assert (len(whole), whole.records(Clock())) == (0, [])


def test_one_that_crashes_later_is_left_out_and_the_others_go_on(network, target, tmp_path, random):
    device = Dying(tmp_path / "device")
    device.dead = ()
    with whole_networks(device, device.describe(), threads=1) as whole:
        for graph in (network.kernels, at_widths(network.kernels, random)):
            whole.put(graph, target, ScheduleBook(target))
        whole.launch(2)
        device.dead = ("network0",)
        whole.settle(Clock())
        (record,) = whole.records(Clock())
    assert record.kernels == tuple(n.spec for n in at_widths(network.kernels, random).nodes)
