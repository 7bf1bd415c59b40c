"""The steady bench against scripted launches: which samples count, and when it gives up."""

import json
from dataclasses import replace

import pytest

from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy import steady
from edgeprune.deploy.checks import bench
from edgeprune.devices.protocol import Completed, DeviceInfo

INFO = DeviceInfo("x86_64", "Linux", "any", 1, 1 << 30)


class Scripted:
    """A device whose program prints the next of the given medians (ms) at each launch."""

    url = "scripted:"

    def __init__(self, *medians_ms: float, clock: str = "monotonic") -> None:
        self.medians_ms, self.clock, self.launches = medians_ms, clock, 0

    def run(self, argv, *, timeout_s=60.0):
        ms = self.medians_ms[min(self.launches, len(self.medians_ms) - 1)]
        self.launches += 1
        samples = [ms * 1e6] * int(argv[argv.index("--repeats") + 1])
        return Completed(0, json.dumps({"clock": self.clock, "unit": "ns", "samples": samples}), "")


@pytest.fixture
def timed(bundle, monkeypatch):
    monkeypatch.setattr(steady, "PAUSE_S", 0.0)
    monkeypatch.setattr(steady, "REST_S", 0.0)
    manifest = read_manifest(bundle("one"))

    def run(device):
        return steady.steady_bench(device, "home", manifest, warmup=0, repeats=4, threads=1, timeout_s=1.0, info=INFO)

    return run


def test_three_that_agree_are_enough(timed):
    device = Scripted(2.0, 2.01, 2.02)
    result = timed(device)
    assert (device.launches, result.launches, result.steady) == (3, 3, True)
    assert len(result.samples_ns) == 12


def test_a_disturbed_launch_is_left_out_whole(timed):
    result = timed(Scripted(2.0, 3.5, 2.01, 9.0, 2.02))
    assert (result.launches, result.steady) == (5, True)
    assert max(result.samples_ns) == pytest.approx(2.02e6)


def test_the_quickest_three_decide_not_any_three(timed):
    # Three slow launches that agree are no proof while a quicker one stands alone.
    result = timed(Scripted(2.0, 3.0, 3.0, 3.0, 2.01, 2.01))
    assert result.launches == 6
    assert result.median_ms == pytest.approx(2.01)


def test_a_device_that_never_agrees_is_said_not_to(timed):
    device = Scripted(*(2.0 * 1.1**n for n in range(40)))
    result = timed(device)
    assert (device.launches, result.steady) == (steady.MOST_LAUNCHES, False)


def test_a_virtual_clock_is_asked_once(timed):
    device = Scripted(1.0, clock="virtual")
    assert timed(device).evidence == "simulated"
    assert device.launches == 1


def test_side_by_side_a_slow_phase_meets_both(bundle):
    manifest = read_manifest(bundle("one"))

    def launch(device):
        return lambda: bench(device, "home", manifest, warmup=0, repeats=4, threads=1, timeout_s=1.0, info=INFO)

    phases = (1.3, 1.3, 1.3, 1.0, 1.0, 1.0, 1.3, 2.0, 2.0)
    small, large = (Scripted(*(ms * phase for phase in phases)) for ms in (1.5, 3.0))
    result = steady.side_by_side(launch(small), launch(large))
    assert result.ratio == pytest.approx(0.5)
    assert (result.first.median_ms, result.second.median_ms) == pytest.approx((1.5, 3.0))
    assert (result.first.launches, result.first.steady, small.launches) == (9, True, 9)


@pytest.mark.parametrize(
    ("medians_ms", "budget_ms", "launches", "median_ms"),
    [((3.0,), None, 3, 3.0), ((2.0,), 2.5, 3, 2.0), ((3.0, 3.0, 3.0, 2.0), 2.5, 6, 2.0), ((3.0,), 2.5, 12, 3.0)],
)
def test_too_slow_is_what_stays_too_slow(bundle, monkeypatch, medians_ms, budget_ms, launches, median_ms):
    monkeypatch.setattr(steady, "REST_S", 0.0)
    device, manifest = Scripted(*medians_ms), read_manifest(bundle("one"))
    result = steady.patient_bench(
        budget_ms,
        lambda: steady.steady_bench(device, "home", manifest, warmup=0, repeats=4, threads=1, timeout_s=1.0, info=INFO),
    )
    assert (device.launches, result.median_ms) == (launches, median_ms)


def test_a_clock_that_counts_is_named_whatever_the_program_calls_it(bundle):
    counting = replace(INFO, clock="instructions", evidence="emulated")
    manifest = read_manifest(bundle("one"))
    options = {"warmup": 0, "repeats": 4, "threads": 1, "timeout_s": 1.0}
    found = bench(Scripted(1.0), "home", manifest, **options, info=counting)
    assert (found.clock, found.evidence) == ("instructions", "emulated")
    assert bench(Scripted(1.0, clock="virtual"), "home", manifest, **options, info=counting).evidence == "simulated"
