"""Launches and turns against scripted programs: what is timed, which clock state counts, and how a limit is judged."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgeprune.budget.promise import Limit, Promise
from edgeprune.budget.verdict import Outcome
from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.placed import Placed
from edgeprune.deploy.standard import Standard
from edgeprune.deploy.timing import LAUNCHES, Timing, Turns, timed
from edgeprune.devices.protocol import Completed, DeviceInfo
from edgeprune.errors import UndecidedError, UsageError, VerificationError

INFO = DeviceInfo("x86_64", "Linux", "any", 1, 1 << 30)


class Scripted:
    """A device whose program prints the next of the given medians (ms) at each launch; ``clock`` is how slow it is."""

    url = "scripted:"

    def __init__(
        self,
        *medians_ms: float,
        clock: str = "monotonic",
        slow=lambda n: 1.0,
        reference: bool = True,
        allocated: int | None = None,
    ) -> None:
        self.medians_ms, self.clock, self.slow, self.reference = medians_ms, clock, slow, reference
        self.allocated = allocated
        self.launches, self.log = 0, []

    def run(self, argv, *, timeout_s=60.0):
        repeats = int(argv[argv.index("--repeats") + 1])
        slow = self.slow(self.launches)
        ms = self.medians_ms[min(self.launches, len(self.medians_ms) - 1)] * slow
        self.launches += 1
        self.log.append(repeats)
        row = {"clock": self.clock, "unit": "ns", "samples": [ms * 1e6] * repeats}
        if self.reference:
            row["reference"] = [5e4 * slow] * repeats
        if self.allocated is not None:
            row["allocated_bytes"] = self.allocated
        return Completed(0, json.dumps(row), "")


@pytest.fixture
def placed(bundle):
    manifest = read_manifest(bundle("one"))
    return lambda device, info=INFO: Placed(device, "home", manifest, info)


def test_one_launch_tells_how_many_repeats_fill_the_others(placed):
    device = Scripted(2.0)
    assert timed(placed(device)).median_ms == 2.0
    assert device.log == [3] + [30] * LAUNCHES


def test_repeats_that_are_given_are_used(placed):
    device = Scripted(2.0)
    assert len(timed(placed(device), repeats=4).samples_ms) == 4 * LAUNCHES
    assert device.log == [4] * LAUNCHES


def test_a_clock_that_counts_is_asked_once(placed):
    counting = replace(INFO, clock="instructions", evidence="emulated")
    device = Scripted(1.0)
    timing = timed(placed(device, counting))
    assert (device.launches, timing.clock, timing.evidence) == (1, "instructions", "emulated")
    assert timed(placed(Scripted(1.0, clock="virtual"), counting)).evidence == "simulated", "never measured"


def test_the_latency_is_that_of_the_fastest_clock_state(placed):
    device = Scripted(2.0, slow=lambda n: 1.1 if n % 2 else 1.0)
    timing = timed(placed(device), repeats=4, launches=10)
    assert timing.median_ms == pytest.approx(2.0)
    assert [(round(s.slowdown, 3), s.share) for s in timing.states] == [(1.0, 0.5), (1.1, 0.5)]
    assert timing.states[1].latency_ms == pytest.approx(2.2)


def test_timings_survive_json(placed):
    timing = timed(placed(Scripted(2.0, 2.1)), repeats=4)
    assert Timing.from_json(json.loads(json.dumps(timing.to_json()))) == timing


def test_turns_alternate_so_that_a_ramp_favours_neither(placed):
    order = []

    class Named(Scripted):
        def __init__(self, name):
            super().__init__(1.0)
            self.name = name

        def run(self, argv, *, timeout_s=60.0):
            order.append(self.name)
            return super().run(argv, timeout_s=timeout_s)

    turns = Turns(placed(Named("a")), placed(Named("b")), repeats=4)
    for _ in range(4):
        turns()
    assert "".join(order) in ("abbaabba", "baabbaab")
    assert len(turns.timing.launches) == len(turns.beside.launches) == 4


# -- judging -----------------------------------------------------------------------------------------


def judged(placed, device, limit, **standard):
    return Standard(Promise(limit), patience_s=0.5, **standard).judge(placed(device))


@pytest.mark.parametrize(("ms", "outcome"), [(1.0, Outcome.KEPT), (1.2, Outcome.BROKEN)])
def test_an_absolute_limit_is_judged_at_the_nominal_clock(placed, ms, outcome):
    """In a phase that is slower by 15 % throughout, and known as one from the reference."""
    found = judged(placed, Scripted(ms, slow=lambda n: 1.15), Limit(1.1), reference_ms=0.05)
    (verdict,) = found.verdicts
    assert verdict.outcome is outcome
    assert verdict.value == pytest.approx(ms, rel=1e-6)
    assert verdict.low < ms < verdict.high, "how a network follows the clock is not known exactly"
    assert verdict.states[0].latency_ms == pytest.approx(ms * 1.15)


def test_without_a_reference_the_program_speaks_for_itself(placed):
    (verdict,) = judged(placed, Scripted(1.0, reference=False), Limit(1.1), reference_ms=0.05).verdicts
    assert (verdict.outcome, verdict.value) == (Outcome.KEPT, pytest.approx(1.0))


def test_a_relative_limit_is_judged_in_turns(placed):
    """The device slows down by half for good between profiling and judging; half of the dense latency stays that."""
    dense = placed(Scripted(4.0, slow=lambda n: 1.5))
    found = judged(placed, Scripted(1.9, slow=lambda n: 1.5), Limit(0.5, True), dense=dense, dense_ms=4.0)
    (verdict,) = found.verdicts
    assert (verdict.outcome, verdict.limit, verdict.value) == (Outcome.KEPT, 2.0, pytest.approx(1.9))
    assert found.dense.median_ms == pytest.approx(6.0)


def test_what_lies_on_the_limit_is_not_decidable_and_an_error_of_its_own(placed):
    found = judged(placed, Scripted(1.0, slow=lambda n: 1.0 + 0.004 * (-1) ** n, reference=False), Limit(1.0))
    assert found.verdicts[0].outcome is Outcome.UNDECIDED
    with pytest.raises(UndecidedError, match="not decidable") as caught:
        found.require_kept()
    assert caught.value.exit_code == 10
    json.dumps(caught.value.to_json(), allow_nan=False)


def test_a_broken_limit_names_the_slow_phase(placed):
    found = judged(placed, Scripted(1.2, slow=lambda n: 1.08 if n % 4 == 0 else 1.0), Limit(1.1), reference_ms=0.05)
    with pytest.raises(VerificationError, match=r"over the budget: latency broken: median 1\.2 ms"):
        found.require_kept()
    assert "at a clock slower by 8.0%" in str(found.verdicts[0])


def test_bytes_are_exact(placed):
    standard = Standard(Promise(flash=Limit(1.0)))
    (verdict,) = standard.judge(placed(Scripted(1.0))).verdicts
    assert (verdict.outcome, verdict.low, verdict.confidence) == (Outcome.BROKEN, verdict.high, 1.0)


@pytest.mark.parametrize(("told", "value"), [(40, 40), (24, 24), (None, 32)])
@pytest.mark.parametrize("spare", [-0.1, 0.0])
def test_ram_is_what_the_program_tells_or_else_its_manifest(placed, told, value, spare):
    tried, outcome = placed(Scripted(1.0, allocated=told)), Outcome.BROKEN if spare < 0 else Outcome.KEPT
    assert tried.manifest.memory.peak_ram == 32
    found = Standard(Promise(ram=Limit(value + spare))).judge(tried)
    (verdict,) = found.verdicts
    assert (verdict.resource, verdict.outcome, verdict.value, verdict.unit) == ("ram", outcome, value, "bytes")
    assert (verdict.low, verdict.high, verdict.evidence) == (value, value, "measured")
    if outcome is Outcome.BROKEN:
        with pytest.raises(VerificationError, match=f"over the budget: ram broken: {value} bytes of "):
            found.require_kept()


def test_a_relative_limit_needs_a_dense_network():
    with pytest.raises(UsageError, match="no dense network"):
        _ = Standard(Promise(Limit(0.5, True))).budget


@pytest.mark.parametrize(
    "standard",
    [
        Standard(Promise(Limit(0.5, True), statistic="p99"), 3.0, 1e6, 0.05),
        Standard(Promise(Limit(12.0), Limit(2e6))),
        Standard(Promise(flash=Limit(0.5, True)), dense_flash_bytes=100.0),
        Standard(Promise(Limit(12.0), ram=Limit(0.5, True)), dense_ram_bytes=100.0),
    ],
)
def test_a_standard_survives_a_manifest(standard):
    assert Standard.from_json(json.loads(json.dumps(standard.to_json()))) == standard


def test_bundles_of_earlier_versions_are_understood():
    assert Standard.from_json({"latency_ms": 12.0}).budget.latency_ms == 12.0
    assert Standard.from_json({}) is None
