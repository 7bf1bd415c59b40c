"""Images at other sizes and places: each axis is interpolated by a matrix that is known at import.

The matrix is what the standard says. Where one of torch's interpolations has the same matrices, it is used; else
nearest neighbours are looked up and the other modes are products with the matrix of each axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import nn
from torch.nn import functional as F

from edgeprune.models.onnx.build import TooLarge
from edgeprune.models.onnx.file import MAX_ELEMENTS
from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import reads
from edgeprune.models.onnx.types import FLOATS
from edgeprune.models.onnx.values import Unsupported, Value

_DENSE = 2**20
"""Largest matrix of an axis that is multiplied with; of larger ones the few entries that are not zero are."""


@dataclass(frozen=True, slots=True)
class _Taps:
    """An axis: each new place is a sum of old ones.

    Attributes:
        places, weights: (new, taps).
        inside: (new,): whether a new place lies in the old image.
    """

    places: NDArray[np.int64]
    weights: NDArray[np.float64]
    inside: NDArray[np.bool_]

    def of(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The new axis of (old, many)."""
        found: NDArray[np.float64] = np.einsum("nk,nkm->nm", self.weights, x[self.places])
        return found

    def matrix(self, size: int) -> NDArray[np.float64]:
        """(new, old)."""
        return self.of(np.eye(size))

    def same(self, size: int) -> bool:
        """Whether nothing changes."""
        return len(self.places) == size and bool(np.allclose(self.of(_probe(size)), _probe(size)))


def _probe(size: int) -> NDArray[np.float64]:
    """Two columns of numbers that tell every two ways of interpolation apart."""
    return np.random.default_rng(0).standard_normal((size, 2))


class _Sampling:
    """How a node samples: its attributes."""

    def __init__(self, n: OnnxNode) -> None:
        self.mode = n.attr("mode")
        if self.mode not in ("nearest", "linear", "bilinear", "trilinear", "cubic", "bicubic"):
            raise Unsupported(f"its mode is {self.mode!r}")
        self.mode = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}.get(self.mode, self.mode)
        old = n.operator == "Upsample" or n.opset < 11
        self.place = "asymmetric" if old else n.attr("coordinate_transformation_mode")
        self.rounding = "floor" if old else n.attr("nearest_mode")
        self.a = -0.75 if old else n.attr("cubic_coeff_a")
        self.exclude = False if old else bool(n.attr("exclude_outside"))
        self.outside = 0.0 if old else n.attr("extrapolation_value")
        self.antialias = bool(n.attr("antialias", 0))

    def taps(self, size: int, out: int, scale: float, roi: tuple[float, float]) -> _Taps:
        """What each of ``out`` places is made of, of an axis of ``size``."""
        x = self._coordinates(np.arange(out, dtype=np.float64), size, out, scale, roi)
        base, offsets, weights = self._weighted(x, scale)
        places = base[:, None] + offsets
        if self.exclude:
            weights = weights * ((places >= 0) & (places < size))
        if self.exclude or self.antialias:
            weights = weights / weights.sum(1, keepdims=True)
        inside = np.ones(out, bool)
        if self.place == "tf_crop_and_resize":
            inside = (x >= 0) & (x <= size - 1)
        return _Taps(np.clip(places, 0, size - 1).astype(np.int64), weights, inside)

    def _coordinates(
        self, i: NDArray[np.float64], size: int, out: int, scale: float, roi: tuple[float, float]
    ) -> NDArray[np.float64]:
        """Where new places lie among the old ones."""
        half = (i + 0.5) / scale - 0.5
        match self.place:
            case "asymmetric":
                return i / scale
            case "half_pixel":
                return half
            case "pytorch_half_pixel":
                return half if out > 1 else 0 * i
            case "half_pixel_symmetric":
                return size / 2 * (1 - out / (scale * size)) + half
            case "align_corners":  # of the whole length, as runtimes have it, not of the fraction that a scale leaves
                return 0 * i if out == 1 else i * (size - 1) / (out - 1)
            case "tf_half_pixel_for_nn":
                return (i + 0.5) / scale
            case "tf_crop_and_resize":
                start, end = roi
                if out <= 1:
                    return 0 * i + 0.5 * (start + end) * (size - 1)
                return start * (size - 1) + i * (end - start) * (size - 1) / (out - 1)
        raise Unsupported(f"its coordinate_transformation_mode is {self.place!r}")

    def _weighted(
        self, x: NDArray[np.float64], scale: float
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """The first old place, the taps from there, and their weights (new, taps)."""
        if self.mode == "nearest":
            rounded = {
                "floor": np.floor(x),
                "ceil": np.ceil(x),
                "round_prefer_floor": np.ceil(x - 0.5),
                "round_prefer_ceil": np.floor(x + 0.5),
            }
            if self.rounding not in rounded:
                raise Unsupported(f"its nearest_mode is {self.rounding!r}")
            return rounded[self.rounding], np.zeros(1, np.int64), np.ones((len(x), 1))
        base = np.floor(x)
        shrink = min(scale, 1.0) if self.antialias else 1.0
        first = math.floor(-(1 if self.mode == "linear" else 2) / shrink) + 1
        offsets = np.arange(first, 2 - first)
        distance = np.abs((offsets - (x - base)[:, None]) * shrink)
        return base, offsets, np.clip(1 - distance, 0, 1) if self.mode == "linear" else _cubic(distance, self.a)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Weights of cubic convolution (Keys, 1981)."""
    d, d2, d3 = distance, distance**2, distance**3
    near, far = (a + 2) * d3 - (a + 3) * d2 + 1, a * d3 - 5 * a * d2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@reads("Resize", "Upsample")
def resize(n: OnnxNode) -> Value:
    x, sampling = n[0], _Sampling(n)
    axes, sizes, scales, rois = _extents(n, sampling)
    if math.prod(sizes) > MAX_ELEMENTS:
        raise TooLarge(f"its result has the shape {sizes}")
    changed: dict[int, _Taps] = {}
    for axis in axes:
        if sizes[axis] != x.shape[axis] or scales[axis] != 1 or sampling.place == "tf_crop_and_resize":
            n.build.spend(8 * sizes[axis])
            taps = sampling.taps(x.shape[axis], sizes[axis], scales[axis], rois[axis])
            if not (taps.same(x.shape[axis]) and taps.inside.all()):
                changed[axis] = taps
    if not changed:
        return x
    crops = not all(t.inside.all() for t in changed.values())
    if not crops and (layer := _torch_layer(x, changed, sizes)) is not None:
        return n.layer(layer, x)
    y = x if x.kind in FLOATS or sampling.mode == "nearest" else n.call("to", x, torch.float32, kind=TensorProto.FLOAT)
    for axis, taps in changed.items():
        y = _along(n, y, axis, taps)
    if crops:
        y = _outside(n, y, changed, sampling.outside)
    return y if y.kind == x.kind else n.call("to", n.call(torch.round, y), x.tensor.dtype, kind=x.kind)


def _extents(n: OnnxNode, sampling: _Sampling) -> tuple[list[int], list[int], list[float], list[tuple[float, float]]]:
    """Axes that are sampled; for every axis its new size, its scale, its region."""
    x = n[0]
    axes = list(range(x.rank))
    given: list[float] | None = None
    sizes: list[int] | None = None
    rois = [(0.0, 1.0)] * x.rank
    if n.operator == "Upsample" or n.opset < 11:
        if n.opset < 9 and n.operator == "Upsample":
            given = [float(v) for v in n.attr("scales")]
        else:
            given = [float(v) for v in n.known(1, "scales").flatten()]
    else:
        if n.attr("axes", None) is not None:
            axes = [n.place(a, x.rank) for a in n.attr("axes")]
        scales = n.maybe_known(2, "scales")
        given = None if scales is None or not scales.numel() else [float(v) for v in scales.flatten()]
        if len(n) > 3 and n.get(3) is not None and n[3].tensor.numel():
            sizes = [int(v) for v in n.known(3, "sizes").flatten()]
        if sampling.place == "tf_crop_and_resize":
            roi = [float(v) for v in n.known(1, "roi").flatten()]
            for i, axis in enumerate(axes):
                rois[axis] = (roi[i], roi[len(axes) + i])
        else:
            n.ignore_inputs(1)
    policy = n.attr("keep_aspect_ratio_policy", "stretch")
    wanted = sizes if sizes is not None else given
    if wanted is None or len(wanted) != len(axes):
        raise Unsupported(f"its scales or sizes are {wanted}, for {len(axes)} axes")
    new, factors = list(x.shape), [1.0] * x.rank
    if sizes is None:
        assert given is not None
        for axis, factor in zip(axes, given, strict=True):
            new[axis], factors[axis] = math.floor(x.shape[axis] * factor), factor
    elif policy == "stretch":
        for axis, size in zip(axes, sizes, strict=True):
            new[axis], factors[axis] = size, size / x.shape[axis]
    else:
        ratios = [size / x.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
        if policy not in ("not_larger", "not_smaller"):
            raise Unsupported(f"its keep_aspect_ratio_policy is {policy!r}")
        ratio = min(ratios) if policy == "not_larger" else max(ratios)
        for axis in axes:
            new[axis], factors[axis] = math.floor(x.shape[axis] * ratio + 0.5), ratio
    if min(new, default=1) < 1 or min(factors, default=1.0) <= 0:
        raise Unsupported(f"it makes {new} of {list(x.shape)}")
    return axes, new, factors, rois


def _torch_layer(x: Value, changed: dict[int, _Taps], sizes: Sequence[int]) -> nn.Module | None:
    """A layer of torch's that interpolates every axis in the same way."""
    rank = x.rank - 2
    if rank not in (1, 2, 3) or min(changed) < 2 or x.kind not in FLOATS:
        return None
    names = {1: ("nearest", "linear"), 2: ("nearest", "bilinear", "bicubic"), 3: ("nearest", "trilinear")}[rank]
    factors = [new / old for new, old in zip(sizes[2:], x.shape[2:], strict=True)]
    whole = all(f == int(f) for f in factors)
    for mode, corners in itertools.product(names, (False, True)):
        if mode == "nearest" and corners:
            continue
        options: dict[str, Any] = {} if mode == "nearest" else {"align_corners": corners}
        for axis in range(2, x.rank):
            given = _probe(x.shape[axis])
            wanted = changed[axis].of(given) if axis in changed else given
            if not np.allclose(_by_torch(given, sizes[axis], mode, options), wanted, atol=1e-5):
                break
        else:
            if whole:
                return nn.Upsample(scale_factor=tuple(factors), mode=mode, **options)
            return nn.Upsample(size=tuple(sizes[2:]), mode=mode, **options)
    return None


def _by_torch(given: NDArray[np.float64], out: int, mode: str, options: dict[str, Any]) -> NDArray[np.float64]:
    """The new axis of (old, many) by torch's interpolation."""
    x = torch.from_numpy(given.T.copy())
    lines = {"nearest": 0, "linear": 0, "trilinear": 2}.get(mode, 1)  # dimensions beside the axis
    shape = (1, *x.shape, *[1] * lines)
    y = F.interpolate(x.reshape(shape), size=(out, *[1] * lines), mode=mode, **options)
    found: NDArray[np.float64] = y.reshape(len(x), out).T.numpy()
    return found


def _along(n: OnnxNode, x: Value, axis: int, taps: _Taps) -> Value:
    new, count = taps.places.shape
    if count == 1 and bool((taps.weights == 1).all()):
        return _taken(n, x, axis, taps.places[:, 0])
    if new * x.shape[axis] <= _DENSE:
        weights = n.constant(torch.from_numpy(taps.matrix(x.shape[axis])).float(), TensorProto.FLOAT)
        if axis == x.rank - 1:
            return n.call(F.linear, x, weights, kind=x.kind)
        y = n.call(F.linear, n.call(torch.transpose, x, axis, x.rank - 1), weights, kind=x.kind)
        return n.call(torch.transpose, y, axis, x.rank - 1)
    shape = [1] * x.rank
    shape[axis] = new
    total: Value | None = None
    for k in range(count):
        weights = n.constant(torch.from_numpy(taps.weights[:, k]).float().reshape(shape), TensorProto.FLOAT)
        part = n.call(torch.mul, _taken(n, x, axis, taps.places[:, k]), weights, kind=x.kind)
        total = part if total is None else n.call(torch.add, total, part)
    assert total is not None
    return total


def _taken(n: OnnxNode, x: Value, axis: int, places: NDArray[np.int64]) -> Value:
    return n.call(
        torch.index_select, x, axis, n.constant(torch.from_numpy(places.copy()), TensorProto.INT64), kind=x.kind
    )


def _outside(n: OnnxNode, y: Value, changed: dict[int, _Taps], value: float) -> Value:
    inside = torch.ones(y.shape, dtype=torch.bool)
    for axis, taps in changed.items():
        shape = [1] * y.rank
        shape[axis] = -1
        inside &= torch.from_numpy(taps.inside).reshape(shape)
    return n.call(torch.where, n.constant(inside, TensorProto.BOOL), y, value, kind=y.kind)


@reads("GridSample")
def grid_sample(n: OnnxNode) -> Value:
    modes = {
        "linear": "bilinear",
        "bilinear": "bilinear",
        "nearest": "nearest",
        "cubic": "bicubic",
        "bicubic": "bicubic",
    }
    mode, border = n.attr("mode"), n.attr("padding_mode")
    if mode not in modes or border not in ("zeros", "border", "reflection"):
        raise Unsupported(f"its mode is {mode!r} with {border!r}")
    return n.call(F.grid_sample, n[0], n[1], modes[mode], border, bool(n.attr("align_corners")))


@reads("AffineGrid")
def affine_grid(n: OnnxNode) -> Value:
    size = [int(v) for v in n.known(1, "size").flatten()]
    return n.call(F.affine_grid, n[0], size, bool(n.attr("align_corners")))


@reads("RoiAlign")
def roi_align(n: OnnxNode) -> Value:
    """Boxes of an image, each pooled to one size from sampled points."""
    x, rois, batch = n[0], n[1], n.known(2, "batch indices").long()
    high, wide = n.attr("output_height"), n.attr("output_width")
    ratio, scale, mode = n.attr("sampling_ratio"), n.attr("spatial_scale"), n.attr("mode")
    half = n.opset >= 16 and n.attr("coordinate_transformation_mode") == "half_pixel"
    n.ignore("coordinate_transformation_mode")
    count, channels = rois.shape[0], x.shape[1]
    if mode != "avg":
        raise Unsupported(f"its mode is {mode!r}; of 'max' runtimes disagree")
    boxes = list(_boxes(n, rois, scale, half))
    results = []
    for i in range(count):
        image = n.call(torch.select, x, 0, int(batch[i]))
        (x1, y1), (x2, y2) = boxes[i]
        parts = []
        for low, top, bins, size in ((y1, y2, high, x.shape[2]), (x1, x2, wide, x.shape[3])):
            parts.append(_points(n, low, top, bins, size, ratio, half))
        pooled = _bilinear(n, image, *parts[0][:2], *parts[1][:2])  # (channels, rows, columns)
        rows, columns = parts[0][2], parts[1][2]
        split = n.call(torch.reshape, pooled, (channels, high, rows, wide, columns))
        results.append(n.call(torch.mean, split, (2, 4)))
    return n.call(torch.stack, results, 0)


def _boxes(
    n: OnnxNode, rois: Value, scale: float, half: bool
) -> Iterator[tuple[tuple[Value, Value], tuple[Value, Value]]]:
    moved = n.call(torch.sub, n.call(torch.mul, rois, scale), 0.5 if half else 0.0)
    for i in range(rois.shape[0]):
        row = n.call(torch.select, moved, 0, i)
        a, b, c, d = (n.call(torch.select, row, 0, k) for k in range(4))
        yield (a, b), (c, d)


def _points(
    n: OnnxNode, low: Value, top: Value, bins: int, size: int, ratio: int, half: bool
) -> tuple[Value, Value, int]:
    """Sampled places of one axis, whether they lie in the image, and how many there are in a bin."""
    length = n.call(torch.sub, top, low)
    if not half:
        length = n.call(torch.clamp, length, 1.0, None)
    each = ratio
    if not each:
        if not length.known:
            raise Unsupported("how many points it samples depends on boxes that are computed", needs=1)
        each = max(1, math.ceil(float(length.tensor) / bins))
    n.build.spend(bins * each)
    steps = (torch.arange(bins * each).float() + 0.5) / each / bins
    places = n.call(torch.add, n.call(torch.mul, n.constant(steps, TensorProto.FLOAT), length), low)
    inside = n.call(torch.logical_and, n.call(torch.ge, places, -1.0), n.call(torch.le, places, float(size)))
    return n.call(torch.clamp, places, 0.0, float(size - 1)), inside, each


def _bilinear(n: OnnxNode, image: Value, rows: Value, rows_in: Value, columns: Value, columns_in: Value) -> Value:
    """(channels, rows, columns) of an image at places, 0 outside: a product with the weights of each axis."""
    weights = []
    for places, inside, size in ((rows, rows_in, image.shape[1]), (columns, columns_in, image.shape[2])):
        grid = n.constant(torch.arange(size).float().reshape(1, -1), TensorProto.FLOAT)
        far = n.call(torch.abs, n.call(torch.sub, n.call(torch.unsqueeze, places, 1), grid))
        near = n.call(torch.clamp, n.call(torch.rsub, far, 1.0), 0.0, None)
        weights.append(n.call(torch.mul, near, n.call(torch.unsqueeze, inside, 1)))
    wide = n.call(torch.matmul, image, n.call(torch.t, weights[1]))
    return n.call(torch.matmul, weights[0], wide)
