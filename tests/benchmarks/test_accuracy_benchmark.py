"""The parts of ``benchmarks/accuracy.py`` that decide who wins: rankings, the choice of a network, intervals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from equal_latency import Tuned, levelled, nearest
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
    assert nearest(at(0.54, 0.552, 0.556), 0.55, may_exceed=False).share == 0.552


def test_rival_without_a_network_in_the_window_gets_more_time_and_exact_less() -> None:
    found = at(0.40, 0.53, 0.60, 0.70)
    assert nearest(found, 0.55, may_exceed=True).share == 0.60
    assert nearest(found, 0.55, may_exceed=False).share == 0.53


class OneKnob:
    """A method whose networks have one group; the tables say a millisecond for each ten channels."""

    def propose(self, aim_ms: float) -> Candidate:
        width = int(10 * aim_ms)
        return Candidate((width,), width / 10, None, {})


class ScriptedMeter:
    """Shares that are right at once, except that the first race finds the network of 55 channels slower."""

    def __init__(self) -> None:
        self.shares: dict[tuple[int, ...], float] = {}
        self.races: list[list[tuple[int, ...]]] = []

    def known(self, widths: tuple[int, ...]) -> float | None:
        return self.shares.get(widths)

    def measured(self, widths: tuple[int, ...], network: object) -> float:
        return self.shares.setdefault(widths, widths[0] / 100)

    def race(self, networks: dict[tuple[int, ...], object]) -> dict[tuple[int, ...], float]:
        self.races.append(list(networks))
        if len(self.races) == 1:
            self.shares[55,] = 0.58
        return {widths: self.measured(widths, None) for widths in networks}


def test_network_that_a_race_finds_too_slow_is_replaced_by_one_that_was_raced() -> None:
    meter: Any = ScriptedMeter()
    found = levelled({"exact": OneKnob()}, cast(Any, None), 0.55, 10.0, meter, ("exact",))["exact"]
    assert meter.races[0] == [(55,)]
    assert [found.candidate.widths] in meter.races[1:]
    assert found.share == found.candidate.widths[0] / 100 <= 0.55


def test_interval_is_students() -> None:
    found = Estimate.of([1.0, 2.0, 3.0])
    assert (found.mean, found.half) == (2.0, pytest.approx(2.4841, abs=1e-4))
    assert Estimate.of([1.0]).half is None
