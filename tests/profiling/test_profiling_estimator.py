"""Estimates of kernels that were not measured: near where kernels are alike, wide where they are not, and honest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conv_specs import conv
from scipy.optimize import check_grad

from edgeprune.compiler.kernels.conv import DirectConv
from edgeprune.compiler.kernels.registry import rule_named, schedules_for
from edgeprune.compiler.kernels.tile import tile_issued
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.errors import ProfileError
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.catalogue import shipped_files
from edgeprune.latency.networks import Placed
from edgeprune.latency.records import KernelRecord
from edgeprune.profiling import estimator as estimators
from edgeprune.profiling.estimated import estimator_of
from edgeprune.profiling.estimator import WorkEstimator
from edgeprune.targets import load_target

PRICES = (0.3, 0.05, 2.0, 0.5, 0.01, 0.02, 0.01, 0.02, 300.0)
"""ns of each count of a kernel on a computer that is made up."""


def measured(spec: KernelSpec, target, noise: float = 0.0, schedule=None) -> KernelRecord:
    """What that computer takes: each family is off by its own part, each kernel by one that changes with its widths."""
    schedule = schedule or schedules_for(spec, target)[0]
    line = np.dot(rule_named(schedule).work(spec, schedule, target).counts(), PRICES)
    of_family = 0.1 * np.sin(int(spec.family, 16) % 97)
    of_widths = 0.1 * np.sin(np.log(spec.widths["in"])) * np.cos(np.log(spec.widths["out"]))
    ns = float(line * np.exp(of_family + of_widths + noise))
    return KernelRecord(spec, dict(schedule), "ok", ns, ns / 100, ns, 15, 900 + spec.widths["in"], 4)


@pytest.fixture(scope="module")
def kernels(target) -> list[KernelRecord]:
    """200 kernels of eight families."""
    random, found = np.random.default_rng(0), {}
    families = [(size, kernel) for size in (7, 14, 28, 56) for kernel in (1, 3)]
    while len(found) < 200:
        size, kernel = families[len(found) % len(families)]
        cin, cout = (int(np.exp(w)) for w in random.uniform(np.log(8), np.log(256), 2))
        record = measured(conv(cin, cout, size, kernel), target, random.normal(0, 0.01))
        found[record.spec.key] = record
    return list(found.values())


@pytest.fixture(scope="module")
def halves(kernels, target) -> tuple[list[KernelRecord], list[KernelRecord]]:
    """Those that are known, and others with the schedules that they get by these."""
    known, book = kernels[:100], ScheduleBook(target, kernels[:100])
    random = np.random.default_rng(1)
    others = (r.spec for r in kernels[100:])
    return known, [measured(s, target, random.normal(0, 0.01), book.choose(s).schedule) for s in others]


def test_kernels_that_were_not_measured_are_near_what_they_take(halves, target):
    known, others = halves
    found = WorkEstimator(known, target).estimate([r.spec for r in others])
    error = np.abs(found.log_ns - np.log([r.median_ns for r in others]))
    assert np.median(error) < 0.03
    inside = error < 1.96 * found.deviation
    assert inside.mean() >= 0.9
    assert np.median(found.deviation) < 0.1


def test_what_was_measured_is_known_as_well_as_it_was_measured(halves, target):
    known, _ = halves
    found = WorkEstimator(known, target).estimate([r.spec for r in known])
    assert np.abs(found.log_ns - np.log([r.median_ns for r in known])).max() < 0.02
    assert found.deviation.max() < 0.01


def test_the_further_from_what_was_measured_the_less_is_known(halves, target):
    known, _ = halves
    estimator = WorkEstimator(known, target)
    near, strange = conv(64, 64, 14, 3), conv(64, 64, 14, 5)
    assert strange.family not in {r.spec.family for r in known}
    found = estimator.estimate([near, strange, conv(2048, 2048, 14, 3)])
    assert found.deviation[0] < min(found.deviation[1:])


def test_doubts_of_kernels_that_are_alike_add_up(halves, target):
    """Six kernels side by side are about as unsure together as each alone; independent ones would cancel out."""
    estimator = WorkEstimator(halves[0], target)
    alike = [conv(101 + i, 203, 28, 3) for i in range(6)]
    total, each = estimator.total(alike), estimator.estimate(alike)
    assert total.latency_ns == pytest.approx(each.latency_ns.sum(), rel=1e-9)
    assert 0.6 * each.spread_ns.sum() < total.spread_ns <= each.spread_ns.sum() * 1.001


def test_a_kernel_that_comes_twice_counts_twice(halves, target):
    estimator, spec = WorkEstimator(halves[0], target), conv(50, 60, 28, 3)
    once, twice = estimator.total([spec]), estimator.total([spec, spec])
    assert twice.latency_ns == pytest.approx(2 * once.latency_ns)
    assert twice.spread_ns == pytest.approx(2 * once.spread_ns)


def test_spreads_are_widened_where_kernels_lie_outside_of_them(halves, target):
    known, _ = halves
    wild = [replace(r, median_ns=r.median_ns * (4 if i % 12 == 0 else 1)) for i, r in enumerate(known)]
    assert WorkEstimator(wild, target).wider > 1.3 * WorkEstimator(known, target).wider
    assert WorkEstimator(known, target).wider < 1.3


def test_a_kernel_that_was_disturbed_is_found(halves, target):
    known, _ = halves
    assert WorkEstimator(known, target).slow(4.0) == []
    disturbed = [replace(known[0], median_ns=1.5 * known[0].median_ns), *known[1:]]
    assert WorkEstimator(disturbed, target).slow(4.0) == [known[0].spec]


def test_code_is_that_of_the_kernel_most_alike_and_weights_are_counted(halves, target):
    known, _ = halves
    spec, schedule = known[0].spec, known[0].schedule
    near = spec.with_widths(in_=spec.widths["in"] + 1, out=spec.widths["out"])
    found = WorkEstimator(known, target).estimate([near])
    assert found.object_bytes[0] == known[0].object_bytes
    assert found.weight_bytes[0] == 4 * sum(rule_named(schedule).constants(near, schedule, target))


def test_code_is_that_of_the_same_kernel_before_that_of_another(halves, target):
    """However far away: the family of a 3x3 kernel was measured at one width alone."""
    known, _ = halves
    one = replace(measured(conv(8, 8, 112, 3), target), object_bytes=77)
    found = WorkEstimator([*known, one], target).estimate([conv(250, 250, 112, 3)])
    assert found.object_bytes[0] == 77


def test_nothing_is_estimated_from_nothing(halves, target):
    failed = replace(halves[0][0], status="failed", median_ns=0.0, error="no tile fits")
    with pytest.raises(ProfileError, match="no measurement"):
        WorkEstimator([failed], target)
    assert len(WorkEstimator([failed, *halves[0][1:5]], target).estimate([halves[0][0].spec]).log_ns) == 1


def test_schedules_that_no_rule_knows_teach_nothing(halves, target):
    known, _ = halves
    strange = [replace(known[0], schedule=s) for s in ({"rule": "gone"}, {"rule": "conv_direct"}, {})]
    with pytest.raises(ProfileError, match="no measurement"):
        WorkEstimator(strange, target)
    spec = known[1].spec
    found, alone = (WorkEstimator([*more, *known[1:]], target).estimate([spec]) for more in (strange, []))
    assert found.log_ns == alone.log_ns


def test_one_measurement_is_a_beginning(halves, target):
    (record, *_), others = halves[0], halves[1]
    estimator = WorkEstimator([record], target)
    assert estimator.estimate([record.spec]).latency_ns[0] == pytest.approx(record.median_ns, rel=0.01)
    assert (estimator.estimate([r.spec for r in others]).deviation > 0.05).all()


def test_the_fit_follows_its_gradient(halves, target, monkeypatch):
    seen = {}
    monkeypatch.setattr(estimators, "minimize", lambda loss, start, **_: seen.update(loss=loss) or Start(start))
    estimator = WorkEstimator(halves[0][:40], target)
    assert estimator.estimate([halves[1][0].spec]).log_ns.shape == (1,)
    for shift in (0.0, 0.3):
        at = estimators.START + shift
        error = check_grad(lambda x: seen["loss"](x)[0], lambda x: seen["loss"](x)[1], at)
        assert error < 1e-3 * max(1.0, np.linalg.norm(seen["loss"](at)[1]))


class Start:
    """A fit that ends where it began."""

    def __init__(self, x) -> None:
        self.x = x


# -- kernels in their places ----------------------------------------------------------------------


def in_place(record: KernelRecord, by: float) -> Placed:
    return Placed(record.spec, record.schedule, by * record.median_ns, by * record.spread_ns)


def test_estimates_are_of_kernels_in_their_places_if_any_was_timed_there(halves, target):
    """All take a tenth more there: kernels that were timed alone only, and those that were not timed at all, too."""
    known, others = halves
    inside = [in_place(r, 1.1) for r in known[:30]]
    alone, placed = WorkEstimator(known, target), WorkEstimator(known, target, inside)
    assert (alone.placed, placed.placed) == (False, True)
    for records in (known[50:], others):
        specs = [r.spec for r in records]
        ratio = np.exp(placed.estimate(specs).log_ns - alone.estimate(specs).log_ns)
        assert np.median(ratio) == pytest.approx(1.1, abs=0.02)
        assert ratio.std() < 0.03


def test_one_that_was_timed_in_its_place_takes_what_it_took_there(halves, target):
    known, others = halves
    inside = [in_place(r, 1.05 + 0.1 * (i % 2)) for i, r in enumerate(others[:40])]
    found = WorkEstimator(known, target, inside).estimate([p.spec for p in inside])
    assert np.abs(found.log_ns - np.log([p.latency_ns for p in inside])).max() < 0.03


def test_it_is_not_known_of_a_kernel_alone_what_it_takes_in_its_place(halves, target):
    """Kernels depart from what they take alone by 10 % either way, as their counts do not say."""
    known, _ = halves
    random = np.random.default_rng(5)
    inside = [in_place(r, np.exp(random.normal(0, 0.1))) for r in known[:60]]
    estimator = WorkEstimator(known, target, inside)
    there, not_there = ([r.spec for r in records] for records in (known[:60], known[60:]))
    assert np.median(estimator.estimate(there).deviation) < 0.03
    assert 0.06 < np.median(estimator.estimate(not_there).deviation) < 0.2


def test_kernels_with_another_schedule_are_others(halves, target):
    known, _ = halves
    spec = known[0].spec
    another = next(s for s in schedules_for(spec, target) if dict(s) != dict(known[0].schedule))
    slow = Placed(spec, another, 3 * known[0].median_ns, 1.0)
    found = WorkEstimator(known, target, [in_place(known[0], 1.0), slow]).estimate([spec])
    assert np.exp(found.log_ns[0]) == pytest.approx(known[0].median_ns, rel=0.1)


def test_networks_that_an_emulated_board_timed_are_known_from_the_others():
    """The profile that is shipped, of a clock that counts instructions: each time without one of its networks."""
    (shipped,) = [s for s in shipped_files() if s.fingerprint.target == "emulated_a53"]
    target, errors = load_target("emulated_a53"), []
    for left in shipped.networks[::5]:
        others = [n for n in shipped.networks if n is not left]
        found = estimator_of(shipped.records, target, left.kernels, others)
        took = sum(p.latency_ns for k in left.kernels for p in left.placed if p.spec.key == k.key)
        errors.append(found.total(left.kernels).latency_ns / took - 1)
    assert len(errors) > 2
    assert np.mean(np.abs(errors)) < 0.01


def test_a_clock_that_counts_instructions_knows_nothing_of_busy_units(kernels, target, monkeypatch):
    """A narrow tile waits for its own results on a real board, and takes no more instructions for it."""
    known, asked = kernels[:60], [r.spec for r in kernels[60:70]]

    def estimates(evidence: str) -> np.ndarray:
        return WorkEstimator([replace(r, evidence=evidence) for r in known], target).estimate(asked).log_ns

    before = {evidence: estimates(evidence) for evidence in ("measured", "emulated")}
    counted = DirectConv.work
    monkeypatch.setattr(DirectConv, "work", lambda *of: (w := counted(*of)) and replace(w, cycles=w.cycles + w.loops))
    assert estimates("emulated") == pytest.approx(before["emulated"], abs=1e-12)
    assert np.abs(estimates("measured") - before["measured"]).max() > 1e-3


def test_whole_blocks_of_channels_are_loaded_at_once_where_lanes_are_multiplied_by():
    arm, avx = load_target("rpi4"), load_target("x86_64_avx2")
    assert (arm.lanes, avx.lanes) == (4, 8)
    # 13 channels, one block of results, four columns: 52 multiply-adds, 13 loads of weights, and of values
    assert tile_issued(1, 4, 13, arm) == 52 + 13 + 4 * (3 + 1), "three whole blocks and one channel"
    assert tile_issued(1, 4, 13, arm, blocked=False) == tile_issued(1, 4, 13, avx) == 52 + 13 + 52
