"""Tensors that come from nothing, or from a shape."""

from __future__ import annotations

import math

import numpy as np
import torch
from onnx import TensorProto, numpy_helper

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import reads
from edgeprune.models.onnx.types import HELD, held, named
from edgeprune.models.onnx.values import Unsupported, Value


@reads("Constant")
def constant(n: OnnxNode) -> Value:
    if n.given("value"):
        proto: TensorProto = n.attr("value")
        if proto.data_type not in HELD:
            raise Unsupported(f"it holds {named(proto.data_type)}")
        return Value(proto.data_type, held(numpy_helper.to_array(proto), proto.data_type))
    for name in ("value_float", "value_floats"):
        if n.given(name):
            return n.constant(n.attr(name), TensorProto.FLOAT, torch.float32)
    for name in ("value_int", "value_ints"):
        if n.given(name):
            return n.constant(n.attr(name), TensorProto.INT64, torch.int64)
    raise Unsupported("its value is neither a tensor nor numbers")


@reads("ConstantOfShape")
def constant_of_shape(n: OnnxNode) -> Value:
    shape = tuple(int(v) for v in n.known(0, "shape").flatten())
    _check(n, shape)
    proto: TensorProto | None = n.attr("value", None)
    if proto is None:
        return n.constant(torch.zeros(shape), TensorProto.FLOAT)
    value = held(numpy_helper.to_array(proto), proto.data_type).flatten()
    return Value(proto.data_type, value[:1].expand(math.prod(shape)).reshape(shape).clone())


def _check(n: OnnxNode, shape: tuple[int, ...]) -> None:
    if min(shape, default=0) < 0:
        raise Unsupported(f"its result has the shape {list(shape)}")
    n.build.spend(math.prod(shape))


@reads("Shape")
def shape_of(n: OnnxNode) -> Value:
    shape = n.shape()
    start, end = n.attr("start", 0), n.attr("end", None)
    return n.constant(list(shape[start:end]), TensorProto.INT64, torch.int64)


@reads("Size")
def size_of(n: OnnxNode) -> Value:
    return n.constant(math.prod(n.shape()), TensorProto.INT64, torch.int64)


@reads("Range")
def arange(n: OnnxNode) -> Value:
    start, limit, step = (n.known(i, name) for i, name in enumerate(("start", "limit", "delta")))
    kind = n[0].kind
    numbers = [v.item() for v in (start, limit, step)]
    if not numbers[2]:
        raise ZeroDivisionError("its step is 0")
    count = max(0, math.ceil((numbers[1] - numbers[0]) / numbers[2]))
    _check(n, (count,))
    steps: np.ndarray = np.arange(count, dtype=np.float64 if start.is_floating_point() else np.int64)
    values = steps * numbers[2] + numbers[0]
    return n.constant(torch.from_numpy(values).to(start.dtype), kind)


@reads("EyeLike")
def eye_like(n: OnnxNode) -> Value:
    rows, columns = n.shape()
    _check(n, (rows, columns))
    kind = n.attr("dtype", n[0].kind)
    offset = n.attr("k")
    eye = torch.arange(columns).reshape(1, -1) - torch.arange(rows).reshape(-1, 1) == offset
    return n.constant(eye.to(HELD[kind]), kind)


@reads("HannWindow", "HammingWindow", "BlackmanWindow")
def window(n: OnnxNode) -> Value:
    """Weights of a window; a periodic one is a symmetric one without its last."""
    size = n.number(0, "size")
    assert size is not None
    _check(n, (int(size),))
    count = int(size) if n.attr("periodic") else int(size) - 1
    kind = n.attr("output_datatype")
    t = 2 * np.pi * np.arange(int(size)) / max(1, count)
    if n.operator == "HannWindow":
        y = 0.5 - 0.5 * np.cos(t)
    elif n.operator == "HammingWindow":
        y = 25 / 46 - 21 / 46 * np.cos(t)
    else:
        y = 0.42 - 0.5 * np.cos(t) + 0.08 * np.cos(2 * t)
    return n.constant(torch.from_numpy(y).to(HELD[kind]), kind)


@reads("MelWeightMatrix")
def mel_weights(n: OnnxNode) -> Value:
    """Triangles on the mel scale over the bins of a spectrum."""
    bands, length, rate = (int(n.known(i, "size")) for i in range(3))
    low, high = (float(n.known(i, "edge")) for i in (3, 4))
    kind = n.attr("output_datatype")
    bins = length // 2 + 1
    _check(n, (bins, bands))
    mels = 2595 * np.log10(1 + np.array([low, high]) / 700)
    edges = np.linspace(mels[0], mels[0] + (mels[1] - mels[0]) * (bands + 1) / (bands + 2), bands + 2)
    places = ((700 * (10 ** (edges / 2595) - 1)) * (length + 1) // rate).astype(np.int64)
    result = np.zeros((bins, bands))
    for i in range(bands):
        lower, centre, higher = places[i : i + 3]
        if lower == centre:
            result[centre, i] = 1
        else:
            result[lower : centre + 1, i] = (np.arange(lower, centre + 1) - lower) / (centre - lower)
        if centre != higher:
            result[centre:higher, i] = (higher - np.arange(centre, higher)) / (higher - centre)
    return n.constant(torch.from_numpy(result).to(HELD[kind]), kind)
