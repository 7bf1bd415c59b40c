"""From a network and its records to the arrays of a solver: the sums must agree with the model's."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pkgutil import resolve_name

import numpy as np
import pytest
from latency_samples import bilinear, concat, conv, depthwise, failed, network, node, swept

from edgeprune.budget import Axis, Budget, Evaluator, get_solver
from edgeprune.budget.registry import SOLVERS
from edgeprune.errors import PlanError, ProfileError
from edgeprune.graph.channels import AxisBinding, Block
from edgeprune.importance.curves import Saliency
from edgeprune.latency import LatencyModel, build_problem, grid_for, usable_levels
from edgeprune.latency.grids import with_blocks
from edgeprune.latency.problem import bindings_of

KERNELS, CHANNELS = network()
LEVELS = {"a": (8, 16), "b": (8, 16, 24), "f": (4,), "out": (8,)}
SCORES = {"a": np.linspace(1, 2, 16), "b": np.linspace(2, 1, 24) ** 2}
CURVES = Saliency.summed(SCORES).curves


def records(cost=bilinear):
    """What a profiler measures: every node on the grids of its axes."""
    return [
        r
        for n in KERNELS.nodes
        for r in swept(n.spec, {a: grid_for(b, LEVELS).tolist() for a, b in bindings_of(n, CHANNELS).items()}, cost)
    ]


def specs_at(a: int, b: int):
    return [conv(3, a), depthwise(a), conv(a, b), conv(3, 4, 16), concat(a, b, 4), conv(a + b + 4, 8)]


def bumpy(spec):
    """Not monotone, so that a swapped axis or an off-by-one cell shows."""
    return bilinear(spec) * (1 + (7 * spec.output.channels + 3 * spec.inputs[0].channels) % 5)


@pytest.mark.parametrize("cost", [bilinear, bumpy])
def test_every_plan_costs_what_the_model_says_its_network_costs(cost):
    model = LatencyModel(records(cost), correction=1.25)
    evaluator = Evaluator(build_problem(KERNELS, CHANNELS, CURVES, LEVELS, model))
    for a, b in product(LEVELS["a"], LEVELS["b"]):
        network_at = model.network(s for s in specs_at(a, b) if s.op != "concat")
        cat = cost(concat(a, b, 4)) if cost is bilinear else None
        if cat is None:  # the parts of a concat are not in its cost here
            cat = model.table(concat(16, 24, 4)).predict({"out": a + b + 4}).latency_ms * 1e6
        expected = network_at.latency_ms + cat * 1e-6 * 1.25
        assert evaluator.latency_ms((a, b)) == pytest.approx(expected)
        flash = network_at.flash_bytes + 900
        assert evaluator.flash_bytes((a, b)) == pytest.approx(flash)


def test_the_shape_of_the_problem():
    problem = build_problem(KERNELS, CHANNELS, CURVES, LEVELS, LatencyModel(records()))
    assert [c.name for c in problem.choices] == ["a", "b"]
    assert {t.name: t.axes for t in problem.terms} == {
        "stem": (Axis((0,)),),
        "dw": (Axis((0,)),),
        "mid": (Axis((0,)), Axis((1,))),
        "cat": (Axis((0, 1), 4),),
        "head": (Axis((0, 1), 4),),
    }
    side = bilinear(conv(3, 4, 16)) * 1e-6
    assert problem.base_latency_ms == pytest.approx(side)
    assert problem.base_flash_bytes == 900 + 3 * 4 * 9 * 4


def test_saliency_is_the_share_of_the_best_channels():
    shuffled = Saliency.summed({g: np.random.default_rng(0).permutation(s) for g, s in SCORES.items()})
    problem = build_problem(KERNELS, CHANNELS, shuffled.curves, LEVELS, LatencyModel(records()))
    total = sum(s.sum() for s in SCORES.values())
    for choice in problem.choices:
        best_first = np.sort(SCORES[choice.name])[::-1]
        assert choice.saliency == pytest.approx([best_first[:k].sum() / total for k in choice.levels])
    assert sum(c.saliency[-1] for c in problem.choices) == pytest.approx(1.0)


def test_a_solver_takes_it():
    model = LatencyModel(records())
    problem = build_problem(KERNELS, CHANNELS, CURVES, LEVELS, model)
    dense = Evaluator(problem).latency_ms((16, 24))
    found = get_solver("greedy").solve(problem, Budget(latency_ms=dense * 0.6))
    best = get_solver("brute_force").solve(problem, Budget(latency_ms=dense * 0.6))
    assert found.widths == best.widths != (16, 24)


def test_an_unmeasured_width_is_refused_by_node_unless_estimates_are_allowed():
    some = [r for r in records() if r.spec != conv(16, 16)]
    with pytest.raises(ProfileError, match=r"mid: .*\(16, 16\)") as caught:
        build_problem(KERNELS, CHANNELS, CURVES, LEVELS, LatencyModel(some))
    assert caught.value.details["node"] == "mid"
    problem = build_problem(KERNELS, CHANNELS, CURVES, LEVELS, LatencyModel(some), estimate=True)
    exact = build_problem(KERNELS, CHANNELS, CURVES, LEVELS, LatencyModel(records()))
    assert Evaluator(problem).latency_ms((16, 16)) == pytest.approx(Evaluator(exact).latency_ms((16, 16)))


def test_an_unmeasured_end_is_refused_even_then():
    some = [r for r in records() if r.spec != conv(16, 24)]
    with pytest.raises(ProfileError, match="mid"):
        build_problem(KERNELS, CHANNELS, CURVES, LEVELS, LatencyModel(some), estimate=True)


def test_any_curve_is_an_objective():
    """What a level retains is read off the curve: widths that cost nothing and widths that cost all."""
    curves = {"a": np.minimum(np.arange(17), 8) * 3.0, "b": np.where(np.arange(25) < 24, 2.0, 8.0)}
    problem = build_problem(KERNELS, CHANNELS, curves, LEVELS, LatencyModel(records()))
    assert [c.saliency.tolist() for c in problem.choices] == [[0.75, 0.75], [0.0625, 0.0625, 0.25]]


def at(width: int, value: float) -> np.ndarray:
    return np.where(np.arange(25) == width, value, CURVES["b"])


@pytest.mark.parametrize(
    ("curves", "says"),
    [
        ({"a": CURVES["a"]}, "b has no saliency"),
        ({**CURVES, "a": SCORES["a"]}, r"a has 16 channels and a curve of shape \(16,\)"),
        ({**CURVES, "b": -CURVES["b"]}, "b retains is negative, not finite or decreasing at width 1"),
        ({**CURVES, "b": at(5, np.nan)}, "at width 5"),
        ({**CURVES, "b": at(24, np.inf)}, "at width 24"),
        ({**CURVES, "b": at(7, CURVES["b"][6] * 0.99)}, "at width 7"),
        ({"a": np.zeros(17), "b": np.zeros(25)}, "as much as any other"),
    ],
)
def test_curves_that_do_not_fit_are_refused(curves, says):
    with pytest.raises(PlanError, match=says):
        build_problem(KERNELS, CHANNELS, curves, LEVELS, LatencyModel(records()))


@pytest.mark.parametrize(
    "levels",
    [
        {**LEVELS, "a": (8, 20)},
        {**LEVELS, "f": (2, 4)},
        {**LEVELS, "f": (2,)},
        {k: v for k, v in LEVELS.items() if k != "b"},
    ],
)
def test_levels_that_do_not_fit_are_refused(levels):
    with pytest.raises(PlanError, match="width group") as caught:
        build_problem(KERNELS, CHANNELS, CURVES, levels, LatencyModel(records()))
    advised = resolve_name(caught.value.hint.rpartition(" ")[2])
    assert advised(CHANNELS, 8, 8) == LEVELS


def test_groups_may_be_held_below_their_size():
    """One of them to a single width: plans cost and retain what they do in the problem of all levels."""
    model = LatencyModel(records())
    whole = build_problem(KERNELS, CHANNELS, CURVES, LEVELS, model)
    held = build_problem(KERNELS, CHANNELS, CURVES, {**LEVELS, "a": (8,), "b": (8, 16)}, model)
    assert [(c.name, c.levels) for c in held.choices] == [("a", (8,)), ("b", (8, 16))]
    for b in (8, 16):
        assert Evaluator(held).latency_ms((8, b)) == pytest.approx(Evaluator(whole).latency_ms((8, b)))
        assert Evaluator(held).flash_bytes((8, b)) == pytest.approx(Evaluator(whole).flash_bytes((8, b)))
    levels = [c.levels.index(8) for c in whole.choices]
    same = Evaluator(whole).solution(levels, "exact").saliency
    assert Evaluator(held).solution([0, 0], "exact").saliency == pytest.approx(same)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_takes_groups_without_a_choice(solver):
    problem = build_problem(KERNELS, CHANNELS, CURVES, {**LEVELS, "a": (8,), "b": (8, 16)}, LatencyModel(records()))
    most = Evaluator(problem).latency_ms((8, 16))
    assert get_solver(solver).solve(problem, Budget(latency_ms=most * 1.001)).widths == (8, 16)
    assert get_solver(solver).solve(problem, Budget(latency_ms=most * 0.999)).widths == (8, 8)
    none = build_problem(KERNELS, CHANNELS, CURVES, {**LEVELS, "a": (8,), "b": (8,)}, LatencyModel(records()))
    assert get_solver(solver).solve(none, Budget(latency_ms=most)).widths == (8, 8)


@pytest.mark.parametrize("binding", [AxisBinding(("a",), 3), AxisBinding(("ghost",), 16)])
def test_a_binding_that_does_not_add_up_is_refused(binding):
    broken = replace(KERNELS, nodes=(node(depthwise(16), "dw", out=binding),))
    with pytest.raises(PlanError, match="dw: axis 'out'"):
        build_problem(broken, CHANNELS, CURVES, LEVELS, LatencyModel(records()))


class TestFailedKernels:
    """A failed kernel (docs/FAULTS.md, 26): the plan avoids what could not be built, or explains."""

    def with_failures(self, *specs):
        return LatencyModel([r for r in records() if r.spec not in specs] + [failed(s) for s in specs])

    def test_nothing_failed_nothing_changes(self):
        assert usable_levels(KERNELS, CHANNELS, LEVELS, self.with_failures()) == (LEVELS, {})

    @pytest.mark.parametrize(
        ("spec", "group", "level"),
        [(conv(3, 8), "a", 8), (depthwise(8), "a", 8), (conv(16, 16), "b", 16), (conv(8, 24), "a", 8)],
    )
    def test_its_level_is_not_offered_and_the_plan_can_be_built(self, spec, group, level):
        model = self.with_failures(spec)
        levels, dropped = usable_levels(KERNELS, CHANNELS, LEVELS, model)
        assert levels == {**LEVELS, group: tuple(k for k in LEVELS[group] if k != level)}
        assert "no tile fits" in dropped[group][level]
        problem = build_problem(KERNELS, CHANNELS, CURVES, levels, model, estimate=True)
        smallest = Evaluator(problem)
        for widths in product(*(c.levels for c in problem.choices)):
            at = {"a": 16, "b": 24} | dict(zip((c.name for c in problem.choices), widths, strict=True))
            assert spec not in specs_at(at["a"], at["b"])
            assert smallest.latency_ms(widths) > 0

    def test_left_in_it_stops_the_build_and_says_why(self):
        with pytest.raises(ProfileError, match=r"mid: .*no tile fits"):
            build_problem(KERNELS, CHANNELS, CURVES, LEVELS, self.with_failures(conv(16, 16)))

    @pytest.mark.parametrize("spec", [conv(16, 24), conv(3, 4, 16)])
    def test_what_cannot_be_avoided_is_explained(self, spec):
        with pytest.raises(ProfileError, match=r"cannot be avoided.*no tile fits"):
            usable_levels(KERNELS, CHANNELS, LEVELS, self.with_failures(spec))


class TestBlocks:
    """Groups that may lose all channels: what has none costs nothing, and what they take along goes too."""

    BLOCKS = (Block("whole", ("a", "b"), frozenset({"dw", "mid", "side"})),)

    def evaluator(self) -> Evaluator:
        channels = replace(CHANNELS, blocks=self.BLOCKS)
        levels = with_blocks(LEVELS, channels)
        kernels = replace(KERNELS, nodes=tuple(replace(n, output=n.name) for n in KERNELS.nodes))
        measured = [
            r
            for n in kernels.nodes
            for r in swept(
                n.spec, {a: [w for w in grid_for(b, levels).tolist() if w] for a, b in bindings_of(n, channels).items()}
            )
        ]
        return Evaluator(build_problem(kernels, channels, CURVES, levels, LatencyModel(measured)))

    def test_levels_and_saliency(self):
        problem = self.evaluator().problem
        assert [c.levels for c in problem.choices] == [(0, 8, 16), (0, 8, 16, 24)]
        assert [c.saliency[0] for c in problem.choices] == [0, 0]
        assert sum(c.saliency[-1] for c in problem.choices) == pytest.approx(1)
        assert problem.blocks == ((0, 1),)

    def test_what_is_left_is_all_that_costs(self):
        """Without the block: the concatenation of the 4 frozen channels, and the head that reads them."""
        left = LatencyModel([r for s in (concat(0, 0, 4), conv(4, 8)) for r in swept(s, {})]).network(
            [concat(0, 0, 4), conv(4, 8)]
        )
        assert self.evaluator().latency_ms((0, 0)) == pytest.approx(left.latency_ms)

    def test_a_kernel_without_widths_of_the_block_is_gated(self):
        """'side' makes the frozen channels, and goes with the block because its output is idle then."""
        (side,) = [t for t in self.evaluator().problem.terms if t.name == "side"]
        assert side.axes == (Axis((0,)),)
        assert side.latency_ms.tolist() == [0, pytest.approx(bilinear(conv(3, 4, 16)) * 1e-6)]

    def test_without_level_0_nothing_changes(self):
        channels = replace(CHANNELS, blocks=self.BLOCKS)
        model = LatencyModel(records())
        assert build_problem(KERNELS, channels, CURVES, LEVELS, model).blocks == ()
