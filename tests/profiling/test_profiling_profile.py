"""Profiling a whole network: what is measured, what is kept, and on which device it may be."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.local.device import LocalDevice
from edgeprune.devices.protocol import Completed
from edgeprune.errors import DeviceUnreachableError, ProfileError, ProfileMismatchError, TargetError
from edgeprune.graph.channels import ChannelGraph, WidthGroup
from edgeprune.graph.network import read_network
from edgeprune.latency.problem import kernels_to_measure
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.fingerprint import fingerprint_of
from edgeprune.profiling.measure import TimingOptions
from edgeprune.profiling.profile import ProfileOptions, profile
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.shrink import shrink

OPTIONS = ProfileOptions(points=3, step=8, timing=TimingOptions(warmup=0, repeats=3))


def run(network, target, device, store, **changes):
    return profile(network.kernels, network.channels, target, device, store, OPTIONS, **changes)


# -- which widths, which kernels ----------------------------------------------------------------


def group(name: str, size: int, frozen: str = "") -> WidthGroup:
    return WidthGroup(name, size, (), frozen)


@pytest.mark.parametrize(
    ("size", "points", "step", "levels"),
    [
        (64, 4, 8, (16, 32, 48, 64)),
        (64, 8, 8, (8, 16, 24, 32, 40, 48, 56, 64)),
        (72, 4, 8, (24, 48, 72)),
        (20, 8, 8, (8, 16, 20)),
        (20, 1, 8, (20,)),
        (6, 8, 8, (6,)),
        (5, 5, 1, (1, 2, 3, 4, 5)),
    ],
)
def test_levels_are_at_most_so_many_multiples_of_the_step_and_the_full_width(target, size, points, step, levels):
    graph = ChannelGraph((group("free", size), group("fixed", size, "output")))
    found = ProfileOptions(points=points, step=step).levels(graph, target)
    assert found == {"free": levels, "fixed": (size,)}
    assert len(levels) <= points


def test_the_smallest_step_is_half_a_vector_register(target):
    wide = ProfileOptions(points=10**6).levels(ChannelGraph((group("g", 1024),)), target)["g"]
    assert {b - a for a, b in itertools.pairwise(wide)} == {target.lanes // 2}


def test_exactly_the_kernels_of_every_network_that_can_be_chosen(network, target):
    levels = OPTIONS.levels(network.channels, target)
    wanted = {s.key for s in kernels_to_measure(network.kernels, network.channels, levels)}
    reachable = set()
    for widths in itertools.product(*levels.values()):
        width = dict(zip(levels, widths, strict=True))
        for node in network.kernels.nodes:
            axes = {a: b.base + sum(width[g] for g in b.groups) for a, b in node.axes.items()}
            reachable.add(node.spec.with_widths(**axes).key)
    assert wanted == reachable
    assert len(wanted) == 20


def test_a_network_that_was_shrunk_has_only_measured_kernels(network, target):
    levels = OPTIONS.levels(network.channels, target)
    wanted = {s.key for s in kernels_to_measure(network.kernels, network.channels, levels)}
    keep = {g.name: tuple(range(levels[g.name][0])) for g in network.channels.prunable}
    plan = Plan(keep, {g.name: g.size for g in network.channels.groups}, {}, {}, {})
    small = read_network(shrink(network.module, network.channels, plan), network.example_inputs)
    assert {n.spec.key for n in small.kernels.nodes} <= wanted


def test_full_widths_come_first(network, target):
    """Interrupted at once, a profile still knows the dense network."""
    levels = OPTIONS.levels(network.channels, target)
    first = [s.key for s in kernels_to_measure(network.kernels, network.channels, levels)]
    assert first[: len(network.kernels.nodes)] == [n.spec.key for n in network.kernels.nodes]


# -- measuring and keeping -----------------------------------------------------------------------


def test_every_kernel_is_measured_once_to_the_digit_and_then_reused(network, target, device, store):
    first = run(network, target, device, store)
    assert (first.measured, first.reused, first.failed) == (20, 0, ())
    for record in first.profile.records():
        assert record.median_ns == record.min_ns == virtual_cost_ns(record.spec)
        assert (record.spread_ns, record.samples, record.evidence) == (0, 3, "simulated")
    again = run(network, target, device, store)
    assert (again.measured, again.reused, again.profile.records()) == (0, 20, first.profile.records())
    assert list(device.root.rglob("*")) == [device.root / "profiling"], "nothing stays on the device"


class Interrupting:
    """Stops the run after so many kernels, as Ctrl-C would."""

    def __init__(self, after: int) -> None:
        self.left = after

    def stage(self, name: str, total: int | None = None) -> None: ...

    def note(self, text: str) -> None: ...

    def advance(self, n: int = 1) -> None:
        self.left -= n
        if self.left == 0:
            raise KeyboardInterrupt


def test_an_interrupted_profile_goes_on_where_it_stopped(network, target, device, store, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(network, target, device, store, progress=Interrupting(after=6))
    (kept,) = store.profiles()
    assert len(kept) == 6
    resumed = run(network, target, device, store)
    assert (resumed.measured, resumed.reused) == (14, 6)
    with ProfileStore(tmp_path / "other.sqlite3") as other:
        whole = run(network, target, device, other)
        assert whole.profile.records() == resumed.profile.records()
        assert whole.profile.fingerprint == resumed.profile.fingerprint


def test_a_link_that_drops_leaves_the_store_as_it_was(network, target, tmp_path, store):
    device = FakeDevice(tmp_path / "device", faults=FakeFaults(drop_after_bytes=1000))
    with pytest.raises(DeviceUnreachableError):
        run(network, target, device, store)
    assert [len(p) for p in store.profiles()] == [0]


# -- whose profile it is ---------------------------------------------------------------------------


def test_a_device_of_another_architecture_is_refused(network, target, device, store):
    other = "armv7l" if target.arch != "armv7l" else "x86_64"
    with pytest.raises(TargetError, match=f"is for {other}, the device is {target.arch}"):
        run(network, target.model_copy(update={"arch": other}), device, store)
    assert store.profiles() == ()


def test_a_device_without_the_cpu_features_is_refused(network, target, device, store):
    wanted = target.model_copy(update={"requires": (*target.requires, "flux")})
    with pytest.raises(TargetError, match="lacks: flux") as caught:
        run(network, wanted, device, store)
    assert caught.value.details["missing"] == ["flux"]
    assert store.profiles() == ()


def test_a_profile_of_another_thread_count_is_named_and_not_used(network, target, device, store):
    one = run(network, target, device, store)
    other = fingerprint_of(target, device.describe(), 2, network.kernels)
    with pytest.raises(ProfileMismatchError, match="threads is 2 here, 1 there") as caught:
        store.find(other)
    assert caught.value.details["differences"] == {"threads": [2, 1]}
    two = replace(OPTIONS, threads=2)
    arguments = (network.kernels, network.channels, target, device, store, two)
    allowed = profile(*arguments, allow_mismatch=True)
    assert (allowed.measured, allowed.reused) == (0, 20)
    assert allowed.profile.mismatch == {"threads": (2, 1)}
    with pytest.raises(ProfileError):
        allowed.profile.add(one.profile.records()[0])
    assert profile(*arguments).measured == 20, "without that permission it is measured"


def test_what_a_foreign_profile_lacks_is_not_counted_as_reused(network, target, device, store):
    with pytest.raises(KeyboardInterrupt):
        run(network, target, device, store, progress=Interrupting(after=4))
    two = replace(OPTIONS, threads=2)
    foreign = profile(network.kernels, network.channels, target, device, store, two, allow_mismatch=True)
    assert (foreign.measured, foreign.reused) == (0, 4)


class Showing(LocalDevice):
    """A computer that shows its governor, and gets warmer whenever it is asked."""

    asked = 0

    def run(self, argv, *, timeout_s=60.0):
        if "scaling_governor" not in argv[-1]:
            return super().run(argv, timeout_s=timeout_s)
        self.asked += 1
        heat = "".join(
            f"/sys/class/thermal/thermal_zone{i}/temp:{t}\n" for i, t in ((0, 40000 + 1000 * self.asked), (1, 0))
        )
        return Completed(2, f"/sys/devices/system/cpu/cpufreq/policy0/scaling_governor:ondemand\n{heat}", "")


def test_on_this_computer_with_a_real_clock(network, target, tmp_path, store):
    device = Showing(tmp_path / Path("device"))
    result = run(network, target, device, store)
    records = result.profile.records()
    assert len(records) == 20
    assert all(r.ok and 0 < r.min_ns <= r.median_ns and r.evidence == "measured" for r in records)
    assert result.profile.fingerprint.clock == "monotonic"
    (seen,) = result.profile.conditions()
    assert (seen,) == tuple(board.conditions for board in result.boards)
    assert (seen.governors, seen.clock_mhz, seen.throttled) == (("ondemand",), None, None)
    assert device.asked > 1
    assert seen.temperature_c == (41.0, 40.0 + device.asked)
    assert seen.since < seen.until
