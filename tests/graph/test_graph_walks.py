"""Views against torch's own: every chain of view operators shows the same values."""

from __future__ import annotations

import itertools
import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.graph.walks import View, Walk


def shown(view: View, data: torch.Tensor) -> torch.Tensor:
    """The values a view finds, read one by one."""
    steps, offset = view.walk.steps(view.base, len(view.shape)), view.walk.offset(view.base)
    flat = data.reshape(-1)
    values = [
        flat[offset + sum(i * s for i, s in zip(at, steps, strict=True))]
        for at in itertools.product(*(range(n) for n in view.shape))
    ]
    return torch.stack(values).reshape(view.shape) if values else torch.zeros(view.shape)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_chain_of_views_shows_what_torch_shows(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4), label="shape"))
    values = torch.arange(math.prod(shape)).reshape(shape)
    expected, view = values, View.identity(shape)
    for _ in range(data.draw(st.integers(0, 4), label="operators")):
        rank = len(view.shape)
        dim = data.draw(st.integers(0, rank - 1), label="dim")
        match data.draw(st.sampled_from(["permute", "slice", "flip", "expand", "unsqueeze", "squeeze"])):
            case "permute":
                order = data.draw(st.permutations(range(rank)), label="order")
                expected, view = expected.permute(order), view.permuted(order)
            case "slice":
                start = data.draw(st.integers(0, view.shape[dim] - 1), label="start")
                step = data.draw(st.integers(1, 3), label="step")
                count = -(-(view.shape[dim] - start) // step)
                expected = expected[(slice(None),) * dim + (slice(start, None, step),)]
                view = view.sliced(dim, start, count, step)
            case "flip":
                expected = expected.flip(dim)
                view = view.sliced(dim, view.shape[dim] - 1, view.shape[dim], -1)
            case "expand":
                wide = [3 if n == 1 else n for n in view.shape]
                wide = [2, *wide] if len(wide) < 5 else wide
                expected, view = expected.expand(wide), view.expanded(wide)
            case "unsqueeze" if rank < 5:
                expected = expected.unsqueeze(dim)
                changed = view.reshaped(expected.shape)
                assert changed is not None
                view = changed
            case "squeeze":
                expected = expected.squeeze(dim)
                changed = view.reshaped(expected.shape)
                assert changed is not None
                view = changed
        if not view.shape:
            return
    assert view.shape == tuple(expected.shape)
    assert torch.equal(shown(view, values), expected)
    if view.contiguous:
        assert torch.equal(values.reshape(view.shape), expected)


def test_a_reshape_that_needs_a_copy_is_no_view() -> None:
    assert View.identity((2, 3)).permuted((1, 0)).reshaped((6,)) is None
    assert View.identity((2, 3)).reshaped((6,)) == View.whole((6,))
    assert View.identity((6,)).reshaped((6, 1)) == View.identity((6, 1)), "as a constant lies"


def test_a_slice_of_all_is_contiguous_and_one_of_a_part_is_not() -> None:
    view = View.identity((2, 6, 3))
    assert view.sliced(1, 0, 6).contiguous
    assert not view.sliced(1, 0, 5).contiguous
    assert not view.permuted((1, 0, 2)).contiguous
    assert view.reshaped((2, 1, 6, 3)).contiguous  # type: ignore[union-attr]


def test_data_grows_and_shrinks_with_the_loop_along_it() -> None:
    view = View.identity((2, 6, 3)).permuted((0, 2, 1))
    assert view.walk.resized(view.base, 2, 6, 4) == (2, 4, 3)
    part = View.identity((2, 20, 5)).sliced(1, 3, 9)
    assert part.walk.resized(part.base, 1, 9, 5) == (2, 16, 5)


def test_walks_survive_being_attributes() -> None:
    walk = View.identity((4, 5)).sliced(1, 4, 5, -1).walk
    assert Walk.from_attr(walk.to_attr()) == walk
