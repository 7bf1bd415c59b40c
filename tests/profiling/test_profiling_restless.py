"""A clock that changes while kernels are timed: that costs launches and samples, and no figure (docs/PROFILES.md)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from profiling_clocks import Clocked

from edgeprune.board.client import KernelRow
from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.devices.protocol import Completed
from edgeprune.latency.model import LatencyModel
from edgeprune.profiling import bench, measure, profile
from edgeprune.profiling.figures import ENOUGH, FEW, Clock, figure, nominal_clock, steady

LOOP_NS = 25_000.0
"""What the reference loop takes at the nominal clock."""
PLANNED = measure.TimingOptions().launches


class Restless(Clocked):
    """``slow(launch, kernel, sample)`` says by how much slower its clock is then."""

    def __init__(self, root: Path, slow: Callable[[int, int, int], float]) -> None:
        super().__init__(root)
        self.slow = slow
        self.asked: list[int] = []

    def run(self, argv, *, timeout_s=60.0) -> Completed:
        if "kernels" in argv:
            self.asked.append(int(argv[argv.index("--nominal-ns") + 1]))
        return super().run(argv, timeout_s=timeout_s)

    def slowed(self, rows) -> None:
        for row in rows:
            by = [self.slow(self.launches, row["index"], i) for i in range(len(row["samples"]))]
            row["samples"] = [s * k for s, k in zip(row["samples"], by, strict=True)]
            row["reference"] = [LOOP_NS * k for k in (by[0], *by)]


def check(result: profile.ProfileResult) -> None:
    """Every figure is that of the nominal clock."""
    model = LatencyModel(result.profile.records())
    for record in result.profile.records():
        found = model.record(record.spec)
        assert found is not None
        assert found.median_ns == pytest.approx(virtual_cost_ns(record.spec))
        assert found.reference_ns == pytest.approx(LOOP_NS)


def test_a_steady_clock_takes_the_launches_that_were_planned(profiled, tmp_path):
    device = Restless(tmp_path / "board", lambda launch, kernel, sample: 1.0)
    result = profiled(device)
    assert (device.launches, result.drifted, result.failed) == (PLANNED, 0, ())
    check(result)


@pytest.mark.parametrize("repeats", [1, 3, 15])
def test_few_samples_are_enough_in_each_launch(profiled, tmp_path, repeats):
    device = Restless(tmp_path / "board", lambda launch, kernel, sample: 1.0)
    check(profiled(device, timing=measure.TimingOptions(repeats=repeats)))
    assert device.launches == PLANNED


@pytest.mark.parametrize("by", [1.08, 1.45, 3.0])
@pytest.mark.parametrize("phase", [range(1), range(ENOUGH, PLANNED)])
def test_a_slow_phase_costs_no_launch_and_moves_no_figure(profiled, tmp_path, by, phase):
    device = Restless(tmp_path / "board", lambda launch, kernel, sample: by if launch in phase else 1.0)
    result = profiled(device)
    assert device.launches == PLANNED
    check(result)


def test_kernels_that_met_a_slow_clock_alone_are_timed_until_they_meet_another(profiled, tmp_path):
    device = Restless(tmp_path / "board", lambda launch, kernel, sample: 1.3 if kernel > 2 and launch < 6 else 1.0)
    result = profiled(device)
    assert device.launches == 6 + ENOUGH
    check(result)


def test_where_the_quick_clock_does_not_come_again_figures_are_brought_to_it(profiled, tmp_path):
    device = Restless(tmp_path / "board", lambda launch, kernel, sample: 1.3 if kernel > 2 else 1.0)
    result = profiled(device)
    assert device.launches == PLANNED + measure.ATTEMPTS
    assert {round(r.reference_ns / LOOP_NS, 2) for r in result.profile.records()} == {1.0, 1.3}
    check(result)


def test_batches_and_later_sessions_ask_for_the_clock_of_those_before(profiled, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "BATCH", 3)
    device = Restless(tmp_path / "board", lambda launch, kernel, sample: 1.0 if launch < PLANNED else 1.2)
    result = profiled(device)
    assert device.asked[: PLANNED + 1] == [0] * PLANNED + [LOOP_NS]
    assert device.launches > 2 * PLANNED, "the second batch is timed again, for its clock is not that of the first"
    check(result)


def test_a_kernel_that_stops_one_launch_of_several_has_failed(profiled, tmp_path):
    device = Restless(tmp_path / "board", lambda launch, kernel, sample: 1.0)
    run = device.run

    def dies_once(argv, *, timeout_s=60.0):
        done = run(argv, timeout_s=timeout_s)
        if "kernels" in argv and device.launches == 2:
            return Completed(139, "".join(f"{line}\n" for line in done.stdout.splitlines()[:2]), "Segmentation fault\n")
        return done

    device.run = dies_once
    (failed,) = profiled(device).failed
    assert "exit 139: Segmentation fault" in failed.error


def row(*samples: float, reference: tuple[float, ...] = ()) -> KernelRow:
    return KernelRow(samples, True, reference or (100.0,) * (len(samples) + 1))


def test_a_sample_counts_if_the_clock_was_nominal_before_and_after_it():
    assert steady(row(1, 2, 3, 4, reference=(100, 102, 140, 103, 100)), 100.0) == [1, 4]


def test_each_launch_has_one_say_and_the_lower_quartile_counts():
    launches = [row(10, 11, 12), row(20, 21, 90, 90, 90), row(13, 13), row(30, 31), row(14, 14, 14)]
    found = figure(launches, Clock(100.0))
    assert (found.latency_ns, found.min_ns, found.samples, found.reference_ns) == (13.0, 10.0, 15, 100.0)


def test_launches_at_slow_clocks_have_no_say():
    slow = row(1, 1, 1, reference=(140, 140, 140, 140))
    found = figure([slow, row(10, 10), row(12, 12), slow, row(5, 50, reference=(100, 100, 140))], Clock(100.0))
    assert (found.latency_ns, found.samples) == (10.5, 4)


def test_where_the_nominal_clock_was_too_rare_the_quickest_that_was_met_counts():
    launches = [row(14, 14.2, 18, reference=(140, 139, 141, 180)), row(10, 13.8, reference=(100, 100, 139))]
    found = figure(launches, Clock(100.0))
    assert (found.latency_ns, found.samples, found.reference_ns) == (14, 3, 140)


def test_a_clock_that_never_rests_is_divided_out():
    clocks = (100.0, 110.0, 121.0, 133.0, 146.0)
    found = figure([row(*(2.0 * c for c in clocks), reference=(100.0, *clocks))], Clock(100.0))
    assert found.latency_ns == pytest.approx(2.0 * found.reference_ns)
    assert found.spread_ns == pytest.approx(0.0)
    assert found.samples == 5


def test_samples_without_references_count_as_they_are():
    found = figure([KernelRow((3.0, 1.0, 2.0), True)], Clock(100.0))
    assert (found.latency_ns, found.min_ns, found.samples, found.reference_ns) == (2.0, 1.0, 3, 0.0)


def test_the_nominal_clock_is_the_quickest_that_is_no_exception():
    rows = [row(*[1.0] * 99, reference=(90.0, *[100.0] * 49, *[140.0] * 50))]
    assert nominal_clock([rows]) == 100.0
    assert nominal_clock([rows], known_ns=95.0) == 95.0
    assert nominal_clock([rows], known_ns=120.0) == 100.0
    assert nominal_clock([[KernelRow((1.0,), True)]]) == 0.0


# -- a core that is shared slows the loop more than it slows kernels -----------------------------


class Shared(Restless):
    """Somebody else is on the core at times: the loop takes ``LOOP`` times as long then, kernels ``KERNELS`` times."""

    LOOP, KERNELS = 1.4, 1.1

    def slowed(self, rows) -> None:
        for row in rows:
            busy = [self.slow(self.launches, row["index"], i) > 1 for i in range(len(row["samples"]))]
            row["samples"] = [s * self.KERNELS**b for s, b in zip(row["samples"], busy, strict=True)]
            row["reference"] = [LOOP_NS * self.LOOP**b for b in (busy[0], *busy)]


def test_kernels_that_met_a_busy_core_alone_are_brought_back_by_what_the_others_felt(profiled, tmp_path):
    """Three of the kernels meet both, one the busy core alone."""
    device = Shared(tmp_path / "board", lambda launch, kernel, sample: 2.0 if kernel > 5 or launch % 2 else 1.0)
    result = profiled(device)
    assert device.launches == PLANNED + measure.ATTEMPTS
    assert {round(r.reference_ns / LOOP_NS, 2) for r in result.profile.records()} == {1.0, Shared.KERNELS}
    check(result)


def test_what_kernels_feel_is_known_once_enough_of_them_met_both():
    both = [row(10, 10, 11, 11, 11, reference=(100, 100, 100, 140, 140, 140))]
    clock = Clock(100.0)
    clock.meet([both] * (FEW - 1))
    assert (clock.felt, clock.as_felt(140.0)) == (1.0, 140.0)
    clock.meet([both])
    assert clock.felt == pytest.approx(math.log(1.1) / math.log(1.4))
    assert clock.as_felt(140.0) == pytest.approx(110.0)
    assert clock.as_felt(100.0) == 100.0
    found = figure([row(22, 22, 22, reference=(140.0,) * 4)], clock)
    assert (found.latency_ns, found.reference_ns) == (22.0, pytest.approx(110.0))


def test_kernels_that_met_one_clock_alone_teach_nothing():
    clock = Clock(100.0)
    clock.meet([[row(10, 10, 10)], [row(14, 14, 14, reference=(140,) * 4)], [KernelRow((1.0, 2.0), True)]] * FEW)
    assert clock.felt == 1.0


def test_a_slow_clock_is_felt_in_full():
    clock = Clock(100.0)
    clock.meet([[row(10, 10, 11, 11, 11, reference=(100, 100, 100, 110, 110, 110))]] * FEW)
    assert clock.felt == pytest.approx(1.0)


def test_a_clock_that_nothing_is_known_of_changes_nothing():
    assert Clock().as_felt(140.0) == 140.0
    assert Clock(100.0).as_felt(0.0) == 0.0
