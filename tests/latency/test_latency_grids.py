"""Levels and measuring grids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.errors import PlanError
from edgeprune.graph.channels import AxisBinding
from edgeprune.latency import grid_for, levels_for
from edgeprune.latency.grids import MAX_SHARED_TOTALS


@pytest.mark.parametrize(
    ("size", "step", "levels"),
    [(64, 16, (16, 32, 48, 64)), (20, 8, (8, 16, 20)), (8, 8, (8,)), (3, 8, (3,)), (3, 1, (1, 2, 3)), (1, 1, (1,))],
)
def test_levels_are_multiples_and_the_size(size, step, levels):
    assert levels_for(size, step) == levels


@pytest.mark.parametrize(("size", "step"), [(0, 8), (8, 0), (-1, 1)])
def test_levels_of_nothing_are_refused(size, step):
    with pytest.raises(ValueError, match="no levels"):
        levels_for(size, step)


def test_one_group_gives_its_levels_and_the_base():
    levels = {"a": (8, 16), "f": (4,)}
    assert grid_for(AxisBinding(("a",), 3), levels).tolist() == [11, 19]
    assert grid_for(AxisBinding(("a", "f", "a"), 1), levels).tolist() == [21, 37]
    assert grid_for(AxisBinding((), 7), levels).tolist() == [7]
    assert grid_for(AxisBinding(("f",)), levels).tolist() == [4]


def test_one_group_keeps_all_its_levels_however_many():
    levels = {"a": levels_for(320, 8)}
    assert grid_for(AxisBinding(("a",)), levels).tolist() == list(levels["a"])


@given(sizes=st.lists(st.integers(1, 70), min_size=2, max_size=5), step=st.integers(1, 16), base=st.integers(0, 9))
def test_several_groups_give_few_reachable_totals_with_both_ends(sizes, step, base):
    levels = {str(i): levels_for(n, step) for i, n in enumerate(sizes)}
    grid = grid_for(AxisBinding(tuple(levels), base), levels).tolist()
    reachable = {base}
    for ks in levels.values():
        reachable = {t + k for t in reachable for k in ks}
    assert set(grid) <= reachable
    assert grid == sorted(set(grid))
    assert (grid[0], grid[-1]) == (min(reachable), max(reachable))
    free = sum(len(ks) > 1 for ks in levels.values())
    assert len(grid) <= (MAX_SHARED_TOTALS if free > 1 else len(reachable))
    assert len(grid) == min(len(reachable), MAX_SHARED_TOTALS) or free < 2 or len(grid) >= 3


def test_a_group_without_levels_is_named():
    with pytest.raises(PlanError, match="ghost"):
        grid_for(AxisBinding(("ghost",)), {})
