"""Verdicts on scripted launches: which are kept, broken or not decidable, and that intervals mean what they say."""

from __future__ import annotations

import json
import math
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.budget.clock import clock_states
from edgeprune.budget.intervals import median_interval, resampled_interval
from edgeprune.budget.promise import Limit, Promise
from edgeprune.budget.verdict import (
    FIRST,
    RARE,
    Outcome,
    Question,
    Turn,
    Verdict,
    assess,
    decide,
    exact,
    judge,
)
from edgeprune.errors import UsageError

ALPHA = 0.01


class Clock:
    """Every launch takes a second."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def asked(turns, limit=1.0, **options):
    """The verdict on a sequence of turns that goes on for ever."""
    clock, script = Clock(), iter(turns)

    def turn():
        clock.now += 1
        return next(script)

    return decide(Question(limit, "measured", **options), turn, clock)


def noisy(ms, seed=0, noise=0.01, **beside):
    rng = np.random.default_rng(seed)
    return (
        Turn([ms * math.exp(noise * rng.standard_normal())], *([v] if (v := beside.get("dense")) else []))
        for _ in count()
    )


# -- how sharp -----------------------------------------------------------------------------------------


def test_a_median_near_its_limit_is_measured_until_it_is_known_as_well_as_was_asked():
    blunt, sharp = (asked(noisy(0.95, noise=0.02), sharpness=s) for s in (None, 0.03))
    assert blunt.kept
    assert sharp.kept
    assert blunt.turns < sharp.turns
    assert sharp.high - sharp.low <= 0.03 < blunt.high - blunt.low


@pytest.mark.parametrize("ms", [0.5, 1.5])
def test_one_that_is_far_from_its_limit_is_not(ms):
    assert asked(noisy(ms, noise=0.02), sharpness=0.001).turns == FIRST


def test_sharpness_ends_with_patience():
    found = asked(noisy(0.95, noise=0.02), sharpness=1e-6, patience_s=50.0)
    assert (found.outcome, found.turns) == (Outcome.KEPT, 50)


# -- intervals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda r, n: r.standard_normal(n),
        lambda r, n: r.pareto(1.2, n),
        lambda r, n: r.choice([0.0, 1.0, 5.0], n, p=[0.4, 0.2, 0.4]),
    ],
)
@pytest.mark.parametrize("n", [9, 40, 301])
def test_the_median_lies_in_the_interval_as_often_as_it_says(draw, n):
    r = np.random.default_rng(1)
    truth = float(np.median(draw(r, 200_001)))
    runs = 2000
    missed = [0, 0]
    for _ in range(runs):
        x = draw(r, n)
        low, high = median_interval(x, x, ALPHA)
        missed[0] += truth < low
        missed[1] += truth > high
    assert max(missed) <= runs * ALPHA + 4 * math.sqrt(runs * ALPHA)


def test_too_few_values_bound_nothing():
    x = np.arange(5.0)
    assert median_interval(x, x, 0.01) == (-math.inf, math.inf)


@given(st.integers(1, 400), st.floats(0.0005, 0.2))
def test_an_interval_contains_the_median_and_shrinks_with_confidence(n, alpha):
    x = np.arange(float(n))
    low, high = median_interval(x, x, alpha)
    wider = median_interval(x, x, alpha / 3)
    assert low <= float(np.median(x)) <= high
    assert wider[0] <= low
    assert wider[1] >= high


def test_many_values_do_not_underflow():
    x = np.arange(5000.0)
    low, high = median_interval(x, x, 0.005)
    assert 2380 < low < 2420
    assert 2580 < high < 2620


def test_resampling_bounds_a_quantile():
    x = np.random.default_rng(0).standard_normal((60, 50))
    low, high = resampled_interval(lambda drawn: float(np.quantile(x[list(drawn)], 0.9)), 60, 0.005)
    assert low < 1.2816 < high
    assert high - low < 0.25


# -- clock states ----------------------------------------------------------------------------------------


def test_states_are_the_gaps_in_sorted_times():
    states = clock_states([1.0, 1.08, 1.001, 1.081, 1.002, 1.079, 1.0, 1.003])
    assert [round(s.share, 3) for s in states] == [0.625, 0.375]
    assert [s.level for s in states] == pytest.approx([1.001, 1.08], abs=2e-3)
    assert states[1].turns == (1, 3, 5)


@pytest.mark.parametrize("times", [[], [1.0], [1.0, 1.0, 1.0, 1.5], list(np.linspace(1, 1.3, 60))])
def test_an_outlier_and_an_even_drift_are_no_state_of_their_own(times):
    assert len(clock_states(times)) == bool(times)


# -- verdicts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.9, 1.0, "kept"), (1.0, 1.0, "kept"), (0.9, 1.01, "not decidable"), (1.01, 1.1, "broken")],
)
def test_judging(low, high, outcome):
    assert judge(low, high, 1.0) == outcome


@pytest.mark.parametrize(("ms", "outcome"), [(0.96, Outcome.KEPT), (1.04, Outcome.BROKEN)])
def test_a_clear_case_takes_the_first_look(ms, outcome):
    found = asked(noisy(ms))
    assert (found.outcome, found.turns) == (outcome, FIRST)
    assert found.low < ms < found.high


@pytest.mark.parametrize("statistic", ["median", "p99"])
def test_what_lies_on_the_limit_is_not_decidable_when_patience_ends(statistic):
    found = asked(noisy(1.0), statistic=statistic, patience_s=50.0)
    assert found.outcome is Outcome.UNDECIDED
    assert 50 <= found.seconds <= 80


def test_patience_never_ends_before_anything_is_known():
    assert asked(noisy(0.9), patience_s=0.5).turns == FIRST


def test_a_ratio_is_judged_where_latencies_swing_by_a_third():
    r = np.random.default_rng(3)

    def turns():
        while True:
            slow = r.choice([1.0, 1.33])
            yield Turn(
                [0.98 * slow * (1 + 0.004 * r.standard_normal())], [2.0 * slow * (1 + 0.004 * r.standard_normal())]
            )

    found = asked(turns(), dense_ms=2.0)
    assert found.outcome is Outcome.KEPT
    assert found.value == pytest.approx(0.98, abs=0.01)
    assert found.relative_to == 2.0


def test_a_slow_phase_is_recognised_by_the_reference():
    """1.0 ms against 1.05 ms, in a phase that is slower by 8 %: kept, and the phase is named."""
    turns = (Turn([1.0 * s], (), 0.05 * s) for s in (1.08 if n % 3 else 1.0 for n in count()))
    found = asked(turns, limit=1.05, nominal_ms=0.05)
    assert found.outcome is Outcome.KEPT
    assert [round(s.slowdown, 2) for s in found.states] == [1.0, 1.08]
    assert "2.9% over at a clock slower by 8.0%, which held 67% of the time" in str(found)


def test_a_slow_phase_that_never_ends_is_decided_with_a_wider_interval():
    turns = (Turn([1.0 * 1.3], (), 0.05 * 1.3) for _ in count())
    found = asked(turns, limit=1.05, nominal_ms=0.05)
    assert found.outcome is Outcome.KEPT
    assert found.high - found.low > 0.04
    assert asked((Turn([1.3], (), 0.065) for _ in count()), limit=1.01, nominal_ms=0.05, patience_s=20).outcome is (
        Outcome.UNDECIDED
    )


def test_p99_is_judged_over_slow_phases_too():
    samples = [1.0] * 97 + [1.5] * 3
    turn = Turn(samples)
    assert assess(Question(1.2, "measured", "p99"), [turn] * 19).outcome is Outcome.UNDECIDED, "too few of them"
    assert assess(Question(1.2, "measured"), [turn] * 40).outcome is Outcome.KEPT
    assert assess(Question(1.2, "measured", "p99"), [turn] * 40).outcome is Outcome.BROKEN
    assert assess(Question(1.2, "measured", "p90"), [turn] * 40).outcome is Outcome.KEPT


def test_a_maximum_is_broken_by_one_and_kept_only_by_many():
    question = Question(1.2, "measured", "max")
    assert assess(question, [Turn([1.0] * 10), Turn([1.3])]).outcome is Outcome.BROKEN
    assert assess(question, [Turn([1.0] * 10)]).outcome is Outcome.UNDECIDED
    assert assess(question, [Turn([1.0] * 100)] * (RARE // 100)).outcome is Outcome.KEPT


def test_looking_often_does_not_add_up():
    """Devices that break their limit by nothing at all: called kept at most as often as the confidence says."""
    rng = np.random.default_rng(11)
    outcomes = [asked(noisy(1.0, seed=int(s)), patience_s=60.0).outcome for s in rng.integers(0, 1 << 30, 400)]
    assert outcomes.count(Outcome.KEPT) <= 400 * 0.005 + 4
    assert outcomes.count(Outcome.BROKEN) <= 400 * 0.005 + 4


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([0.98, 1.02]), st.floats(0.001, 0.02), st.integers(0, 10**6))
def test_two_per_cent_are_told_apart_through_any_noise_of_launches(ms, noise, seed):
    found = asked(noisy(ms, seed=seed, noise=noise), patience_s=600.0)
    assert found.outcome is (Outcome.KEPT if ms < 1 else Outcome.BROKEN)


def test_a_verdict_survives_json_with_bounds_that_are_not_known():
    found = assess(Question(1.0, "measured"), [Turn([0.9], (), 0.05)] * 3)
    assert found.high == math.inf
    said = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert said["high"] is None
    assert Verdict.from_json(said) == found


def test_bytes_are_exact():
    found = exact("flash", 1000, 900.0, evidence="compiled", basis="read off the program")
    assert (found.outcome, found.confidence, found.share_of_limit) == (Outcome.BROKEN, 1.0, pytest.approx(10 / 9))
    assert str(found) == "flash broken: 1000 bytes of 900"


# -- the promise --------------------------------------------------------------------------------------------


def test_a_promise_is_parsed_once_and_survives_json():
    promise = Promise.parse("50%", "2MB", "p99")
    assert promise == Promise(Limit(0.5, True), Limit(2e6), "p99")
    assert Promise.from_json(json.loads(json.dumps(promise.to_json()))) == promise
    budget = promise.resolve(20.0, 5e6)
    assert (budget.latency_ms, budget.flash_bytes, budget.ram_bytes) == (10.0, 2e6, None)


@pytest.mark.parametrize(("text", "limit", "size"), [("512KiB", Limit(2**19), 2**19), ("50%", Limit(0.5, True), 500.0)])
def test_a_limit_of_ram_is_one_of_bytes(text, limit, size):
    promise = Promise.parse(ram=text)
    assert promise.limits == {"ram": limit}
    assert Promise.from_json(json.loads(json.dumps(promise.to_json()))) == promise
    assert promise.resolve(None, None, 1000.0).to_json() == {"ram_bytes": size}


def test_what_was_promised_before_there_were_limits_of_ram_is_written_as_it_was():
    said = {"latency": {"value": 0.5, "relative": True}, "statistic": "median"}
    assert Promise.from_json(said).to_json() == said
    assert Promise.from_json(said) == Promise(Limit(0.5, True))


def test_a_promise_without_limits_or_of_an_unknown_statistic_is_refused():
    with pytest.raises(UsageError, match="no budget"):
        Promise.parse()
    with pytest.raises(UsageError, match="no statistic 'p95'"):
        Promise.parse("1ms", statistic="p95")


def test_a_tightened_promise_asks_for_less_of_everything():
    promise = Promise(Limit(10.0), Limit(0.5, True), "p90", Limit(100.0)).tightened(0.1)
    assert promise == Promise(Limit(9.0), Limit(0.45, True), "p90", Limit(90.0))
