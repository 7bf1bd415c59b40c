"""Blocked tensors: NCHWc with the block size of the target, and how many elements they store.

A channel dimension is cut into blocks of ``lanes`` (fp32 values per vector register); the last
block is padded. Padding lanes hold whatever the kernel computed there; no kernel lets them reach
a real lane: convolution and dense loop over exactly the real input channels, everything else
works lane by lane.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edgeprune.board.element_types import SIZES
from edgeprune.graph.spec import TensorSpec

ALIGNMENT = 64
"""Bytes. Kernels use aligned vector loads, so every buffer on the board starts on this."""


def block_count(channels: int, lanes: int) -> int:
    return -(-channels // lanes)


def stored_elements(tensor: TensorSpec, lanes: int) -> int:
    """Elements the board keeps for a tensor, padding lanes included."""
    if tensor.layout == "plain":
        return math.prod(tensor.shape)
    return tensor.shape[0] * block_count(tensor.channels, lanes) * lanes * tensor.pixels


def stored_bytes(tensor: TensorSpec, lanes: int) -> int:
    """Bytes of :func:`stored_elements`."""
    return SIZES[tensor.dtype] * stored_elements(tensor, lanes)


def to_blocked(x: NDArray[np.float32], lanes: int) -> NDArray[np.float32]:
    """(N, C, H, W) -> flat (N, ceil(C/lanes), H, W, lanes), padding lanes zero."""
    n, c, h, w = x.shape
    blocks = block_count(c, lanes)
    padded = np.zeros((n, blocks * lanes, h, w), np.float32)
    padded[:, :c] = x
    return np.ascontiguousarray(padded.reshape(n, blocks, lanes, h, w).transpose(0, 1, 3, 4, 2)).reshape(-1)


def from_blocked(x: NDArray[np.float32], shape: tuple[int, ...], lanes: int) -> NDArray[np.float32]:
    """The inverse of :func:`to_blocked`; ``shape`` is the logical (N, C, H, W)."""
    n, c, h, w = shape
    blocks = block_count(c, lanes)
    planes = x.reshape(n, blocks, h, w, lanes).transpose(0, 1, 4, 2, 3).reshape(n, blocks * lanes, h, w)
    return np.ascontiguousarray(planes[:, :c])
