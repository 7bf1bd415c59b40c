"""Kernels of volumes against torch: images whose rows are those of all slices, one behind the other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_harness import TARGETS, Array, apply_epilogue, assert_close, kernel, noise, run

from edgeprune.compiler.folding import folded
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.graph.channels import WeightRef
from edgeprune.graph.spec import TensorSpec
from edgeprune.targets import Target

if not TARGETS:
    pytest.skip("no x86-64 target runs on this computer", allow_module_level=True)


def double(x: Array) -> torch.Tensor:
    return torch.from_numpy(x).double()


def picture(x: Any) -> Any:
    """(N, C, D, H, W) as the image that kernels see."""
    n, c, d, h, w = x.shape
    return x.reshape(n, c, d * h, w)


def threefold(value: int | tuple[int, int, int]) -> tuple[int, int, int]:
    return value if isinstance(value, tuple) else (value, value, value)


class Volume:
    """A convolution of a volume: its spec, its data and what torch makes of them."""

    def __init__(
        self,
        shape: tuple[int, ...],
        out: int,
        k: int | tuple[int, int, int] = 3,
        s: int | tuple[int, int, int] = 1,
        p: int | tuple[int, int, int] = 0,
        d: int | tuple[int, int, int] = 1,
        groups: int = 1,
        plain: bool = False,
        epilogue: tuple[str, ...] = ("bias",),
    ) -> None:
        window = {"kernel": threefold(k), "stride": threefold(s), "padding": threefold(p), "dilation": threefold(d)}
        x, self.bias = noise(*shape), noise(out, seed=1)
        weight = noise(out, shape[1] // groups, *window["kernel"], seed=2)
        settings = (window[n] for n in ("stride", "padding", "dilation"))
        y = F.conv3d(double(x), double(weight), double(self.bias), *settings, groups)
        operands = [noise(*picture(y).shape, seed=3) for step in epilogue if step == "add"]
        self.inputs = [picture(x), *operands]
        self.expected = apply_epilogue(picture(y), epilogue, operands)
        tensors = [TensorSpec(picture(x).shape, "plain" if plain else "blocked")]
        self.spec = kernel(
            "conv3d",
            [*tensors, *(TensorSpec(o.shape) for o in operands)],
            TensorSpec(tuple(picture(y).shape)),
            epilogue,
            groups=groups,
            slices=(x.shape[2], y.shape[2]),
            **window,
        )
        node = SimpleNamespace(weights=WeightRef("w"), spec=self.spec)
        self.weight = folded(node, {"w": weight})[0]  # type: ignore[arg-type]

    def check(self, target: Target, schedule: Schedule | None = None) -> None:
        assert_close(run(self.spec, target, self.inputs, self.weight, self.bias, schedule), self.expected)


CONVOLUTIONS = {
    "3x3x3": {"shape": (1, 16, 4, 7, 9), "out": 32, "p": 1},
    "plain, batch, odd channels": {"shape": (2, 3, 5, 6, 8), "out": 21, "p": 1, "plain": True},
    "stride, residual": {
        "shape": (1, 19, 5, 9, 8),
        "out": 20,
        "s": (1, 2, 2),
        "p": 1,
        "epilogue": ("bias", "add", "relu"),
    },
    "stride of slices alone": {"shape": (1, 9, 7, 5, 14), "out": 12, "k": 1, "s": (2, 1, 1)},
    "between slices alone": {"shape": (1, 9, 6, 4, 14), "out": 12, "k": (3, 1, 1), "p": (1, 0, 0)},
    "inside of slices alone": {"shape": (1, 9, 3, 6, 14), "out": 12, "k": (1, 3, 3), "p": (0, 1, 1)},
    "dilated, uneven": {
        "shape": (2, 5, 8, 9, 10),
        "out": 7,
        "k": (2, 3, 2),
        "s": (2, 1, 3),
        "p": (1, 2, 0),
        "d": (3, 2, 1),
    },
    "one slice": {"shape": (1, 6, 1, 5, 5), "out": 8, "p": 1},
    "groups": {"shape": (1, 24, 4, 5, 6), "out": 20, "p": 1, "groups": 4},
    "a filter a channel": {"shape": (1, 21, 4, 5, 6), "out": 21, "p": 1, "groups": 21, "epilogue": ("bias", "relu6")},
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_of_volumes(name: str, target: Target) -> None:
    conv = Volume(**CONVOLUTIONS[name])
    schedules = schedules_for(conv.spec, target)
    conv.check(target, schedules[list(CONVOLUTIONS).index(name) % len(schedules)])


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_any_convolution_of_volumes(data: st.DataObject) -> None:
    small = st.integers(1, 3)
    k, s = (data.draw(st.tuples(small, small, small), label=n) for n in ("kernel", "stride"))
    d = data.draw(st.tuples(*(st.integers(1, 2) for _ in k)), label="dilation")
    p = tuple(data.draw(st.integers(0, k[i] * d[i] - 1), label="padding") for i in range(3))
    least = [max(1, d[i] * (k[i] - 1) + 1 - 2 * p[i]) for i in range(3)]
    size = tuple(data.draw(st.integers(n, n + 5), label="size") for n in least)
    batch, channels, out = (data.draw(st.integers(1, n), label="n, c, o") for n in (2, 20, 36))
    conv = Volume((batch, channels, *size), out, k, s, p, d, plain=data.draw(st.booleans(), label="plain"))
    target = data.draw(st.sampled_from(TARGETS), label="target")
    conv.check(target, data.draw(st.sampled_from(schedules_for(conv.spec, target)), label="schedule"))


POOLS = {
    # kernel, stride, padding, ceil_mode, padding counts
    "frames kept": ((1, 2, 2), (1, 2, 2), (0, 0, 0), False, True),
    "halves": ((2, 2, 2), (2, 2, 2), (0, 0, 0), False, True),
    "overlapping, padded": ((3, 3, 3), (2, 2, 2), (1, 1, 1), False, False),
    "padding counts": ((3, 3, 3), (1, 2, 1), (1, 1, 0), False, True),
    "last windows beyond the end": ((2, 3, 2), (2, 2, 2), (0, 0, 0), True, False),
    "all slices": ((5, 1, 1), (5, 1, 1), (0, 0, 0), False, True),
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", POOLS)
def test_pooling_of_volumes(name: str, target: Target) -> None:
    size, stride, padding, ceil, counted = POOLS[name]
    x = noise(2, 19, 5, 8, 9) - 3.0
    window = {"kernel": size, "stride": stride, "padding": padding}
    expected = {
        "max_pool3d": F.max_pool3d(double(x), size, stride, padding, ceil_mode=ceil),
        "avg_pool3d": F.avg_pool3d(double(x), size, stride, padding, ceil, counted),
    }
    for op, y in expected.items():
        attrs = {**window, "slices": (x.shape[2], y.shape[2])} | (
            {"count_include_pad": counted} if op == "avg_pool3d" else {}
        )
        tensors = TensorSpec(picture(x).shape), TensorSpec(tuple(picture(y).shape))
        spec = kernel(op, tensors[:1], tensors[1], ("relu6",), **attrs)
        assert_close(run(spec, target, [picture(x)]), F.relu6(picture(y)))
