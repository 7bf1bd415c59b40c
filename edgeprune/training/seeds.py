"""Seeds: all global generators that user code draws from follow one number, and their state can be written down."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators of torch, NumPy and Python follow ``seed`` inside the ``with`` block, and are as they were
    after it: dropout draws from the first, transforms of data sets from any.
    """
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def generators() -> dict[str, Any]:
    """Where the global generators are: tensors, lists, numbers."""
    name, keys, *rest = np.random.get_state()
    version, numbers, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "numpy": [name, [int(k) for k in keys], *rest],
        "python": [version, list(numbers), gauss],
    }


def set_generators(said: dict[str, Any]) -> None:
    """Set the global generators to where :func:`generators` found them."""
    torch.set_rng_state(said["torch"])
    name, keys, *rest = said["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    version, numbers, gauss = said["python"]
    random.setstate((version, tuple(numbers), gauss))
