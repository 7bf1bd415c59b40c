from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.compiler.layouts import ALIGNMENT
from edgeprune.compiler.memory import ArenaPlan, Lifetime, aligned, busiest_bytes, plan_arena


@st.composite
def lifetimes(draw: st.DrawFn) -> list[Lifetime]:
    rows = draw(st.lists(st.tuples(st.integers(1, 2000), st.integers(-1, 12), st.integers(0, 8)), max_size=14))
    return [Lifetime(f"t{i}", size, first, first + span) for i, (size, first, span) in enumerate(rows)]


@settings(deadline=None)
@given(lifetimes())
def test_no_two_tensors_alive_together_share_a_byte(tensors: list[Lifetime]) -> None:
    plan = plan_arena(tensors)
    assert set(plan.offsets) == {t.name for t in tensors}
    assert all(offset % ALIGNMENT == 0 and offset >= 0 for offset in plan.offsets.values())
    assert all(plan.offsets[t.name] + t.bytes <= plan.bytes for t in tensors)
    for i, a in enumerate(tensors):
        for b in tensors[i + 1 :]:
            if set(range(a.first, a.last + 1)) & set(range(b.first, b.last + 1)):
                start_a, start_b = plan.offsets[a.name], plan.offsets[b.name]
                assert start_a + a.bytes <= start_b or start_b + b.bytes <= start_a, (a, b)


@settings(deadline=None)
@given(lifetimes())
def test_the_arena_lies_between_the_largest_moment_and_the_sum(tensors: list[Lifetime]) -> None:
    steps = {s for t in tensors for s in (t.first, t.last)}
    busiest = max((sum(aligned(t.bytes) for t in tensors if t.first <= s <= t.last) for s in steps), default=0)
    assert busiest <= plan_arena(tensors).bytes <= sum(aligned(t.bytes) for t in tensors)


@settings(deadline=None)
@given(lifetimes(), st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_the_list(tensors: list[Lifetime], random: object) -> None:
    shuffled = list(tensors)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan_arena(shuffled) == plan_arena(tensors)


def test_a_chain_needs_its_two_largest_neighbours() -> None:
    chain = [Lifetime(f"t{i}", size, i, i + 1) for i, size in enumerate((640, 1280, 320, 64, 640))]
    assert plan_arena(chain).bytes == 640 + 1280


def test_the_tightest_gap_is_taken() -> None:
    tensors = [
        Lifetime("below", 1024, 0, 1),  # leaves 1024 bytes free at step 2
        Lifetime("wall", 960, 0, 2),
        Lifetime("above", 512, 0, 1),  # leaves 512 bytes free at step 2
        Lifetime("top", 448, 0, 2),
        Lifetime("late", 448, 2, 2),
    ]
    plan = plan_arena(tensors)
    assert plan.offsets["late"] == plan.offsets["above"] == 1984
    assert plan.bytes == 1024 + 960 + 512 + 448


def test_what_sticks_out_is_placed_first() -> None:
    """By decreasing size the two large ones take the bottom, and no gap is left that both small ones fit beside."""
    tensors = [
        Lifetime("small", 320, 0, 2),
        Lifetime("large", 512, 1, 1),
        Lifetime("other small", 320, 2, 3),
        Lifetime("other large", 512, 3, 5),
    ]
    assert plan_arena(tensors).bytes == busiest_bytes(tensors) == 320 + 512


def test_nothing_needs_no_memory() -> None:
    assert plan_arena([]) == ArenaPlan({}, 0)
