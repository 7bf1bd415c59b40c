"""Kernels that fail, on the device for real: each gets a failed record, and the rest go on (docs/FAULTS.md, 26)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.kernels import registry
from edgeprune.compiler.kernels.base import Rule
from edgeprune.compiler.kernels.emit import Emitter, T, function
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.compiler.objects import build_object
from edgeprune.compiler.program import timing_program, write_program
from edgeprune.devices.fake import FakeDevice
from edgeprune.devices.local.device import LocalDevice
from edgeprune.devices.protocol import Completed
from edgeprune.latency.records import spread
from edgeprune.profiling import bench
from edgeprune.profiling.measure import Candidate, TimingOptions, measure
from edgeprune.profiling.profile import ProfileOptions, profile

TIMING = TimingOptions(warmup=0, repeats=3)


class Broken(Rule):
    """A rule for a single kernel, whose body does as it is told."""

    def __init__(self, name: str, spec, body: Callable[[Emitter], None]) -> None:
        self.name, self.key, self.body = name, spec.key, body

    def matches(self, spec) -> bool:
        return spec.key == self.key

    def space(self, spec, target):
        return [{"rule": self.name}]

    def build(self, name, spec, schedule, target):
        return function(name, spec, schedule, target, [], self.body)


def call(symbol: str) -> Callable[[Emitter], None]:
    return lambda e: T.evaluate(T.call_extern("int32", symbol))


def not_finite(e: Emitter) -> None:
    e.store(e.output, e.const(float("nan")), 0)


def no_code(e: Emitter) -> None:
    raise ValueError("no tile fits")


@pytest.fixture
def break_kernels(monkeypatch):
    def breaking(**bodies) -> None:
        """``rule name = (spec, body)``"""
        rules = tuple(Broken(name, *found) for name, found in bodies.items())
        monkeypatch.setattr(registry, "RULES", (*rules, *registry.RULES))

    return breaking


@pytest.fixture
def in_process(monkeypatch):
    """Rules of a test exist in this process only."""

    def build_all(requests, target, workers=None):
        for request in requests:
            try:
                yield build_object(*request, target)
            except KernelBuildError as e:
                yield e

    monkeypatch.setattr(bench, "build_all", build_all)


def candidates(specs, target) -> list[Candidate]:
    found = []
    for spec in specs:
        schedule = schedules_for(spec, target)[0]
        found.append(Candidate(spec, schedule, build_object(spec, schedule, target)))
    return found


def test_kernels_that_do_not_build_crash_or_give_nan_fail_alone(
    network, target, device, store, break_kernels, in_process
):
    stem, inner, _, depthwise, pointwise, _, dense = (n.spec for n in network.kernels.nodes)
    bodies = {"aborts": (inner, call("abort")), "nan": (depthwise, not_finite), "unbuilt": (dense, no_code)}
    break_kernels(**bodies, aborts_too=(pointwise, call("abort")))
    options = ProfileOptions(points=1, tune=1, timing=TIMING)
    result = profile(network.kernels, network.channels, target, device, store, options)
    errors = {r.spec.key: r.error for r in result.failed}
    assert errors.keys() == {s.key for s in (inner, depthwise, pointwise, dense)}
    assert "exit 134" in errors[inner.key]
    assert "exit 134" in errors[pointwise.key]
    assert errors[depthwise.key] == "its output is not finite"
    assert "no tile fits" in errors[dense.key]
    records = result.profile.records()
    assert len(records) == 7
    assert {r.spec.key: r.median_ns for r in records if r.ok} == {
        n.spec.key: virtual_cost_ns(n.spec) for n in network.kernels.nodes if n.spec.key not in errors
    }
    assert stem.key not in errors
    again = profile(network.kernels, network.channels, target, device, store, options)
    assert (again.measured, again.reused) == (4, 3), "what failed is tried again"


def test_a_kernel_that_hangs_is_found_and_the_other_is_measured(network, target, device, break_kernels):
    specs = [n.spec for n in network.kernels.nodes][:2]
    break_kernels(hangs=(specs[1], call("pause")))
    records = measure(
        candidates(specs, target),
        target,
        device,
        device.describe(),
        threads=1,
        timing=TimingOptions(warmup=0, repeats=3, timeout_s=0.5),
    )
    assert [r.status for r in records] == ["ok", "failed"]
    assert "did not finish" in records[1].error
    assert list(device.root.rglob("*")) == [device.root / "profiling"]


class Tampering(FakeDevice):
    """Hands on what the timing program prints as ``change(stdout, first)`` leaves it."""

    def __init__(self, root, change: Callable[[str, int], Completed]) -> None:
        super().__init__(root)
        self.change = change
        self.runs: list[int] = []

    def run(self, argv, *, timeout_s=60.0):
        done = super().run(argv, timeout_s=timeout_s)
        if "kernels" not in argv:
            return done
        assert done.returncode == 0, done.stderr
        first = int(argv[argv.index("--first") + 1])
        self.runs.append(first)
        return self.change(done.stdout, first)


def test_a_program_that_dies_in_the_middle_of_a_line_goes_on_after_it(network, target, tmp_path):
    specs = [n.spec for n in network.kernels.nodes]

    def dies_at_3(stdout: str, first: int) -> Completed:
        lines = stdout.splitlines()
        if first > 3:
            return Completed(0, stdout, "")
        whole = "".join(f"{line}\n" for line in lines[: 3 - first])
        return Completed(139, whole + lines[3 - first][:40], "Segmentation fault\n")

    device = Tampering(tmp_path / "d", dies_at_3)
    records = measure(candidates(specs, target), target, device, device.describe(), threads=1, timing=TIMING)
    assert [r.ok for r in records] == [i != 3 for i in range(len(specs))]
    assert records[3].error == "the timing program stopped: exit 139: Segmentation fault"
    assert [r.spec.key for r in records] == [s.key for s in specs]
    assert all(r.median_ns == virtual_cost_ns(r.spec) for r in records if r.ok)
    assert device.runs == [0, 4]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"samples": []}, "no result for it"),
        ({"samples": [float("nan")] * 3}, "no result for it"),
        ({"samples": [1.0, float("inf"), 2.0]}, "no result for it"),
        ({"samples": ["fast"]}, "no result for it"),
        ({"samples": None}, "no result for it"),
        ({"index": 0}, "no result for it"),
        ({"samples": [0.0, 1.0, 2.0]}, "clock gave 0.0 ns"),
        ({"samples": [-1.0, 1.0, 2.0]}, "clock gave -1.0 ns"),
        ({"finite": None}, "not finite"),
    ],
)
def test_a_line_that_is_no_measurement_never_becomes_a_figure(network, target, tmp_path, wrong, error):
    """Invalid latencies (docs/FAULTS.md, 6) at the source; and no kernel under the name of another one."""
    specs = [n.spec for n in network.kernels.nodes][:3]

    def second_is_wrong(stdout: str, first: int) -> Completed:
        rows = [json.loads(line) for line in stdout.splitlines()]
        lines = [json.dumps({**row, **wrong} if row["index"] == 1 else row) + "\n" for row in rows]
        return Completed(0, "".join(lines), "")

    device = Tampering(tmp_path / "d", second_is_wrong)
    records = measure(candidates(specs, target), target, device, device.describe(), threads=1, timing=TIMING)
    assert [r.ok for r in records] == [True, False, True]
    assert error in records[1].error
    assert records[1].median_ns == 0


@pytest.mark.parametrize("better", [0, 1])
def test_of_two_schedules_the_faster_is_kept(network, target, tmp_path, store, better):
    spaces = {n.spec.key: schedules_for(n.spec, target)[:2] for n in network.kernels.nodes}
    order = [i for space in spaces.values() for i in range(len(space))]
    assert order.count(1) >= 4, "most rules have two schedules to choose from"

    def slower(stdout: str, first: int) -> Completed:
        rows = [json.loads(line) for line in stdout.splitlines()]
        for row in rows:
            if order[row["index"]] != better:
                row["samples"] = [3 * s for s in row["samples"]]
        return Completed(0, "".join(json.dumps(row) + "\n" for row in rows), "")

    device = Tampering(tmp_path / "d", slower)
    options = ProfileOptions(points=1, tune=2, timing=TIMING)
    result = profile(network.kernels, network.channels, target, device, store, options)
    assert (result.measured, result.failed) == (7, ())
    for record in result.profile.records():
        space = spaces[record.spec.key]
        if len(space) == 2:
            assert dict(record.schedule) == dict(space[better])
            assert record.median_ns == virtual_cost_ns(record.spec)


def test_weights_and_code_of_a_kernel_are_counted(network, target, device):
    stem = network.kernels.nodes[0].spec
    (record,) = measure(candidates([stem], target), target, device, device.describe(), threads=1, timing=TIMING)
    assert record.weight_bytes >= 4 * (16 * 3 * 9 + 16)
    assert record.object_bytes == candidates([stem], target)[0].kernel.bytes > 0


@pytest.fixture(scope="module")
def timing(network, target, tmp_path_factory):
    """A real timing program of two kernels; what it prints."""
    made = candidates([n.spec for n in network.kernels.nodes][:2], target)
    program = timing_program("timing", [(c.spec, c.schedule, c.kernel) for c in made], target)
    native = write_program(program, target, tmp_path_factory.mktemp("timing"))["program"]

    def run(*arguments: object) -> list[dict]:
        said = ["kernels", "--warmup", 0, "--repeats", 3, *arguments]
        done = subprocess.run([native, *map(str, said)], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def test_the_reference_is_timed_before_the_first_sample_and_after_each(timing):
    for row in timing():
        assert (len(row["samples"]), len(row["reference"])) == (3, 4)
        assert all(ns > 0 for ns in row["reference"])


def test_samples_that_met_a_slow_clock_are_replaced_while_they_may_be_retaken(timing):
    """A nominal clock that nothing reaches, and one that is slower than any."""
    for nominal, taken in ((1, 3 + 4), (10**9, 3)):
        for row in timing("--retakes", 4, "--nominal-ns", nominal):
            assert (len(row["samples"]), len(row["reference"])) == (taken, taken + 1)


def test_where_none_is_retaken_no_clock_is_too_slow(timing):
    assert [len(row["samples"]) for row in timing("--nominal-ns", 1)] == [3, 3]


def test_a_virtual_clock_is_never_slow(timing):
    rows = timing("--virtual-clock", "--retakes", 4, "--nominal-ns", 1)
    assert [(len(row["samples"]), row["reference"]) for row in rows] == [(3, []), (3, [])]


def test_a_record_says_at_which_clock_it_was_measured(network, target, tmp_path):
    device = LocalDevice(tmp_path / "d")
    specs = [n.spec for n in network.kernels.nodes][:2]
    records = measure(candidates(specs, target), target, device, device.describe(), threads=2, timing=TIMING)
    assert [(r.ok, r.reference_ns > 0) for r in records] == [(True, True)] * 2


@pytest.mark.parametrize(("samples", "range_"), [([5.0], 0.0), ([1, 2, 3, 4, 5], 2.0), ([3, 1, 5, 2, 4], 2.0)])
def test_spread_is_the_interquartile_range(samples, range_):
    assert spread(samples) == range_
