"""Kernels that say where values stood, put them back, sample and index, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_harness import TARGETS, Array, assert_close, kernel, noise, run

from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import Target

if not TARGETS:
    pytest.skip("no x86-64 target runs on this computer", allow_module_level=True)

every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)


def double(x: Array) -> torch.Tensor:
    return torch.from_numpy(x).double()


POOLINGS = {
    # kernel, stride, padding, size of the image
    "halves": ((2, 2), (2, 2), (0, 0), (8, 14)),
    "overlapping, padded": ((3, 3), (2, 2), (1, 1), (9, 11)),
    "pixels between the windows": ((2, 1), (3, 2), (0, 0), (9, 8)),
    "each pixel its own": ((1, 1), (1, 1), (0, 0), (3, 5)),
    "stride 1": ((2, 3), (1, 1), (1, 0), (5, 6)),
}


@every_target
@pytest.mark.parametrize("name", POOLINGS)
def test_places_of_maxima_and_the_way_back(target: Target, name: str) -> None:
    size, stride, padding, image = POOLINGS[name]
    # Few values, so that windows hold equal ones: the first counts.
    x = np.random.default_rng(0).integers(0, 4, (2, 21, *image)).astype(np.float32)
    y, places = F.max_pool2d(double(x), size, stride, padding, return_indices=True)
    window = {"kernel": size, "stride": stride, "padding": padding}
    small, large = TensorSpec(tuple(y.shape)), TensorSpec(x.shape)
    spec = kernel("max_places2d", [large], small, **window)
    for schedule in schedules_for(spec, target):
        assert np.array_equal(run(spec, target, [x], schedule=schedule), places.float().numpy())
    values, other = noise(*y.shape, seed=1), noise(*x.shape, seed=2)
    spread = torch.zeros(2, 21, x[0, 0].size).double()
    for i in range(places[0, 0].numel()):  # in order: of several values for a pixel the last one stays
        spread.scatter_(2, places.flatten(2)[..., i : i + 1], double(values).flatten(2)[..., i : i + 1])
    spec = kernel("max_unpool2d", [small, small, large], large, ("add", "relu"), **window)
    expected = F.relu(spread.view(x.shape) + double(other))
    assert_close(run(spec, target, [values, places.float().numpy(), other]), expected)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@every_target
def test_sampling(target: Target, mode: str, padding: str, corners: bool) -> None:
    x = noise(2, 21, 6, 9)
    # Inside, beside and far beside the image; and places between two pixels, which are halves.
    grid = noise(2, 5, 8, 2, seed=1) * 0.8
    grid[0, 0] = [[-1, -1], [1, 1], [-1.3, 0.2], [40, 0], [1e30, -1e30], [-1.05, 1.05], [0, 0], [0.5, -0.5]]
    y = F.grid_sample(torch.from_numpy(x), torch.from_numpy(grid), mode, padding, corners).double()
    planes = np.ascontiguousarray(grid.transpose(0, 3, 1, 2))
    tensors = [TensorSpec(x.shape), TensorSpec(planes.shape, "plain")]
    attrs = {"mode": mode, "padding": padding, "align_corners": corners}
    spec = kernel("grid_sample", tensors, TensorSpec(tuple(y.shape)), ("times:3.0",), **attrs)
    assert_close(run(spec, target, [x, planes]), y * 3, rtol=1e-5 if mode == "bilinear" else 1e-7)


def take(shape: tuple[int, ...], axis: int, places: Array, epilogue: tuple[str, ...] = ()) -> KernelSpec:
    tensors = [TensorSpec(shape, "plain"), TensorSpec(places.shape, "plain")]
    taken = (*shape[:axis], places.size, *shape[axis + 1 :])
    return kernel("take", tensors, TensorSpec(taken, "plain"), epilogue, axis=axis)


@every_target
@pytest.mark.parametrize(("shape", "axis"), [((2, 7, 40), 1), ((3, 50), 1), ((5, 3, 4), 0), ((1, 2, 3, 33), 3)])
def test_taking_entries(target: Target, shape: tuple[int, ...], axis: int) -> None:
    x = noise(*shape)
    places = np.random.default_rng(1).integers(0, shape[axis], 37).astype(np.float32)
    expected = np.take(x, places.astype(int), axis)
    assert np.array_equal(run(take(shape, axis, places), target, [x, places]), expected)
    actual = run(take(shape, axis, places, ("relu",)), target, [x, places])
    assert np.array_equal(actual, np.maximum(expected, 0))


@every_target
def test_no_place_is_beside_the_values(target: Target) -> None:
    """Kernels are timed alone on values of any kind."""
    x, places = noise(2, 3, 20), np.array([-1e9, 1e9, 1.0], np.float32)
    assert np.array_equal(run(take(x.shape, 1, places), target, [x, places]), x[:, [0, 2, 1]])
