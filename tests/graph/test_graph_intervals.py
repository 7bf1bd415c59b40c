from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.graph.intervals import ChannelSpace, Layout, Segment, joined, positions, widened, window


def channels(layout: Layout) -> list[tuple[int, int]]:
    """The layout written out: (source, channel) of every position."""
    return [(s.source, c) for s in layout for c in range(s.start, s.start + s.length) for _ in range(s.repeat)]


@st.composite
def spaces(draw: st.DrawFn) -> tuple[list[int], list[tuple[Layout, Layout]], list[Layout]]:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))

    @st.composite
    def runs(draw: st.DrawFn, length: int) -> Layout:
        out: list[Segment] = []
        while length:
            source = draw(st.integers(0, len(sizes) - 1))
            repeat = draw(st.sampled_from([r for r in (1, 1, 1, 2, 3) if length % r == 0]))
            n = draw(st.integers(1, min(length // repeat, sizes[source])))
            out.append(Segment(source, draw(st.integers(0, sizes[source] - n)), n, repeat))
            length -= n * repeat
        return tuple(out)

    equations = []
    for length in draw(st.lists(st.integers(1, 12), max_size=5)):
        equations.append((draw(runs(length)), draw(runs(length))))
    return sizes, equations, [draw(runs(n)) for n in draw(st.lists(st.integers(1, 4), max_size=2))]


@settings(max_examples=300, deadline=None)
@given(spaces())
def test_classes_are_those_of_a_union_find_over_single_channels(
    case: tuple[list[int], list[tuple[Layout, Layout]], list[Layout]],
) -> None:
    """Units that an edge cuts apart are frozen beyond that, and only those."""
    sizes, equations, frozen = case
    space = ChannelSpace()
    sources = [space.source(f"s{i}", n) for i, n in enumerate(sizes)]
    equations = [(a, b) for a, b in equations if space.equate(a, b)]
    for layout in frozen:
        space.freeze(layout, "why")
    partition = space.solve([])

    parent = {(s, c): (s, c) for s, n in enumerate(sizes) for c in range(n)}

    def find(x: tuple[int, int]) -> tuple[int, int]:
        while parent[x] != x:
            x = parent[x]
        return x

    for a, b in equations:
        for x, y in zip(channels(a), channels(b), strict=True):
            parent[find(x)] = find(y)
    stuck = {find(x) for layout in frozen for x in channels(layout)}

    decision: dict[tuple[int, int], tuple[int, int]] = {}  # channel -> (class, index in class)
    for s, source in enumerate(sources):
        pieces = [
            (k, i) for k, n in partition.pieces(source) for i in range(partition.classes[k].size) for _ in range(n)
        ]
        assert len(pieces) == sizes[s]
        decision.update({(s, c): piece for c, piece in enumerate(pieces)})
    reasons = {x: partition.classes[decision[x][0]].frozen for x in parent}
    for x in parent:
        if find(x) in stuck:
            assert reasons[x]
        elif reasons[x]:
            assert "cut apart" in reasons[x]
            assert any(s.repeat > 1 for pair in equations for layout in pair for s in layout)
        for y in parent:
            if not reasons[x]:
                assert (decision[x] == decision[y]) == (find(x) == find(y))


def test_runs_of_different_repeat_are_decided_in_units() -> None:
    space = ChannelSpace()
    heads, features, wide = space.source("heads", 4), space.source("features", 32), space.source("wide", 64)
    assert space.equate(widened(heads, 8), features)
    assert space.equate(widened(features, 2), wide)
    partition = space.solve([])
    assert [(c.name, c.size, c.frozen) for c in partition.classes] == [("heads", 4, "")]
    assert [list(partition.pieces(x)) for x in (heads, features, wide)] == [[(0, 1)], [(0, 8)], [(0, 16)]]


def test_a_unit_cut_apart_is_frozen_and_the_others_are_not() -> None:
    space = ChannelSpace()
    heads, features = space.source("heads", 4), space.source("features", 32)
    space.equate(widened(heads, 8), features)
    partition = space.solve([(Segment(1, 0, 12),)])
    assert {c.name: (c.size, bool(c.frozen)) for c in partition.classes} == {
        "heads[0:1]": (1, False),
        "heads[1:2]": (1, True),
        "heads[2:4]": (2, False),
    }


def test_cost_does_not_follow_the_number_of_channels() -> None:
    space = ChannelSpace()
    chain = [space.source(f"conv{i}", 10**12) for i in range(1000)]
    for a, b in itertools.pairwise(chain):
        space.equate(a, b)
    half = space.source("half", 10**12 // 2)
    space.equate(half, ((Segment(999, 10**11, 10**12 // 2)),))
    partition = space.solve(chain)
    assert [(c.name, c.size) for c in partition.classes] == [
        ("conv0[0:100000000000]", 10**11),
        ("conv0[100000000000:600000000000]", 10**12 // 2),
        ("conv0[600000000000:1000000000000]", 4 * 10**11),
    ]


def test_names_are_unique() -> None:
    space = ChannelSpace()
    for _ in range(3):
        space.source("conv", 4)
    assert [c.name for c in space.solve([]).classes] == ["conv", "conv#2", "conv#3"]


def test_layouts_that_cannot_be_aligned_are_refused_whole() -> None:
    space = ChannelSpace()
    a, b = space.source("a", 4), space.source("b", 8)
    assert not space.equate(a, b)
    assert not space.equate(widened(a, 3), joined([a, b, a]))
    assert not space.equate(joined([a, widened(a, 3)]), joined([widened(a, 2), b]))
    assert len(space.solve([]).classes) == 2


def test_reading_a_layout_cuts_it() -> None:
    space = ChannelSpace()
    a = space.source("a", 10)
    part = window(a, 2, 5)
    assert part is not None
    partition = space.solve([part])
    assert [(partition.classes[k].size, r) for k, r in partition.pieces(widened(part, 7))] == [(3, 7)]


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4), st.data())
def test_window(parts: list[tuple[int, int]], data: st.DataObject) -> None:
    layout = tuple(Segment(i, 5, n, repeat) for i, (n, repeat) in enumerate(parts))
    start = data.draw(st.integers(0, positions(layout)))
    stop = data.draw(st.integers(start, positions(layout)))
    edges = {0}
    for s in layout:
        edges |= {max(edges) + s.repeat * (i + 1) for i in range(s.length)}
    found = window(layout, start, stop)
    if start == stop or {start, stop} <= edges:
        assert found is not None
        assert channels(found) == channels(layout)[start:stop]
    else:
        assert found is None


def test_joined_merges_what_continues() -> None:
    a = Segment(0, 0, 3)
    assert joined([(a,), (Segment(0, 3, 2),), (Segment(0, 5, 1, 2),)]) == (Segment(0, 0, 5), Segment(0, 5, 1, 2))
    assert joined([(a,), (a,)]) == (a, a)


@pytest.mark.parametrize("repeat", [1, 3])
def test_widened(repeat: int) -> None:
    assert channels(widened((Segment(0, 1, 2),), repeat)) == [(0, 1)] * repeat + [(0, 2)] * repeat
