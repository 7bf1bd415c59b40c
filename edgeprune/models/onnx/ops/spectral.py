"""Fourier transforms of lengths that are known: products with matrices of cosines and sines."""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import reads
from edgeprune.models.onnx.values import Unsupported, Value

MAX_LENGTH = 8192


def _matrices(n: OnnxNode, size: int, bins: int, *, inverse: bool = False) -> tuple[Value, Value]:
    """Cosines and sines, (size, bins)."""
    if size > MAX_LENGTH:
        raise Unsupported(f"its length is {size}, more than {MAX_LENGTH}")
    angle = 2 * np.pi * ((np.arange(size)[:, None] * np.arange(bins)[None]) % size) / size
    factor = 1 / size if inverse else 1.0
    sign = 1.0 if inverse else -1.0
    parts = (np.cos(angle) * factor, sign * np.sin(angle) * factor)
    cosines, sines = (n.constant(torch.from_numpy(m).float(), TensorProto.FLOAT) for m in parts)
    return cosines, sines


def _fitted(n: OnnxNode, x: Value, axis: int, length: int) -> Value:
    """Cut or padded with zeros to a length."""
    have = x.shape[axis]
    if have > length:
        return n.call(torch.narrow, x, axis, 0, length)
    if have < length:
        return n.call(torch.nn.functional.pad, x, [0, 0] * (x.rank - 1 - axis) + [0, length - have])
    return x


@reads("DFT")
def dft(n: OnnxNode) -> Value:
    """Real and imaginary parts lie along the last axis, which an input of real numbers has with one place."""
    x = n[0]
    given = n.number(1, "length")
    axis = n.number(2, "axis") if n.opset >= 20 else n.attr("axis")
    axis = n.place(-2 if axis is None else int(axis), x.rank)
    inverse, onesided = bool(n.attr("inverse")), bool(n.attr("onesided"))
    parts = x.shape[-1]
    if parts not in (1, 2) or axis == x.rank - 1:
        raise Unsupported(f"its input has the shape {list(x.shape)}")
    length = x.shape[axis] if given is None else int(given)
    real = n.call(torch.select, x, x.rank - 1, 0)
    imaginary = n.call(torch.select, x, x.rank - 1, 1) if parts == 2 else None
    if inverse and onesided:
        return _inverse_onesided(n, real, imaginary, axis, 2 * (x.shape[axis] - 1) if given is None else int(given))
    real = _fitted(n, real, axis, length)
    imaginary = None if imaginary is None else _fitted(n, imaginary, axis, length)
    bins = length // 2 + 1 if onesided else length
    cosines, sines = _matrices(n, length, bins, inverse=inverse)

    def times(value: Value, matrix: Value) -> Value:
        last = value.rank - 1
        turned = value if axis == last else n.call(torch.transpose, value, axis, last)
        product = n.call(torch.matmul, turned, matrix, kind=x.kind)
        return product if axis == last else n.call(torch.transpose, product, axis, last)

    re, im = times(real, cosines), times(real, sines)
    if imaginary is not None:
        re = n.call(torch.sub, re, times(imaginary, sines))
        im = n.call(torch.add, im, times(imaginary, cosines))
    return n.call(torch.stack, [re, im], x.rank - 1)


def _inverse_onesided(n: OnnxNode, real: Value, imaginary: Value | None, axis: int, length: int) -> Value:
    """Real numbers from the first half of a spectrum; the other half mirrors it."""
    bins = length // 2 + 1
    real = _fitted(n, real, axis, bins)
    weights = np.full(bins, 2.0)
    weights[0] = 1
    if length % 2 == 0:
        weights[-1] = 1
    if length > MAX_LENGTH:
        raise Unsupported(f"its length is {length}, more than {MAX_LENGTH}")
    angle = 2 * np.pi * ((np.arange(bins)[:, None] * np.arange(length)[None]) % length) / length
    parts = (np.cos(angle) * weights[:, None] / length, -np.sin(angle) * weights[:, None] / length)
    cosines, sines = (n.constant(torch.from_numpy(m).float(), TensorProto.FLOAT) for m in parts)

    def times(value: Value, matrix: Value) -> Value:
        turned = n.call(torch.transpose, value, axis, value.rank - 1)
        return n.call(torch.transpose, n.call(torch.matmul, turned, matrix), axis, value.rank - 1)

    y = times(real, cosines)
    if imaginary is not None:
        y = n.call(torch.add, y, times(_fitted(n, imaginary, axis, bins), sines))
    return n.call(torch.unsqueeze, y, y.rank)


@reads("STFT")
def stft(n: OnnxNode) -> Value:
    """Windows of a signal (N, length, 1 or 2), each transformed: (N, frames, bins, 2)."""
    x, window = n[0], n.get(2)
    step, given = n.number(1, "frame step"), n.number(3, "frame length")
    assert step is not None
    length = int(given) if given is not None else (window.shape[0] if window is not None else x.shape[1])
    parts = x.shape[2] if x.rank == 3 else 1
    bins = length // 2 + 1 if n.attr("onesided") else length
    cosines, sines = _matrices(n, length, bins)
    frames = []
    for i in range(parts):
        signal = n.call(torch.select, x, 2, i) if x.rank == 3 else x
        cut = n.call("unfold", signal, 1, length, int(step))
        frames.append(cut if window is None else n.call(torch.mul, cut, window, kind=x.kind))
    re, im = n.call(torch.matmul, frames[0], cosines, kind=x.kind), n.call(torch.matmul, frames[0], sines, kind=x.kind)
    if parts == 2:
        re = n.call(torch.sub, re, n.call(torch.matmul, frames[1], sines, kind=x.kind))
        im = n.call(torch.add, im, n.call(torch.matmul, frames[1], cosines, kind=x.kind))
    return n.call(torch.stack, [re, im], 3)
