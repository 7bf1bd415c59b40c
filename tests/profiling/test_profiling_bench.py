"""The bench: of several schedules the quickest is timed once more; kernels that were disturbed are timed again."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from profiling_clocks import Clocked

from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.devices.protocol import Completed
from edgeprune.errors import DeviceUnreachableError
from edgeprune.profiling import measure
from edgeprune.profiling.bench import TUNED, Bench
from edgeprune.profiling.farm import Board, Farm
from edgeprune.profiling.fingerprint import fingerprint_of
from edgeprune.profiling.measure import TimingOptions

LOOP_NS = 1000.0
PLANNED = TimingOptions().launches


class Lucky(Clocked):
    """Kernels of one program take what they take, but for one, which is lucky in the first program that it is in. The
    loop takes ``loop`` times as long in that, and ``later`` times as long in those that follow.
    """

    def __init__(self, root: Path, luck: float, loop: float = 1.0, later: float = 1.0) -> None:
        super().__init__(root)
        self.luck, self.loop, self.later = luck, loop, later

    def slowed(self, rows) -> None:
        lucky = self.launches < PLANNED
        for row in rows:
            by = self.luck if lucky and row["index"] == 1 else 1.0
            row["samples"] = [s * by for s in row["samples"]]
            row["reference"] = [LOOP_NS * (self.loop if lucky else self.later)] * (len(row["samples"]) + 1)


@pytest.fixture
def bench_on(network, target, store, monkeypatch):
    monkeypatch.setattr(measure, "REST_S", 0.0)

    def made(device) -> Bench:
        info = device.describe()
        profile = store.open_profile(fingerprint_of(target, info, 1, network.kernels))
        return Bench(profile, target, Farm([Board(device, info)]), threads=1, timing=TimingOptions())

    return made


def test_the_best_of_several_does_not_keep_what_it_was_lucky_with(bench_on, network, tmp_path):
    device = Lucky(tmp_path / "board", luck=0.5)
    bench, spec = bench_on(device), network.kernels.nodes[0].spec
    bench.tuned([spec], 4)
    (record,) = bench.profile.records()
    assert record.median_ns == virtual_cost_ns(spec), "the program that was timed at last has the winner alone"
    assert (bench.timings, bench.measured) == (5, 1)
    assert device.launches == 2 * PLANNED


def test_a_kernel_with_one_schedule_is_timed_once(bench_on, network, tmp_path):
    device = Lucky(tmp_path / "board", luck=1.0)
    bench = bench_on(device)
    bench.tuned([n.spec for n in network.kernels.nodes], 1)
    assert (bench.timings, bench.measured, device.launches) == (7, 7, PLANNED)


def test_a_clock_that_counts_knows_no_luck(bench_on, network, device):
    bench = bench_on(device)
    bench.tuned([network.kernels.nodes[0].spec], 4)
    assert (bench.timings, bench.measured) == (4, 1)


@pytest.mark.parametrize(("luck", "kept"), [(1.5, 1.0), (0.5, 0.5)])
def test_of_two_figures_at_the_nominal_clock_the_quicker_is_kept(bench_on, network, tmp_path, luck, kept):
    """What disturbs a kernel makes it slower."""
    bench, specs = bench_on(Lucky(tmp_path / "board", luck)), [n.spec for n in network.kernels.nodes][:2]
    bench.tuned(specs, 1)
    bench.again([specs[1]])
    assert bench.profile.get(specs[1].key).median_ns == pytest.approx(kept * virtual_cost_ns(specs[1]))
    assert bench.profile.get(specs[0].key).median_ns == virtual_cost_ns(specs[0])


def test_a_kernel_that_is_timed_again_stays_a_tuned_one(bench_on, network, tmp_path):
    """Or a second network of the family would tune it anew."""
    bench, spec = bench_on(Lucky(tmp_path / "board", 0.5)), network.kernels.nodes[0].spec
    bench.tuned([spec], 4)
    bench.profile.add(replace(bench.profile.get(spec.key), median_ns=2 * virtual_cost_ns(spec)))
    bench.again([spec])
    assert bench.profile.get(spec.key).median_ns == virtual_cost_ns(spec)
    assert TUNED in bench.profile.get(spec.key).flags


def test_a_figure_of_a_slow_clock_gives_way_to_one_of_the_nominal(bench_on, network, tmp_path):
    """Whatever the two say: what a busy core did to the first is not known to the digit."""
    bench, specs = bench_on(Lucky(tmp_path / "board", 1.0, loop=1.4)), [n.spec for n in network.kernels.nodes][:2]
    bench.tuned(specs, 1)
    assert bench.slow_clock() == []
    bench.tuned([network.kernels.nodes[2].spec], 1)
    assert {s.key for s in bench.slow_clock()} == {s.key for s in specs}
    bench.again(bench.slow_clock())
    assert bench.slow_clock() == []
    assert {r.reference_ns for r in bench.profile.records()} == {LOOP_NS}


def test_a_second_figure_that_met_a_slow_clock_alone_replaces_none_that_did_not(bench_on, network, tmp_path):
    """Neither the winner's, nor one that was asked for again, however quick it looks at that clock."""
    device = Lucky(tmp_path / "board", luck=0.9, later=1.4)
    bench, spec = bench_on(device), network.kernels.nodes[0].spec
    bench.tuned([spec], 4)
    (record,) = bench.profile.records()
    assert record.reference_ns == LOOP_NS
    assert record.median_ns == pytest.approx(0.9 * virtual_cost_ns(spec))
    bench.again([spec])
    assert bench.profile.records() == (record,)


def test_a_figure_of_an_unknown_clock_gives_way_to_one_of_a_known_one(bench_on, network, tmp_path):
    bench, spec = bench_on(Lucky(tmp_path / "board", 1.0)), network.kernels.nodes[0].spec
    bench.tuned([spec], 1)
    (record,) = bench.profile.records()
    bench.profile.add(replace(record, median_ns=record.median_ns / 2, reference_ns=0.0))
    bench.again([spec])
    assert bench.profile.records() == (record,)


def test_a_kernel_that_fails_the_second_time_keeps_what_it_had(bench_on, network, tmp_path):
    device = Lucky(tmp_path / "board", 1.0)
    bench, spec = bench_on(device), network.kernels.nodes[0].spec
    bench.tuned([spec], 1)
    before, run = bench.profile.records(), device.run
    device.run = lambda argv, *, timeout_s=60.0: (
        Completed(139, "", "Segmentation fault\n") if "kernels" in argv else run(argv, timeout_s=timeout_s)
    )
    bench.again([spec])
    assert (bench.profile.records(), bench.failed) == (before, [])


def test_a_link_that_drops_while_winners_are_timed_loses_no_kernel(bench_on, network, tmp_path):
    device = Lucky(tmp_path / "board", 1.0)
    bench, run = bench_on(device), device.run

    def dropping(argv, *, timeout_s=60.0):
        if device.launches >= PLANNED and "kernels" in argv:
            raise DeviceUnreachableError("the link is down")
        return run(argv, timeout_s=timeout_s)

    device.run = dropping
    with pytest.raises(DeviceUnreachableError):
        bench.tuned([network.kernels.nodes[0].spec], 4)
    (record,) = bench.profile.records()
    assert record.ok
    assert record.flags == ("tuned",)


def test_no_batch_begins_when_the_time_is_over(bench_on, network, device, target):
    bench, specs = bench_on(device), [n.spec for n in network.kernels.nodes]
    kernels = [(s, schedules_for(s, target)[:1]) for s in specs]
    bench.run(kernels, until=time.monotonic() - 1)
    assert bench.measured == len(bench.profile) == 0
    bench.run(kernels, until=math.inf)
    assert bench.measured == len(bench.profile) == 7
