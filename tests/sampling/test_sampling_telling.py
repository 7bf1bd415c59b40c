"""Which kernels tell most: by hand, where what they have in common is known."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.latency.estimates import Joint
from edgeprune.profiling.estimator import WorkEstimator
from edgeprune.sampling.telling import most_telling


def relu(channels: int) -> KernelSpec:
    tensor = TensorSpec((1, channels, 8, 8))
    return KernelSpec("elementwise", (tensor,), tensor, (), ("relu",))


class Known:
    """Kernels of 1 us, with these standard deviations and correlations, by their channels."""

    def __init__(self, deviations: dict[int, float], alike: dict[tuple[int, int], float]) -> None:
        self.deviations, self.alike = deviations, alike

    def joint(self, specs) -> Joint:
        widths = [s.output.channels for s in specs]
        pairs = [[1.0 if a == b else self.alike.get((min(a, b), max(a, b)), 0.0) for b in widths] for a in widths]
        deviation = np.array([self.deviations[w] for w in widths])
        return Joint(np.full(len(specs), np.log(1000.0)), np.array(pairs) * np.outer(deviation, deviation))


def chosen(known: Known, *networks: list[int], count: int = 9, measured: set[int] = frozenset()) -> list[int]:
    specs = [[relu(w) for w in network] for network in networks]
    keys = {relu(w).key for w in measured}
    return [s.output.channels for s in most_telling(specs, cast(WorkEstimator, known), count, keys)]


def test_the_least_sure_comes_first():
    assert chosen(Known({8: 0.05, 16: 0.2, 24: 0.1}, {}), [8, 16, 24]) == [16, 24, 8]


def test_one_that_comes_often_tells_more():
    assert chosen(Known({8: 0.1, 16: 0.15}, {}), [8, 8, 16]) == [8, 16]


def test_of_those_that_are_alike_one_is_enough():
    """The second of the pair is nearly known once the first is; a surer stranger tells more."""
    known = Known({8: 0.2, 16: 0.2, 24: 0.05}, {(8, 16): 0.999})
    assert chosen(known, [8, 16, 24], count=2) in ([8, 24], [16, 24])


def test_one_that_many_are_like_tells_of_all_of_them():
    """It is surer than the stranger, but says something of four."""
    alike = {(8, w): 0.9 for w in (16, 24, 32)} | {(a, b): 0.81 for a in (16, 24) for b in (24, 32) if a < b}
    known = Known({8: 0.1, 16: 0.1, 24: 0.1, 32: 0.1, 40: 0.2}, alike)
    assert chosen(known, [8, 16, 24, 32, 40], count=1) == [8]


def test_networks_count_alike_whatever_they_take():
    """A share of a small network is worth as much as the same share of a large one."""
    known = Known({8: 0.1, 16: 0.11}, {})
    assert chosen(known, [8], [16] * 50, count=1) == [16]
    assert chosen(Known({8: 0.12, 16: 0.11}, {}), [8], [16] * 50, count=1) == [8]


def test_what_is_known_is_not_chosen_and_neither_is_what_tells_nothing():
    known = Known({8: 0.1, 16: 0.2, 24: 1e-7}, {})
    assert chosen(known, [8, 16, 24], measured={16}) == [8]
    assert chosen(known, [8, 16], measured={8, 16}) == []
    assert chosen(known) == []


@pytest.mark.parametrize("count", [0, 1, 2])
def test_no_more_are_chosen_than_are_wanted(count):
    assert len(chosen(Known({8: 0.1, 16: 0.2, 24: 0.3}, {}), [8, 16, 24], count=count)) == count
