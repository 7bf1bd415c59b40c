from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.compiler.layouts import block_count, from_blocked, stored_elements, to_blocked
from edgeprune.graph.spec import TensorSpec

sizes = st.integers(1, 5)


@settings(deadline=None)
@given(sizes, st.integers(1, 40), sizes, sizes, st.sampled_from([4, 8, 16]))
def test_there_and_back(n: int, c: int, h: int, w: int, lanes: int) -> None:
    x = np.random.default_rng(c).standard_normal((n, c, h, w)).astype(np.float32)
    blocked = to_blocked(x, lanes)
    assert blocked.shape == (stored_elements(TensorSpec(x.shape), lanes),)
    assert np.array_equal(from_blocked(blocked, x.shape, lanes), x)
    assert np.count_nonzero(blocked) == np.count_nonzero(x), "padding lanes are zero"


def test_where_each_value_lies() -> None:
    n, c, h, w, lanes = 2, 7, 3, 5, 4
    x = np.arange(n * c * h * w, dtype=np.float32).reshape(n, c, h, w)
    blocked = to_blocked(x, lanes).reshape(n, 2, h, w, lanes)
    for channel in range(c):
        block, lane = divmod(channel, lanes)
        assert np.array_equal(blocked[:, block, :, :, lane], x[:, channel])


@pytest.mark.parametrize(
    ("tensor", "elements"),
    [
        (TensorSpec((2, 7, 3, 5)), 2 * 8 * 15),
        (TensorSpec((2, 8, 3, 5)), 2 * 8 * 15),
        (TensorSpec((2, 7, 3, 5), "plain"), 2 * 7 * 15),
        (TensorSpec((3, 7), "plain"), 21),
    ],
)
def test_stored_elements(tensor: TensorSpec, elements: int) -> None:
    assert stored_elements(tensor, 4) == elements


def test_block_count() -> None:
    assert [block_count(c, 8) for c in (1, 8, 9, 16)] == [1, 1, 2, 2]
