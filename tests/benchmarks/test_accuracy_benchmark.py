"""The parts of ``benchmarks/accuracy.py`` that decide who wins: rankings, the choice of a network, intervals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from equal_latency import RACES, Tuned, around, at_target, levelled
from outcomes import Estimate
from rivals import Candidate, kept, removals


def at(*shares: float) -> list[Tuned]:
    return [Tuned(Candidate((), 1.0, None, {}), share) for share in shares]


def test_channels_go_by_worth_and_no_group_goes_whole() -> None:
    widths = removals([np.array([3.0, 1.0, 2.0]), np.array([0.5, 9.0])], [(1, 2, 3), (1, 2)])
    assert widths.tolist() == [[3, 2], [3, 1], [2, 1], [1, 1]]


def test_channels_between_two_widths_go_by_their_mean() -> None:
    widths = removals([np.array([9.0, 1.0, 2.0]), np.array([1.7, 9.0])], [(1, 3), (1, 2)])
    assert widths.tolist() == [[3, 2], [1, 2], [1, 1]]


def test_saliency_kept_is_what_curves_say() -> None:
    curves = {"a": np.array([0.0, 3.0, 4.0]), "b": np.array([0.0, 4.0])}
    assert kept(curves, {"a": 1, "b": 1}) == pytest.approx(7 / 8)


def test_nearest_network_inside_of_the_window_is_taken() -> None:
    assert [t.share for t in around(at(0.54, 0.552, 0.556), 0.55)] == [0.552]


def test_without_a_network_in_the_window_the_nearest_on_both_sides_are_taken() -> None:
    assert [t.share for t in around(at(0.70, 0.53, 0.60, 0.40), 0.55)] == [0.53, 0.60]
    assert [t.share for t in around(at(0.70, 0.60), 0.55)] == [0.60]
    assert [t.share for t in around(at(0.30, 0.40), 0.55)] == [0.40]


def test_accuracy_at_the_target_is_that_of_the_window_or_lies_between_its_neighbours() -> None:
    assert at_target([1.01], [0.8]) == 0.8
    assert at_target([1.06, 0.98], [0.84, 0.80]) == pytest.approx(0.81)


def test_nothing_is_said_of_a_method_without_networks_on_both_sides_near_the_target() -> None:
    assert at_target([], []) is None
    assert at_target([1.06], [0.8]) is None
    assert at_target([0.97], [0.8]) is None
    assert at_target([0.98, 1.11], [0.8, 0.9]) is None
    assert at_target([0.81, 1.16], [0.8, 0.9]) is None


def test_a_method_that_leaps_over_the_target_is_taken_at_its_slower_network() -> None:
    assert at_target([1.07, 0.81], [0.9, 0.8]) == 0.9
    assert at_target([0.89, 1.15], [0.8, 0.9]) == 0.9
    assert at_target([0.91, 1.15], [0.8, 0.9]) is None, "the faster one is near, and the slower too far to go between"


class OneKnob:
    """A method whose networks have one group; the tables say a millisecond for each ten channels."""

    def propose(self, aim_ms: float) -> Candidate:
        width = int(10 * aim_ms)
        return Candidate((width,), width / 10, None, {})


class ScriptedMeter:
    """Shares that are right at once, except that in some races the network of 55 channels is found to have others."""

    def __init__(self, *of_55: float) -> None:
        self.of_55 = of_55 or (0.58,)
        self.shares: dict[tuple[int, ...], float] = {}
        self.races: list[list[tuple[int, ...]]] = []

    def known(self, widths: tuple[int, ...]) -> float | None:
        return self.shares.get(widths)

    def measured(self, widths: tuple[int, ...], network: object) -> float:
        return self.shares.setdefault(widths, widths[0] / 100)

    def race(self, networks: dict[tuple[int, ...], object]) -> dict[tuple[int, ...], float]:
        self.races.append(list(networks))
        if len(self.races) <= len(self.of_55):
            self.shares[55,] = self.of_55[len(self.races) - 1]
        return {widths: self.measured(widths, None) for widths in networks}


def test_network_that_a_race_finds_too_slow_is_replaced_by_those_on_both_sides_raced_too() -> None:
    meter: Any = ScriptedMeter()
    found = levelled({"exact": OneKnob()}, cast(Any, None), 0.55, 10.0, meter)["exact"]
    assert meter.races[0] == [(55,)]
    assert [t.candidate.widths for t in found] == [(54,), (56,)]
    assert [(54,), (56,)] in meter.races[1:]
    assert [t.share for t in found] == [0.54, 0.56]


class Wanderer:
    """A method that offers another network each time, none of them near."""

    def __init__(self) -> None:
        self.width = 100

    def propose(self, aim_ms: float) -> Candidate:
        self.width += 1
        return Candidate((self.width,), self.width / 10, None, {})


def test_a_method_that_the_last_race_leaves_on_one_side_has_more_races() -> None:
    meter: Any = ScriptedMeter(*[0.55] * (RACES - 1), 0.58)
    found = levelled({"exact": OneKnob(), "other": Wanderer()}, cast(Any, None), 0.55, 10.0, meter)
    assert [t.candidate.widths for t in found["exact"]] == [(54,), (56,)]
    assert len(meter.races) == 2 * RACES
    assert (55,) in meter.races[RACES - 1]
    assert {(54,), (56,)} <= set(meter.races[RACES])


def test_interval_is_students() -> None:
    found = Estimate.of([1.0, 2.0, 3.0])
    assert (found.mean, found.half) == (2.0, pytest.approx(2.4841, abs=1e-4))
    assert Estimate.of([1.0]).half is None
