"""From inferences with a clock around each kernel to figures that add up, whatever disturbed some of them."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.profiling.figures import Clock
from edgeprune.profiling.inferences import NetworkLaunch, inferences, steady_launches

CALLS = np.array([1000.0, 200.0, 4000.0])
BESIDE = 50.0
"""ns that are not spent in calls."""


def launch(random: np.random.Generator, *, spread: float = 0.05, slow: float = 1.0, count: int = 3) -> NetworkLaunch:
    """Calls differ from inference to inference and from launch to launch; ``slow`` is the clock's."""
    of_launch = np.exp(random.normal(0, spread, 3))
    calls = CALLS * of_launch * np.exp(random.normal(0, spread, (count, 3))) * slow
    whole = calls.sum(axis=1) + BESIDE * slow
    return NetworkLaunch(tuple(whole), tuple(map(tuple, calls.T)), (20_000.0 * slow,) * (count + 1))


def test_figures_of_calls_add_up_to_that_of_the_network():
    """As those of medians or lower quartiles would not."""
    random = np.random.default_rng(0)
    found = inferences([launch(random) for _ in range(30)], Clock(20_000.0))
    assert found.latency_ns == pytest.approx(found.calls_ns.sum() + BESIDE)
    assert found.latency_ns == pytest.approx(CALLS.sum() + BESIDE, rel=0.02)
    assert found.reference_ns == 20_000.0
    assert found.samples == 90


def test_the_more_launches_the_smaller_the_error_and_it_is_about_right():
    errors, said = [], []
    for seed in range(200):
        random = np.random.default_rng(seed)
        found = inferences([launch(random) for _ in range(16)], Clock(20_000.0))
        errors.append(found.calls_ns / CALLS - 1)
        said.append(found.errors_ns / CALLS)
    assert np.std(errors, axis=0) == pytest.approx(np.median(said, axis=0), rel=0.5)
    random = np.random.default_rng(0)
    few, many = (inferences([launch(random) for _ in range(n)], Clock(20_000.0)) for n in (4, 100))
    assert many.error_ns < few.error_ns / 2


def test_inferences_that_were_disturbed_do_not_count():
    random = np.random.default_rng(1)
    disturbed = [launch(random, spread=0.001) for _ in range(20)]
    for i in (3, 9, 14):
        x = disturbed[i]
        disturbed[i] = NetworkLaunch(tuple(5 * w for w in x.whole_ns), x.calls_ns, x.reference_ns)
    found = inferences(disturbed, Clock(20_000.0))
    assert found.latency_ns == pytest.approx(CALLS.sum() + BESIDE, rel=0.002)


def test_a_slow_clock_does_not_count():
    random = np.random.default_rng(2)
    launches = [launch(random, spread=0.001, slow=1.4 if i % 3 else 1.0) for i in range(30)]
    assert len(steady_launches(launches, 20_000.0)) == 10
    found = inferences(launches, Clock(20_000.0))
    assert found.latency_ns == pytest.approx(CALLS.sum() + BESIDE, rel=0.002)
    assert found.samples == 30


def test_where_there_was_no_other_it_is_brought_to_the_nominal_one():
    random = np.random.default_rng(3)
    found = inferences([launch(random, spread=0.001, slow=1.4) for _ in range(10)], Clock(20_000.0))
    assert found.latency_ns == pytest.approx(CALLS.sum() + BESIDE, rel=0.002)
    assert found.calls_ns == pytest.approx(CALLS, rel=0.002)
    assert found.reference_ns == 20_000.0


def test_without_a_reference_all_count_and_nothing_is_known_of_the_clock():
    random = np.random.default_rng(4)
    plain = [NetworkLaunch(x.whole_ns, x.calls_ns) for x in (launch(random, spread=0.001) for _ in range(5))]
    found = inferences(plain, Clock())
    assert found.latency_ns == pytest.approx(CALLS.sum() + BESIDE, rel=0.002)
    assert (found.reference_ns, found.samples) == (0.0, 15)


def test_calls_need_not_have_been_timed():
    found = inferences([NetworkLaunch((5000.0, 5100.0, 4900.0))], Clock())
    assert found.latency_ns == pytest.approx(5000.0)
    assert found.calls_ns.shape == (0,)


@pytest.mark.parametrize("count", range(1, 9))
def test_however_few_there_are_some_count(count):
    whole = tuple(5000.0 + 10 * i for i in range(count))
    found = inferences([NetworkLaunch(whole, (whole,))], Clock())
    assert found.latency_ns == found.calls_ns[0] == pytest.approx(np.median(whole))
