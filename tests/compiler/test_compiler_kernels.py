"""Every kernel rule against torch in double precision, on every target that this computer runs.

Padding lanes, the surroundings of all buffers and the outputs hold NaN before a kernel runs, so a
value from where it has no business shows (see ``kernel_harness``).
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_harness import TARGETS, Array, apply_epilogue, assert_close, kernel, noise, run

from edgeprune.compiler.folding import folded
from edgeprune.compiler.kernels import registry
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.blocks import block_widths
from edgeprune.compiler.kernels.registry import FILES, RULES, rule_named, schedules_for
from edgeprune.compiler.objects import machine_code
from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.channels import WeightRef
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.graph.walks import Along, View, Walk, identity
from edgeprune.targets import Target, load_target

if not TARGETS:
    pytest.skip("no x86-64 target runs on this computer", allow_module_level=True)

every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)


def spread(index: int) -> Target:
    """Targets in turn: each case runs on one, all cases together on all."""
    return TARGETS[index % len(TARGETS)]


def double(x: Array) -> torch.Tensor:
    return torch.from_numpy(x).double()


class Conv:
    """A convolution: its spec, its data and what torch makes of them."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        out: int,
        k: int | tuple[int, int] = 3,
        s: int | tuple[int, int] = 1,
        p: int | tuple[int, int] = 0,
        d: int | tuple[int, int] = 1,
        groups: int = 1,
        plain: bool = False,
        epilogue: tuple[str, ...] = ("bias",),
    ) -> None:
        kernel_size, stride, padding, dilation = (v if isinstance(v, tuple) else (v, v) for v in (k, s, p, d))
        self.x, self.bias = noise(*shape), noise(out, seed=1)
        self.weight = noise(out, shape[1] // groups, *kernel_size, seed=2)
        y = F.conv2d(double(self.x), double(self.weight), double(self.bias), stride, padding, dilation, groups)
        operands = []
        for i, step in enumerate(epilogue):
            if step in ("add", "mul"):
                operands.append(noise(*(y.shape if step == "add" else (*y.shape[:2], 1, 1)), seed=3 + i))
        self.inputs = [self.x, *operands]
        self.expected = apply_epilogue(y, epilogue, operands)
        tensors = [TensorSpec(shape, "plain" if plain else "blocked"), *(TensorSpec(o.shape) for o in operands)]
        self.spec = kernel(
            "conv2d",
            tensors,
            TensorSpec(tuple(y.shape)),
            epilogue,
            kernel=kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )

    def check(self, target: Target, schedule: Schedule | None = None) -> None:
        assert_close(run(self.spec, target, self.inputs, self.weight, self.bias, schedule), self.expected)


DIRECT = {
    "1x1": {"shape": (1, 16, 7, 9), "out": 32, "k": 1},
    "1x1, odd channels, batch": {"shape": (2, 21, 5, 5), "out": 37, "k": 1, "epilogue": ("bias", "relu")},
    "1x1, stride 2": {"shape": (1, 20, 9, 9), "out": 18, "k": 1, "s": 2},
    "1x1, padded": {"shape": (1, 5, 4, 4), "out": 6, "k": 1, "p": 1},
    "1x1, one pixel": {"shape": (1, 33, 1, 1), "out": 9, "k": 1, "epilogue": ("bias", "hardsigmoid")},
    "3x3, tail of the tile": {"shape": (1, 8, 6, 31), "out": 24, "p": 1},
    "3x3, stride 2, residual": {
        "shape": (1, 19, 14, 14),
        "out": 50,
        "s": 2,
        "p": 1,
        "epilogue": ("bias", "add", "relu"),
    },
    "3x3, batch, gate": {"shape": (2, 9, 8, 8), "out": 20, "p": 1, "epilogue": ("bias", "mul")},
    "3x3, add, gate, silu": {"shape": (2, 4, 6, 7), "out": 11, "p": 1, "epilogue": ("bias", "add", "mul", "silu")},
    "3x3, image smaller than the window": {"shape": (1, 4, 2, 2), "out": 8, "p": 1},
    "3x3, dilated": {"shape": (2, 20, 9, 9), "out": 20, "p": 2, "d": 2},
    "3x3, dilated past the image": {"shape": (1, 4, 5, 5), "out": 4, "p": 4, "d": 4},
    "3x3, one channel to one": {"shape": (1, 1, 6, 6), "out": 1, "p": 1},
    "5x5, stride 2": {"shape": (1, 12, 13, 11), "out": 16, "k": 5, "s": 2, "p": 2, "epilogue": ("bias", "relu6")},
    "7x7, plain image": {
        "shape": (1, 3, 20, 22),
        "out": 24,
        "k": 7,
        "s": 2,
        "p": 3,
        "plain": True,
        "epilogue": ("bias", "relu"),
    },
    "3x3, plain image, batch": {
        "shape": (2, 3, 11, 9),
        "out": 17,
        "s": 2,
        "p": 1,
        "plain": True,
        "epilogue": ("bias", "hardswish"),
    },
    "1x1, plain image": {"shape": (2, 6, 5, 5), "out": 10, "k": 1, "plain": True},
    "2x2, no padding": {"shape": (1, 7, 6, 6), "out": 9, "k": 2, "s": 2},
    "1x3 and stride 2 by 1": {"shape": (1, 6, 9, 10), "out": 8, "k": (1, 3), "s": (2, 1), "p": (0, 1)},
    "3x1, uneven padding and dilation": {"shape": (1, 6, 9, 7), "out": 8, "k": (3, 2), "p": (1, 0), "d": (1, 3)},
    "stride past the kernel": {"shape": (1, 5, 10, 10), "out": 5, "k": 2, "s": 4},
    "sigmoid": {"shape": (1, 5, 4, 4), "out": 12, "k": 1, "epilogue": ("bias", "sigmoid")},
    "tanh": {"shape": (1, 5, 4, 4), "out": 12, "k": 1, "epilogue": ("bias", "tanh")},
}


@pytest.mark.parametrize("name", DIRECT)
def test_direct_convolution(name: str) -> None:
    Conv(**DIRECT[name]).check(spread(list(DIRECT).index(name)))


@every_target
def test_direct_convolution_with_every_edge(target: Target) -> None:
    Conv((2, 37, 9, 17), 50, 3, 1, 1, epilogue=("bias", "add", "relu")).check(target)


WINOGRAD = {
    "whole tiles": {"shape": (1, 16, 8, 12), "out": 32, "p": 1},
    "partial tiles and blocks": {"shape": (1, 21, 9, 14), "out": 37, "p": 1, "epilogue": ("bias", "relu")},
    "batch, residual": {"shape": (2, 9, 7, 7), "out": 20, "p": 1, "epilogue": ("bias", "add", "relu")},
    "no padding, gate": {"shape": (1, 5, 10, 6), "out": 6, "p": 0, "epilogue": ("bias", "mul", "silu")},
    "more padding than the window": {"shape": (1, 4, 5, 5), "out": 4, "p": (3, 2), "epilogue": ()},
}


@pytest.mark.parametrize("name", WINOGRAD)
def test_winograd_convolution(name: str) -> None:
    conv, target = Conv(**WINOGRAD[name]), spread(list(WINOGRAD).index(name))
    schedules = [s for s in schedules_for(conv.spec, target) if s["rule"] == "conv_winograd"]
    assert {s["m"] for s in schedules} == {2, 4}
    for schedule in schedules:
        conv.check(target, schedule)


def test_a_strip_may_end_where_the_image_does_not() -> None:
    """A transferred schedule may ask for strips that do not divide the image."""
    conv = Conv((1, 8, 20, 8), 8, p=1)
    schedule = {"rule": "conv_winograd", "m": 4, "rows": 3, "blocks": 4, "columns": 14}
    conv.check(TARGETS[0], schedule)


@pytest.mark.parametrize("m", [2, 4])
def test_winograd_stays_exact_where_many_channels_add_up(m: int) -> None:
    conv = Conv((1, 1024, 8, 8), 16, p=1)
    schedule = {"rule": "conv_winograd", "m": m, "rows": 1, "blocks": 1, "columns": 4}
    conv.check(TARGETS[-1], schedule)


DEPTHWISE = {
    "3x3": {"shape": (1, 24, 13, 13), "k": 3, "p": 1},
    "3x3, stride 2, batch, odd": {"shape": (2, 19, 11, 14), "k": 3, "s": 2, "p": 1, "epilogue": ("bias", "relu6")},
    "5x5, silu": {"shape": (1, 9, 8, 30), "k": 5, "p": 2, "epilogue": ("bias", "silu")},
    "3x3, residual and gate": {"shape": (2, 10, 6, 6), "k": 3, "p": 1, "epilogue": ("bias", "add", "mul", "hardswish")},
    "dilated, uneven": {"shape": (1, 5, 9, 9), "k": (3, 5), "s": (1, 2), "p": (2, 4), "d": (2, 2)},
    "1x1, a batch norm alone": {"shape": (2, 7, 5, 5), "k": 1},
}


@pytest.mark.parametrize("name", DEPTHWISE)
def test_depthwise_convolution(name: str) -> None:
    case = DEPTHWISE[name]
    channels = case["shape"][1]
    conv = Conv(out=channels, groups=channels, **case)
    assert schedules_for(conv.spec, TARGETS[0])[0]["rule"] == "conv_depthwise"
    conv.check(spread(list(DEPTHWISE).index(name)))


GROUPED = {
    "groups of whole vectors": {"shape": (1, 64, 6, 7), "out": 32, "groups": 2, "p": 1},
    "groups inside a vector": {"shape": (1, 32, 6, 15), "out": 32, "groups": 8, "p": 1, "epilogue": ("bias", "relu")},
    "a vector across uneven groups": {"shape": (2, 21, 9, 8), "out": 15, "groups": 3, "p": 1, "s": 2},
    "more out than in, residual": {
        "shape": (1, 10, 5, 5),
        "out": 70,
        "groups": 5,
        "p": 1,
        "epilogue": ("bias", "add", "relu"),
    },
    "more in than out": {"shape": (1, 60, 5, 5), "out": 4, "groups": 2, "k": 1},
    "a multiplier": {"shape": (1, 9, 6, 6), "out": 27, "groups": 9, "p": 1},
    "dilated": {"shape": (1, 12, 9, 9), "out": 40, "groups": 4, "p": 2, "d": 2, "epilogue": ("bias", "mul")},
}


@pytest.mark.parametrize("name", GROUPED)
def test_grouped_convolution(name: str) -> None:
    conv = Conv(**GROUPED[name])
    for target in TARGETS:
        schedules = schedules_for(conv.spec, target)
        assert {s["rule"] for s in schedules} == {"conv_grouped"}
        conv.check(target, schedules[list(GROUPED).index(name) % len(schedules)])


TRANSPOSED = {
    "doubling": {"shape": (1, 24, 7, 9), "out": 20, "k": 2, "s": 2},
    "the generator's 4x4": {"shape": (2, 19, 5, 6), "out": 37, "k": 4, "s": 2, "p": 1, "epilogue": ("bias", "relu")},
    "stride 1": {"shape": (1, 10, 6, 6), "out": 9, "k": 3, "p": 1},
    "output padding, residual": {
        "shape": (1, 5, 6, 7),
        "out": 18,
        "k": 3,
        "s": 2,
        "p": 1,
        "extra": 1,
        "epilogue": ("bias", "add", "relu"),
    },
    "stride past the kernel": {"shape": (1, 6, 4, 5), "out": 8, "k": 2, "s": 3},
    "dilated, uneven": {"shape": (1, 7, 6, 9), "out": 11, "k": (3, 2), "s": (2, 3), "p": (1, 0), "d": (3, 2)},
    "dilation shares a factor with the stride": {"shape": (1, 4, 6, 6), "out": 4, "k": 3, "s": 4, "d": 2, "p": 1},
    "from one pixel": {"shape": (1, 40, 1, 1), "out": 32, "k": 4},
    "groups": {"shape": (1, 12, 5, 5), "out": 18, "k": 3, "s": 2, "groups": 3},
    "one filter a channel": {"shape": (1, 21, 5, 6), "out": 21, "k": 4, "s": 2, "p": 1, "groups": 21},
}


class Transposed(Conv):
    """A transposed convolution."""

    def __init__(
        self,
        shape: tuple[int, int, int, int],
        out: int,
        k: int | tuple[int, int],
        s: int | tuple[int, int] = 1,
        p: int | tuple[int, int] = 0,
        d: int | tuple[int, int] = 1,
        groups: int = 1,
        extra: int = 0,
        epilogue: tuple[str, ...] = ("bias",),
    ) -> None:
        size, stride, padding, dilation = (v if isinstance(v, tuple) else (v, v) for v in (k, s, p, d))
        self.x, self.bias = noise(*shape), noise(out, seed=1)
        weight = noise(shape[1], out // groups, *size, seed=2)
        y = F.conv_transpose2d(
            double(self.x), double(weight), double(self.bias), stride, padding, extra, groups, dilation
        )
        node = SimpleNamespace(
            weights=WeightRef("w"),
            spec=kernel(
                "conv_transpose2d",
                [],
                TensorSpec(tuple(y.shape)),
                groups=groups,
                kernel=size,
                stride=stride,
                padding=padding,
                dilation=dilation,
            ),
        )
        self.weight = folded(node, {"w": weight})[0]  # type: ignore[arg-type]
        operands = [noise(*y.shape, seed=3) for step in epilogue if step == "add"]
        self.inputs = [self.x, *operands]
        self.expected = apply_epilogue(y, epilogue, operands)
        self.spec = kernel(
            "conv_transpose2d",
            [TensorSpec(shape), *(TensorSpec(o.shape) for o in operands)],
            TensorSpec(tuple(y.shape)),
            epilogue,
            kernel=size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )


@pytest.mark.parametrize("name", TRANSPOSED)
def test_transposed_convolution(name: str) -> None:
    conv, number = Transposed(**TRANSPOSED[name]), list(TRANSPOSED).index(name)
    for target in TARGETS:
        schedules = schedules_for(conv.spec, target)
        assert {s["rule"] for s in schedules} == {"conv_transposed"}
        conv.check(target, schedules[number % len(schedules)])


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_any_convolution(data: st.DataObject) -> None:
    small = st.integers(1, 3)
    k, s = (data.draw(st.tuples(small, small), label=n) for n in ("kernel", "stride"))
    d = data.draw(st.tuples(st.integers(1, 2), st.integers(1, 2)), label="dilation")
    p = tuple(data.draw(st.integers(0, k[i] * d[i] - 1), label="padding") for i in (0, 1))
    least = [max(1, d[i] * (k[i] - 1) + 1 - 2 * p[i]) for i in (0, 1)]
    size = tuple(data.draw(st.integers(n, n + 8), label="size") for n in least)
    batch, channels, out = (data.draw(st.integers(1, n), label="n, c, o") for n in (2, 20, 36))
    depthwise = data.draw(st.booleans(), label="depthwise")
    conv = Conv(
        (batch, channels, *size),
        channels if depthwise else out,
        k,
        s,
        p,
        d,
        groups=channels if depthwise else 1,
        plain=not depthwise and data.draw(st.booleans(), label="plain"),
        epilogue=("bias", *data.draw(st.lists(st.sampled_from(["add", "mul", "relu"]), max_size=2), label="epilogue")),
    )
    target = data.draw(st.sampled_from(TARGETS), label="target")
    schedules = schedules_for(conv.spec, target)
    conv.check(target, data.draw(st.sampled_from(schedules), label="schedule"))


def test_every_tile_of_a_direct_convolution_gives_the_same() -> None:
    target = TARGETS[0]
    conv = Conv((1, 5, 4, 6), 3 * target.lanes - 1, 3, 1, 1, epilogue=("bias", "add", "relu"))
    schedules = schedules_for(conv.spec, target)
    assert len({tuple(s.items()) for s in schedules}) == len(schedules) > 5
    for schedule in schedules:
        conv.check(target, schedule)


def test_every_tile_of_a_depthwise_convolution_gives_the_same() -> None:
    target = TARGETS[-1]
    conv = Conv((1, 20, 5, 23), 20, 3, 1, 1, groups=20)
    schedules = schedules_for(conv.spec, target)
    assert len({tuple(s.items()) for s in schedules}) == len(schedules) > 3
    for schedule in schedules:
        conv.check(target, schedule)


def test_a_schedule_of_wider_kernels_builds_narrow_ones() -> None:
    """A transferred schedule may ask for more blocks or columns than the kernel has."""
    Conv((1, 3, 4, 4), 5, p=1).check(TARGETS[0], {"rule": "conv_direct", "blocks": 4, "columns": 14})
    dense, x, weight, bias, expected = dense_case((1, 9), 5)
    assert_close(run(dense, TARGETS[0], [x], weight, bias, {"rule": "dense", "blocks": 8, "chains": 8}), expected)


def dense_case(
    shape: tuple[int, ...], out: int, epilogue: tuple[str, ...] = ("bias",), *, plain: bool = True
) -> tuple[KernelSpec, Array, Array, Array, torch.Tensor]:
    x = noise(*shape)
    weight, bias = noise(out, int(np.prod(shape[1:])), seed=1), noise(out, seed=2)
    y = F.linear(double(x).flatten(1), double(weight), double(bias))
    spec = kernel(
        "dense", [TensorSpec(shape, "plain" if plain else "blocked")], TensorSpec((shape[0], out), "plain"), epilogue
    )
    return spec, x, weight, bias, apply_epilogue(y, epilogue, [])


DENSE = [
    ((1, 64), 32, True),
    ((2, 37), 10, True),
    ((3, 5), 1, True),
    ((1, 1), 40, True),
    ((1, 20, 3, 3), 33, False),
    ((2, 16, 2, 5), 16, False),
    ((2, 3, 4, 4), 7, False),
    ((1, 70, 1, 1), 100, False),
]


@pytest.mark.parametrize("case", range(len(DENSE)))
def test_dense(case: int) -> None:
    shape, out, plain = DENSE[case]
    spec, x, weight, bias, expected = dense_case(shape, out, ("bias", "relu"), plain=plain)
    for target in (spread(case), spread(case + 1)):
        assert_close(run(spec, target, [x], weight, bias), expected)


@every_target
def test_dense_with_a_residual(target: Target) -> None:
    out = 2 * target.lanes + 3
    spec, x, weight, bias, expected = dense_case((2, 13, 2, 2), out, plain=False)
    other = noise(2, out, seed=5)
    tensors = [*spec.inputs, TensorSpec((2, out), "plain")]
    spec = kernel("dense", tensors, spec.output, ("bias", "add", "sigmoid"))
    assert_close(run(spec, target, [x, other], weight, bias), torch.sigmoid(expected + double(other)))


def test_every_schedule_of_a_dense_layer_gives_the_same() -> None:
    target = TARGETS[0]
    spec, x, weight, bias, expected = dense_case((2, 19), 9 * target.lanes - 2)
    schedules = schedules_for(spec, target)
    assert len(schedules) == 4
    for schedule in schedules:
        assert_close(run(spec, target, [x], weight, bias, schedule), expected)


POOLS = [
    ("max_pool2d", (2, 20, 13, 13), 3, 2, 1, {"ceil_mode": True}),
    ("max_pool2d", (1, 5, 8, 8), 2, 2, 0, {}),
    ("max_pool2d", (1, 9, 6, 7), (3, 2), (1, 3), (1, 0), {}),
    ("max_pool2d", (1, 4, 7, 7), 2, 2, 0, {"ceil_mode": True}),
    ("avg_pool2d", (2, 20, 9, 10), 3, 2, 1, {"count_include_pad": False}),
    ("avg_pool2d", (1, 20, 9, 10), 3, 2, 1, {"count_include_pad": True}),
    ("avg_pool2d", (1, 3, 6, 25), 2, 1, 0, {"count_include_pad": False}),
    ("avg_pool2d", (1, 7, 4, 4), 4, 4, 0, {"count_include_pad": True}),
]


@pytest.mark.parametrize("case", range(len(POOLS)))
def test_window_pooling(case: int) -> None:
    op, shape, *window, options = POOLS[case]
    x = noise(*shape) - 3.0  # below zero: a window that counts the padding of a maximum as 0 shows
    k, s, p = (v if isinstance(v, tuple) else (v, v) for v in window)
    y = getattr(F, op)(double(x), k, s, p, **options)
    attrs = {"kernel": k, "stride": s, "padding": p} | {a: v for a, v in options.items() if a != "ceil_mode"}
    spec = kernel(op, [TensorSpec(shape)], TensorSpec(tuple(y.shape)), ("relu",) if case % 2 else (), **attrs)
    target = spread(case)
    schedules = schedules_for(spec, target)
    for schedule in schedules if case < 1 else schedules[:1]:
        assert_close(run(spec, target, [x], schedule=schedule), apply_epilogue(y, spec.epilogue, []))


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (7, 7), (3, 11)])
def test_global_pooling(size: tuple[int, int]) -> None:
    x = noise(2, 21, *size)
    spec = kernel("global_avg_pool", [TensorSpec(x.shape)], TensorSpec((2, 21, 1, 1)), ("hardsigmoid",))
    target = spread(size[0])
    for schedule in schedules_for(spec, target):
        y = run(spec, target, [x], schedule=schedule)
        assert_close(y, F.hardsigmoid(double(x).mean((2, 3), keepdim=True)))


@every_target
@pytest.mark.parametrize("parts", [(20, 7, 33), (33, 20), (1, 1, 1), (16, 3, 16), (5,)])
def test_concat(target: Target, parts: tuple[int, ...]) -> None:
    values = [noise(2, c, 3, 5, seed=i) for i, c in enumerate(parts)]
    spec = kernel("concat", [TensorSpec(v.shape) for v in values], TensorSpec((2, sum(parts), 3, 5)))
    assert np.array_equal(run(spec, target, values), np.concatenate(values, axis=1))


@every_target
@pytest.mark.parametrize(
    ("channels", "start", "count"), [(40, 0, 13), (40, 16, 16), (37, 20, 17), (33, 7, 20), (5, 4, 1)]
)
def test_slice_of_channels(target: Target, channels: int, start: int, count: int) -> None:
    x = noise(2, channels, 3, 5)
    spec = kernel("channel_slice", [TensorSpec(x.shape)], TensorSpec((2, count, 3, 5)), start=start)
    assert np.array_equal(run(spec, target, [x]), x[:, start : start + count])


@every_target
@pytest.mark.parametrize(("rows", "columns"), [(2, 16), (4, 15), (3, 5), (16, 2), (1, 7)])
def test_channel_shuffle(target: Target, rows: int, columns: int) -> None:
    x = noise(2, rows * columns, 3, 5)
    expected = F.channel_shuffle(torch.from_numpy(x), rows).numpy()
    for named in ({"rows": rows}, {"columns": columns}):
        spec = kernel("channel_shuffle", [TensorSpec(x.shape)], TensorSpec(x.shape), **named)
        assert np.array_equal(run(spec, target, [x]), expected)


# 14 -> 46 and 2 -> 82 are ratios where torch, which divides in fp32, rounds to another pixel than exact arithmetic.
@pytest.mark.parametrize("sizes", [((5, 4), (10, 8)), ((14, 2), (46, 82)), ((9, 7), (4, 3)), ((1, 3), (5, 9))])
def test_nearest_resize(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    x = noise(2, 5, *sizes[0])
    y = F.interpolate(torch.from_numpy(x), size=sizes[1], mode="nearest").numpy()
    spec = kernel("resize2d", [TensorSpec(x.shape)], TensorSpec(y.shape), mode="nearest", align_corners=False)
    assert np.array_equal(run(spec, spread(sizes[0][0]), [x]), y)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("sizes", [((5, 4), (10, 8)), ((13, 13), (20, 31)), ((9, 7), (4, 3)), ((1, 3), (5, 1))])
def test_bilinear_resize(sizes: tuple[tuple[int, int], tuple[int, int]], corners: bool) -> None:
    x, other = noise(1, 21, *sizes[0]), noise(1, 21, *sizes[1], seed=1)
    y = F.interpolate(double(x), size=sizes[1], mode="bilinear", align_corners=corners)
    tensors = [TensorSpec(x.shape), TensorSpec(other.shape)]
    attrs = {"mode": "bilinear", "align_corners": corners}
    spec = kernel("resize2d", tensors, TensorSpec(tuple(y.shape)), ("add", "relu"), **attrs)
    assert_close(run(spec, spread(sizes[0][0]), [x, other]), F.relu(y + double(other)))


@every_target
@pytest.mark.parametrize("channels", [1, 16, 21])
def test_layout_both_ways(target: Target, channels: int) -> None:
    x = noise(2, channels, 3, 5)
    plain, blocked = TensorSpec(x.shape, "plain"), TensorSpec(x.shape)
    assert np.array_equal(run(kernel("layout", [plain], blocked), target, [x]), x)
    assert np.array_equal(run(kernel("layout", [blocked], plain), target, [x]), x)


@every_target
def test_elementwise_images(target: Target) -> None:
    x, gate, other = noise(2, 20, 5, 5), noise(2, 20, 1, 1, seed=1), noise(2, 20, 5, 5, seed=2)
    tensors = [TensorSpec(v.shape) for v in (x, gate, other)]
    spec = kernel("elementwise", tensors, TensorSpec(x.shape), ("mul", "add", "relu6"))
    expected = F.relu6(double(x) * double(gate) + double(other))
    for schedule in schedules_for(spec, target):
        assert_close(run(spec, target, [x, gate, other], schedule=schedule), expected)


@pytest.mark.parametrize("shape", [(2, 37), (1, 3), (4, 16)])
def test_elementwise_rows(shape: tuple[int, int]) -> None:
    x, other = noise(*shape), noise(*shape, seed=1)
    plain = TensorSpec(shape, "plain")
    spec = kernel("elementwise", [plain, plain], plain, ("add", "relu"))
    assert_close(run(spec, spread(shape[1]), [x, other]), F.relu(double(x) + double(other)))


WALKS = {
    # shape read, walk (loop, start, step of each dimension), shape written, what torch calls it
    "permute": ((2, 5, 6, 7), ((0,), (3,), (1,), (2,)), (2, 6, 7, 5), lambda x: x.permute(0, 2, 3, 1)),
    "permute to long rows": ((3, 40, 4), ((0,), (2,), (1,)), (3, 4, 40), lambda x: x.transpose(1, 2)),
    "batch innermost": ((21, 6), ((1,), (0,)), (6, 21), lambda x: x.t()),
    "slice of channels": ((2, 20, 5, 5), ((0,), (1, 3), (2,), (3,)), (2, 9, 5, 5), lambda x: x[:, 3:12]),
    "every other pixel": (
        (1, 3, 9, 70),
        ((0,), (1,), (2, 0, 2), (3, 1, 2)),
        (1, 3, 5, 35),
        lambda x: x[..., ::2, 1::2],
    ),
    "flip": ((1, 2, 3, 40), ((0,), (1,), (2,), (3, 39, -1)), (1, 2, 3, 40), lambda x: x.flip(3)),
    "one channel for all": (
        (2, 9, 3, 4),
        ((0,), (-1, 4), (2,), (3,)),
        (2, 30, 3, 4),
        lambda x: x[:, 4:5].expand(2, 30, 3, 4),
    ),
    "one value for a row": ((2, 3, 1), ((0,), (1,), (-1,)), (2, 3, 50), lambda x: x.expand(2, 3, 50)),
    "channel shuffle": ((2, 4, 5, 3, 3), ((0,), (2,), (1,), (3,), (4,)), (2, 5, 4, 3, 3), lambda x: x.transpose(1, 2)),
    "a single value": ((1, 1), ((0,), (1,)), (1, 1), lambda x: x),
}


@every_target
@pytest.mark.parametrize("name", WALKS)
def test_every_walk_through_a_tensor(target: Target, name: str) -> None:
    read, dims, written, view = WALKS[name]
    x, other = noise(*read), noise(*written, seed=1)
    walk = Walk(tuple(Along(*d) for d in dims))
    tensors = [TensorSpec(s, "plain") for s in (read, written)]
    attrs = {"walk0": walk.to_attr(), "walk1": identity(len(written)).to_attr()}
    spec = kernel("strided", tensors[:1], tensors[1], walk0=attrs["walk0"])
    expected = view(double(x))
    assert_close(run(spec, target, [x]), expected, rtol=0)
    spec = kernel("strided", tensors, tensors[1], ("rsub", "relu"), **attrs)
    assert_close(run(spec, target, [x, other]), F.relu(double(other) - expected))


@every_target
@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 5), 1), ((2, 40), 1), ((1, 1), 1), ((2, 7, 5, 9), 1), ((2, 3, 37), 2), ((4, 6), 0)]
)
def test_softmax(target: Target, shape: tuple[int, ...], axis: int) -> None:
    x = noise(*shape) * 30
    plain = TensorSpec(shape, "plain")
    y = run(kernel("softmax", [plain], plain, axis=axis, log=False), target, [x])
    assert_close(y, double(x).softmax(axis))
    assert np.allclose(y.sum(axis), 1)
    y = run(kernel("softmax", [plain], plain, axis=axis, log=True), target, [x])
    assert_close(y, double(x).log_softmax(axis))


PADS = {
    "constant": ((1, 2, 3, 0), "constant", 1.5),
    "reflect": ((3, 2, 1, 4), "reflect", 0.0),
    "replicate": ((0, 5, 2, 2), "replicate", 0.0),
    "circular": ((2, 1, 3, 3), "circular", 0.0),
}


@every_target
@pytest.mark.parametrize("name", PADS)
def test_padding(target: Target, name: str) -> None:
    amounts, mode, value = PADS[name]
    x = noise(2, 19, 5, 6)
    y = F.pad(torch.from_numpy(x), amounts, mode, value if mode == "constant" else None).numpy()
    attrs = {"left": amounts[0], "top": amounts[2], "mode": mode, "value": value}
    spec = kernel("pad", [TensorSpec(x.shape)], TensorSpec(y.shape), **attrs)
    assert np.array_equal(run(spec, target, [x]), y)


REDUCTIONS = [((2, 5, 40), (2,)), ((2, 5, 40), (1,)), ((3, 4, 5, 6), (1, 3)), ((3, 4, 5, 37), (0, 2)), ((2, 3), (0, 1))]


@every_target
@pytest.mark.parametrize(("shape", "dims"), REDUCTIONS)
def test_reductions(target: Target, shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    x = noise(*shape) - 3.0
    expected = {
        "sum": double(x).sum(dims, keepdim=True),
        "max": double(x).amax(dims, keepdim=True),
        "min": double(x).amin(dims, keepdim=True),
    }
    for kind, y in expected.items():
        plain = [TensorSpec(shape, "plain"), TensorSpec(tuple(y.shape), "plain")]
        spec = kernel("reduce", plain[:1], plain[1], ("times:0.5",), kind=kind, dims=dims)
        assert_close(run(spec, target, [x]), y * 0.5)


@every_target
@pytest.mark.parametrize(
    ("shape", "size"), [((2, 5, 40), 40), ((1, 6, 7), 42), ((3, 5), 5), ((2, 4, 33), 33), ((1, 8, 1), 1)]
)
def test_normalization(target: Target, shape: tuple[int, ...], size: int) -> None:
    x = noise(*shape) * 3 + 7
    expected = F.layer_norm(double(x).reshape(-1, size), (size,), eps=1e-3).reshape(shape)
    plain = TensorSpec(shape, "plain")
    spec = kernel("normalize", [plain], plain, size=size, eps=1e-3)
    assert_close(run(spec, target, [x]), expected, rtol=3e-5)


PRODUCTS = [((2, 3, 7, 9), (2, 3, 9, 20)), ((1, 50), (50, 33)), ((13, 5), (5, 1)), ((4, 1, 8, 6), (1, 3, 6, 70))]


@every_target
@pytest.mark.parametrize(("left", "right"), PRODUCTS)
def test_products_of_matrices(target: Target, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    a, b = noise(*left), noise(*right, seed=1)
    expected = F.relu(torch.matmul(double(a), double(b)) * 0.5)
    shape = tuple(expected.shape)
    rank = len(shape)
    batch = {d: d for d in range(rank - 2)}
    views = (
        View.identity(left).expanded((*shape[:-1], left[-1])),
        View.identity(right).expanded((*shape[:-2], *right[-2:])),
    )
    loops = ({rank - 2: rank - 2, rank - 1: rank}, {rank - 2: rank, rank - 1: rank - 1})
    walks = {
        f"walk{i}": v.walk.moved({**batch, **m}).to_attr() for i, (v, m) in enumerate(zip(views, loops, strict=True))
    }
    tensors = [TensorSpec(left, "plain"), TensorSpec(right, "plain")]
    spec = kernel("matmul", tensors, TensorSpec(shape, "plain"), ("times:0.5", "relu"), depth=left[-1], **walks)
    for schedule in schedules_for(spec, target):
        assert_close(run(spec, target, [a, b], schedule=schedule), expected)


def recurrent_layer(kind: str, hidden: int, **options: Any) -> torch.nn.RNNBase:
    name, _, activation = kind.partition("_")
    if activation:
        options["nonlinearity"] = activation
    layer: torch.nn.RNNBase = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}[name](
        6, hidden, **options
    ).double()
    return layer


@pytest.mark.parametrize(
    ("conv", "tiles"),
    [
        (Conv((1, 64, 7, 7), 64, p=1), [(2, 4), (3, 4), (4, 2)]),
        (Conv((1, 32, 14, 14), 64, s=2, p=1), [(2, 5), (3, 4)]),
        (Conv((1, 3, 28, 28), 32, 7, s=2, p=3, plain=True), [(2, 6), (3, 4)]),
    ],
    ids=["a row of 7", "stride 2", "stem"],
)
def test_taps_leave_the_stack_alone_where_registers_are_few(conv: Conv, tiles: list[tuple[int, int]]) -> None:
    """Inputs that LLVM shares among taps are stored there, which took half of the speed of AVX2."""
    target = load_target("x86_64_avx2")
    for blocks, columns in tiles:
        schedule = {"rule": "conv_direct", "blocks": blocks, "columns": columns}
        made = rule_named(schedule).build("k", conv.spec, schedule, target)
        lines = machine_code("k", made, target).mod.inspect_source("asm").splitlines()
        stored = sum(bool(re.search(r"vmov[au]ps\s+%ymm\d+, -?\d*\(%rsp\)", line)) for line in lines)
        multiplied = sum("vfmadd" in line for line in lines)
        assert stored < multiplied / 20, f"{stored} stores beside {multiplied} multiply-adds"


@every_target
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize(("steps", "batch", "hidden"), [(5, 2, 21), (1, 1, 16), (4, 3, 3)])
@pytest.mark.parametrize("reverse", [False, True])
def test_recurrence(target: Target, kind: str, steps: int, batch: int, hidden: int, reverse: bool) -> None:
    layer = recurrent_layer(kind, hidden)
    x = double(noise(steps, batch, 6))
    with torch.no_grad():
        y, _ = layer(x.flip(0) if reverse else x)
        expected = y.flip(0) if reverse else y
        gates = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0).float().numpy()
    tensors = TensorSpec(gates.shape, "plain"), TensorSpec((steps, batch, hidden), "plain")
    spec = kernel("recurrent", [tensors[0]], tensors[1], ("bias",), kind=kind, reverse=reverse)
    weight, bias = (p.detach().float().numpy() for p in (layer.weight_hh_l0, layer.bias_hh_l0))
    assert_close(run(spec, target, [gates], weight, bias), expected)


@every_target
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh"])
@pytest.mark.parametrize(("steps", "batch", "hidden"), [(3, 2, 21), (1, 1, 16)])
@pytest.mark.parametrize("reverse", [False, True])
def test_recurrence_goes_on_from_a_state(
    target: Target, kind: str, steps: int, batch: int, hidden: int, reverse: bool
) -> None:
    """And gives the cells it ends with, from which another call could go on."""
    layer = recurrent_layer(kind, hidden)
    x, *start = (
        double(noise(steps, batch, 6)),
        *(double(noise(1, batch, hidden)) for _ in range(2 if kind == "lstm" else 1)),
    )
    with torch.no_grad():
        y, last = layer(x.flip(0) if reverse else x, tuple(start) if kind == "lstm" else start[0])
        expected = y.flip(0) if reverse else y
        if kind == "lstm":
            expected = torch.cat([expected, last[1]])
        gates = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0).float().numpy()
    given = [gates, *(s.float().numpy() for s in start)]
    spec = kernel(
        "recurrent",
        [TensorSpec(g.shape, "plain") for g in given],
        TensorSpec(tuple(expected.shape), "plain"),
        ("bias",),
        kind=kind,
        reverse=reverse,
    )
    weight, bias = (p.detach().float().numpy() for p in (layer.weight_hh_l0, layer.bias_hh_l0))
    assert_close(run(spec, target, given, weight, bias), expected)


@every_target
@pytest.mark.parametrize(
    ("steps", "batch", "hidden", "states"), [(3, 2, 21, 9), (1, 1, 16, 8), (4, 1, 7, 2), (2, 3, 37, 17)]
)
@pytest.mark.parametrize(("reverse", "streamed"), [(False, False), (True, False), (False, True), (True, True)])
def test_projected_recurrence(
    target: Target, steps: int, batch: int, hidden: int, states: int, reverse: bool, streamed: bool
) -> None:
    """From zeros; or from a state, giving the cells it ends with and, beside them, what is to be projected."""
    layer = recurrent_layer("lstm", hidden, proj_size=states, bias=streamed)
    start = [double(noise(1, batch, n, seed=n)) for n in (states, hidden)] if streamed else []
    x = double(noise(steps, batch, 6))
    weights = {n: p.detach() for n, p in layer.named_parameters()}
    with torch.no_grad():
        y, last = layer(x.flip(0) if reverse else x, tuple(start) or None)
        shown = y.flip(0) if reverse else y
        expected = last[1] if streamed else shown
        gates = F.linear(x, weights["weight_ih_l0"], weights.get("bias_ih_l0")).float().numpy()
    given = [gates, *(s.float().numpy() for s in start)]
    spec = kernel(
        "recurrent",
        [TensorSpec(g.shape, "plain") for g in given],
        TensorSpec((steps + streamed, batch, hidden if streamed else states), "plain"),
        ("bias",) if streamed else (),
        kind="lstm",
        reverse=reverse,
        projected=states,
    )
    assert spec.widths == {"in": hidden, "out": states}
    assert spec.macs == steps * batch * (4 * hidden * states + hidden * states)
    wider = spec.with_widths(in_=2 * hidden, out=states + 1)
    assert wider.inputs[0].shape[2] == 8 * hidden
    assert wider.output.shape[2] == (2 * hidden if streamed else states + 1)
    assert wider.family == spec.family
    assert wider.with_widths(in_=hidden, out=states) == spec
    weight = torch.cat([weights["weight_hh_l0"], weights["weight_hr_l0"].t()]).float().numpy()
    bias = weights["bias_hh_l0"].float().numpy() if streamed else np.zeros(batch, np.float32)
    found = run(spec, target, given, weight, bias)
    if streamed:
        assert_close(found[steps:], expected)
        assert_close((found[:steps] @ weights["weight_hr_l0"].float().numpy().T), shown)
    else:
        assert_close(found, expected)


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (3, 11)])
def test_global_maximum(size: tuple[int, int]) -> None:
    x = noise(2, 21, *size) - 3.0
    spec = kernel("global_max_pool", [TensorSpec(x.shape)], TensorSpec((2, 21, 1, 1)), ("hardsigmoid",))
    for schedule in schedules_for(spec, spread(size[1])):
        y = run(spec, spread(size[1]), [x], schedule=schedule)
        assert_close(y, F.hardsigmoid(double(x).amax((2, 3), keepdim=True)))


def test_a_kernel_that_no_rule_builds_is_refused() -> None:
    plain = Conv((1, 8, 4, 4), 8, groups=2, plain=True).spec
    with pytest.raises(UnsupportedOperatorError, match="no kernel rule builds conv2d 3x3 g2"):
        schedules_for(plain, TARGETS[0])


def test_rules_are_found_by_name() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule_named({"rule": rule.name}) is rule for rule in RULES)
    with pytest.raises(UnsupportedOperatorError, match="no kernel rule is called 'winograd'"):
        rule_named({"rule": "winograd"})


def test_the_registry_names_every_file_with_a_rule() -> None:
    files = Path(registry.__file__).parent.glob("*.py")
    holding = {f.stem for f in files if re.search(r"^class \w+\(Rule\):", f.read_text(), re.MULTILINE)}
    assert holding == {file.__name__.rpartition(".")[2] for file in FILES}


@pytest.mark.parametrize(
    ("channels", "lanes", "widths"),
    [
        (32, 16, (16, 16)),
        (33, 16, (16, 16, 4)),
        (38, 16, (16, 16, 8)),
        (41, 16, (16, 16, 16)),
        (3, 16, (4,)),
        (9, 4, (4, 4, 4)),
    ],
)
def test_the_last_block_is_as_narrow_as_what_it_holds(channels, lanes, widths):
    assert block_widths(channels, lanes) == widths
