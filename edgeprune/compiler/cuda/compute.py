"""What a kernel computes, as tensor expressions over plain row-major tensors.

The kernels of small convolutional networks. ``acc`` is the reduction, if there is one, and ``out`` the
epilogue's result: the schedule needs no more than these two names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeprune.compiler.cuda.algebra import ScalarAlgebra
from edgeprune.compiler.cuda.constants import constant_shapes
from edgeprune.compiler.functions import Expr, apply_step
from edgeprune.compiler.tvm_modules import te, tir
from edgeprune.graph.spec import KernelSpec

Flat = tuple[Any, Any]  # row and pixel
LOWEST = -3.4028234663852886e38


def prim_func(symbol: str, spec: KernelSpec) -> Any:
    """The kernel as a PrimFunc of its inputs, weight and bias if any, and output: ``in0 …, weight, bias, out``."""
    inputs = [te.placeholder(t.shape, name=f"in{i}") for i, t in enumerate(spec.inputs)]
    constants = [te.placeholder(shape, name=name) for name, shape in constant_shapes(spec).items()]
    anchor = ANCHORS[spec.op](spec, inputs[: spec.anchor_inputs], constants)
    algebra = ScalarAlgebra()

    def operand(i: int, at: Sequence[Expr]) -> Expr:
        """Input ``i`` at an index of the output, along whose dimensions it may be broadcast."""
        return inputs[i](*(0 if size == 1 else j for j, size in zip(at, spec.inputs[i].shape, strict=True)))

    def result(row: Expr, pixel: Expr) -> Expr:
        at = _places((row, pixel), spec.output.shape)
        value = anchor((row, pixel), *at)
        operands = (operand(i, at) for i in range(spec.anchor_inputs, len(inputs)))
        for step in spec.epilogue:
            value = value + constants[1][at[1]] if step == "bias" else apply_step(algebra, step, value, operands)
        return value

    out = te.compute(_flat(spec.output.shape), result, name="out")
    function = te.create_prim_func([*inputs, *constants, out])
    return function.with_attr("global_symbol", symbol)


def _zero() -> Expr:
    return tir.const(0.0, "float32")


def _conv(spec: KernelSpec, inputs: Sequence[Any], constants: Sequence[Any]) -> Callable[..., Expr]:
    (x,), weight = inputs, constants[0]
    (sh, sw), (ph, pw), (dh, dw) = (spec.attr(name) for name in ("stride", "padding", "dilation"))
    per_group, each = spec.inputs[0].channels // spec.attr("groups"), spec.output.channels // spec.attr("groups")
    height, width = spec.inputs[0].shape[2:]
    rc = te.reduce_axis((0, per_group), name="rc")
    rh, rw = (
        te.reduce_axis((0, size), name=name) for size, name in zip(spec.attr("kernel"), ("rh", "rw"), strict=True)
    )

    def tap(n: Expr, k: Expr, h: Expr, w: Expr) -> Expr:
        ih, iw = h * sh + rh * dh - ph, w * sw + rw * dw - pw
        inside = tir.all(ih >= 0, ih < height, iw >= 0, iw < width)
        value = x(n, k // each * per_group + rc, ih, iw)
        return te.sum(tir.if_then_else(inside, value, _zero()) * weight(k, rc, rh, rw), axis=[rc, rh, rw])

    return _stage(spec.output.shape, tap)


def _dense(spec: KernelSpec, inputs: Sequence[Any], constants: Sequence[Any]) -> Callable[..., Expr]:
    (x,), weight = inputs, constants[0]
    shape = spec.inputs[0].shape
    axis = te.reduce_axis((0, math.prod(shape[1:])), name="rf")
    place = _unravelled(axis, shape[1:])
    return _stage(spec.output.shape, lambda n, k: te.sum(x(n, *place) * weight(k, axis), axis=[axis]))


def _window(spec: KernelSpec, inputs: Sequence[Any], constants: Sequence[Any]) -> Callable[..., Expr]:
    (x,) = inputs
    largest = spec.op.startswith("max")
    (kh, kw), (sh, sw), (ph, pw) = (spec.attr(name) for name in ("kernel", "stride", "padding"))
    height, width = spec.inputs[0].shape[2:]
    rh, rw = te.reduce_axis((0, kh), name="rh"), te.reduce_axis((0, kw), name="rw")

    def tap(n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
        ih, iw = h * sh + rh - ph, w * sw + rw - pw
        inside = tir.all(ih >= 0, ih < height, iw >= 0, iw < width)
        other = tir.const(LOWEST, "float32") if largest else _zero()
        return (te.max if largest else te.sum)(tir.if_then_else(inside, x(n, c, ih, iw), other), axis=[rh, rw])

    acc = _stage(spec.output.shape, tap)
    if largest:
        return acc

    def inside_of(at: Expr, stride: int, padding: int, kernel: int, size: int) -> Expr:
        first = at * stride - padding
        return tir.min(first + kernel, size) - tir.max(first, 0)

    def mean(i: Flat, n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
        if spec.attr("count_include_pad"):
            return acc(i) * tir.const(1.0 / (kh * kw), "float32")
        count = inside_of(h, sh, ph, kh, height) * inside_of(w, sw, pw, kw, width)
        return acc(i) / tir.Cast("float32", count)

    return mean


def _whole(spec: KernelSpec, inputs: Sequence[Any], constants: Sequence[Any]) -> Callable[..., Expr]:
    (x,) = inputs
    largest = spec.op == "global_max_pool"
    rh, rw = (te.reduce_axis((0, size), name=n) for size, n in zip(spec.inputs[0].shape[2:], ("rh", "rw"), strict=True))
    reduce = te.max if largest else te.sum
    acc = _stage(spec.output.shape, lambda n, c, h, w: reduce(x(n, c, rh, rw), axis=[rh, rw]))
    scale = 1.0 if largest else 1.0 / spec.inputs[0].pixels
    return lambda i, *at: acc(i) * tir.const(scale, "float32")


def _concat(spec: KernelSpec, inputs: Sequence[Any], constants: Sequence[Any]) -> Callable[..., Expr]:
    starts = [sum(t.channels for t in spec.inputs[:i]) for i in range(len(inputs))]

    def pick(i: Flat, n: Expr, c: Expr, *place: Expr) -> Expr:
        value = inputs[0](n, c, *place)
        for x, start in zip(inputs[1:], starts[1:], strict=True):
            value = tir.if_then_else(c >= start, x(n, c - start, *place), value)
        return value

    return pick


def _resize(spec: KernelSpec, inputs: Sequence[Any], constants: Sequence[Any]) -> Callable[..., Expr]:
    (x,), (height, width), (oh, ow) = inputs, spec.inputs[0].shape[2:], spec.output.shape[2:]

    def number(value: Expr) -> Expr:
        return tir.Cast("float32", value)

    def nearest(at: Expr, size: int, out: int) -> Expr:
        """As torch rounds: in fp32, except where it doubles the size."""
        if out == 2 * size:
            return at // 2
        scale = float(np.float32(size) / np.float32(out))
        return tir.min(tir.Cast("int32", tir.floor(number(at) * tir.const(scale, "float32"))), size - 1)

    def between(at: Expr, size: int, out: int) -> tuple[Expr, Expr, Expr]:
        """Lower neighbour, upper neighbour and the weight of the upper one."""
        half, zero = tir.const(0.5, "float32"), tir.const(0.0, "float32")
        if spec.attr("align_corners"):
            where = number(at) * tir.const((size - 1) / max(out - 1, 1), "float32")
        else:
            where = tir.max((number(at) + half) * tir.const(size / out, "float32") - half, zero)
        low = tir.min(tir.Cast("int32", tir.floor(where)), size - 1)
        return low, tir.min(low + 1, size - 1), where - number(low)

    def pick(i: Flat, n: Expr, c: Expr, h: Expr, w: Expr) -> Expr:
        if spec.attr("mode") == "nearest":
            return x(n, c, nearest(h, height, oh), nearest(w, width, ow))
        one = tir.const(1.0, "float32")
        (y0, y1, dy), (x0, x1, dx) = between(h, height, oh), between(w, width, ow)
        rows = [x(n, c, y, x0) * (one - dx) + x(n, c, y, x1) * dx for y in (y0, y1)]
        return rows[0] * (one - dy) + rows[1] * dy

    return pick


def _same(spec: KernelSpec, inputs: Sequence[Any], constants: Sequence[Any]) -> Callable[..., Expr]:
    """The input as it lies: every layout is row-major here, and a flatten changes nothing."""
    _, pixels = _flat(spec.output.shape)
    return lambda i, *at: inputs[0](*_unravelled(i[0] * pixels + i[1], spec.inputs[0].shape))


def _stage(shape: tuple[int, ...], tap: Callable[..., Expr]) -> Callable[..., Expr]:
    acc = te.compute(_flat(shape), lambda row, pixel: tap(*_places((row, pixel), shape)), name="acc")
    return lambda i, *at: acc(*i)


def _flat(shape: Sequence[int]) -> tuple[int, int]:
    """(samples times channels, pixels): two axes, so that a thread's sums are a column whatever the shape."""
    return math.prod(shape[:2]), math.prod(shape[2:])


def _places(flat: Flat, shape: Sequence[int]) -> list[Expr]:
    """Indices of a place of :func:`_flat` in the tensor itself."""
    row, pixel = flat
    return [*_unravelled(row, shape[:2]), *_unravelled(pixel, shape[2:])]


def _unravelled(i: Expr, shape: Sequence[int]) -> list[Expr]:
    """Indices of element ``i`` of a row-major tensor."""
    steps = [math.prod(shape[d + 1 :]) for d in range(len(shape))]
    return [i // step % size for step, size in zip(steps, shape, strict=True)]


ANCHORS: dict[str, Callable[[KernelSpec, Sequence[Any], Sequence[Any]], Callable[..., Expr]]] = {
    "conv2d": _conv,
    "dense": _dense,
    "max_pool2d": _window,
    "avg_pool2d": _window,
    "global_avg_pool": _whole,
    "global_max_pool": _whole,
    "concat": _concat,
    "elementwise": _same,
    "layout": _same,
    "resize2d": _resize,
}
"""What can be built for a GPU: by a spec's operator, (spec, inputs, constants) -> value of the anchor at an index."""
